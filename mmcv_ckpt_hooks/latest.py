"""``latest.pth``: what it is, and where it leads. Standard library only."""
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Optional, Sequence

from .card import describe
from .errors import MissingCheckpointError
from .types import LATEST_NAME, CheckpointInfo, StorageBackend

if TYPE_CHECKING:
    from .catalog import Catalog

_BLOCK_BYTES = 1 << 20


def described_latest(
        files: StorageBackend, size: int,
        others: Sequence[CheckpointInfo]) -> Optional[CheckpointInfo]:
    """Describe a ``latest.pth`` that is a checkpoint of its own.

    Who copies nothing but that one from elsewhere gets a file, no link.

    Args:
        files (StorageBackend): The place.
        size (int): Of the file in bytes.
        others (Sequence): The checkpoints that are there.

    Returns:
        CheckpointInfo | None: None if it is a link to one of the others, or
        a copy of it.
    """
    try:
        found = describe(files, LATEST_NAME, size)
        if found.digest:
            is_own = found.digest not in {info.digest for info in others}
        else:
            is_own = not any(
                info.bytes == size and _are_equal(files, info.name)
                for info in others)
    except MissingCheckpointError:
        return None  # deleted since it was listed
    return found if is_own else None


def _are_equal(files: StorageBackend, name: str) -> bool:
    with files.open(name) as one, files.open(LATEST_NAME) as other:
        while True:
            block = one.read(_BLOCK_BYTES)
            if block != other.read(_BLOCK_BYTES):
                return False
            if not block:
                return True


def move_latest(backend: StorageBackend, catalog: 'Catalog', target: str,
                log: Callable[[str], None]) -> None:
    """Make ``latest.pth`` lead to a checkpoint; one of its own is kept."""
    if catalog.find(LATEST_NAME) is not None:
        set_aside(backend, catalog, LATEST_NAME, log)
    backend.point(LATEST_NAME, target)
    catalog.forget(LATEST_NAME)


def set_aside(backend: StorageBackend, catalog: 'Catalog', name: str,
              log: Callable[[str], None]) -> None:
    """Keep what is not this run's to replace under a name of its own.

    That is another run's file of the name, and any ``latest.pth`` that is
    listed.
    """
    known = catalog.find(name)
    is_latest = name == LATEST_NAME
    if known is None or known.lineage == catalog.lineage and not is_latest:
        return
    _keep_aside(backend, known, log)


def keep_latest(backend: StorageBackend, log: Callable[[str], None]) -> None:
    """As :func:`set_aside` for ``latest.pth``, where no catalog is open.

    To be called before the save that it will lead to: a hard link to a file
    of the same name is a file of its own afterwards.
    """
    sizes = {}
    with suppress(MissingCheckpointError):  # the directory is made by the save
        sizes = {
            file.name: file.bytes
            for file in backend.list() if file.name.endswith('.pth')
        }
    latest = sizes.pop(LATEST_NAME, None)
    if latest is None:
        return
    others = []
    for name, size in sizes.items():
        with suppress(MissingCheckpointError):  # deleted since it was listed
            others.append(describe(backend, name, size))
    known = described_latest(backend, latest, others)
    if known is not None:
        _keep_aside(backend, known, log)


def _keep_aside(backend: StorageBackend, known: CheckpointInfo,
                log: Callable[[str], None]) -> None:
    name = known.name
    is_latest = name == LATEST_NAME
    whose = 'is no link to a checkpoint here' if is_latest else \
        'belongs to another run'
    if not backend.capabilities.link:
        log(f'{name} {whose} and is replaced: {backend.url} cannot keep it '
            'under another name')
        return
    # not *.pth: tools that glob for checkpoints must not take it
    content = known.digest.partition(':')[2]
    mark = (content if is_latest else known.lineage or content) or 'damaged'
    # a lineage is what a file says: it may hold a separator or '.pth'
    plain = hashlib.sha256(mark.encode(errors='replace')).hexdigest()
    aside = f'{name}.{(mark if mark.isalnum() else plain)[:8]}'
    backend.link(name, aside)
    log(f'{name} {whose}; that one is kept as {aside}')
