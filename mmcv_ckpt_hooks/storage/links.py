"""Symbolic links that lie among the checkpoints of a local directory."""
import errno
import os
import stat
from typing import Optional

from ..errors import MissingCheckpointError
from ..folders.layout import LATEST_FOLDER, is_checkpoint, is_folder
from ..types import LATEST_NAME, UNKNOWN_BYTES, StoredFile
from .local_folders import found_folder
from .mapped_errors import mapped_errors

#: Errors of a link that leads to nothing; any other may be a server that is
#: away, and never means "not there".
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def is_pointer(path: str) -> bool:
    """Whether a path is the link that ``point`` makes, as stock mmcv does.

    That is a ``latest.pth`` to another checkpoint of its directory, which is
    listed by itself, or a ``latest.dcp`` to a folder. All other links are
    somebody's own.
    """
    own = os.path.basename(path)
    if own not in (LATEST_NAME, LATEST_FOLDER) or not os.path.islink(path):
        return False
    directory, name = os.path.split(os.readlink(path))
    return name.endswith(own[-len('.pth'):]) and name != own and \
        _is_same(directory, os.path.dirname(path))


def found_link(path: str) -> Optional[StoredFile]:
    """Return the entry of a link in a listing.

    Returns:
        StoredFile | None: None for a link that is nobody's own, or whose
        name is no checkpoint's.

    Raises:
        StorageError: If what it leads to may not be looked at.
    """
    name = os.path.basename(path)
    if not is_checkpoint(name) or is_pointer(path):
        return None
    target, size = os.readlink(path), _target_bytes(path)
    return StoredFile(name, UNKNOWN_BYTES if size is None else size, target)


def check_target(path: str) -> None:
    """Call a file missing if its path is a link that leads to none.

    Raises:
        MissingCheckpointError: If it is.
    """
    if os.path.islink(path) and _target_bytes(path) is None:
        raise MissingCheckpointError(
            f'cannot read checkpoint {path}: it is a link to '
            f'{os.readlink(path)}, which is no regular file that is there (is '
            'its disk mounted?)')


def telling_name(path: str) -> str:
    """Return the file name that may tell the step of a checkpoint.

    That of a ``latest.pth`` that is a link does not; what it leads to may.
    """
    if os.path.basename(path) == LATEST_NAME and os.path.islink(path):
        path = os.path.realpath(path)
    return os.path.basename(path)


def leads_away(path: str) -> bool:
    """Whether a path is a link, and not to a file of its own directory."""
    real = os.path.realpath(path)
    return os.path.islink(path) and not (os.path.isfile(real) and _is_same(
        os.path.dirname(real), os.path.dirname(path)))


def _target_bytes(path: str) -> Optional[int]:
    """Size of the checkpoint that a link leads to; None if there is none."""
    with mapped_errors('cannot follow the link', path):
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno in _NOWHERE:
                return None
            raise
        if is_folder(path):
            found = found_folder(path) if stat.S_ISDIR(status.st_mode) else \
                None
            return None if found is None else found.bytes
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _is_same(directory: str, other: str) -> bool:
    return not directory or \
        os.path.realpath(os.path.join(other, directory)) == \
        os.path.realpath(other)
