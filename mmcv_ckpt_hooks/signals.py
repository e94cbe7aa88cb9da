"""Signals that ask for a save: handlers that only set a flag.

A handler runs between any two bytecodes of the main thread, so possibly in
the middle of an optimizer's step. What it asks for is done at the next
boundary, where a state is complete; until then a line on stderr tells that it
was heard. Standard library only.
"""
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, Callable, Dict, Mapping, Optional

#: What a signal may ask for.
ACTIONS = ('save', 'save_and_exit')
#: Signals that may be named: those that are sent on purpose and can be
#: caught. Not every system has all of them.
SIGNALS = ('SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2',
           'SIGALRM', 'SIGXCPU', 'SIGBREAK')


class SignalWatch:
    """Remembers which signals came, from :meth:`install` to :meth:`restore`.

    Args:
        actions (dict): Name of a signal to ``'save'`` or
            ``'save_and_exit'``; names that this system lacks are left out.
        warn (callable): Told one line when a signal cannot be watched.
        is_running (callable): Whether the run is still on the stack, given
            the frame that was interrupted. A run that raised on a runner
            which is not ours ends without a word.
        in_loader (callable): Whether this process is a data loader's worker.
        hurry (callable): Called in the handler when SIGINT comes again, and
            its KeyboardInterrupt is about to be raised; returns what is left,
            for the line that is said then.
        rank (int, optional): Of this process, if there are several. Default:
            None.
    """

    def __init__(self,
                 actions: Mapping[str, str],
                 warn: Callable[[str], None],
                 is_running: Callable[[Optional[FrameType]],
                                      bool] = lambda frame: True,
                 in_loader: Callable[[], bool] = lambda: False,
                 hurry: Callable[[], str] = lambda: '',
                 rank: Optional[int] = None) -> None:
        self._actions: Dict[int, str] = {
            int(getattr(signal, name)): action
            for name, action in actions.items() if hasattr(signal, name)
        }
        self._warn = warn
        self._is_running = is_running
        self._in_loader = in_loader
        self._hurry = hurry
        self._rank = rank
        self._before: Dict[int, Any] = {}
        self._pid = 0
        self._installed = self._interrupted = False
        #: signal that asked for the end, and for a save; 0 for none
        self.exit_signal = 0
        self.save_signal = 0
        #: whether SIGINT came again, and nothing is to be waited for
        self.hurries = False

    def install(self) -> None:
        """Set the handlers; on the main thread only, else warn once."""
        if not self._actions or self._installed:
            return
        if threading.current_thread() is not threading.main_thread():
            self._warn('Signals do not save: training does not run on the '
                       'main thread, which alone may handle them')
            return
        self._pid, self._installed = os.getpid(), True
        for number in self._actions:
            before = _living_handler(number)
            if before is signal.SIG_IGN:
                continue  # nohup, or a shell's background job: stay deaf
            if before is None:
                self._warn(f'{name_of(number)} does not save: it has a '
                           'handler that is not of Python')
                continue
            self._before[number] = before
            signal.signal(number, self._handle)

    def restore(self, leaving: bool = False) -> None:
        """Put the handlers back that were there before.

        Args:
            leaving (bool): Whether the process ends: of workers that the
                signal killed, too, nobody is told any more. Default: False.
        """
        if self._pid != os.getpid() or not self._installed:
            return
        self._installed = False
        for number, before in self._before.items():
            # somebody's handler that was set later, and may call ours, stays
            if signal.getsignal(number) in (self._handle, self._pass_over):
                signal.signal(
                    number, signal.SIG_DFL if leaving and number == _SIGCHLD
                    else _without_ended(number, before))

    def is_live(self) -> bool:
        """Whether its run, seen from the caller, still goes on."""
        return self._installed and self._is_running(sys._getframe())

    def watched(self) -> Dict[str, str]:
        """Names of the signals that have a handler, and their actions."""
        return {
            name_of(number): self._actions[number]
            for number in self._before if number in self._actions
        }

    def take_save(self) -> int:
        """Return the signal that asked for a save, once; 0 for none."""
        number, self.save_signal = self.save_signal, 0
        return number

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        before = self._before[number]
        if not self._installed:
            # somebody's later handler calls this one, as if it were theirs
            self._behave_as(before, number, frame)
            return
        if os.getpid() != self._pid:
            # a forked worker: the main process decides. Ctrl-C, and some
            # schedulers, signal the whole process group: a loader's worker
            # that died of it would take the main process along
            if number == signal.SIGTERM or not self._in_loader():
                self._behave_as(before, number, frame)
            return
        if not self._is_running(frame):
            self.restore()
            self._behave_as(before, number, frame)
            return
        when = 'after this iteration' if self._rank is None else \
            'within two iterations'
        if self._actions[number] == 'save':
            self.save_signal = number
            self._say(number, f'saving {when}')
        else:
            if number == signal.SIGINT and self._interrupted:
                # pressed again: leave at once
                try:
                    self._behave_as(before, number, frame)
                except KeyboardInterrupt:
                    self.hurries = True
                    self._say(number, f'leaving at once{self._hurry()}')
                    raise
                return
            # before the line: it may come again while that is written
            self._interrupted = number == signal.SIGINT or self._interrupted
            again = '; Ctrl-C again leaves at once' \
                if self._behind(number) is signal.default_int_handler else ''
            self._say(number, f'saving {when}, then leaving{again}')
            self.exit_signal = self.exit_signal or number
            self._ignore_dead_workers()
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)

    def _behind(self, number: int) -> Any:
        """The handler that was there before any of ours."""
        before = self._before[number]
        watch = getattr(before, '__self__', None)
        return watch._behind(number) if isinstance(watch, SignalWatch) and \
            number in watch._before else before

    def _say(self, number: int, what: str) -> None:
        """Say a line on stderr, unless one that watched before says it.

        INVARIANT: by the file descriptor alone. A log, or python's own stream,
        may be in the middle of a line, with its lock held.
        """
        before = getattr(self._before[number], '__self__', None)
        if isinstance(before, SignalWatch) and before._installed and \
                before._actions.get(number) == self._actions[number]:
            return
        who = '' if self._rank is None else f'rank {self._rank}: '
        line = f'\n{who}{name_of(number)}: {what}\n'
        if sys.__stderr__ is not None:
            with suppress(OSError, ValueError):  # closed, or nobody reads it
                os.write(sys.__stderr__.fileno(), line.encode())

    def _ignore_dead_workers(self) -> None:
        """Let the iteration finish although the workers got the signal, too.

        torch's handler raises when a loader's worker dies, which may be in
        the middle of the optimizer's step.
        """
        if _SIGCHLD and _SIGCHLD not in self._before:
            before = signal.getsignal(_SIGCHLD)
            if callable(before):
                self._before[_SIGCHLD] = before
                signal.signal(_SIGCHLD, self._pass_over)

    def _pass_over(self, number: int, frame: Optional[FrameType]) -> None:
        if not self._installed:
            self._behave_as(self._before[number], number, frame)

    def _behave_as(self, before: Any, number: int,
                   frame: Optional[FrameType]) -> None:
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, before)
            os.kill(os.getpid(), number)


