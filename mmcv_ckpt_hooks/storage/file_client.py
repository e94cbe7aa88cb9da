"""Any backend of ``mmcv.FileClient``: petrel, http, registered ones."""
import io
from contextlib import contextmanager, suppress
from typing import (IO, Any, Callable, Iterator, List, Mapping, Optional, Type,
                    cast)
from urllib.error import HTTPError

from ..errors import (ConfigError, DependencyError, MissingCheckpointError,
                      StorageError)
from ..types import POINTER_FILE, UNKNOWN_BYTES, Capabilities, StoredFile
from ..wording import nearest
from .mapped_errors import mapped_errors, unsupported
from .names import (TEMPORARY_MARK, is_temporary, plain_name,
                    without_credentials)
from .near_names import meant_url
from .streams import WriteOnlyStream

#: Written and removed to see whether files can be; ``list`` leaves it out.
_PROBE = f'.probe{TEMPORARY_MARK}mmcv_ckpt_hooks'


class FileClientBackend:
    """A directory behind ``mmcv.FileClient``, which moves whole files.

    ``put`` builds a checkpoint in memory and ``open`` reads one into memory:
    ``FileClient`` has no streams. Whether a file is replaced atomically is up
    to the backend of ``FileClient``, so it is not declared; neither are
    links. What the backend's class does not implement (``put``, ``remove``
    and others exist since mmcv 1.3.16; http can only read) raises
    ``UnsupportedError``. Sizes in listings are unknown: -1.

    Args:
        url (str): Directory, as that backend understands it.
        file_client_args (dict, optional): Arguments of
            ``mmcv.fileio.FileClient``. Default: None, which means that mmcv
            chooses by the URL's prefix.

    Raises:
        ConfigError: If mmcv has no such backend, or it refuses the arguments.
        DependencyError: If the backend needs a package that is missing.
    """

    def __init__(self,
                 url: str,
                 file_client_args: Optional[Mapping[str, Any]] = None) -> None:
        self._root = url
        self.url = without_credentials(url)
        self._client = _build_client(url, file_client_args)
        self.capabilities = Capabilities(
            listing=self._has('list_dir_or_file'),
            delete=self._has('remove'),
            point=self._has('put'))

    def prepare(self) -> None:
        """Check that files can be written, with one that is removed."""
        if not self._has('put'):
            raise self._unsupported('put')
        if not self._has('remove'):
            return  # a probe would stay for ever
        with self._mapped_errors('cannot write to', _PROBE, StorageError):
            self._client.put(b'', self._join(_PROBE))
        # a storage that keeps everything can be saved to
        with suppress(StorageError):
            self.delete(_PROBE)

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        plain_name(name, self.url)
        if not self._has('put'):
            raise self._unsupported('put')
        buffer = io.BytesIO()
        stream = WriteOnlyStream(buffer, 'cannot write checkpoint', self.url)
        write(cast(IO[bytes], stream))
        # not getbuffer(): backends are promised bytes, and CPython's
        # getvalue() does not copy them
        content = buffer.getvalue()
        with self._mapped_errors('cannot write checkpoint', name,
                                 StorageError):
            self._client.put(content, self._join(name))
        return stream.size_bytes

    def open(self, name: str) -> IO[bytes]:
        plain_name(name, self.url)
        with self._mapped_errors('cannot read checkpoint', name):
            content = self._client.get(self._join(name))
            if content is None:
                raise LookupError('the backend returned None')
            return io.BytesIO(content)

    def sweep(self) -> List[str]:
        """Nothing is left unfinished: a file is handed over whole."""
        return []

    def list(self) -> List[StoredFile]:
        if not self.capabilities.listing:
            raise self._unsupported('listing')
        try:
            with self._mapped_errors('cannot list the directory', ''):
                names = sorted(
                    self._client.list_dir_or_file(
                        self._root, list_dir=False, list_file=True))
        except MissingCheckpointError:
            return []  # put creates it
        return [
            StoredFile(name, UNKNOWN_BYTES) for name in names
            if not is_temporary(name)
        ]

    def delete(self, name: str) -> None:
        plain_name(name, self.url)
        if not self.capabilities.delete:
            raise self._unsupported('delete')
        with suppress(MissingCheckpointError):
            with self._mapped_errors('cannot delete checkpoint', name):
                self._client.remove(self._join(name))

    def link(self, source: str, name: str) -> None:
        raise unsupported(self.url, 'link',
                          'mmcv.FileClient has no call for it')

    def point(self, name: str, target: Optional[str]) -> None:
        """Store the target's name in a pointer file."""
        plain_name(name, self.url)
        if target is None:
            return  # it has no links
        line = plain_name(target, self.url).encode() + b'\n'
        self.put(POINTER_FILE, lambda stream: stream.write(line))

    def _has(self, verb: str) -> bool:
        """Whether both ``FileClient`` and its backend implement a verb."""
        from mmcv.fileio import BaseStorageBackend
        if not hasattr(self._client, verb):
            return False
        implemented = getattr(type(self._client.client), verb, None)
        return implemented is not None and \
            implemented is not getattr(BaseStorageBackend, verb, None)

    def _join(self, name: str) -> str:
        if self._has('join_path'):
            return str(self._client.join_path(self._root, name))
        return f'{self._root.rstrip("/")}/{name}'

    def _unsupported(self, capability: str) -> StorageError:
        backend = type(self._client.client).__name__
        return unsupported(self.url, capability,
                           f'{backend} of mmcv.FileClient lacks it')

    @contextmanager
    def _mapped_errors(
        self,
        what: str,
        name: str,
        missing: Type[StorageError] = MissingCheckpointError
    ) -> Iterator[None]:
        path = f'{self.url.rstrip("/")}/{name}'
        try:
            with mapped_errors(what, path, missing, remote=True):
                with _closed_response():
                    yield
        except NotImplementedError as error:
            # petrel: the version of its SDK decides
            raise unsupported(self.url, what, str(error)) from error
        except (LookupError, TypeError) as error:
            # registered backends over a mapping; petrel has None for a
            # missing file, of which mmcv makes a TypeError
            kind = missing if self._is_missing(name) else StorageError
            raise kind(
                f'{what} {path}: {type(error).__name__}: {error}') from error

    def _is_missing(self, name: str) -> bool:
        if not name or not self._has('exists'):
            return False
        with suppress(NotImplementedError):
            with mapped_errors('cannot look for', self.url, remote=True):
                return not self._client.exists(self._join(name))
        return False


