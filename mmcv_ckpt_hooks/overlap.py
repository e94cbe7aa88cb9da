"""When a checkpoint may be copied beside the next iteration, and how long.

Between two steps of the optimizer nothing changes its parameters and its
state, unless somebody writes to them on the side: a momentum encoder in its
forward, a hook, a second optimizer. Where that cannot be ruled out, all is
copied before training goes on.
"""
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

import torch

from .compat import storage_pointer, watch_steps, watches_steps
from .known_hooks import doubt
from .optimizers import listed
from .pending import PendingCopy
from .state import unwrapped
from .trial import Trial, incomparable


class Overlap:
    """Lets copies run beside training, and ends them before a change.

    Args:
        runner (BaseRunner): With its hooks, model and optimizer; hooks and
            optimizer may still change.
        staging (str): ``'copy'``, ``'overlap'`` or ``'auto'``.
        log (callable): Told once whether copies overlap, or why not.

    Order: at the end of every iteration :meth:`is_lost`, :meth:`later` and
    :meth:`hold` for a save there, and :meth:`boundary`; :meth:`finish` first
    in every event besides the beginning and the end of a train iteration, and
    before an evaluation; :meth:`close` at the end of a run, :meth:`open` at
    the start of another.

    Thread: training's.
    """

    def __init__(self, runner: Any, staging: str, log: Callable[[str],
                                                                None]) -> None:
        self._runner = runner
        self._staging = staging
        self._log = log
        self._said: Optional[str] = None
        self._pending: Optional[PendingCopy] = None
        self._last: Optional[PendingCopy] = None
        #: what was seen once, and so may come again
        self._evidence: Optional[str] = None
        self._unwatch: List[Callable[[], None]] = []
        self.open()

    def open(self) -> None:
        """Watch the optimizers of the runner until :meth:`close`."""
        self.close()
        runner = self._runner
        # by their identity: held, so that no other gets it
        self._judged = [*runner.hooks, runner.optimizer]
        self._optimizers = listed(runner.optimizer)
        self._model = unwrapped(runner.model)
        self._trial = Trial(self._model)
        self._refusal = self._judge()
        if self._refusal is None:
            self._unwatch = [
                watch_steps(one, self._before_step) for one in self._optimizers
            ]

    def later(self) -> Mapping[int, torch.Tensor]:
        """Return what may be copied later; see :meth:`StagingBuffer.copy`."""
        self._refresh()
        refusal = self._refusal or self._evidence
        if refusal is None and self._staging == 'auto':
            name = self._trial.verdict()
            if name is None:
                return {}  # one iteration is looked at first
            if name:
                refusal = self._evidence = \
                    f'forward or backward writes to {name}'
        self._say(refusal)
        return {} if refusal is not None else self._unchanging()

    def hold(self, pending: PendingCopy) -> None:
        """Take care of a copy that has to be finished."""
        self._pending = self._last = pending

    def is_lost(self) -> bool:
        """Whether the last copy came to nothing; says so once."""
        if self._last is None or not self._last.is_torn:
            return False
        self._last = None
        self._evidence = 'parameters were written between two steps'
        return True

    def finish(self) -> None:
        """Have the copy finished: what comes may change anything."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.hold_back()

    def boundary(self) -> None:
        """Begin the trial with the iteration that comes."""
        self._refresh()
        if self._staging == 'auto' and self._refusal is None and \
                self._evidence is None:
            self._trial.begin()

    def close(self) -> None:
        """Finish, and leave nothing behind on the optimizers."""
        try:
            self.finish()
        finally:
            for unwatch in self._unwatch:
                unwatch()
            self._unwatch = []

    def _before_step(self) -> None:
        self.finish()
        self._trial.end()

    def _refresh(self) -> None:
        """Judge again if there are other hooks, or another optimizer."""
        now = [*self._runner.hooks, self._runner.optimizer]
        if len(now) != len(self._judged) or any(
                one is not known for one, known in zip(now, self._judged)):
            self.open()

    def _judge(self) -> Optional[str]:
        if self._staging == 'copy':
            return "staging='copy'"
        if not self._optimizers:
            return 'there is no optimizer'
        if not all(watches_steps(one) for one in self._optimizers):
            return f'torch {torch.__version__} has no step_pre_hook (2.0 has)'
        if self._staging == 'overlap':
            return None
        name = incomparable(self._model)
        return f'{name} cannot be compared' if name else doubt(self._runner)

    def _say(self, refusal: Optional[str]) -> None:
        text = 'Checkpoints are copied beside the iteration that follows' \
            if refusal is None else 'Checkpoints are copied before training ' \
            f'goes on, not beside it: {refusal}'
        if text != self._said and self._staging != 'copy':
            self._log(text)
        self._said = text

    def _unchanging(self) -> Dict[int, torch.Tensor]:
        """What only a step changes."""
        unchanging = {
            storage_pointer(tensor): tensor
            for optimizer in self._optimizers
            for tensor in _tensors(optimizer)
        }
        for buffer in self._model.buffers():
            # one that lies beside parameters changes as buffers do
            unchanging.pop(_address(buffer), None)
        return unchanging


def _address(buffer: torch.Tensor) -> int:
    return storage_pointer(buffer) if buffer.layout is torch.strided else 0


def _tensors(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for group in optimizer.param_groups:
        yield from group['params']
    for state in optimizer.state.values():
        if isinstance(state, dict):
            for value in state.values():
                if isinstance(value, torch.Tensor) and \
                        value.layout is torch.strided:
                    yield value
