"""A backend that keeps its files in a dict."""
import io
import threading
from dataclasses import replace
from typing import IO, Any, Callable, Dict, List, Optional, cast

from ..errors import MissingCheckpointError
from ..folders.layout import METADATA_NAME, is_folder
from ..storage.mapped_errors import unsupported
from ..storage.names import plain_name
from ..storage.shared_file import PlainSharedFile
from ..storage.streams import WriteOnlyStream
from ..types import POINTER_FILE, Capabilities, SharedFile, StoredFile


class MemoryBackend:
    """Files as ``bytes`` by name, in ``files``; folders in ``inside``.

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
            exclusive=True,
            folders=True)
        self.files: Dict[str, bytes] = {}
        self.inside: Dict[str, 'MemoryBackend'] = {}
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
        found = {
            name: len(content)
            for name, content in self.files.items()
            if not (self.capabilities.folders and is_folder(name))
        }
        for name in self.folders():
            files = self.inside[name].files
            if METADATA_NAME in files:
                found[name] = sum(map(len, files.values()))
        return [StoredFile(name, size) for name, size in sorted(found.items())]

    def delete(self, name: str) -> None:
        if not self.capabilities.delete:
            raise self._unsupported('delete')
        self.files.pop(plain_name(name, self.url), None)

    def folder(self, name: str) -> 'MemoryBackend':
        plain_name(name, self.url)
        return self.inside.setdefault(name, self._new_folder(name))

    def folders(self) -> List[str]:
        return sorted(name for name, folder in self.inside.items()
                      if folder.files and is_folder(name))

    def is_link(self, name: str) -> bool:
        return False

    def move(self, name: str, other: str) -> None:
        moved, files = self.folder(name), self.folder(other).files
        files.update(moved.files)
        moved.files.clear()

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
        if is_folder(target):
            self.folder(target).open(METADATA_NAME)
            self.files[POINTER_FILE] = target.encode() + b'\n'
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

    def _new_folder(self, name: str) -> 'MemoryBackend':
        able = replace(self.capabilities, folders=False)
        return MemoryBackend(able, f'{self.url}/{name}')

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
