"""A listing that lacks what is there, as a client makes one of an error.

Standard library only.
"""
import time
from typing import List, Sequence

from .errors import StorageError
from .folders.folder import is_there
from .types import StorageBackend, StoredFile

#: Before a listing that lacks something is asked for again (seconds).
_PAUSES_SECS = (0.1, 0.3, 1., 3.)


def with_file(files: StorageBackend, found: Sequence[StoredFile],
              name: str) -> List[StoredFile]:
    """Return a listing that has a file, if that is there; list again for it.

    To obstore any answer 200 in XML is a listing, or the last page of one: an
    error of the server, the page of a proxy.

    Args:
        files (StorageBackend): The directory.
        found (Sequence): Its listing.
        name (str): Of a file, or of a folder that is a checkpoint.

    Raises:
        StorageError: If it is there, and in no listing.
    """
    names = {file.name for file in found}
    # a file system, which has links, lists everything that is a file
    is_whole = bool(names) and files.capabilities.link
    if is_whole or name in names or not is_there(files, name):
        return list(found)
    for pause in _PAUSES_SECS:
        time.sleep(pause)
        again = files.list()
        if any(file.name == name for file in again):
            return again
    what = f'without {name}, which is there' if names else \
        f'as empty, but has {name}'
    raise StorageError(
        f'{files.url} is listed {what}: what the storage or a proxy before it '
        'answers is no listing, or not all of it')
