"""A checkpoint that is a folder, as catalog, retention and saves see it.

Standard library only.
"""
import hashlib
import json
from contextlib import suppress
from typing import (Any, Callable, Dict, Iterable, List, Mapping, Optional,
                    Set, Tuple, cast)

from ..errors import (CorruptError, MissingCheckpointError, OutOfSpaceError,
                      StorageError)
from ..types import StorageBackend
from ..verification import open_archive, read_info
from .layout import (MANIFEST_NAME, MANIFEST_VERSION, METADATA_NAME, REST_NAME,
                     WRITING_NAME, is_checkpoint, is_folder)

try:  # Python 3.8: Protocol is in typing since 3.8
    from typing import Protocol
except ImportError:  # pragma: no cover
    from typing_extensions import Protocol  # type: ignore

#: Size and digest of a file.
Sum = Tuple[int, str]


class FolderedBackend(StorageBackend, Protocol):
    """What a backend that declares ``folders`` has besides the verbs.

    ``list`` has a folder that is a checkpoint as one file with the bytes of
    all of its; ``delete`` removes an empty one. Where there are no
    directories, one that is not there is listed as empty.
    """

    def folder(self, name: str) -> StorageBackend:
        """Return the place that is a folder; nothing is done."""

    def folders(self) -> List[str]:
        """Return the names of the folders that a save has begun."""

    def is_link(self, name: str) -> bool:
        """Whether a name is that of a link, whatever it leads to."""

    def move(self, name: str, other: str) -> None:
        """Give a folder another name, which nothing has.

        Where that is not done at once, ``.metadata`` comes last.
        """


def folder_of(files: StorageBackend, name: str) -> StorageBackend:
    """Return a folder of a backend that declares ``folders``."""
    return cast(FolderedBackend, files).folder(name)


def is_there(files: StorageBackend, name: str) -> bool:
    """Whether a checkpoint, of one file or a folder, can be opened."""
    place, file = files, name
    if is_folder(name):
        if not files.capabilities.folders:
            return False
        place, file = folder_of(files, name), METADATA_NAME
    try:
        place.open(file).close()
    except MissingCheckpointError:
        return False
    return True


def is_listed(files: StorageBackend, name: str) -> bool:
    """Whether a name in a listing is that of a checkpoint of this place.

    Where it has no folders it may be any object's.
    """
    return is_checkpoint(name) and (files.capabilities.folders
                                    or not is_folder(name))


def manifest(sums: Mapping[str, Sum]) -> bytes:
    """Return the content of ``manifest.json``."""
    files = {
        name: dict(bytes=size, digest=digest)
        for name, (size, digest) in sums.items()
    }
    return json.dumps(
        dict(version=MANIFEST_VERSION, files=files), sort_keys=True).encode()


def manifest_digest(content: bytes) -> str:
    """Return the digest of a whole checkpoint, by its manifest."""
    return f'sha256-manifest:{hashlib.sha256(content).hexdigest()}'


def items_digest(digests: Iterable[str]) -> str:
    """Return the digest of a file of items, by theirs in their order.

    Those cover the CRC-32 of every record: a SHA-256 over all bytes would
    take longer than to write them.
    """
    content = '\n'.join(digests).encode()
    return f'sha256-zipdirs:{hashlib.sha256(content).hexdigest()}'


def bytes_digest(content: bytes) -> str:
    """Return the digest of a file."""
    return f'sha256:{hashlib.sha256(content).hexdigest()}'


def remove(files: StorageBackend, name: str) -> None:
    """Delete a checkpoint, of one file or a folder.

    INVARIANT: ``.metadata`` goes first: what is left of a folder then, if the
    process dies, is no checkpoint. What a link leads to is never touched.
    """
    if not is_folder(name) or cast(FolderedBackend, files).is_link(name):
        files.delete(name)
        return
    folder = folder_of(files, name)
    with suppress(MissingCheckpointError):
        names = _names(files, name)
        with suppress(OutOfSpaceError):
            # whose it is, if the process dies; ranks that write yet see that
            # it is over
            folder.put(WRITING_NAME, lambda stream: stream.write(b'over'))
        folder.delete(METADATA_NAME)
        for one in sorted(names - {METADATA_NAME, WRITING_NAME}):
            folder.delete(one)
        # the first answer of an object store may have been no listing; what is
        # left without a mark is never swept
        for one in sorted(_names(files, name) - {WRITING_NAME}):
            folder.delete(one)
        folder.delete(WRITING_NAME)
    files.delete(name)


def remove_empty(files: StorageBackend, name: str) -> None:
    """Delete a folder in which nothing is but unfinished files."""
    with suppress(MissingCheckpointError):
        if not _names(files, name):
            files.delete(name)