@contextmanager
def _closed_response() -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        error.close()  # it keeps the connection open
        raise


def _meant_backend(given: Mapping[str, Any]) -> str:
    """Return how the backend that is meant is given; '' if unknown."""
    from mmcv.fileio import FileClient
    given_name = given.get('backend')
    wanted = nearest(str(given_name), [*FileClient._backends]) or given_name
    return f'backend={wanted}' if wanted != given_name else ''


def _build_client(url: str, file_client_args: Optional[Mapping[str,
                                                               Any]]) -> Any:
    from mmcv.fileio import FileClient

    from ..compat import infer_file_client

    # the values may be credentials
    given = '' if file_client_args is None else \
        f' with file_client_args of {sorted(file_client_args)}'
    shown = without_credentials(url) + given
    try:
        if file_client_args is not None:
            return FileClient(**file_client_args)
        return infer_file_client(url)
    except ImportError as error:
        raise DependencyError(
            f'{shown}: the backend that mmcv.FileClient has for it cannot be '
            f'imported: {error}') from error
    except (AttributeError, AssertionError, TypeError, ValueError) as error:
        meant = _meant_backend(file_client_args) if file_client_args \
            else meant_url(shown)
        raise ConfigError(
            f'{shown} is nothing that mmcv.FileClient serves: {error}. ' +
            (f'Did you mean {meant!r}? ' if meant else '') +
            "Expected a local path, 'file://', 's3://', 'gs://', 'az://', "
            "'pavi://', what fsspec knows (pip install "
            "'mmcv_ckpt_hooks[fsspec]'), or a URL whose backend is registered "
            'or named in file_client_args; any storage can also be mounted as '
            'a directory') from error
