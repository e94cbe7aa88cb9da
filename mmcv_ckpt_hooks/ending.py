"""The end of a run: what it has saved is said, once, whatever ended it.

Nothing is listed: catalogs and tallies know it.
"""
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple

from .abandoning import leave_mirrors
from .mirror_log import mirror_state
from .options import CheckpointOptions
from .retention import bytes_of
from .saver import Saver
from .start_events import StartEvents
from .summary import PlaceContent, Summary
from .tally import together
from .types import CheckpointInfo
from .wording import counted

if TYPE_CHECKING:
    from .interrupts import Interrupts


class RunEnd:
    """Says what a run has saved, when it ends.

    Args:
        runner (BaseRunner): About to train.
        options (CheckpointOptions): Of the hook.
        savers (list[Saver]): The run's own, then those of further places.
        interrupts (Interrupts): Knows the last boundary, and whether a second
            signal hurries.

    Order: the constructor, which records the begin, at the start;
    :meth:`because`; :meth:`record` as long as the place is this run's, then
    :meth:`tell`, when all is written, as often as that is seen;
    :meth:`reopen` where the runner runs again.

    Thread: training's.
    """

    def __init__(self, runner: Any, options: CheckpointOptions,
                 savers: List[Saver], interrupts: 'Interrupts') -> None:
        self._runner = runner
        self._options = options
        self._savers = savers
        self._begun = time.monotonic()
        restored = getattr(runner, 'restored', None)
        self._went_on_from = counted(runner.iter, 'iterations') \
            if runner.iter else ''
        if restored is not None:
            self._went_on_from = restored.name
        self._is_told = False
        self._interrupts = interrupts
        self._events = StartEvents(runner, savers[0], lambda: interrupts.last)
        self._events.begin()

    def because(self, why: str, **what: str) -> None:
        """Take note of why it ends; see :meth:`StartEvents.because`."""
        self._events.because(why, **what)

    def record(self) -> None:
        """Add it to the history, when all is written.

        Not where a second signal hurries: something may be being written, and
        a store that is away would be waited for.
        """
        if not self._interrupts.watch.hurries:
            self._events.end()

    def tell(self) -> None:
        """Log it, unless that was done, or something is being written."""
        # who is in a hurry waits for no writer, who may hold a catalog
        if self._is_told or any(one.busy() for one in self._savers):
            return
        self._is_told = True
        self._runner.logger.info(self.summary().text())

    def reopen(self) -> None:
        """Tell of the run that begins now, too."""
        self._is_told = False
        self._events.reopen()

    def summary(self) -> Summary:
        """Return what there is to say."""
        saver = self._savers[0]
        owned = saver.catalog.owned()
        return Summary(
            together(one.tally for one in self._savers),
            time.monotonic() - self._begun, self._went_on_from,
            [_place(one) for one in self._savers],
            max(owned, key=lambda one: (one.iter, one.regular), default=None),
            [best for one in self._savers
             for best in _best(one)], None if saver.mirror is None else
            mirror_state(saver.mirror.url, saver.mirror.missing),
            self._next_start(saver))

    def _next_start(self, saver: Saver) -> str:
        resume = self._options.resume
        found = next(iter(saver.catalog.resumable()), None)
        is_own = found is not None and \
            found.lineage == saver.catalog.lineage
        if resume not in (None, 'auto') and not is_own:
            return f'the same command begins with {resume} again'
        if found is None:
            return 'there is nothing to go on from'
        if resume is None:
            path = os.path.join(saver.backend.url, found.name)
            return f"only when told to: resume='auto' goes on from {path}"
        rest = ', where nothing is left to train' if self._is_end(found) \
            else ''
        return f'the same command goes on from {found.name}{rest}'

    def _is_end(self, info: CheckpointInfo) -> bool:
        steps: Optional[int] = self._runner.max_iters
        return steps is not None and info.iter >= steps


def end_stopped(ours: Sequence[Tuple['Interrupts', Sequence[Saver]]],
                error: BaseException) -> None:
    """Save what an exception has left of a run, and have its end said.

    Nothing is closed: a stock runner may go on.

    Args:
        ours (sequence[tuple]): Of each hook on the runner, in their order.
        error (BaseException): Which the runner raises.

    Raises:
        SystemExit: If a signal has asked for the end.
    """
    # the last one leaves
    for interrupts, _ in ours:
        # a failed save was logged; what stopped the run is raised
        with suppress(Exception):
            interrupts.stopped(error)
    for interrupts, savers in ours:
        for saver in savers:
            if not interrupts.watch.hurries:
                saver.wait()
            if saver.end is not None:
                saver.end.because('exception', exception=type(error).__name__)
                saver.end.record()
                saver.end.tell()


def raised(savers: List[Any], error: BaseException) -> None:
    """Let an exception out, which ends the run, and wait for no mirror."""
    for saver in savers:
        saver.ends('exception', exception=type(error).__name__)
    leave_mirrors(savers)


def completed(savers: List[Any]) -> None:
    """Wait until all is committed of a run that has come to its end."""
    for saver in savers:
        saver.wait()
        saver.ends('finished')


def reopen(savers: List[Any]) -> None:
    """Have mirrors follow, and the end said, when a runner runs again."""
    for saver in savers:
        if saver.mirror is not None:
            saver.mirror.reopen()
        if saver.end is not None:
            saver.end.reopen()


def _place(saver: Saver) -> PlaceContent:
    owned = saver.catalog.owned()
    contents = {info.digest or info.same_as or info.name for info in owned}
    nbytes = bytes_of(owned, {info.name for info in owned})
    if not saver.backend.capabilities.link:
        # a second name is a copy there
        nbytes = sum(max(info.bytes, 0) for info in owned)
    return PlaceContent(saver.backend.url, len(contents),
                        len(owned) - len(contents), nbytes)


def _best(saver: Saver) -> List[Tuple[str, str, float]]:
    catalog, found = saver.catalog, []
    keys = {key for info in catalog.owned() for key in info.metrics}
    for key in sorted(keys):
        best = catalog.best(key, ranked=True)
        if best is not None and catalog.find(best.name) is not None:
            found.append((best.name, key, best.score))
    return found
