"""Checkpoints of a run copied to a second place, one by one.

Without a thread of its own: :mod:`mirror` and ``mmcv-ckpt push`` call it.
Standard library only.
"""
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, List, Mapping, Optional

from .catalog import CATALOG_NAME, Catalog
from .errors import ConfigError, MissingCheckpointError
from .folders.folder import sweep_folders
from .folders.layout import is_folder
from .folders.sending import send_folder
from .guarded import guarded, left_on_failure, lock_of, take
from .latest import drop_latest, move_latest, set_aside
from .lineage import by_step
from .mirror_catalog import MirrorCatalog
from .mirror_history import MirrorHistory
from .mirror_note import refuse_own
from .mirror_words import refuse_scheme
from .pruning import Pruner
from .reconciling import forget_if_gone
from .replacing import replaced_in_catalog
from .retention import KeepBest
from .sending import send
from .storage import open_backend
from .types import CheckpointInfo, RetentionPolicy, StorageBackend


@dataclass(frozen=True)
class Copied:
    """What :meth:`MirrorPlace.add` did.

    Args:
        secs (float): How long it took.
        twin (str): Name of what it is a copy of there; empty if it was sent.
        deleted (list[str]): What retention deleted there.
    """
    secs: float
    twin: str
    deleted: List[str]


