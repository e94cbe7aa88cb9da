"""The steps of a commit: durable first, then known, then cleaned up."""
import datetime
import time
from collections import deque
from dataclasses import replace
from typing import (IO, Any, Callable, ContextManager, Deque, List, NamedTuple,
                    Optional, Sequence, Tuple)

from .card import card
from .catalog import Catalog
from .errors import OutOfSpaceError
from .history import History
from .latest import drop_latest, move_latest, set_aside
from .pruning import Pruner
from .recovery import identity_of
from .replacing import replaced_in_catalog
from .serialization import write_checkpoint
from .staging import StagedState
from .tally import Tally
from .types import CheckpointInfo, SaveRequest, StorageBackend
from .wording import counted, written


class Costs(NamedTuple):
    """What a save has cost.

    Args:
        bytes (int): Of the checkpoint.
        blocked_secs (float): That training waited.
        durable_secs (float): From the begin of the save in the training
            until it was complete, synced, under its name and in the catalog,
            and ``latest.pth`` led to it. What is deleted then is not in it.
    """
    bytes: int
    blocked_secs: float
    durable_secs: float


def put_file(backend: StorageBackend, info: CheckpointInfo,
             state: StagedState) -> Tuple[int, str]:
    """Write a checkpoint as one file; return its bytes and its digest."""
    digests: List[str] = []

    def write(stream: IO[bytes]) -> None:
        digests.append(write_checkpoint(stream, state, card(info)))

    return backend.put(info.name, write), digests[-1]


def deleted_text(deleted: Sequence[str], finished: int) -> str:
    """Say what scores have cost."""
    return f'Deleted {", ".join(deleted)}: nothing keeps that since the ' \
        f'scores at {counted(finished, "iterations")}'


