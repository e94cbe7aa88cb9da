"""What comes between the saves of the grid: wishes, signals, exceptions.

A wish (a signal, the clock, the trigger file) is answered at the next
boundary. A signal during validation, and an exception, find the state of the
boundary before, which is saved if nothing of it has changed.
"""
from contextlib import suppress
from typing import Any, Callable, List, Optional

from torch.utils.data import get_worker_info

from .agreement import Agreement, Wish
from .boundary import Boundary, BoundaryKeeper
from .errors import CheckpointError
from .gradients import accumulates
from .options import TriggerOptions
from .phases import Phases
from .saver import Saver
from .signals import SignalWatch, name_of, on_stack_of
from .triggers import Schedule


class Interrupts:
    """Collects what asks for a save, and remembers what could be saved.

    Args:
        runner (BaseRunner): About to run; it may have been resumed.
        options (TriggerOptions): Of the hook.
        schedule (Schedule): For the clock and the trigger file.
        saver (Saver, optional): None on ranks that do not write.
        save (callable): ``save(trigger, boundary, ranks)`` saves the state
            that the runner has now as that of a boundary, with what each rank
            had there.

    Order: the constructor on all ranks, at the start of the run; at every
    boundary :meth:`wishes` on all ranks, then :meth:`record`; :meth:`close`
    at the end; on all ranks :meth:`open` at the start of a further run.
    """

    def __init__(self, runner: Any, options: TriggerOptions,
                 schedule: Schedule, saver: Optional[Saver],
                 save: Callable[[str, Boundary, Any], None]) -> None:
        self._runner = runner
        self._saver = saver
        self._save = save
        self._schedule = schedule
        self._options = options
        self._keeper: Optional[BoundaryKeeper] = None
        self._phases: Optional[Phases] = None
        if not hasattr(runner, 'finished_steps'):
            self._phases = Phases(runner, self._tell_all)
        self._is_open = False
        self.open()

    def open(self) -> None:
        """Watch until :meth:`close`; nothing if it does.

        A runner may run again, and its end has closed everything.
        """
        if self._is_open:
            return
        runner, options = self._runner, self._options
        warn = runner.logger.warning
        self._is_open = True
        self._schedule.saved()
        self._agreement = Agreement(warn)
        self.watch = SignalWatch(
            dict(options.signals), warn, on_stack_of(runner),
            lambda: get_worker_info() is not None)
        if self._agreement.is_alone and (options.exception or options.signals):
            self._keeper = BoundaryKeeper(
                runner, accumulates(runner.hooks),
                Boundary(runner.epoch, runner.iter, started=True))
        if self._phases is not None:
            self._phases.watch()
        self.watch.install()

    def may_save(self, wish: Wish) -> bool:
        """Whether a save, which is collective, has all ranks.

        A rank that leaves alone does not wait for the dead; before that, the
        grid needs no agreement.
        """
        return not (wish.exit_signal and self._agreement.is_broken)

    def wishes(self, on_grid: bool) -> Wish:
        """Return what is asked for at a boundary, the same on all ranks.

        Args:
            on_grid (bool): Whether the step is saved anyway. The clock then
                starts anew, and the trigger file waits.
        """
        watch, agreement = self.watch, self._agreement
        agreed = agreement.read(leaving=bool(watch.exit_signal))
        if agreed.exit_signal:
            return agreed
        asked = None if on_grid or agreed.trigger else \
            self._schedule.off_grid()
        own = Wish(
            int(asked == 'time'), int(asked == 'file'), watch.take_save(),
            watch.exit_signal)
        if agreement.is_alone:
            return own
        agreement.offer(own)
        if agreement.is_broken:
            return Wish(exit_signal=own.exit_signal)
        return agreed

    def gather(self, value: Any) -> List[Any]:
        """Return every rank's value, by rank, on all ranks."""
        return self._agreement.gather(value)

    def record(self, boundary: Boundary) -> None:
        """Remember the state that is complete now."""
        if self._keeper is not None:
            self._keeper.record(boundary)

    def look(self) -> None:
        """Do what signals ask for between two boundaries.

        Nothing where other ranks would have to be asked, or where the state
        of the last boundary is gone: that waits for the next boundary.

        Raises:
            SystemExit: As :meth:`leave`.
        """
        watch = self.watch
        if not (watch.exit_signal or watch.save_signal) or \
                self._keeper is None or self._keeper.defect() is not None:
            return
        wish = Wish(
            save_signal=watch.take_save(), exit_signal=watch.exit_signal)
        name = self._save_last('signal', self._keeper)
        if not wish.exit_signal:
            self._runner.logger.info(
                f'{name_of(wish.save_signal)}: the last finished step is '
                f'{"saved as " + name if name else "not saved"}')
        else:
            self.leave(wish, self._keeper.last, None)

    def swapped(self) -> None:
        """Note that averaged weights go: the state of the boundary with them.
        """
        if self._keeper is not None:
            self._keeper.spoil('the averaged weights have been taken out')

    def leave(self, wish: Wish, last: Boundary, event: Optional[str]) -> None:
        """End the run when everything is committed and logged.

        If another of our hooks comes behind, that one ends it.

        Args:
            wish (Wish): Agreed.
            last (Boundary): After which it ends.
            event (str, optional): The event under way.

        Raises:
            SystemExit: 128 and the number of the signal.
        """
        runner = self._runner
        if self._saver is not None:
            self._saver.wait()
        behind = [one for one in runner.hooks if hasattr(one, '_interrupts')]
        if behind[-1]._interrupts is not self:
            return
        for one in behind:
            for saver in one._savers:
                saver.close()
        self._agreement.wait_for_all()
        # not at the top: pure but for this
        from .leaving import flush_loggers, repeats_epoch
        again = '; a resume repeats the epoch, EpochBasedRunnerAmp would ' \
            'not' if repeats_epoch(runner, last.epoch, last.iter) else ''
        runner.logger.info(
            f'{name_of(wish.exit_signal)}: training ends after {last.iter} '
            f'iterations; {self._last_committed()} stands{again}')
        flush_loggers(runner, event)
        for one in reversed(behind):
            one._interrupts.close(leaving=True)
        raise SystemExit(128 + wish.exit_signal)

    def stopped(self, error: BaseException) -> None:
        """Save what an exception has left intact; end where a signal asked.

        A signal to the whole process group kills the loader's workers, too:
        then training raises for want of data. Its own signal has come before
        or, where processes are signalled one by one, may come meanwhile.

        Raises:
            SystemExit: As :meth:`leave`.
        """
        keeper = self._keeper
        if not isinstance(error, Exception) or \
                isinstance(error, CheckpointError) or keeper is None:
            return
        if not self.watch.exit_signal and self._options.exception:
            self._rescue(error, keeper)
        wish = Wish(exit_signal=self.watch.exit_signal)
        if wish.exit_signal:
            defect = keeper.defect()
            if defect is None:
                self._save_last('signal', keeper)
            self._runner.logger.warning(
                f'{name_of(wish.exit_signal)} came, and training raised '
                f'{type(error).__name__}: {error}' +
                (f' ({defect})' if defect else ''))
            self.leave(wish, keeper.last, None)

    def _rescue(self, error: Exception, keeper: BoundaryKeeper) -> None:
        if keeper.last.started:
            return
        begin = f'Training stopped ({type(error).__name__}): the state ' \
            f'after {keeper.last.iter} iterations'
        defect = keeper.defect()
        if defect is not None and self._committed(keeper.last.iter) is None:
            self._runner.logger.info(
                f'{begin} is not saved, because {defect}; '
                f'{self._last_committed()} stands')
            return
        name = self._save_last('exception', keeper)
        self._runner.logger.info(
            f'{begin} is in {name}' if name else
            f'{begin} could not be saved; {self._last_committed()} stands')

    def close(self, leaving: bool = False) -> None:
        """Put back handlers, optimizers and a stock runner as they were.

        Args:
            leaving (bool): Whether the process ends. Default: False.
        """
        self._is_open = False
        self.watch.restore(leaving)
        if self._phases is not None:
            self._phases.restore()
        self._agreement.close()
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def _tell_all(self, error: BaseException) -> None:
        """Tell all of our hooks, in their order: the last one leaves."""
        for hook in self._runner.hooks:
            interrupts = getattr(hook, '_interrupts', None)
            # a failed save was logged; what stopped the run is raised
            with suppress(Exception):
                if interrupts is not None:
                    interrupts.stopped(error)

    def _save_last(self, trigger: str,
                   keeper: BoundaryKeeper) -> Optional[str]:
        """Save the last boundary, unless it is committed; return its name.

        None if nothing was trained, or the save failed.
        """
        if keeper.last.started or self._saver is None:
            return None
        name = self._committed(keeper.last.iter)
        if name is None:
            with keeper.as_it_was():
                self._save(trigger, keeper.last, [keeper.rank_state])
            name = self._committed(keeper.last.iter)
        return name

    def _committed(self, finished: int) -> Optional[str]:
        """Name of this start's checkpoint of so many iterations."""
        if self._saver is None:
            return None
        self._saver.wait()
        catalog = self._saver.catalog
        return next(
            (info.name for info in catalog.owned()
             if info.iter == finished and info.generation == catalog.generation
             ), None)

    def _last_committed(self) -> str:
        name = self._saver.last_committed if self._saver else None
        return f'{name}, the last one committed,' if name else \
            'what was there at the start'