class MirrorPlace:
    """A second place, with a catalog, a pointer and a history of its own.

    Args:
        url (str): A path or URL.
        policy (RetentionPolicy): What to keep there besides the best.
        log (callable): Told one line of what is not as usual.
        warn (callable): Told what failed beside a copy.
        storage_options (dict, optional): Of an object store. Default: None.
        durable (bool): As for ``open_backend``. Default: True.
        symlink (bool): Whether to have a pointer to the newest. Default:
            True.
        budget (int, optional): Bytes to fill with more. Default: None.
        ranking (callable): Returns what ranks by scores. Default: nothing.
        held (callable): Returns whether scores that rank could not be read.
            Default: never.

    Raises:
        ConfigError: If no catalog can be kept there.

    Order: :meth:`open`, then :meth:`begin`, before all others.

    Thread: one at a time.
    """

    def __init__(self,
                 url: str,
                 policy: RetentionPolicy,
                 log: Callable[[str], None],
                 warn: Callable[[str], None],
                 storage_options: Optional[Mapping[str, Any]] = None,
                 durable: bool = True,
                 symlink: bool = True,
                 budget: Optional[int] = None,
                 ranking: Callable[[], Optional[KeepBest]] = lambda: None,
                 held: Callable[[], bool] = lambda: False) -> None:
        try:
            backend = open_backend(
                url, durable=durable, storage_options=storage_options)
        except ConfigError:
            refuse_scheme(url)  # it says what only a first place can be
            raise
        able = backend.capabilities
        if not (able.listing and able.atomic_replace):
            raise ConfigError(
                f'{backend.url} cannot be a mirror: it cannot list files, or '
                'not replace them at once, which a catalog needs')
        #: its lock
        self.lock = lock_of(backend, CATALOG_NAME, warn)
        backend, _ = guarded(self.lock, backend, backend)
        self.backend = backend
        self.catalog = MirrorCatalog(backend, backend, warn)
        self._log = log
        self._warn = warn
        self._symlink = symlink
        self._ranking = ranking
        self._held = held
        self._history = MirrorHistory(backend, warn)
        self._pruner = Pruner(self.backend, self.catalog, policy, log,
                              lambda message, error: warn(message), None,
                              budget)
        self._latest: Optional[str] = None
        self.is_open = False
        #: why it was not to be reached at the start, as it was told
        self.away = ''
        #: of the note in the run's own place; empty if there is none
        self.token = ''

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return self.backend.url

    def open(self) -> None:
        """Make sure that it can be written, and read its catalog.

        Raises:
            StorageError: If it cannot be used.
        """
        self.backend.prepare()
        with left_on_failure(self.lock):
            swept = [] if self.lock is None else take(self.lock, self.backend,
                                                      self.backend)
            swept += self.backend.sweep() + sweep_folders(
                self.backend, self._warn)
            if swept:
                self._log(f'Removed what a killed copy left behind in '
                          f'{self.url}: {", ".join(swept)}')
            self.catalog.open()
        self.is_open = True

    def join(self, run: Catalog, is_late: bool = False) -> None:
        """Be the mirror of a run that begins; ``is_late``: that has begun.

        Raises:
            ConfigError: If it cannot be: this is the place of the run itself,
                or it has starts that a run which has begun does not know.
            StorageError: If that cannot be known.
        """
        refuse_own(self.backend, self.token, run.home)
        # INVARIANT: a start has a number of its own, also where the run's
        # place was lost: what it goes on from, and what it gives up, is seen
        # by that
        starts = self.catalog.generations(run.lineage)
        if is_late and starts > run.generation:
            raise ConfigError(
                f'Mirror {self.url} has checkpoints of a start of this run '
                f'that {run.home.url} does not know: only the next start can '
                'count on from it')
        run.generation = max(run.generation, starts)
        self.catalog.tell_given_up(run)
        self.begin(run)

    def begin(self, run: Catalog) -> None:
        """Be the mirror of a run that begins, or goes on."""
        self.catalog.begin(run.lineage, run.started_iter)
        self.catalog.generation = run.generation

    def missing(self, run: Catalog) -> List[CheckpointInfo]:
        """Return what is to be copied, the newest first.

        What this place's own retention would delete at once is left out, and
        what is sharded if there is no place for it.

        Args:
            run (Catalog): Of the run.
        """
        self._rank()
        owned = [info for info in run.owned() if self.takes(info.name)]
        there = {info.name: info for info in self.catalog.owned()}
        there.update({info.name: info for info in owned})
        together = sorted(there.values(), key=by_step)
        gone = {
            info.name
            for info in self._pruner.superseded(run.best_names(), together)
        }
        return sorted(
            (info for info in owned
             if info.name not in gone and self.catalog.same(info) is None),
            key=lambda info: (-info.iter, not info.regular, info.name))

    def takes(self, name: str) -> bool:
        """Whether a checkpoint can be here: a folder not everywhere."""
        return self.backend.capabilities.folders or not is_folder(name)

    def follow(self, run: Catalog, prunes: bool = True) -> None:
        """Take over scores and which are the best; delete what they cost."""
        events = self.catalog.follow(run)
        for event, values in events:
            self._history.record(event, **values)
        deleted = self.prune() if events and prunes else []
        if deleted:
            self._history.record('delete', deleted=deleted)
            self._log(f'Deleted in {self.url}: {", ".join(deleted)}, which '
                      'nothing keeps there since the last scores')

    def prune(self, committed: Optional[str] = None) -> List[str]:
        """Delete what nothing keeps here; return the names."""
        self._rank()
        return self._pruner.prune(committed)

    def _rank(self) -> None:
        """Learn by what the best are kept, and whether that can be known."""
        ranking = self._pruner.ranking = self._ranking()
        # INVARIANT: as in the run's place, where scores that rank are unknown
        # the best may be any
        is_held = ranking is not None and (
            self._held() or self.catalog.lost_scores is not None)
        if is_held and not self._pruner.is_held:
            self._warn(f'Nothing is deleted in {self.url} as long as the '
                       'scores that rank cannot be read')
        self._pruner.is_held = is_held

    def add(self,
            info: CheckpointInfo,
            source: StorageBackend,
            advance: Callable[[int], None],
            prunes: bool = True) -> Copied:
        """Copy a checkpoint, and commit it as in any other place.

        Order: the file, complete and durable; the catalog; the pointer; what
        nothing keeps is deleted; history.

        Args:
            info (CheckpointInfo): As the run's catalog has it.
            source (StorageBackend): Where it is.
            advance (callable): Called with the bytes just sent; with those
                that were, as a negative number, when they are sent anew.
            prunes (bool): Whether to delete what nothing keeps. Default:
                True.

        Raises:
            Gone: If the source is.
            IntegrityError: If it is damaged: it is not committed here.
            StorageError: If it could not be copied.
        """
        begun = time.monotonic()
        twin = self._link(info)
        if twin is None and is_folder(info.name):
            nbytes = send_folder(info, source, self.backend, self.catalog,
                                 advance, self._log)
            # beside what belongs to it, other files may have been counted
            info = replace(info, bytes=nbytes)
        elif twin is None:
            send(info, source, self.backend, self.catalog, advance, self._log)
        info = self.catalog.scored(info)
        entry = replace(info, same_as='' if twin is None else twin)
        self.catalog.commit(entry)
        self._point()
        deleted = self.prune(info.name) if prunes else []
        secs = time.monotonic() - begun
        self._history.copied(entry, secs, deleted)
        return Copied(secs, twin or '', deleted)

    def release(self) -> None:
        """Leave the place to the next run."""
        if self.lock is not None:
            self.lock.release()

    def _link(self, info: CheckpointInfo) -> Optional[str]:
        """Copy what is there under another name already; return that."""
        able = self.backend.capabilities
        twin = self.catalog.twin(info)
        if twin is None or not (able.link or able.server_copy) or \
                is_folder(info.name):
            return None  # no storage links or copies a folder at once
        set_aside(self.backend, self.catalog, info.name, self._log)
        try:
            with replaced_in_catalog(self.backend, self.catalog, info.name):
                self.backend.link(twin.name, info.name)
        except MissingCheckpointError:
            forget_if_gone(self.backend, self.catalog, twin.name)
            return None
        return twin.name

    def _point(self) -> None:
        """Let the pointer lead to the newest that is here."""
        newest = [
            info.name for info in self.catalog.owned()
            if info.trigger != 'best'
        ][-1:]
        if not newest or newest[0] == self._latest or \
                not self.backend.capabilities.point:
            return
        if self._symlink:
            move_latest(self.backend, self.catalog, newest[0], self._log)
        else:
            drop_latest(self.backend)
        self._latest = newest[0]
