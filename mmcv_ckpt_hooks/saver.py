"""The order of a save on the training thread; :mod:`commit` has the rest."""
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from .backlog import WritesBehind
from .best_scores import BestScore
from .catalog import Catalog
from .commit import Committer, Costs
from .errors import MissingCheckpointError
from .executor import BackgroundExecutor, InlineExecutor
from .failure_log import FailureLog
from .history import History
from .pending import copied_ahead, finish_due
from .pruning import Pruner
from .reconciling import forget_if_gone
from .retention import KeepBest
from .stager import Stager
from .staging import Splitter, StagedState, reference
from .types import RetentionPolicy, SaveRequest, StorageBackend
from .wording import counted

if TYPE_CHECKING:
    from .mirror import Mirror
    from .overlap import Overlap
    from .ranking import Ranking


class Saver(WritesBehind):
    """Saves checkpoints of one run to one place.

    Args:
        backend (StorageBackend): Where to.
        catalog (Catalog): Of that place; ``begin`` was called.
        history (History): Of that place.
        policy (RetentionPolicy): What to keep besides the best.
        executor (BackgroundExecutor): Who writes.
        log (callable): Told one line a save.
        log_failure (callable): Told of a failed save at once, with its error:
            nobody may be left to ask for it later.
        warn (callable): Told of what failed beside a save.
        backlog (str): ``'wait'`` or ``'skip'``.
        symlink (bool): Whether to move ``latest.pth``.
        protected (str, optional): Name of the file resumed from, if it is
            here. Default: None.
        budget (int, optional): Bytes to fill with more than ``policy`` keeps.
            Default: None.
        leave (callable): Called by ``close`` when all is written.

    Order of ``save``: (1) the caller handed back earlier errors, asked the
    triggers and gathered what other ranks have; (2) reduce to builtin types
    and stage, which alone blocks training; on the executor, the steps of
    :meth:`Committer.commit`.

    Thread: training's, where nothing else is said.
    """

    def __init__(self,
                 backend: StorageBackend,
                 catalog: Catalog,
                 history: History,
                 policy: RetentionPolicy,
                 executor: BackgroundExecutor,
                 log: Callable[[str], None],
                 log_failure: Callable[[str, Exception], None],
                 warn: Callable[[str], None],
                 backlog: str = 'wait',
                 symlink: bool = True,
                 protected: Optional[str] = None,
                 budget: Optional[int] = None,
                 leave: Callable[[], None] = lambda: None) -> None:
        super().__init__(executor, backlog)
        self.backend = backend
        self.catalog = catalog

        def not_deleted(message: str, error: Exception) -> None:
            warn(message)
            executor.keep(error)

        self._pruner = Pruner(backend, catalog, policy, log, not_deleted,
                              protected, budget)
        self._committer = Committer(backend, catalog, history, self._pruner,
                                    log, warn, symlink)
        self.tally = self._committer.tally
        self.record = self._committer.record
        self._failures = FailureLog(catalog, self._committer, log_failure)
        #: keeps the best of the run's own evaluations; None if nobody asks
        self.ranking: Optional['Ranking'] = None
        #: copies what is committed elsewhere; None if nobody asks
        self.mirror: Optional['Mirror'] = None
        self.split: Callable[[Any], StagedState] = Splitter().split
        self._stager = Stager(log, not isinstance(executor, InlineExecutor))
        self._leave = leave

    @property
    def last_committed(self) -> Optional[str]:
        """Name of the last checkpoint that was committed as the latest."""
        return self._committer.last_committed

    def take_costs(self) -> Optional[Costs]:
        """Return what the last commit has cost, once."""
        costs = self._committer.costs
        return costs.pop() if costs else None

    def reserve(self, nbytes: int, pinned: bool) -> None:
        """Map memory for copies beside training; see :class:`Stager`."""
        self._executor.submit_or_run(
            lambda: self._stager.reserve(nbytes, pinned))

    def save(self,
             request: SaveRequest,
             capture: Callable[[], Dict[str, Any]],
             overlap: Optional['Overlap'] = None) -> bool:
        """Stage a checkpoint and hand it to the executor.

        Args:
            request (SaveRequest): What to save.
            capture (callable): Builds the checkpoint; called at once.
            overlap (Overlap, optional): Who says what may be copied later,
                and has it done in time. Default: None: nothing.

        Returns:
            bool: False if it could not be staged, or was left out.
        """
        begun = time.monotonic()
        if self.would_skip(request):
            self._committer.skip(request)
            return False
        staged: List[StagedState] = []

        def stage() -> None:
            with self._failures.of_save(request):
                live = self.split(capture())
                staged.append(self._stager.stage(live, overlap))

        # it waits for the save before, which has the staging buffer
        if not self._executor.run(stage):
            return False
        state = staged[0]
        late, background = state.pending, state.image is not None
        blocked = time.monotonic() - begun

        def job() -> None:
            with self._failures.of_save(request), copied_ahead(late):
                self._committer.commit(request, state,
                                       waited if background else None, begun)

        def waited() -> float:
            return blocked + (late.held_secs if late is not None else 0.)

        if background:
            self._executor.submit_or_run(job)
            # beside the writer, who begins with what is copied
            finish_due(late)
        else:
            self._executor.run(job)
        return True

    def close(self) -> None:
        """Wait, end the writer's thread, leave the directory; say the end."""
        self._executor.close()
        self._stager.release()
        try:
            self._leave()
        finally:
            if self.end is not None:
                self.end.tell()

    def commit_best(self, best: BestScore, request: SaveRequest,
                    capture: Callable[[], Dict[str, Any]]) -> bool:
        """Commit a new best checkpoint, then delete the one before.

        If a checkpoint of the same step exists, the best is a second name of
        it; otherwise it is written now.

        Returns:
            bool: False if nothing was committed: the best before stays, and
            :meth:`take_error` has the error.
        """

        def job() -> None:
            with self._failures.of_save(request):
                self._commit_best(best, request, capture)

        return self._executor.run(job)

    def link_best(self, best: BestScore, request: SaveRequest) -> bool:
        """Give the checkpoint of an earlier step the name of the best.

        Returns:
            bool: False if there is none, or it failed; as `commit_best`.
        """
        linked: List[bool] = []

        def job() -> None:
            with self._failures.of_save(request):
                linked.append(self._link_best(request))
                if linked[0]:
                    self._set_best(best)

        return self._executor.run(job) and linked[0]

    def _commit_best(self, best: BestScore, request: SaveRequest,
                     capture: Callable[[], Dict[str, Any]]) -> None:
        if not self._link_best(request):
            self._committer.commit(request, reference(capture()), None)
        # INVARIANT: the new best is committed before the old one goes
        self._set_best(best)
        self._committer.prune(request, request.name)

    def _set_best(self, best: BestScore) -> None:
        self.catalog.set_best(best)
        self._committer.record(
            'best', **asdict(replace(best, lineage=self.catalog.lineage)))

    def _link_best(self, request: SaveRequest) -> bool:
        """Give the checkpoint of a step a second name, if there is one."""
        same = self.catalog.at_iter(request.iter)
        if same is None or same.name == request.name or \
                not self._committer.can_link():
            return False
        try:
            self._committer.link(same, request)
        except MissingCheckpointError:
            forget_if_gone(self.backend, self.catalog, same.name)
            return False
        return True

    def join(self, finished: int, metrics: Dict[str, float]) -> None:
        """Join the scores of an evaluation to the checkpoints of that step.
        """

        def job() -> None:
            digests = self.catalog.join_metrics(finished, metrics)
            self._committer.record(
                'scores',
                lineage=self.catalog.lineage,
                iter=finished,
                digests=digests,
                metrics=metrics)

        self._run_logged(
            job, f'The scores at {counted(finished, "iterations")} were not '
            'recorded')

    def rank_by(self, ranking: Optional[KeepBest]) -> None:
        """Let scores say what to keep, too; with None nothing is deleted."""
        self._executor.wait()
        self._pruner.ranking = ranking
        self._pruner.is_held = ranking is None

    def keep_ranked(self, request: SaveRequest,
                    capture: Callable[[], Dict[str, Any]]) -> None:
        """Keep the step that was evaluated if it ranks; delete what does not.

        Args:
            request (SaveRequest): What to save if no checkpoint of the step
                exists.
            capture (callable): Builds that checkpoint.
        """

        def job() -> None:
            with self._failures.of_save(request):
                if self._pruner.lacks(request):
                    self._committer.commit(request, reference(capture()), None)
                else:
                    self._committer.prune(request)

        self._executor.run(job)

    def tell_leaders(self, ranking: KeepBest) -> None:
        """Record which checkpoints lead in the ranking, for who looks."""

        def job() -> None:
            for best in ranking.leaders(self.catalog.owned()):
                # one that its record keeps says more
                if self.catalog.best(best.key) is None and \
                        self.catalog.best(best.key, ranked=True) != best:
                    self._set_best(best)

        self._run_logged(job,
                         'Which checkpoints are the best was not recorded')

    def remember_auto(self, key: str) -> None:
        """Record which metric 'auto' means, for this run and its resumes."""

        def job() -> None:
            self.catalog.set_auto_metric(key)
            self._committer.record(
                'auto_metric', lineage=self.catalog.lineage, key=key)

        self._run_logged(job, f"That 'auto' means {key} was not recorded")

    def _run_logged(self, job: Callable[[], None], failed: str) -> None:

        def logged() -> None:
            with self._failures.of(failed):
                job()

        self._executor.run(logged)
