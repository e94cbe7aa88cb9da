"""Checkpoints that are folders in a local directory."""
import os
from typing import List, Optional

from ..folders.layout import METADATA_NAME, is_folder
from ..types import StoredFile
from .names import is_temporary


def found_folder(path: str) -> Optional[StoredFile]:
    """Return the entry of a folder in a listing: the bytes of all files.

    Returns:
        StoredFile | None: None for one that is no checkpoint, or not yet.
    """
    sizes = {}
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_file() and not is_temporary(entry.name):
                sizes[entry.name] = entry.stat().st_size
    if METADATA_NAME not in sizes:
        return None
    return StoredFile(os.path.basename(path), sum(sizes.values()))


def folders_in(directory: str) -> List[str]:
    """Return the names of the folders with a checkpoint's name."""
    with os.scandir(directory) as entries:
        return sorted(
            entry.name for entry in entries
            if is_folder(entry.name) and entry.is_dir(follow_symlinks=False))


def remove_folder(path: str) -> bool:
    """Remove a folder in which nothing is but unfinished files.

    Returns:
        bool: False if the path is none.
    """
    if os.path.islink(path) or not os.path.isdir(path):
        return False
    for name in os.listdir(path):
        if is_temporary(name):
            os.unlink(os.path.join(path, name))
    os.rmdir(path)
    return True