_SIGCHLD = int(getattr(signal, 'SIGCHLD', 0))


def _living_handler(number: int) -> Any:
    """Return the handler; one of a run that raised unseen is put away.

    It would take the signal for one after that run, and end the process.
    """
    while True:
        handler = signal.getsignal(number)
        owner = getattr(handler, '__self__', None)
        if not isinstance(owner, SignalWatch) or owner.is_live():
            return handler
        signal.signal(number, owner._before[number])
        owner.restore()


def _without_ended(number: int, handler: Any) -> Any:
    """Return the handler, or what was there before watches that have ended."""
    owner = getattr(handler, '__self__', None)
    while isinstance(owner, SignalWatch) and not owner._installed:
        handler = owner._before[number]
        owner = getattr(handler, '__self__', None)
    return handler


def on_stack_of(runner: Any) -> Callable[[Optional[FrameType]], bool]:
    """Return whether, seen from a frame, this call of ``run`` still goes on.

    A stock runner tells nobody that its ``run`` raised; a handler that only
    set a flag from then on would leave a process that cannot be ended.
    """

    def frames(frame: Optional[FrameType]) -> Any:
        while frame is not None:
            yield frame
            frame = frame.f_back

    code = None
    for frame in frames(sys._getframe(1)):
        if frame.f_locals.get('self') is runner:
            code = frame.f_code  # the outermost one is the last
    if code is None:
        return lambda frame: True
    return lambda interrupted: any(
        frame.f_code is code and frame.f_locals.get('self') is runner
        for frame in frames(interrupted))


def name_of(number: int) -> str:
    """Name of a signal, such as ``'SIGTERM'``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f'signal {number}'
