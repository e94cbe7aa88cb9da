"""Where signals are seen besides our own events."""
import functools
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

from mmcv.runner import Hook
from mmcv.runner.priority import get_priority

from .best import eval_hooks
from .ema import ema_hooks
from .state import unwrapped

#: Where EvalHook evaluates, whichever version it is of.
_EVALUATES_IN = ('before_train_epoch', 'before_train_iter', 'after_train_iter',
                 'after_train_epoch')


class Lookout(Hook):
    """Looks for signals first in every event between two boundaries.

    Args:
        look (callable): Given whether an evaluation is under way; may raise
            ``SystemExit``.
        swapped (callable): Told when averaged weights are about to come or go.
        ready (callable): Told that training goes on.
        finish (callable): Told that what comes may change parameters: all
            events but those of a train iteration, and evaluations.
    """

    def __init__(self, look: Callable[[bool], None],
                 swapped: Callable[[], None], ready: Callable[[], None],
                 finish: Callable[[], None]) -> None:
        self._look = look
        self._swapped = swapped
        self._ready = ready
        self._finish = finish

    def before_epoch(self, runner: Any) -> None:
        # mmcv's iteration runners call these two by themselves
        self._finish()

    def after_epoch(self, runner: Any) -> None:
        self._finish()

    def before_train_epoch(self, runner: Any) -> None:
        self._finish()
        self._ready()
        self._look(False)
        self._tell_of_swap(runner)

    def before_train_iter(self, runner: Any) -> None:
        self._ready()
        self._look(False)

    def after_train_iter(self, runner: Any) -> None:
        """Nothing: here the copy goes on."""

    def after_train_epoch(self, runner: Any) -> None:
        self._finish()
        self._tell_of_swap(runner)

    def before_val_epoch(self, runner: Any) -> None:
        self._finish()
        self._look(True)

    def after_val_epoch(self, runner: Any) -> None:
        self._finish()
        self._look(True)

    def before_val_iter(self, runner: Any) -> None:
        self._finish()
        self._look(True)

    def after_val_iter(self, runner: Any) -> None:
        self._finish()
        self._look(True)

    def after_run(self, runner: Any) -> None:
        self._finish()

    def _tell_of_swap(self, runner: Any) -> None:
        if ema_hooks(runner):
            self._swapped()


def look_out(runner: Any, interrupts: Any, ready: Callable[[], None],
             finish: Callable[[], None]) -> None:
    """Put a :class:`Lookout` first, and one into every EvalHook.

    An EvalHook evaluates inside its own event and calls no hook meanwhile.

    Args:
        runner (BaseRunner): About to run.
        interrupts (Interrupts): To be called.
        ready (callable): See :class:`Lookout`.
        finish (callable): As well.
    """

    def look(evaluates: bool) -> None:
        # in their order, whichever of them is called first: the last one ends
        # the process
        for hook in runner.hooks:
            one = getattr(hook, '_interrupts', None)
            if one is not None:
                one.look(evaluates)

    lookout = Lookout(look, interrupts.swapped, ready, finish)
    lookout.priority = int(get_priority('HIGHEST'))
    # a new list: mmcv iterates the old one
    runner._hooks = [lookout] + runner.hooks
    for hook in eval_hooks(runner):
        for event in _EVALUATES_IN:
            _watch_event(hook, event, lambda: look(True), finish)
        if hasattr(hook, '_do_evaluate'):
            # else at its first forward
            _watch_begin(hook, interrupts.begin_evaluation, finish)


def _watch_begin(hook: Any, begin: Callable[[], None],
                 finish: Callable[[], None]) -> None:
    inner = hook._do_evaluate

    @functools.wraps(inner)
    def watched(runner: Any) -> None:
        finish()
        begin()
        inner(runner)

    hook._do_evaluate = watched


def _watch_event(hook: Any, event: str, look: Callable[[], None],
                 finish: Callable[[], None]) -> None:
    inner = getattr(hook, event)

    def forward() -> None:
        finish()
        look()

    def watched(runner: Any) -> None:
        with _seen_in_forward(runner, forward):
            inner(runner)

    setattr(hook, event, watched)


@contextmanager
def _seen_in_forward(runner: Any, look: Callable[[], None]) -> Iterator[None]:
    """Look for signals at each forward of the model, in one event only."""

    def before_forward(*_: Any) -> None:
        # a wrapper runs replicas on threads of its own
        if threading.current_thread() is threading.main_thread():
            look()

    handles: List[Any] = [
        module.register_forward_pre_hook(before_forward)
        for module in {runner.model, unwrapped(runner.model)}
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