def unfinished(files: StorageBackend) -> List[str]:
    """Return the folders of saves that did not come to their end.

    INVARIANT: never one that another program writes, as torch itself does, or
    that somebody has copied without ``.metadata``: a save, and a removal, has
    its mark there from the first moment to the last.
    """
    if not files.capabilities.folders:
        return []
    names = cast(FolderedBackend, files).folders()
    committed = {file.name for file in files.list()} if names else set()
    return [
        name for name in names
        if name not in committed and WRITING_NAME in _names(files, name)
    ]


def unmark(files: StorageBackend) -> None:
    """Take the mark of a save from folders that are committed.

    A process was killed between the two, or before a removal has begun. A copy
    without ``.metadata`` would be taken for unfinished by it.
    """
    if not files.capabilities.folders:
        return
    folders = cast(FolderedBackend, files).folders()
    for name in {file.name for file in files.list()} & set(folders):
        # another program's file of that name is none of ours
        if {WRITING_NAME, MANIFEST_NAME} <= _names(files, name):
            with suppress(StorageError):  # nothing depends on it
                folder_of(files, name).delete(WRITING_NAME)


def incomplete(files: StorageBackend) -> List[str]:
    """Return the folders that were a checkpoint, and lack ``.metadata``."""
    if not files.capabilities.folders:
        return []
    found = []
    for name in cast(FolderedBackend, files).folders():
        names = _names(files, name)
        if MANIFEST_NAME in names and \
                not names & {METADATA_NAME, WRITING_NAME}:
            found.append(name)
    return found


def _names(files: StorageBackend, name: str) -> Set[str]:
    return {file.name for file in folder_of(files, name).list()}


def free_name(files: StorageBackend, name: str) -> str:
    """Return a name that no folder has: this one, or with a number.

    INVARIANT: none that has a checkpoint, for which an object store may give
    an empty listing: what is moved there would replace it.
    """
    number, free = 1, name
    with suppress(MissingCheckpointError):
        while _names(files, free) or \
                is_there(folder_of(files, free), METADATA_NAME):
            number += 1
            free = f'{name}.{number}'
    return free


def lineage_of(files: StorageBackend, name: str) -> Optional[str]:
    """Return the run that a folder belongs to.

    Returns:
        str | None: Empty for one of another program; None if it is damaged
        and does not tell any more.
    """
    try:
        return str(read_card(files, name)[1].get('lineage', ''))
    except CorruptError:
        is_ours = _names(files, name) & {MANIFEST_NAME, REST_NAME}
        return None if is_ours else ''


def make_way(files: StorageBackend, name: str, lineage: str) -> None:
    """Remove what has the name of a folder that is to be written.

    The caller has the lock of the place: what is unfinished there is its own,
    or a dead run's.

    Args:
        files (StorageBackend): The place.
        name (str): Of the folder.
        lineage (str): Of the run that writes it.

    Raises:
        StorageError: If it is another run's.
    """
    if cast(FolderedBackend, files).is_link(name):
        remove(files, name)
    elif is_there(files, name):
        # INVARIANT: it may have come since the catalog was made
        if lineage_of(files, name) not in (lineage, None):
            raise StorageError(f'{files.url}/{name} belongs to another run: '
                               'move it away, or give another place')
        remove(files, name)
    else:
        with suppress(MissingCheckpointError):
            if WRITING_NAME in _names(files, name):
                remove(files, name)
        remove_empty(files, name)


def sweep_folders(files: StorageBackend, warn: Callable[[str],
                                                        None]) -> List[str]:
    """Remove the folders that a save has not finished.

    The caller has the lock of the place: no live run writes there.

    Args:
        files (StorageBackend): The place.
        warn (callable): Told of those that cannot be removed.

    Returns:
        list[str]: Names of what was removed.
    """
    swept = []
    unmark(files)
    for name in unfinished(files):
        try:
            remove(files, name)
        except StorageError as error:
            # such as one in which somebody made a directory
            warn(f'What a killed save left of {name} cannot be removed: '
                 f'{error}')
        else:
            swept.append(name)
    left = incomplete(files)
    if left:
        warn(f'Not usable in {files.url}, for want of {METADATA_NAME}: '
             f'{", ".join(left)}. So is a copy that was made of the files one '
             'by one, without those whose name begins with a dot')
    return swept


def read_card(files: StorageBackend, name: str) -> Tuple[str, Dict[str, Any]]:
    """Return the digest of a folder, and what it says of itself.

    Raises:
        MissingCheckpointError: If it is no checkpoint.
        CorruptError: If it lacks a part.
    """
    folder = folder_of(files, name)
    folder.open(METADATA_NAME).close()
    try:
        with folder.open(MANIFEST_NAME) as file:
            content = file.read()
        with folder.open(REST_NAME) as file, \
                open_archive(file, name) as archive:
            return manifest_digest(content), read_info(archive, name)
    except MissingCheckpointError as error:
        raise CorruptError(f'{name} is incomplete: {error}') from error
