"""Where checkpoints go: one file a backend, chosen by URL."""
import os
from typing import Any, Mapping, Optional, Tuple

from ..errors import ConfigError
from ..types import StorageBackend

#: Schemes of object stores, to name them in the error.
_OBJECT_STORES = ('s3', 'gs', 'gcs', 'az', 'abfs', 'azure', 'oss', 'cos')


def scheme_of(url: str) -> str:
    """Return ``'pavi'`` for ``'pavi://a/b'`` and ``''`` for a path."""
    scheme, separator, _ = url.partition('://')
    return scheme if separator else ''


def split_filename(filename: str) -> Tuple[str, str]:
    """Split a checkpoint's path or URL into directory and file name.

    Returns:
        tuple[str, str]: For example ``('pavi://project/model', 'a.pth')``.

    Raises:
        ConfigError: If there is no file name.
    """
    scheme, path = scheme_of(filename), filename
    if scheme:
        path = filename[len(scheme) + 3:]
    directory, name = os.path.split(path)
    if not name:
        raise ConfigError(
            f'{filename!r} names no file: expected a path or URL that ends '
            "in a file name such as 'iter_1000.pth'")
    if scheme:
        return f'{scheme}://{directory}', name
    return directory or '.', name


def open_backend(url: str,
                 file_client_args: Optional[Mapping[str, Any]] = None,
                 durable: bool = True) -> StorageBackend:
    """Choose the backend of a directory; nothing is touched yet.

    Args:
        url (str): A path, ``pavi://project/model``, or any URL together with
            ``file_client_args``.
        file_client_args (dict, optional): Arguments of
            ``mmcv.fileio.FileClient``. Default: None.
        durable (bool): See :class:`LocalBackend`. Default: True.

    Raises:
        ConfigError: If no backend serves the URL, or ``file_client_args``
            contradict it.
    """
    scheme = scheme_of(url)
    backend = (file_client_args or {}).get('backend')
    if scheme == 'pavi':
        if file_client_args is not None:
            raise ConfigError(
                f'file_client_args must be None for {url!r}, because pavi is '
                f'not a FileClient backend, but got {file_client_args!r}')
        from .pavi import PaviBackend
        return PaviBackend(url)
    if file_client_args is not None and backend != 'disk':
        from .file_client import FileClientBackend
        return FileClientBackend(url, file_client_args)
    if scheme in ('', 'file'):
        from .local import LocalBackend
        return LocalBackend(url[7:] if scheme else url, durable=durable)
    if scheme in _OBJECT_STORES:
        raise ConfigError(
            f'{url!r}: object stores are not supported in this version '
            'without file_client_args; give '
            "file_client_args=dict(backend='petrel') where mmcv reaches the "
            'store, or a mounted directory')
    raise ConfigError(
        f'{url!r}: unknown scheme {scheme!r}; expected a local path, '
        "'file://', 'pavi://', or a URL together with file_client_args")
