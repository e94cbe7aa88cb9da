"""A backend that keeps its files in a dict."""
import io
import threading
from typing import IO, Any, Callable, Dict, List, Optional, cast

from ..errors import MissingCheckpointError
from ..storage.mapped_errors import unsupported
from ..storage.names import plain_name
from ..storage.shared_file import PlainSharedFile
from ..storage.streams import WriteOnlyStream
from ..types import POINTER_FILE, Capabilities, SharedFile, StoredFile


class MemoryBackend:
    """Files as ``bytes`` by name, in ``files``.

    Args:
        capabilities (Capabilities, optional): What it can do; verbs that are
            not declared raise ``UnsupportedError``. Default: None, which
            means everything.
        url (str): What it is called. Default: ``'memory://test'``.
    """

    def __init__(self,
                 capabilities: Optional[Capabilities] = None,
                 url: str = 'memory://test') -> None:
        self.url = url
        self.capabilities = capabilities or Capabilities(
            stream_in=True,
            ranged_read=True,
            atomic_replace=True,
            listing=True,
            delete=True,
            link=True,
            server_copy=True,
            point=True,
            share=True,
            exclusive=True)
        self.files: Dict[str, bytes] = {}
        self.mutex = threading.Lock()
        self.prepared = False

    def prepare(self) -> None:
        self.prepared = True

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        plain_name(name, self.url)
        buffer = io.BytesIO()
        stream = WriteOnlyStream(buffer, 'cannot write checkpoint', self.url)
        write(cast(IO[bytes], stream))
        self.files[name] = buffer.getvalue()
        return stream.size_bytes

    def open(self, name: str) -> IO[bytes]:
        return io.BytesIO(self._content(name))

    def sweep(self) -> List[str]:
        """Nothing is left unfinished: a file is handed over whole."""
        return []

    def list(self) -> List[StoredFile]:
        if not self.capabilities.listing:
            raise self._unsupported('listing')
        return [
            StoredFile(name, len(content))
            for name, content in sorted(self.files.items())
        ]

    def delete(self, name: str) -> None:
        if not self.capabilities.delete:
            raise self._unsupported('delete')
        self.files.pop(plain_name(name, self.url), None)

    def link(self, source: str, name: str) -> None:
        if not (self.capabilities.link or self.capabilities.server_copy):
            raise self._unsupported('link')
        plain_name(name, self.url)
        self.files[name] = self._content(source)

    def point(self, name: str, target: Optional[str]) -> None:
        """A link where links are declared, else a pointer file."""
        plain_name(name, self.url)
        if not self.capabilities.point:
            raise self._unsupported('point')
        if target is None:
            content = self.files.get(name)
            if list(self.files.values()).count(cast(bytes, content)) > 1:
                del self.files[name]
            return
        content = self._content(target)
        if self.capabilities.link:
            self.files[name] = content
        else:
            self.files[POINTER_FILE] = target.encode() + b'\n'

    def share(self, name: str) -> SharedFile:
        if not self.capabilities.exclusive:
            return PlainSharedFile(self, name)
        return _MemoryFile(self, plain_name(name, self.url))

    def _content(self, name: str) -> bytes:
        try:
            return self.files[plain_name(name, self.url)]
        except KeyError as error:
            raise MissingCheckpointError(
                f'{self.url} has no {name!r}') from error

    def _unsupported(self, capability: str) -> Exception:
        return unsupported(self.url, capability, 'this fake was told so')


class _MemoryFile:
    """A shared file that is replaced by one at a time."""
    is_exclusive = True

    def __init__(self, backend: MemoryBackend, name: str) -> None:
        self.place = f'{backend.url}/{name}'
        self._backend = backend
        self._name = name
        self._seen = b''

    def look(self) -> bytes:
        self._seen = self._backend.files.get(self._name, b'')
        return self._seen

    def replace(self, content: bytes) -> bool:
        files = self._backend.files
        with self._backend.mutex:
            if files.get(self._name, b'') != self._seen:
                return False
            files[self._name] = self._seen = content
        return True
