"""A checkpoint file, found by its path and checked where it lies."""
import logging
import os
from typing import Any, Mapping, Optional, Tuple

from .catalog import Catalog
from .errors import ResumeError, StorageError
from .folders.opening import open_folder
from .folders.place import any_folder_of, leads_to_folder
from .folders.verification import verify_folder
from .given_path import refuse_directory, refuse_part
from .scanning import verify_loadable
from .storage import Path, open_backend, scheme_of, split_filename
from .types import StorageBackend
from .verification import VerifyReport

#: Of an object store.
Options = Optional[Mapping[str, Any]]
#: Further arguments of ``open_backend``.
Access = Mapping[str, Any]


def verify_checkpoint(path: Path,
                      storage_options: Options = None) -> VerifyReport:
    """Check that a file or folder is a complete, undamaged checkpoint.

    The zip structure, the CRC-32 of every record and, where a catalog beside
    the file can be read, the digest there are checked; then, without loading
    it, that a resume could build what its pickle says, and would. Of a
    sharded checkpoint (a folder) the digest of every file, and that all
    chunks of all tensors are there; of one that torch.distributed.checkpoint
    alone has written, what can be without digests.

    Args:
        path (str | Path): A path or URL.
        storage_options (dict, optional): Of an object store. Default: None.

    Returns:
        VerifyReport: What was checked.

    Raises:
        IntegrityError: It names the defect.
        UnsafeCheckpointError: If it is undamaged, but would be loaded with
            ``trust_checkpoint`` only, since it names what could run code.
        MissingCheckpointError: If there is no such file.
        ConfigError: If it is a part of a sharded checkpoint, or a directory
            of checkpoints.
    """
    path = os.fspath(path)
    refuse_part(path)
    refuse_directory(path)
    access = dict(storage_options=storage_options)
    backend, _, name = opened(path, access)
    if leads_to_folder(path):
        folder = open_folder(
            any_folder_of(backend, name, access), path,
            _listed_digest(backend, name))
        return verify_folder(folder)
    with backend.open(name) as file:
        return verify_loadable(file, path, _listed_digest(backend, name))


def _listed_digest(backend: StorageBackend, name: str) -> Optional[str]:
    """Return the digest in the catalog; None if that cannot be read."""
    if not backend.capabilities.listing:
        return None
    catalog = Catalog(backend, backend, warn=lambda message: None)
    try:
        catalog.open(reconcile=False)
    except (ResumeError, StorageError) as error:
        # whatever it is, the file is not at fault
        logging.warning(f'{name} is checked without the catalog: {error}')
        return None
    known = catalog.find(name)
    return known.digest if known is not None else None


def opened(path: str, access: Access) -> Tuple[StorageBackend, str, str]:
    """Return the backend, its place and the name of a file."""
    directory, name = split_filename(_real_path(path))
    return open_backend(directory, **access), directory, name


def _real_path(path: str) -> str:
    """Follow ``latest.pth`` to the file whose name tells the step."""
    if leads_to_folder(path):
        path = path.rstrip('/')
    if scheme_of(path):
        return path
    path = os.path.expanduser(path)
    return os.path.realpath(path) if os.path.islink(path) else path
