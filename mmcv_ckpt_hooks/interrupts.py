"""What comes between the saves of the grid: wishes, signals, exceptions.

A wish (a signal, the clock, the trigger file) is answered at the next
boundary. A signal during validation, and an exception, find the state of the
boundary before, which is saved if nothing of it has changed.
"""
from typing import Any, Callable, List, Optional

from torch.utils.data import get_worker_info

from . import distributed
from .agreement import Agreement, Wish
from .boundary import Boundary, BoundaryKeeper
from .errors import CheckpointError
from .gradients import accumulates
from .options import TriggerOptions
from .parting import Parting
from .phases import Phases
from .rescue import Rescue
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
        tell (callable): ``tell(error)`` is told what has stopped a stock
            runner, which tells no hook.

    Order: the constructor on all ranks, at the start of the run; at every
    boundary :meth:`wishes` on all ranks, then :meth:`record`; :meth:`close`
    at the end; on all ranks :meth:`open` at the start of a further run.
    """

    def __init__(self, runner: Any, options: TriggerOptions,
                 schedule: Schedule, saver: Optional[Saver],
                 save: Callable[[str, Boundary, Any],
                                None], tell: Callable[[BaseException],
                                                      None]) -> None:
        self._runner = runner
        self._saver = saver
        self._rescue = Rescue(runner, saver, save)
        self._schedule = schedule
        self._options = options
        self._keeper: Optional[BoundaryKeeper] = None
        self._phases: Optional[Phases] = None
        if not hasattr(runner, 'finished_steps'):
            self._phases = Phases(runner, tell)
        self._is_open = False
        self.open()

    def open(self) -> None:
        """Watch until :meth:`close`; if it does, nobody hurries any more."""
        if self._is_open:
            self.watch.hurries = False
            return
        runner, options = self._runner, self._options
        warn = runner.logger.warning
        self._is_open = True
        #: the last boundary
        self.last = Boundary(runner.epoch, runner.iter, started=True)
        self._schedule.saved()
        self._agreement = Agreement(warn)
        self.watch: SignalWatch = SignalWatch(
            dict(options.signals), warn, on_stack_of(runner),
            lambda: get_worker_info() is not None, self._rescue.leave_at_once,
            distributed.rank() if distributed.world_size() > 1 else None)
        self._parting = Parting(runner, self._agreement, self._saver
                                is not None)
        if options.exception or options.signals:
            self._keeper = BoundaryKeeper(runner, accumulates(runner.hooks),
                                          self.last)
        if self._phases is not None:
            self._phases.watch()
        self.watch.install()

    def is_together(self, wish: Wish) -> bool:
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
            int(asked == 'retry'), int(asked == 'time'), int(asked == 'file'),
            watch.take_save(), watch.exit_signal)
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
        self.last = boundary
        if self._keeper is not None:
            self._keeper.record(boundary)

    def begin_evaluation(self) -> None:
        """Let a save inside an evaluation have what every rank has now."""
        if self._keeper is not None:
            self._parting.begin(self._keeper)

    def look(self, evaluates: bool) -> None:
        """Do what signals ask for between two boundaries.

        Nothing where the state of the last boundary is gone, or where other
        ranks would miss this one in a step of training: that waits for the
        next boundary.

        Args:
            evaluates (bool): Whether an evaluation is under way.

        Raises:
            SystemExit: As :meth:`leave`.
        """
        keeper, watch = self._keeper, self.watch
        if keeper is None:
            return
        number = self._parting.heard(keeper, watch.exit_signal, evaluates)
        if number is None:
            return
        if self._saver is not None:
            if not (number or watch.save_signal) or \
                    keeper.defect() is not None:
                return
            self._save_between(keeper, number)
        if number:
            self.leave(Wish(exit_signal=number), keeper.last, None, alone=True)

    def _save_between(self, keeper: BoundaryKeeper, exit_signal: int) -> None:
        asked = self.watch.take_save()
        if exit_signal:
            self._parting.take(exit_signal)
        name = self._rescue.save('signal', keeper,
                                 self._parting.known(keeper, waits=True))
        if not exit_signal:
            self._runner.logger.info(
                f'{name_of(asked)}: the last finished step is '
                f'{"saved as " + name if name else "not saved"}')

    def swapped(self) -> None:
        """Note that weights change places with averaged ones, unseen."""
        if self._keeper is not None:
            self._keeper.spoil('averaged weights have been swapped')

    def leave(self,
              wish: Wish,
              last: Boundary,
              event: Optional[str],
              alone: bool = False) -> None:
        """End the run when everything is committed and logged.

        If another of our hooks comes after it, that one ends it.

        Args:
            wish (Wish): Agreed.
            last (Boundary): After which it ends.
            event (str, optional): The event under way.
            alone (bool): Whether other ranks may not come here. They still
                leave after rank 0, if that leaves. Default: False.

        Raises:
            SystemExit: 128 and the number of the signal.
        """
        runner = self._runner
        if self._saver is not None:
            self._saver.wait()
            self._saver.ends('signal', signal=name_of(wish.exit_signal))
        behind = [one for one in runner.hooks if hasattr(one, '_interrupts')]
        if behind[-1]._interrupts is not self:
            return
        savers = [saver for one in behind for saver in one._savers]
        for saver in savers:
            saver.wait()
        if not alone:
            self._agreement.wait_for_all()
        else:
            self._parting.end(last.iter)
        # not at the top: pure but for this
        from .leaving import say_end

        # loggers gather from all ranks
        event = None if self._agreement.is_broken else event
        say_end(runner, name_of(wish.exit_signal), last,
                self._rescue.what_stands(), event)
        for one in reversed(behind):
            if one._overlap is not None:
                one._overlap.close()
            one._interrupts.close(leaving=True)
        for saver in savers:
            saver.close()  # a mirror may take long: a signal ends it now
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
        if self.watch.hurries:  # nobody waits for this rank then
            self._parting.finish(leaves=False)
        if not isinstance(error, Exception) or \
                isinstance(error, CheckpointError) or keeper is None:
            return
        if not self.watch.exit_signal and self._options.exception:
            self._rescue.after(error, keeper,
                               self._parting.known(keeper, waits=False))
        wish = Wish(
            exit_signal=self.watch.exit_signal
            or self._parting.followed(keeper.last.iter))
        if wish.exit_signal:
            defect = keeper.defect()
            if defect is None:
                self._rescue.save('signal', keeper,
                                  self._parting.known(keeper, waits=False))
            self._runner.logger.warning(
                f'{name_of(wish.exit_signal)} came, and training raised '
                f'{type(error).__name__}: {error}' +
                (f' ({defect})' if defect else ''))
            self.leave(wish, keeper.last, None, alone=True)

    def end(self) -> None:
        """End the run as what came after its last boundary asks.

        Order: on all ranks, when the run has come to its end and all is
        committed; it closes.

        Raises:
            SystemExit: As :meth:`leave`.
        """
        keeper, watch = self._keeper, self.watch
        if keeper is None:
            return
        # of the last boundary; nobody is asked anew: ranks come one by one
        agreed = self._agreement.read(leaving=True)
        if (agreed.trigger == 'signal' or watch.exit_signal
                or watch.save_signal) and keeper.defect() is None:
            self._rescue.save('signal', keeper,
                              self._parting.known(keeper, waits=False))
        if not agreed.exit_signal:
            self._parting.finish(leaves=bool(watch.exit_signal))
        number = agreed.exit_signal or watch.exit_signal
        if not number:
            self.close()
            # from here on a signal does by itself what it ever did
            number = watch.exit_signal
        if number:
            wish = Wish(exit_signal=number)
            self.leave(wish, keeper.last, None, alone=not agreed.exit_signal)

    def close(self, leaving: bool = False) -> None:
        """Put back handlers, optimizers and a stock runner as they were.

        Args:
            leaving (bool): Whether the process ends. Default: False.
        """
        self._is_open = False
        self.watch.restore(leaving)
        if self._phases is not None:
            self._phases.restore()
        self._agreement.close(waits=not self.watch.hurries)
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
