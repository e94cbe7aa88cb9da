"""When a checkpoint may be copied beside the next iteration, and how long.

Between two steps of the optimizer nothing changes its parameters and its
state, unless somebody writes to them on the side: a momentum encoder in its
forward, a hook, a second optimizer. Where that cannot be ruled out, all is
copied before training goes on.
"""
from typing import (Any, Callable, Dict, Iterator, List, Mapping, Optional,
                    Tuple)

import torch

from .compat import storage_pointer, watch_steps, watches_steps
from .pending import PendingCopy
from .state import Optimizers, unwrapped

#: Where the hooks come from whose code for the two events below was read:
#: they write to no parameter. mmcv 1.3 to 1.7, mmsegmentation 0.x,
#: mmdetection 2.x, mmclassification 0.x.
_READ = ('mmcv.runner.hooks.', 'mmseg.core.', 'mmdet.core.', 'mmcls.core.',
         'mmcv_ckpt_hooks.')
#: Calls what it is given.
_CALLS_ANYTHING = 'ClosureHook'
#: Hooks that step the optimizer, and nothing but it.
_STEPPERS = ('OptimizerHook', 'GradientCumulativeOptimizerHook',
             'Fp16OptimizerHook', 'GradientCumulativeFp16OptimizerHook',
             'DistOptimizerHook')
#: Methods that run between the save and the next step.
_BETWEEN = ('before_iter', 'after_iter', 'before_train_iter',
            'after_train_iter')

#: By their size in bytes.
_INTEGERS = {
    1: torch.uint8,
    2: torch.int16,
    4: torch.int32,
    8: torch.int64,
}

_Content = List[Tuple[str, torch.Tensor]]


class Overlap:
    """Lets copies run beside training, and ends them before a change.

    Args:
        runner (BaseRunner): With its hooks, model and optimizer.
        staging (str): ``'copy'``, ``'overlap'`` or ``'auto'``.
        log (callable): Told once whether copies overlap, or why not.

    Order: :meth:`boundary` at the end of every iteration; :meth:`later` and
    :meth:`hold` for a save there; :meth:`finish` first in every event besides
    the beginning and the end of a train iteration; :meth:`close` at the end.

    Thread: training's.
    """

    def __init__(self, runner: Any, staging: str, log: Callable[[str],
                                                                None]) -> None:
        self._model = unwrapped(runner.model)
        self._optimizers = _optimizers(runner.optimizer)
        self._is_auto = staging == 'auto'
        self._log = log
        self._refusal: Optional[str] = "staging='copy'"
        if staging != 'copy':
            self._refusal = _unwatchable(self._optimizers)
        if self._is_auto and self._refusal is None:
            self._refusal = _doubt(runner)
        self._said = staging == 'copy'
        self._pending: Optional[PendingCopy] = None
        self._last: Optional[PendingCopy] = None
        # of the parameters, when the trial began and when it ended
        self._begun: Optional[_Content] = None
        self._ended: Optional[_Content] = None
        self._unwatch: List[Callable[[], None]] = []
        self.open()

    def open(self) -> None:
        """Watch the optimizers until :meth:`close`; nothing if it does."""
        if self._refusal is None and not self._unwatch:
            self._unwatch = [
                watch_steps(one, self._before_step) for one in self._optimizers
            ]

    def later(self) -> Mapping[int, torch.Tensor]:
        """Return what may be copied later; see :meth:`StagingBuffer.copy`."""
        if self._last is not None and self._last.is_torn:
            self._refuse('parameters were written between two steps')
        if self._is_auto and self._refusal is None:
            if self._ended is None:
                return {}  # one iteration is looked at first
            name = self._written()
            if name:
                self._refuse(f'forward or backward writes to {name}')
        if not self._said:
            self._said = True
            self._log(
                'Checkpoints are copied beside the iteration that follows'
                if self._refusal is None else
                'Checkpoints are copied before training goes on, not beside '
                f'it: {self._refusal}')
        return {} if self._refusal is not None else self._unchanging()

    def hold(self, pending: PendingCopy) -> None:
        """Take care of a copy that has to be finished."""
        self._pending = self._last = pending

    def finish(self) -> None:
        """Have the copy finished: what comes may change anything."""
        if self._pending is not None:
            self._pending.hold_back()
            self._pending = None

    def boundary(self) -> None:
        """Begin the trial with the iteration that comes."""
        if self._is_auto and self._refusal is None and self._ended is None:
            self._begun = _content(self._model)

    def close(self) -> None:
        """Finish, and leave nothing behind on the optimizers."""
        self.finish()
        for unwatch in self._unwatch:
            unwatch()
        self._unwatch = []

    def _before_step(self) -> None:
        self.finish()
        if self._begun is not None and self._ended is None:
            self._ended = _content(self._model)

    def _written(self) -> str:
        """Name a parameter that changed in the trial; empty if none did."""
        assert self._begun is not None and self._ended is not None
        for (name, before), (_, after) in zip(self._begun, self._ended):
            if not torch.equal(before, after):
                return name
        self._begun = self._ended
        return ''

    def _refuse(self, why: str) -> None:
        self._said = self._said and self._refusal is not None
        self._refusal = self._refusal or why

    def _unchanging(self) -> Dict[int, torch.Tensor]:
        """What only a step changes."""
        return {
            storage_pointer(tensor): tensor
            for optimizer in self._optimizers
            for tensor in _tensors(optimizer)
        }


def _optimizers(optimizer: Optimizers) -> List[torch.optim.Optimizer]:
    if isinstance(optimizer, dict):
        return list(optimizer.values())
    return [] if optimizer is None else [optimizer]


def _tensors(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for group in optimizer.param_groups:
        yield from group['params']
    for state in optimizer.state.values():
        if isinstance(state, dict):
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    yield value


def _unwatchable(optimizers: List[Any]) -> Optional[str]:
    if not optimizers:
        return 'there is no optimizer'
    if not all(watches_steps(one) for one in optimizers):
        return f'torch {torch.__version__} has no step_pre_hook (2.0 has)'
    return None


def _doubt(runner: Any) -> Optional[str]:
    """Say who might write to parameters between two steps; None if nobody."""
    if isinstance(runner.optimizer, dict):
        return 'there are several optimizers'
    steppers = [
        hook for hook in runner.hooks
        if type(hook).__name__ in _STEPPERS and _is_read(type(hook))
    ]
    if len(steppers) != 1:
        return 'more than one hook steps the optimizer' if steppers else \
            'no known hook steps the optimizer'
    for hook in runner.hooks:
        for kind in type(hook).__mro__[:-1]:
            if kind.__name__ == _CALLS_ANYTHING or not _is_read(kind) and \
                    any(name in vars(kind) for name in _BETWEEN):
                return f'nobody knows what {kind.__name__} does'
    return None


def _is_read(kind: type) -> bool:
    return kind.__module__.startswith(_READ)


def _content(model: torch.nn.Module) -> _Content:
    """Return a number for each parameter that tells whether it changed.

    ``_version`` does not: writes through ``Tensor.data`` leave it. On a GPU
    nothing is waited for.
    """
    return [(name, _sum_of_bits(parameter.detach()))
            for name, parameter in model.named_parameters()]


def _sum_of_bits(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    size = tensor.element_size()
    bits = tensor.view(_INTEGERS[size])
    if bits.is_contiguous() and bits.data_ptr() % 8 == 0 and \
            bits.storage_offset() * size % 8 == 0 and \
            bits.numel() * size % 8 == 0:
        # four times as fast as 32 bits
        bits = bits.reshape(-1).view(torch.int64)
    return bits.sum(dtype=torch.int64)
