"""Where a folder is: a place of its own, beside other checkpoints."""
import os
from types import MappingProxyType
from typing import Any, Mapping

from ..storage import Path, open_backend, scheme_of
from ..types import StorageBackend
from . import folder
from .layout import METADATA_NAME, is_folder


def any_folder_of(files: StorageBackend,
                  name: str,
                  access: Mapping[str, Any] = MappingProxyType({})) -> \
        StorageBackend:
    """Return a folder of a place of any storage, as a place.

    Args:
        files (StorageBackend): The place.
        name (str): Of the folder.
        access (dict): How the place was opened, for one that has no folders
            of its own. Default: without further arguments.
    """
    if files.capabilities.folders:
        return folder.folder_of(files, name)
    return open_backend(os.path.join(files.url, name), **access)


def leads_to_folder(path: Path) -> bool:
    """Whether a path or URL is that of a sharded checkpoint.

    Its name tells; that of a local one of torch alone is any, and its
    metadata do.
    """
    path = os.fspath(path)
    if is_folder(path):
        return True
    if scheme_of(path) not in ('', 'file'):
        return False
    plain = path[7:] if scheme_of(path) else path
    return os.path.isfile(
        os.path.join(os.path.expanduser(plain), METADATA_NAME))
