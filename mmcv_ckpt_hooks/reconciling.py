"""What a directory holds: its listing, and what a catalog knew of it.

Standard library only.
"""
from typing import TYPE_CHECKING, Callable, Dict, List, Mapping, Sequence

from .card import describe
from .errors import MissingCheckpointError
from .folders.folder import is_listed, is_there
from .latest import described_latest
from .lease import lock_name
from .short_listing import with_file
from .storage.names import is_plain
from .types import (LATEST_NAME, POINTER_FILE, UNKNOWN_BYTES, CheckpointInfo,
                    StorageBackend, StoredFile)

if TYPE_CHECKING:
    from .catalog import Catalog


def listed(files: StorageBackend, home: StorageBackend,
           catalog_name: str) -> List[StoredFile]:
    """List a directory, of which an empty one lets a run start anew.

    INVARIANT: what of a run can be read is in the listing: its catalog, its
    lock, its pointer.

    Args:
        files (StorageBackend): The directory.
        home (StorageBackend): Where its catalog is kept.
        catalog_name (str): File name of that.

    Raises:
        StorageError: If one of them is missing all the same.
    """
    found = files.list()
    if home.url != files.url:
        return found
    for name in (catalog_name, lock_name(catalog_name), POINTER_FILE):
        found = with_file(files, found, name)
    return found


def reconciled(files: StorageBackend, listed: Sequence[StoredFile],
               known: Mapping[str, CheckpointInfo],
               warn: Callable[[str], None]) -> Dict[str, CheckpointInfo]:
    """Return the checkpoints of a directory by name.

    A link counts as the file that it leads to. One that leads nowhere is
    left out, unless it is known: the disk behind it may only be away.

    Args:
        files (StorageBackend): The directory.
        listed (Sequence): Its listing.
        known (dict): What the catalog has, by name.
        warn (callable): Told of links that lead nowhere.

    Raises:
        StorageError: If the listing lacks one of them that is there.
    """
    found: Dict[str, CheckpointInfo] = {}
    latest = None
    names = {file.name for file in listed}
    gone = [name for name in known if name not in names and is_plain(name)]
    if gone:
        # INVARIANT: pages come by name: of one that was no page, and so ended
        # the listing, the last is missing
        listed = with_file(files, listed, max(gone))
    for file in listed:
        entry = known.get(file.name)
        if not is_listed(files, file.name):
            continue
        if file.name == LATEST_NAME:
            latest = file
        elif entry is not None and file.bytes in (entry.bytes, UNKNOWN_BYTES):
            found[file.name] = entry
        elif file.leads_to and file.bytes == UNKNOWN_BYTES:
            warn(f'{files.url}/{file.name} is a link to {file.leads_to}, '
                 'which is no file that is there: it is passed over')
        else:
            try:
                found[file.name] = describe(files, file.name, file.bytes,
                                            entry)
            except MissingCheckpointError:
                pass  # deleted since it was listed
    if latest is not None:
        one = described_latest(files, latest, list(found.values()))
        found.update({} if one is None else {one.name: one})
    return found


def agrees(files: StorageBackend, listed: Sequence[StoredFile],
           known: Mapping[str, CheckpointInfo]) -> bool:
    """Whether a catalog without a checksum can be believed.

    It may have been edited: whatever it says of a step must be what the files
    say, and no file of a run may be missing.

    Args:
        files (StorageBackend): The directory.
        listed (Sequence): Its listing.
        known (dict): What the catalog has, by name.
    """
    for file in listed:
        entry = known.get(file.name)
        if not is_listed(files, file.name) or file.name == LATEST_NAME:
            continue
        try:
            found = describe(files, file.name, file.bytes)
        except MissingCheckpointError:
            continue
        if entry is None and (found.lineage or found.trigger == 'best'):
            return False
        if entry is not None and found.digest and \
                (found.iter, found.epoch) != (entry.iter, entry.epoch):
            return False
    return True


def forget_if_gone(files: StorageBackend, catalog: 'Catalog',
                   name: str) -> None:
    """Forget a checkpoint that somebody deleted.

    A network file system may say once that one is not there: it is, and would
    never be deleted.
    """
    if not is_there(files, name):
        catalog.forget(name)
