"""What is committed: ``checkpoints.json``.

The catalog is a cache of what the files say of themselves. Lost or broken, it
is rebuilt from them; where it and the directory disagree, the directory is
right. Standard library only.
"""
import threading
import uuid
from dataclasses import replace
from typing import Callable, Dict, FrozenSet, List, Optional, Set

from . import lineage as lineages
from . import recovery
from .best_scores import BestScore, BestScores
from .catalog_file import Content, encode, read_catalog
from .history import open_history
from .reconciling import agrees, listed, reconciled
from .types import (LATEST_NAME, CheckpointInfo, Metrics, StorageBackend,
                    StoredFile)

CATALOG_NAME = 'checkpoints.json'
#: Of a second place whose catalog must be kept in the work dir, too.
BEST_CATALOG_NAME = 'checkpoints.best.json'


class Catalog:
    """The committed checkpoints of one directory.

    Args:
        files (StorageBackend): Where the checkpoints are.
        home (StorageBackend): Where the catalog itself is kept: the same, if
            that can list and replace files.
        warn (callable): Told what was found wrong and how it was mended.
        name (str): File name of the catalog. Default: ``checkpoints.json``.

    Thread: any; every method takes the catalog's lock.
    """

    def __init__(self,
                 files: StorageBackend,
                 home: StorageBackend,
                 warn: Callable[[str], None],
                 name: str = CATALOG_NAME) -> None:
        self._files = files
        self._name = name
        self.home = home
        self._warn = warn
        self._lock = threading.RLock()
        self._entries: Dict[str, CheckpointInfo] = {}
        self._best = BestScores()
        # by lineage the metric that 'auto' means
        self._auto: Dict[str, str] = {}
        # files that came since the catalog was written last
        self._appeared: Set[str] = set()
        # by name where links lead that somebody else made
        self._links: Dict[str, str] = {}
        self.lineage = ''
        self.generation = 0
        self.started_iter = 0
        #: why the scores of a lost catalog are lost, too; None if they are not
        self.lost_scores: Optional[OSError] = None

    # -- reading -----------------------------------------------------------

    def open(self, reconcile: bool = True) -> None:
        """Read ``checkpoints.json`` and reconcile it with the directory.

        Args:
            reconcile (bool): False to believe the catalog without a look at
                the directory. Default: True.
        """
        with self._lock:
            known = self._read()
            if not reconcile or not self._files.capabilities.listing:
                return
            files = listed(self._files, self.home, self._name)
            if known and not known.is_checked and \
                    not agrees(self._files, files, known.checkpoints):
                self._discard('the checkpoints say something else')
                known = None
            before = set(self._entries)
            self._reconcile(files)
            if known:
                # no program writes a link to a checkpoint
                self._appeared = set(self._entries) - before - set(self._links)
            else:
                self._recover()

    def checkpoints(self) -> List[CheckpointInfo]:
        """Return everything that is there, by finished iterations."""
        with self._lock:
            return sorted(self._entries.values(), key=lineages.by_step)

    def owned(self) -> List[CheckpointInfo]:
        """Return what this run may delete, by finished iterations.

        INVARIANT: never a link that somebody else made.
        """
        return [
            info for info in self._current() if info.lineage == self.lineage
            and info.name != LATEST_NAME and not self.link(info.name)
        ]

    def link(self, name: str) -> str:
        """Return where a link leads that somebody else made; else ''."""
        with self._lock:
            return self._links.get(name, '')

    def resumable(self) -> List[CheckpointInfo]:
        """Return what a run may continue from, newest first.

        What an older generation wrote beyond the point from which a newer one
        went on is left out; see :func:`~mmcv_ckpt_hooks.lineage.resumable`.
        """
        return lineages.resumable(self._current(), self.lineage,
                                  self._appeared)

    def find(self, name: str) -> Optional[CheckpointInfo]:
        """Return the entry of that name, or None."""
        with self._lock:
            return self._entries.get(name)

    def at_iter(self, finished: int) -> Optional[CheckpointInfo]:
        """Return this run's checkpoint of that many iterations, or None."""
        return next((info for info in self.owned() if info.iter == finished),
                    None)

    def best(self, key: str, ranked: bool = False) -> Optional[BestScore]:
        """Return a metric's best score so far; see :class:`BestScores`."""
        with self._lock:
            return self._best.get(self.lineage, key, ranked)

    def best_names(self) -> FrozenSet[str]:
        """Return the names of this run's files with the best scores."""
        with self._lock:
            return self._best.names(self.lineage)

    def is_replaced_best(self, info: CheckpointInfo) -> bool:
        """Whether a best checkpoint has a better one in its place.

        Without a record of its metric nobody knows, and the answer is no.
        """
        with self._lock:
            return self._best.has_replaced(info)

    def auto_metric(self) -> Optional[str]:
        """Return the metric that ``'auto'`` means in this run, if known."""
        with self._lock:
            return self._auto.get(self.lineage)

    # -- writing -----------------------------------------------------------

    def begin(self, lineage: Optional[str], started_iter: int) -> None:
        """Start a run: a new lineage, or the next generation of an old one.

        Args:
            lineage (str, optional): Of the checkpoint resumed from; None for
                a fresh start.
            started_iter (int): Finished iterations at the start.
        """
        with self._lock:
            generations = [
                info.generation for info in self._entries.values()
                if info.lineage == lineage
            ]
            if lineage is not None:
                self._best.forget_later(lineage, started_iter)
            self.lineage = lineage or uuid.uuid4().hex
            self.generation = max(generations, default=-1) + 1
            self.started_iter = started_iter

    def adopt(self) -> int:
        """Own the checkpoints of other lineages that are here.

        Best ones stay with their run: how good they are is not known. A
        ``latest.pth`` is no checkpoint of a step that could be deleted, and
        what tells no step, as weights to begin with, none of a run.

        Returns:
            int: How many were adopted.
        """
        with self._lock:
            foreign = [
                info for info in self._entries.values()
                if info.lineage != self.lineage and info.trigger != 'best' and
                (info.iter or info.epoch) and info.name != LATEST_NAME
                and not self.link(info.name)
            ]
            for info in foreign:
                self._entries[info.name] = replace(
                    info,
                    lineage=self.lineage,
                    generation=self.generation,
                    started_iter=self.started_iter)
            if foreign:
                self._write()
            return len(foreign)

    def commit(self, info: CheckpointInfo, leads_to: str = '') -> None:
        """Add a checkpoint whose file is there; ``leads_to``: as `link`."""
        with self._lock:
            self._entries[info.name] = info
            self._links.pop(info.name, None)
            self._links.update({info.name: leads_to} if leads_to else {})
            self._write()

    def forget(self, name: str) -> None:
        """Remove an entry whose file is deleted already."""
        with self._lock:
            self._links.pop(name, None)
            if self._entries.pop(name, None) is not None:
                self._write()

    def join_metrics(self, finished: int, metrics: Metrics) -> List[str]:
        """Add the scores of an evaluation to the checkpoints of that step.

        Returns:
            list[str]: Digests of those checkpoints.
        """
        with self._lock:
            joined = [
                replace(info, metrics={
                    **info.metrics,
                    **metrics
                }) for info in self.owned() if info.iter == finished
            ]
            self._entries.update({info.name: info for info in joined})
            self._write()
            return sorted({info.digest for info in joined if info.digest})

    def set_best(self, best: BestScore) -> None:
        """Record a new best score; its file is committed already."""
        with self._lock:
            self._best.set(self.lineage, best)
            self._write()

    def set_auto_metric(self, key: str) -> None:
        """Record which metric ``'auto'`` means in this run."""
        with self._lock:
            self._auto[self.lineage] = key
            self._write()

    # -- inside ------------------------------------------------------------

    def _current(self) -> List[CheckpointInfo]:
        with self._lock:
            return lineages.current(self.checkpoints(), self.lineage,
                                    self.generation, self.started_iter)

    def _read(self) -> Optional[Content]:
        """Read the catalog; None if there is none that can be read."""
        try:
            content = read_catalog(self.home, self._name)
        except ValueError as error:
            self._discard(str(error))
            return None
        if content is None:
            return None
        self.lineage, self._entries = content.lineage, content.checkpoints
        self._best, self._auto = BestScores(content.best), content.auto
        return content

    def _discard(self, why: str) -> None:
        self.lineage, self._entries, self._auto = '', {}, {}
        self._best = BestScores()
        self._warn(f'{self.home.url}/{self._name} is damaged '
                   f'({why}); it is rebuilt from the checkpoints')

    def _reconcile(self, files: List[StoredFile]) -> None:
        self._links = {
            file.name: file.leads_to
            for file in files if file.leads_to
        }
        self._entries = reconciled(self._files, files, self._entries,
                                   self._warn)
        # a file that somebody put there in its place is no best of ours
        self._best.forget_missing({(info.name, info.lineage)
                                   for info in self._entries.values()})

    def _recover(self) -> None:
        """Take from the history, if it can be read, what files do not say."""
        try:
            events = open_history(self.home).read()
        except OSError as error:
            self.lost_scores = error
            self._warn(f'{self._name} is rebuilt without the scores: the '
                       f'history in {self.home.url} cannot be read ({error})')
            return
        found = recovery.recovered(events, self.checkpoints())
        self._entries = {info.name: info for info in found.checkpoints}
        self._best = BestScores(found.best)
        self._auto = found.auto
        if found.count:
            self._warn(f'{self._name} is rebuilt. Checkpoints with scores '
                       f'from the history: {found.count}')

    def _write(self) -> None:
        data = encode(self.lineage, self.checkpoints(), self._best.all(),
                      self._auto)
        self.home.put(self._name, lambda stream: stream.write(data))
