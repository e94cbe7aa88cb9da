"""Training models of the pavi platform, ``pavi://project/model``."""
import io
import os
import tempfile
from contextlib import contextmanager
from typing import (IO, Any, Callable, Iterator, List, Optional, Tuple, Type,
                    cast)

from ..errors import (ConfigError, DependencyError, MissingCheckpointError,
                      StorageError)
from ..types import Capabilities, StoredFile
from .mapped_errors import mapped_errors, storage_error, unsupported
from .names import plain_name
from .streams import fill_file

_SCHEME = 'pavi://'

_ADVICE = ("install the SDK that the platform's team gives out; the package "
           "'pavi' of the public package index is an empty placeholder")

_NO_CALL = 'the SDK has no call for it'


class PaviBackend:
    """A training model; the SDK takes and gives whole files.

    A checkpoint is written to a temporary directory first (``TMPDIR`` needs
    that much space) and then uploaded. A file that exists already is replaced
    as the platform does it, which is not known to be atomic.

    Args:
        url (str): ``pavi://project/model``.

    Raises:
        ConfigError: If the URL names no model.

    Source: the call shapes of mmcv 1.7.2, ``mmcv/runner/checkpoint.py``.
    """
    capabilities = Capabilities()

    def __init__(self, url: str) -> None:
        path = url[len(_SCHEME):].strip('/')
        if not url.startswith(_SCHEME) or \
                not {'', '.', '..'}.isdisjoint(path.split('/')):
            raise ConfigError(f'{url!r} names no training model: expected '
                              "'pavi://project/model'")
        self._model_path = path
        self.url = _SCHEME + path

    def prepare(self) -> None:
        """Check that the SDK works; a missing model is made by ``put``."""
        self._find_model(_Sdk())

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        plain_name(name, self.url)
        sdk = _Sdk()
        with _temporary_directory() as directory:
            path = os.path.join(directory, name)
            size_bytes = fill_file(
                path, write, 'cannot write to the temporary directory '
                '(TMPDIR)', path)
            model = self._find_model(sdk)
            if model is None:
                model = self._create_model(sdk)
            with sdk.mapped_errors('cannot upload checkpoint', self._at(name),
                                   StorageError):
                model.create_file(path, name=name)
        return size_bytes

    def open(self, name: str) -> IO[bytes]:
        plain_name(name, self.url)
        sdk = _Sdk()
        directory = _temporary_directory()
        try:
            path = os.path.join(directory.name, name)
            with sdk.mapped_errors('cannot download checkpoint',
                                   self._at(name)):
                node = sdk.modelcloud.get(f'{self._model_path}/{name}')
                node.download(path)
            with mapped_errors('cannot read the download', path, StorageError):
                raw = io.FileIO(path)
        except BaseException:
            directory.cleanup()
            raise
        if os.name == 'posix':
            # at once: a killed process must not leave it behind
            directory.cleanup()
        return cast(IO[bytes], _DownloadedFile(raw, directory))

    def sweep(self) -> List[str]:
        """Nothing is left unfinished: a file is handed over whole."""
        return []

    def list(self) -> List[StoredFile]:
        raise unsupported(self.url, 'listing', _NO_CALL)

    def delete(self, name: str) -> None:
        raise unsupported(self.url, 'delete', _NO_CALL)

    def link(self, source: str, name: str) -> None:
        raise unsupported(self.url, 'link', _NO_CALL)

    def point(self, name: str, target: Optional[str]) -> None:
        raise unsupported(
            self.url, 'point', f'{_NO_CALL}; give the name of a checkpoint '
            'where you would give latest.pth')

    def _at(self, name: str) -> str:
        return f'{self.url}/{name}'

    def _find_model(self, sdk: '_Sdk') -> Any:
        """Return the training model, or None if it does not exist yet."""
        try:
            with sdk.mapped_errors('cannot look up training model', self.url):
                return sdk.modelcloud.get(self._model_path)
        except MissingCheckpointError:
            return None

    def _create_model(self, sdk: '_Sdk') -> Any:
        try:
            with sdk.mapped_errors('cannot create training model', self.url,
                                   StorageError):
                root = sdk.modelcloud.Folder()
                return root.create_training_model(self._model_path)
        except StorageError:
            # another job may have created it since it was looked up
            model = self._find_model(sdk)
            if model is None:
                raise
            return model


class _Sdk:
    """The two modules of the SDK, and its errors.

    Raises:
        DependencyError: If the SDK is missing or is something else.
    """

    def __init__(self) -> None:
        self.modelcloud, exception = _import_sdk()
        self._not_found: Type[Exception] = exception.NodeNotFoundError
        self._errors: Tuple[Type[Exception], ...] = tuple(
            kind for kind in vars(exception).values()
            if isinstance(kind, type) and issubclass(kind, Exception)
            and kind.__module__ != 'builtins')

    @contextmanager
    def mapped_errors(
        self,
        what: str,
        url: str,
        missing: Type[StorageError] = MissingCheckpointError
    ) -> Iterator[None]:
        """Turn the SDK's errors and ``OSError`` into ``StorageError``."""
        try:
            yield
        except StorageError:
            raise
        except self._not_found as error:
            raise missing(f'{what} {url}: {type(error).__name__}: '
                          f'{error}') from error
        except OSError as error:
            raise storage_error(
                error, f'{what} {url}', missing, remote=True) from error
        except self._errors as error:
            raise StorageError(f'{what} {url}: {type(error).__name__}: '
                               f'{error}') from error


class _DownloadedFile(io.BufferedReader):
    """A file whose temporary directory goes with it."""

    def __init__(self, raw: io.FileIO,
                 directory: 'tempfile.TemporaryDirectory[str]') -> None:
        super().__init__(raw)
        self._directory = directory

    def close(self) -> None:
        super().close()
        self._directory.cleanup()


def _import_sdk() -> Tuple[Any, Any]:
    try:
        import pavi
    except ImportError as error:
        if error.name not in (None, 'pavi'):
            raise _broken_sdk(error) from error
        raise DependencyError("pavi:// needs the package 'pavi', which is not "
                              f'installed: {_ADVICE}') from error
    try:
        from pavi import exception, modelcloud
    except ImportError as error:
        if not (error.name or 'pavi').startswith('pavi'):
            raise _broken_sdk(error) from error
        raise DependencyError(
            f"the package 'pavi' in {getattr(pavi, '__path__', ['?'])[0]} is "
            "not the platform's SDK: it has no pavi.modelcloud and "
            f'pavi.exception. Uninstall it and {_ADVICE}') from error
    return modelcloud, exception


def _broken_sdk(error: ImportError) -> DependencyError:
    return DependencyError(f"the package 'pavi' is installed, but cannot be "
                           f'imported: {error}')


def _temporary_directory() -> 'tempfile.TemporaryDirectory[str]':
    with mapped_errors('cannot create a temporary directory in',
                       os.environ.get('TMPDIR', '/tmp'), StorageError):
        return tempfile.TemporaryDirectory(prefix='mmcv_ckpt_hooks-')
