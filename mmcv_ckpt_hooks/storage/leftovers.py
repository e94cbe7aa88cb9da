"""Unfinished files that a dead writer left in a local directory."""
import os
import stat
import time
from contextlib import suppress
from typing import List

from ..folders.layout import is_folder
from .mapped_errors import mapped_errors
from .names import TEMPORARY_MARK, is_temporary

#: Temporary files younger than this are never swept.
_YOUNG_SECS = 60.


def sweep_abandoned(directory: str) -> List[str]:
    """Remove temporary files whose writer is dead, as far as that shows.

    A writer holds a kernel lock on its file, which ends with the process on
    whichever machine. Young files are left alone: a writer may not have come
    to the lock yet.

    Returns:
        list[str]: Names of what was removed.
    """
    swept = []
    with mapped_errors('cannot sweep the checkpoint directory', directory):
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            if is_temporary(name) and _is_abandoned(path):
                with suppress(OSError):
                    os.unlink(path)
                swept.append(name)
            elif is_folder(name) and not os.path.islink(path) and \
                    os.path.isdir(path):
                swept += _swept_in_folder(path)
    return swept


def _swept_in_folder(path: str) -> List[str]:
    """Sweep a folder; it goes, too, if it was empty for long enough.

    A save makes it, and a removal leaves it, without any file for a moment.
    """
    found = [
        os.path.join(os.path.basename(path), name)
        for name in sweep_abandoned(path)
    ]
    with suppress(OSError):
        if found or time.time() - os.lstat(path).st_mtime >= _YOUNG_SECS:
            os.rmdir(path)  # only an empty one
            found.append(os.path.basename(path))
    return found


def sweep_dead(directory: str, writer: str) -> List[str]:
    """Remove the temporary files of a process that is known to be dead.

    However young they are, and whoever still has them open.

    Args:
        directory (str): The directory.
        writer (str): Its :func:`writer_id`.

    Returns:
        list[str]: Names of what was removed.
    """
    mark = f'{TEMPORARY_MARK}{writer}-'
    with mapped_errors('cannot sweep the checkpoint directory', directory):
        swept = [
            name for name in sorted(os.listdir(directory))
            if is_temporary(name) and mark in name
        ]
    for name in swept:
        with suppress(OSError):
            os.unlink(os.path.join(directory, name))
    return swept


def claim(descriptor: int) -> bool:
    """Lock a file for as long as it is open; False if another has it.

    ``flock``, although workers that are forked meanwhile inherit it and
    outlive a killed writer by seconds: within one process, too, it tells the
    writer from who sweeps, which a record lock does not. The file is then
    swept later, or by :func:`sweep_dead`.
    """
    try:
        import fcntl
    except ImportError:  # Windows: an open file cannot be deleted anyway
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # held, or a file system without locks: then nothing is swept
        return False
    return True


def _is_abandoned(path: str) -> bool:
    try:
        status = os.lstat(path)
        if time.time() - status.st_mtime < _YOUNG_SECS:
            return False
        if stat.S_ISLNK(status.st_mode):
            return True  # of a point() that was killed
        if not stat.S_ISREG(status.st_mode):
            return False  # opening a pipe would wait for ever
        # for writing: NFS locks no other file exclusively
        with open(path, 'r+b') as file:
            return claim(file.fileno())
    except OSError:
        return False  # gone meanwhile, or not ours to judge
