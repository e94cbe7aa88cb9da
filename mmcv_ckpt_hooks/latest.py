"""``latest.pth``: what it is, and where it leads. Standard library only."""
import hashlib
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Callable, Optional, Sequence, cast

from .card import describe
from .errors import MissingCheckpointError
from .folders.folder import FolderedBackend, free_name
from .folders.layout import LATEST_FOLDER, is_folder
from .types import LATEST_NAME, CheckpointInfo, StorageBackend, StoredFile

if TYPE_CHECKING:
    from .catalog import Catalog

#: What is said of a checkpoint that :func:`tells_nothing`.
NOBODYS = 'is damaged, or of another program, and does not tell whose it is'

_BLOCK_BYTES = 1 << 20


def described_latest(
        files: StorageBackend, latest: StoredFile,
        others: Sequence[CheckpointInfo]) -> Optional[CheckpointInfo]:
    """Describe a ``latest.pth`` that is a checkpoint of its own.

    Who copies nothing but that one from elsewhere gets a file, no link.

    Args:
        files (StorageBackend): The place.
        latest (StoredFile): As it is listed.
        others (Sequence): The checkpoints that are there.

    Returns:
        CheckpointInfo | None: None if it is a copy of one of the others, or a
        link to nothing.
    """
    size = latest.bytes
    try:
        found = describe(files, LATEST_NAME, size, leads_to=latest.leads_to)
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
    with ExitStack() as both:
        other = both.enter_context(files.open(LATEST_NAME))
        try:
            one = both.enter_context(files.open(name))
        except MissingCheckpointError:
            return False  # a link, and the disk behind it is away
        while True:
            block = one.read(_BLOCK_BYTES)
            if block != other.read(_BLOCK_BYTES):
                return False
            if not block:
                return True


def move_latest(backend: StorageBackend, catalog: 'Catalog', target: str,
                log: Callable[[str], None]) -> None:
    """Make ``latest.pth`` lead to a checkpoint; one of its own is kept.

    To a folder ``latest.dcp`` does; of both there is the one.
    """
    name, other = (LATEST_FOLDER, LATEST_NAME) if is_folder(target) else \
        (LATEST_NAME, LATEST_FOLDER)
    set_aside(backend, catalog, name, log)
    backend.point(name, target)
    if backend.capabilities.folders and backend.capabilities.link:
        # without links both are one pointer file
        backend.point(other, None)
    catalog.forget(name)


def drop_latest(backend: StorageBackend) -> None:
    """Remove the pointer of a start that had one: it is stale."""
    backend.point(LATEST_NAME, None)
    if backend.capabilities.folders:
        backend.point(LATEST_FOLDER, None)


def tells_nothing(info: CheckpointInfo) -> bool:
    """Whether neither a file nor the catalog says whose it is.

    It may be this run's: a catalog that is lost knows no more than its name.
    """
    return not (info.lineage or info.digest)


def set_aside(backend: StorageBackend, catalog: 'Catalog', name: str,
              log: Callable[[str], None]) -> None:
    """Keep what is not this run's to replace under a name of its own.

    That is another run's file of the name, any ``latest.pth`` that is listed,
    and any link that somebody else made.
    """
    known, leads_to = catalog.find(name), catalog.link(name)
    if leads_to:
        _keep_link(backend, name, leads_to, log)
    elif known is not None and (known.lineage != catalog.lineage
                                or name == LATEST_NAME):
        _keep_aside(backend, known, log)


def keep_for_save(backend: StorageBackend, name: str, points: bool,
                  log: Callable[[str], None]) -> None:
    """As :func:`set_aside` before a save, where no catalog is open.

    Before, also for ``latest.pth``: a hard link to a file of the same name is
    a file of its own afterwards.

    Args:
        backend (StorageBackend): The place.
        name (str): What is to be saved: a link of that name is kept.
        points (bool): Whether ``latest.pth`` will lead to it.
        log (callable): Told what is kept.
    """
    listed = {}
    with suppress(MissingCheckpointError):  # the directory is made by the save
        listed = {
            file.name: file
            for file in backend.list() if file.name.endswith('.pth')
        }
    for file in listed.values():
        if file.leads_to and (file.name == name
                              or points and file.name == LATEST_NAME):
            _keep_link(backend, file.name, file.leads_to, log)
    latest = listed.pop(LATEST_NAME, None)
    if not points or latest is None or latest.leads_to:
        return
    others = []
    for file in listed.values():
        with suppress(MissingCheckpointError):  # deleted since it was listed
            others.append(describe(backend, file.name, file.bytes))
    known = described_latest(backend, latest, others)
    if known is not None:
        _keep_aside(backend, known, log)


def _keep_link(backend: StorageBackend, name: str, leads_to: str,
               log: Callable[[str], None]) -> None:
    aside = f'{name}.{_hashed(leads_to)}'
    backend.link(name, aside)
    log(f'{name} is a link to {leads_to}: it is kept as {aside}, and what it '
        'leads to is left as it is')


def _keep_aside(backend: StorageBackend, known: CheckpointInfo,
                log: Callable[[str], None]) -> None:
    name = known.name
    is_latest = name == LATEST_NAME
    if is_latest:
        whose = 'is no link to a checkpoint here'
    elif tells_nothing(known):
        whose = NOBODYS
    elif known.lineage:
        whose = 'belongs to another run'
    else:
        whose = 'belongs to another run, or to stock mmcv'
    able = backend.capabilities
    if not (able.link or able.server_copy or is_folder(name)):
        log(f'{name} {whose} and is replaced: {backend.url} cannot keep it '
            'under another name')
        return
    # not *.pth: tools that glob for checkpoints must not take it
    content = known.digest.partition(':')[2]
    mark = (content if is_latest else known.lineage or content) or 'damaged'
    # a lineage is what a file says: it may hold a separator or '.pth'
    aside = f'{name}.{mark[:8] if mark.isalnum() else _hashed(mark)}'
    if is_folder(name):
        aside = free_name(backend, aside)
        cast(FolderedBackend, backend).move(name, aside)
    else:
        backend.link(name, aside)
    log(f'{name} {whose}; that one is kept as {aside}')


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]