class Committer:
    """Commits staged checkpoints to one place.

    Args:
        backend (StorageBackend): Where to.
        catalog (Catalog): Of that place.
        history (History): Of that place.
        pruner (Pruner): Of that place.
        log (callable): Told one line a commit.
        warn (callable): Told when the history cannot be written.
        symlink (bool): Whether to move ``latest.pth``.

    Thread: whichever the executor runs it on; one at a time.
    """

    def __init__(self, backend: StorageBackend, catalog: Catalog,
                 history: History, pruner: Pruner, log: Callable[[str], None],
                 warn: Callable[[str], None], symlink: bool) -> None:
        self.backend = backend
        self.catalog = catalog
        self._history = history
        self._pruner = pruner
        self._log = log
        self._warn = warn
        self._symlink = symlink
        self._has_history = True
        #: writes a checkpoint, and returns its bytes and its digest
        self.put: Callable[[StorageBackend, CheckpointInfo, Any],
                           Tuple[int, str]] = put_file
        #: name of the last checkpoint that was committed and made the latest
        self.last_committed: Optional[str] = None
        #: of the last commit; who tells of them takes them
        self.costs: Deque[Costs] = deque(maxlen=1)
        #: names of what was deleted for the commit that runs or has failed
        self.made_room: List[str] = []
        #: what this start has saved so far
        self.tally = Tally()

    def commit(self,
               request: SaveRequest,
               state: StagedState,
               waited: Optional[Callable[[], float]],
               begun: Optional[float] = None) -> None:
        """Write, sync and name a checkpoint, and what follows from it.

        Order: (3) write into a temporary file, sync, rename; (4) catalog;
        (5) latest pointer; (6) retention; (7) history and log.

        Args:
            request (SaveRequest): What it is.
            state (StagedState): What to write.
            waited (callable, optional): Returns the seconds that training
                waited, when all is written; None if it waits for all of it.
            begun (float, optional): When the save began in the training, by
                the monotonic clock. Default: None, which means now.

        Raises:
            StorageError: What was committed before is unchanged, but for
                :attr:`made_room`.
        """
        begun = time.monotonic() if begun is None else begun
        self.made_room = []
        info = self._describe(request)
        set_aside(self.backend, self.catalog, request.name, self._log)
        with self._replaced_in_catalog(request.name):
            try:
                size, digest = self.put(self.backend, info, state)
            except OutOfSpaceError:
                if not self._make_room(info):
                    raise
                size, digest = self.put(self.backend, info, state)
        info = replace(info, bytes=size, digest=digest)
        try:
            self._enter(info)
        finally:
            # the file is there, whether or not the catalog could be written
            self.tally.newest = request.name
            if request.make_latest:
                self._move_latest(request.name)
        durable = time.monotonic() - begun
        deleted = self.made_room + self._pruner.prune(request.name)
        self.made_room = []
        blocked = time.monotonic() - begun if waited is None else waited()
        costs = Costs(size, blocked, durable)
        self.record(
            'save',
            **identity_of(info),
            epoch=info.epoch,
            trigger=info.trigger,
            **costs._asdict(),
            deleted=deleted,
            time=info.created_at)
        self.costs.append(costs)
        gone = f'; deleted {", ".join(deleted)}' if deleted else ''
        # the name of a best one says why
        why = '' if info.trigger in ('interval', 'best') else \
            f' ({info.trigger})'
        self._log(f'Saved checkpoint {info.name}{why}: '
                  f'{written(size, durable)}, training waited '
                  f'{blocked * 1000:.1f} ms{gone}')

    def prune(self,
              request: SaveRequest,
              committed: Optional[str] = None) -> None:
        """Delete what nothing keeps since an evaluation, and tell of it.

        Args:
            request (SaveRequest): Of the step that was evaluated.
            committed (str, optional): Name of what was committed for it.
                Default: None.
        """
        deleted = self._pruner.prune(committed)
        if deleted:
            self.record('delete', iter=request.iter, deleted=deleted)
            self._log(deleted_text(deleted, request.iter))

    def link(self, same: CheckpointInfo, request: SaveRequest) -> None:
        """Commit a best checkpoint as a second name of a regular one."""
        set_aside(self.backend, self.catalog, request.name, self._log)
        with self._replaced_in_catalog(request.name):
            self.backend.link(same.name, request.name)
        info = replace(
            same,
            name=request.name,
            trigger='best',
            regular=False,
            metrics=dict(request.metrics),
            same_as=same.name)
        self.catalog.commit(info)
        self.record('link', **identity_of(info), same_as=same.name)
        self._log(f'Saved best checkpoint {request.name}: a second name of '
                  f'{same.name}')

    def skip(self, request: SaveRequest) -> None:
        """Tell of a save that is left out."""
        self.tally.skipped += 1
        self._log(f'Skipped checkpoint {request.name}: the one before is '
                  "still being written (backlog='skip')")

    def can_link(self) -> bool:
        """Whether a second name costs no second write."""
        able = self.backend.capabilities
        return able.link or able.server_copy

    def record(self, event: str, **values: Any) -> None:
        """Add an event to the history; a failure is only told, once."""
        self.tally.hear(event, values)
        try:
            self._history.append(event, **values)
            self._has_history = True
        except OSError as error:
            # it tells what happened; nothing depends on it
            if self._has_history:
                self._warn(f'Could not write the history: {error}')
            self._has_history = False

    def _make_room(self, coming: CheckpointInfo) -> bool:
        # latest.pth never dangles
        gone = self._pruner.make_room(coming, self.last_committed)
        self.made_room += gone
        return bool(gone)

    def _enter(self, info: CheckpointInfo) -> None:
        try:
            self.catalog.commit(info)
        except OutOfSpaceError:
            if not self._make_room(info):
                raise
            self.catalog.commit(info)

    def _move_latest(self, name: str) -> None:
        if self._symlink:
            move_latest(self.backend, self.catalog, name, self._log)
        elif self.backend.capabilities.point:
            drop_latest(self.backend)
        self.last_committed = name

    def _describe(self, request: SaveRequest) -> CheckpointInfo:
        now = datetime.datetime.now(datetime.timezone.utc)
        return CheckpointInfo(
            name=request.name,
            epoch=request.epoch,
            iter=request.iter,
            bytes=0,
            metrics=dict(request.metrics),
            created_at=now.isoformat(timespec='seconds'),
            lineage=self.catalog.lineage,
            generation=self.catalog.generation,
            started_iter=self.catalog.started_iter,
            trigger=request.trigger,
            regular=request.regular)

    def _replaced_in_catalog(self, name: str) -> ContextManager[None]:
        return replaced_in_catalog(self.backend, self.catalog, name)
