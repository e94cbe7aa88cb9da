"""Where a folder is: a place of its own, beside other checkpoints."""
import os
from typing import Any, Dict, Tuple

from .errors import CorruptError
from .folder_layout import MANIFEST_NAME, METADATA_NAME, REST_NAME, is_folder
from .folder_manifest import MANIFEST_LIMIT_BYTES, manifest_digest
from .storage import Path, open_backend, scheme_of
from .types import StorageBackend
from .verification import open_archive, read_info


def folder_of(files: StorageBackend, name: str) -> StorageBackend:
    """Return a folder of a place, as a place."""
    opened: Any = getattr(files, 'folder', None)
    if opened is not None:
        folder: StorageBackend = opened(name)
        return folder
    return open_backend(os.path.join(files.url, name))


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
    return os.path.exists(
        os.path.join(os.path.expanduser(plain), METADATA_NAME))


def folder_said(folder: StorageBackend,
                path: str) -> Tuple[str, Dict[str, Any]]:
    """Return digest and card of a folder; nothing else of it is read.

    Args:
        folder (StorageBackend): The folder itself.
        path (str): Of it, for the messages.

    Raises:
        IntegrityError: If it is no complete checkpoint.
        MissingCheckpointError: If a small file of it is missing.
    """
    folder.open(METADATA_NAME).close()
    with folder.open(MANIFEST_NAME) as file:
        data = file.read(MANIFEST_LIMIT_BYTES + 1)
    if len(data) > MANIFEST_LIMIT_BYTES:
        raise CorruptError(f'{path}: {MANIFEST_NAME} is larger than '
                           f'{MANIFEST_LIMIT_BYTES} bytes')
    name = os.path.join(path, REST_NAME)
    with folder.open(REST_NAME) as file, open_archive(file, name) as archive:
        return manifest_digest(data), read_info(archive, name)
