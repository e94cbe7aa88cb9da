"""Where checkpoints go: one file a backend, chosen by URL.

In this order:

1. ``file_client_args`` other than the disk's: ``mmcv.FileClient``
2. a path, ``file://``: a local directory
3. ``s3://``, ``gs://``, ``az://``: an object store, through obstore
4. ``pavi://``: the platform's SDK
5. ``http://``, ``https://``, and what somebody registered with
   ``mmcv.FileClient``: that
6. what fsspec has, such as ``hdfs://``, ``sftp://``, ``gcs://``, ``abfs://``,
   ``memory://``: fsspec
7. anything else: ``mmcv.FileClient``, which refuses what it does not have
"""
import os
from typing import TYPE_CHECKING, Any, Mapping, Optional, Tuple, Union

from ..errors import ConfigError
from .near_names import refuse_near_url

if TYPE_CHECKING:
    from ..types import StorageBackend

#: A path or URL as users give it.
Path = Union[str, 'os.PathLike[str]']

#: Schemes of :class:`LocalBackend`; a path has none.
_LOCAL = ('', 'file')
#: Schemes of :class:`ObjectStoreBackend`.
OBJECT_STORES = ('s3', 'gs', 'az')
#: mmcv's, although fsspec has them, too.
_OF_MMCV = ('http', 'https')


def scheme_of(url: Path) -> str:
    """Return ``'pavi'`` for ``'pavi://a/b'`` and ``''`` for a path."""
    scheme, separator, _ = os.fspath(url).partition('://')
    return scheme if separator else ''


def is_of_fsspec(scheme: str) -> bool:
    """Whether a scheme is one that is left to fsspec."""
    if scheme in (*_LOCAL, *OBJECT_STORES, *_OF_MMCV, 'pavi'):
        return False
    from .fsspec_known import serves
    return serves(scheme)


def split_filename(filename: Path) -> Tuple[str, str]:
    """Split a checkpoint's path or URL into directory and file name.

    Returns:
        tuple[str, str]: For example ``('pavi://project/model', 'a.pth')``.

    Raises:
        ConfigError: If there is no file name.
    """
    filename = path = os.fspath(filename)
    scheme = scheme_of(filename)
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


def open_backend(url: Path,
                 file_client_args: Optional[Mapping[str, Any]] = None,
                 durable: bool = True,
                 storage_options: Optional[Mapping[str, Any]] = None) -> \
        'StorageBackend':
    """Choose the backend of a directory; nothing is touched yet.

    Args:
        url (str | Path): A path, ``s3://bucket/prefix`` (``gs://``,
            ``az://``), ``pavi://project/model``, or any URL that
            ``mmcv.fileio.FileClient`` or fsspec serves.
        file_client_args (dict, optional): Arguments of
            ``mmcv.fileio.FileClient``, which then has the place. Default:
            None, which means that the URL's scheme decides.
        durable (bool): See :class:`LocalBackend`. Default: True.
        storage_options (dict, optional): Of an object store, see
            :class:`ObjectStoreBackend`, or of fsspec's file system. Default:
            None.

    Raises:
        ConfigError: If no backend serves the URL, or ``file_client_args``
            contradict it.
        DependencyError: If the backend needs a package that is missing.
    """
    url = os.fspath(url)
    if file_client_args is None:
        refuse_near_url(url, OBJECT_STORES)
    scheme = scheme_of(url)
    if scheme == 'pavi':
        if file_client_args is not None:
            raise ConfigError(
                f'file_client_args must be None for {url!r}, because pavi is '
                f'not a FileClient backend, but got {file_client_args!r}')
        from .pavi import PaviBackend
        return PaviBackend(url)
    on_disk = file_client_args is not None and _is_disk(file_client_args)
    if on_disk and scheme not in _LOCAL:
        raise ConfigError(f"{url!r} is no local path, but file_client_args "
                          "name mmcv's backend 'disk'")
    if file_client_args is None and scheme in OBJECT_STORES:
        from .object_store import ObjectStoreBackend
        return ObjectStoreBackend(url, storage_options)
    if on_disk or (file_client_args is None and scheme in _LOCAL):
        from .local import LocalBackend
        return LocalBackend(url[7:] if scheme else url, durable=durable)
    if file_client_args is None and is_of_fsspec(scheme):
        from .fsspec_store import FsspecBackend
        return FsspecBackend(url, storage_options)
    from .file_client import FileClientBackend
    return FileClientBackend(url, file_client_args)


def _is_disk(file_client_args: Mapping[str, Any]) -> bool:
    """Whether mmcv takes its own disk backend, which is not atomic."""
    others = sorted(set(file_client_args) - {'backend', 'prefix'})
    backend = file_client_args.get('backend')
    if backend is None and file_client_args.get('prefix') is None:
        backend = 'disk'
    if backend == 'disk' and others:
        raise ConfigError("file_client_args: mmcv's backend 'disk' takes no "
                          f'arguments, but got {others}')
    return backend == 'disk'
