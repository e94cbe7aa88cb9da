"""A stub of NVIDIA's ``apex.amp``, which no package index has.

It has the calls that the apex_runner family of repos makes and no others.
Losses are scaled, overflows found and steps skipped as apex does it; weights
are cast nowhere: under ``O1`` the forward runs in torch's autocast instead of
patched functions, the other levels differ in their loss scale alone.

Standard library and torch only, so that it can be loaded by its path before
anything registers a class in mmcv.
"""
import sys
import types
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

import torch

_MODULES = ('apex', 'apex.amp')
#: Where a dynamic loss scale begins, ends, and after how many good steps it
#: doubles.
_FIRST_SCALE, _MOST_SCALE, _WINDOW = 2.**16, 2.**24, 2000
#: Loss scale by opt level.
_LEVELS: Dict[str, Union[str, float]] = dict(
    O0=1., O1='dynamic', O2='dynamic', O3=1.)


class _LossScaler:

    def __init__(self, loss_scale: Union[str, float]) -> None:
        self.dynamic = loss_scale == 'dynamic'
        self._loss_scale = _FIRST_SCALE if self.dynamic else float(loss_scale)
        self._unskipped = 0

    def loss_scale(self) -> float:
        return self._loss_scale

    def update(self, overflow: bool) -> bool:
        """Count a backward pass; return whether its step is to be skipped."""
        if not self.dynamic:
            self._unskipped += 1
            return False
        if overflow:
            self._loss_scale, self._unskipped = self._loss_scale / 2, 0
            return True
        self._unskipped += 1
        if self._unskipped == _WINDOW:
            self._unskipped = 0
            self._loss_scale = min(self._loss_scale * 2, _MOST_SCALE)
        return False


class FakeApex(types.ModuleType):
    """The module ``apex.amp``; without :meth:`initialize` it has no state."""

    def __init__(self) -> None:
        super().__init__(_MODULES[1])
        self._amp_state = types.SimpleNamespace()

    def initialize(self,
                   models: Any,
                   optimizers: Any = None,
                   opt_level: str = 'O1',
                   loss_scale: Union[None, str, float] = None,
                   num_losses: int = 1,
                   **options: Any) -> Any:
        """Prepare a model and its optimizer for mixed precision.

        Args:
            models (Module): One.
            optimizers (Optimizer, optional): One. Default: None.
            opt_level (str): ``'O0'`` to ``'O3'``. Default: 'O1'.
            loss_scale (float | str, optional): ``'dynamic'`` or a fixed one.
                Default: None, which means that of the level.
            num_losses (int): Loss scalers. Default: 1.
            options: Others of apex; they change nothing here.

        Returns:
            Module | tuple: The model, and the optimizer if one was given.

        Raises:
            RuntimeError: If the level is none of apex's.
        """
        if opt_level not in _LEVELS:
            raise RuntimeError(
                f'Unexpected optimization level {opt_level}. Options are '
                "'O0', 'O1', 'O2', 'O3'.")
        scale = _LEVELS[opt_level] if loss_scale is None else loss_scale
        self._amp_state.opt_properties = types.SimpleNamespace(
            enabled=True,
            opt_level=opt_level,
            loss_scale=scale,
            master_weights=opt_level == 'O2',
            **options)
        self._amp_state.loss_scalers = [
            _LossScaler(scale) for _ in range(num_losses)
        ]
        if opt_level == 'O1':
            models.forward = _with_autocast(models.forward, models)
        return models if optimizers is None else (models, optimizers)

    @contextmanager
    def scale_loss(self,
                   loss: torch.Tensor,
                   optimizers: Any,
                   loss_id: int = 0) -> Iterator[torch.Tensor]:
        """Yield the scaled loss; the gradients are unscaled after it.

        Those of a backward pass before are added. If one is not finite, the
        next step of the optimizer does nothing.
        """
        scaler = self._amp_state.loss_scalers[loss_id]
        parameters = list(self.master_params(optimizers))
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        scale = scaler.loss_scale()
        yield loss.float() * scale
        overflow = False
        for parameter, held in zip(parameters, before):
            gradient = parameter.grad
            if gradient is not None:
                overflow |= not bool(torch.isfinite(gradient).all())
                gradient.div_(scale)
                if held is not None:
                    gradient.add_(held)
            else:
                parameter.grad = held
        if scaler.update(overflow):
            _skip_one_step(optimizers)

    def master_params(self, optimizer: Any) -> Iterator[torch.Tensor]:
        """Yield the parameters that the optimizer steps."""
        for group in optimizer.param_groups:
            yield from group['params']

    def state_dict(self) -> Dict[str, Dict[str, Any]]:
        """Return the state of the loss scalers.

        Raises:
            AttributeError: Before :meth:`initialize`, as in apex.
        """
        return {
            f'loss_scaler{number}':
            dict(loss_scale=scaler.loss_scale(), unskipped=scaler._unskipped)
            for number, scaler in enumerate(self._amp_state.loss_scalers)
        }

    def load_state_dict(self, state_dict: Dict[str, Dict[str, Any]]) -> None:
        """Load what :meth:`state_dict` returned.

        Raises:
            RuntimeError: If there is more in it, after what was loaded.
        """
        scalers = iter(self._amp_state.loss_scalers)
        unexpected: List[str] = []
        for name, state in state_dict.items():
            if 'loss_scaler' not in name:
                unexpected.append(name)
                continue
            scaler = next(scalers, None)
            if scaler is None:
                break
            scaler._loss_scale = state['loss_scale']
            scaler._unskipped = state['unskipped']
        if unexpected:
            raise RuntimeError('Error(s) in loading state_dict. Unexpected '
                               f'key(s) in state_dict: {unexpected}')


def _with_autocast(forward: Callable[..., Any],
                   model: torch.nn.Module) -> Callable[..., Any]:

    def cast(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(next(model.parameters()).device.type):
            return forward(*args, **kwargs)

    return cast


def _skip_one_step(optimizer: Any) -> None:
    """Let the next step do nothing, and only that one, as apex does."""
    step = optimizer.step

    def skip(closure: Optional[Callable[[], Any]] = None) -> None:
        optimizer.step = step

    optimizer.step = skip


def modules() -> Tuple[types.ModuleType, FakeApex]:
    """Return the packages ``apex`` and ``apex.amp``, new ones."""
    package, amp = types.ModuleType(_MODULES[0]), FakeApex()
    vars(package).update(__path__=[], amp=amp)
    return package, amp


@contextmanager
def install() -> Iterator[FakeApex]:
    """Put the stub into ``sys.modules`` as the package ``apex``.

    Examples:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with install():
        ...     from apex import amp
        ...     model, optimizer = amp.initialize(model, optimizer)
        ...     amp.state_dict()
        {'loss_scaler0': {'loss_scale': 65536.0, 'unskipped': 0}}
    """
    before = {name: sys.modules.get(name) for name in _MODULES}
    package, amp = modules()
    sys.modules.update(zip(_MODULES, (package, amp)))
    try:
        yield amp
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
