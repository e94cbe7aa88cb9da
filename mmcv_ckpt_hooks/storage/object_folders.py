"""Checkpoints that are folders in an object store: keys with one beginning.

There are no directories: a folder is there as long as an object in it is.
"""
from contextlib import suppress
from typing import Any, Callable, List, Optional

from ..errors import MissingCheckpointError, StorageError
from ..folders.layout import METADATA_NAME, is_folder
from ..types import StorageBackend, StoredFile


def folder_names(listed: Any) -> List[str]:
    """Return the names of the folders in what the client has listed."""
    names = [
        prefix.rstrip('/').rpartition('/')[2]
        for prefix in listed['common_prefixes']
    ]
    return sorted(name for name in names if is_folder(name))


def found_folder(folder: StorageBackend, name: str) -> Optional[StoredFile]:
    """Return the entry of a folder in a listing: the bytes of all files.

    INVARIANT: a checkpoint that is there is never taken for none. The client
    makes an empty listing of any answer 200 in XML.

    Args:
        folder (StorageBackend): The folder itself.
        name (str): Of it.

    Returns:
        StoredFile | None: None for one that is no checkpoint, or not yet.

    Raises:
        StorageError: If the listing lacks what is there.
    """
    # it may be committed between the listing and the look
    for _ in range(2):
        sizes = {file.name: file.bytes for file in folder.list()}
        if METADATA_NAME in sizes:
            return StoredFile(name, sum(sizes.values()))
        if not _is_there(folder):
            return None
    raise StorageError(
        f'{folder.url} is listed without {METADATA_NAME}, which is there: '
        'what the storage or a proxy before it answers is no listing')


def _is_there(folder: StorageBackend) -> bool:
    with suppress(MissingCheckpointError):
        folder.open(METADATA_NAME).close()
        return True
    return False


def move_folder(folder: StorageBackend, copy: Callable[[str], Any]) -> None:
    """Have the files of a folder copied, and delete them.

    Whoever ends in between leaves the folder, or the other one, as a
    checkpoint, or both.

    Args:
        folder (StorageBackend): The folder itself.
        copy (callable): Called with the name of each; ``.metadata`` is last.

    Raises:
        StorageError: If the listing lacks what is there; nothing is moved.
    """
    found = {file.name for file in folder.list()}
    if METADATA_NAME not in found:
        raise StorageError(f'cannot move {folder.url}: it is listed without '
                           f'{METADATA_NAME}, and so perhaps without others')
    names = sorted(found - {METADATA_NAME})
    for name in [*names, METADATA_NAME]:
        copy(name)
    for name in [METADATA_NAME, *names]:
        folder.delete(name)
