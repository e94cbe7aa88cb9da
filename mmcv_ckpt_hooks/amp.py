"""State of automatic mixed precision: torch's scaler, mmcv's hook, apex.

A checkpoint has a field ``amp`` only when AMP is in use. Its shape is that of
apex's ``amp.state_dict()`` (``{'loss_scaler0': {...}}``) or of
``GradScaler.state_dict()`` (``{'scale': ..., 'growth_factor': ...}``).
"""
import sys
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

import torch
from mmcv.runner import OptimizerHook

from .compat import (autocast, grad_scaler_types, keeps_own_weights,
                     make_grad_scaler)
from .errors import ConfigError


def active_apex() -> Optional[Any]:
    """Return ``apex.amp`` if ``amp.initialize`` was called, else None.

    The package named apex on the package index is a web toolkit, and NVIDIA's
    raises from ``state_dict`` before ``initialize``: both count as absent.
    """
    amp = sys.modules.get('apex.amp')
    state = getattr(amp, '_amp_state', None)
    if getattr(state, 'loss_scalers', None):
        return amp
    return None


def scalers_of(hooks: List[Any]) -> List[Any]:
    """Loss scalers that the hooks hold as ``loss_scaler``, enabled ones.

    That is where mmcv's ``Fp16OptimizerHook`` and our ``DistOptimizerHook``
    keep theirs. On a machine without a GPU a scaler disables itself.
    """
    types = grad_scaler_types()
    found = []
    for hook in hooks:
        scaler: Any = getattr(hook, 'loss_scaler', None)
        if isinstance(scaler, types) and scaler.is_enabled():
            found.append(scaler)
    return found


def capture_amp(hooks: Optional[List[Any]] = None,
                amp: Any = None) -> Optional[Dict[str, Any]]:
    """Return what belongs in a checkpoint's ``amp`` field.

    Args:
        hooks (list, optional): A runner's hooks. Default: None.
        amp (optional): A scaler, ``apex.amp``, a state dict, or False for no
            AMP state. Default: None, which means detected.

    Returns:
        dict | None: None if AMP is not in use.

    Raises:
        TypeError: If ``amp`` is none of these.
    """
    if amp is False:
        return None
    if isinstance(amp, Mapping):
        return dict(amp) or None
    if amp is not None and amp is sys.modules.get('apex.amp'):
        amp = active_apex()
        if amp is None:
            return None
    if amp is not None:
        if not callable(getattr(amp, 'state_dict', None)):
            raise TypeError(
                'amp must be a GradScaler, apex.amp, a state dict, False or '
                f'None, but got {type(amp)}')
        # a disabled scaler has an empty state, which a new one cannot load
        return dict(amp.state_dict()) or None
    apex = active_apex()
    if apex is not None:
        return dict(apex.state_dict())
    for scaler in scalers_of(hooks or []):
        return dict(scaler.state_dict())
    return None


def mark_of_amp(hooks: List[Any]) -> List[Any]:
    """Return what is equal as long as no AMP state changes.

    It reads nothing from a GPU, which would wait for it.
    """
    apex = active_apex()
    states = [dict(vars(one)) for one in scalers_of(hooks)] \
        if apex is None else list(dict(apex.state_dict()).values())
    return [{
        name: _mark(value)
        for name, value in state.items()
    } for state in states]


def _mark(value: Any) -> Any:
    # a tensor's version counts its changes in place
    if isinstance(value, torch.Tensor):
        return id(value), value._version
    return value if isinstance(value, (int, float)) else None


def restore_amp(hooks: List[Any], saved: Optional[Mapping[str, Any]],
                log: Callable[[str], None]) -> None:
    """Bring saved AMP state back into whatever AMP the run uses.

    Args:
        hooks (list): The runner's hooks.
        saved (dict, optional): A checkpoint's ``amp`` field.
        log (callable): Told what was and what was not restored.
    """
    apex, scalers = active_apex(), scalers_of(hooks)
    if any(keeps_own_weights(hook) for hook in hooks):
        log('Fp16OptimizerHook of mmcv < 1.3.3 trains weights that are in no '
            'checkpoint: the run goes on from those of the model, which are '
            'rounded to half precision, and the loss scale starts anew')
    if not saved:
        if apex is not None or scalers:
            log('AMP is on, but the checkpoint has no AMP state: the loss '
                'scale starts anew')
        return
    is_apex_state = 'loss_scaler0' in saved
    kind = 'apex' if is_apex_state else 'torch GradScaler'
    try:
        if is_apex_state and apex is not None:
            apex.load_state_dict(dict(saved))
        elif is_apex_state and scalers:
            _set_scale(scalers[0], saved, log)
        elif not is_apex_state and scalers:
            _set_state(scalers[0], saved)
        else:
            log(f'the checkpoint has AMP state ({kind}), which this run does '
                'not use: it was skipped')
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError,
            OverflowError) as error:
        # not worth a run: the scale finds its level in some hundred steps
        log(f'the AMP state of the checkpoint ({kind}) cannot be used: '
            f'{type(error).__name__}: {error}. The loss scale starts anew')


def _set_state(scaler: Any, saved: Mapping[str, Any]) -> None:
    # load_state_dict would stop half way
    needed = scaler.state_dict()
    wrong = [
        name for name in needed
        if not isinstance(dict(saved).get(name), (int, float))
    ]
    if wrong:
        raise ValueError(f'it has no number for {", ".join(wrong)}')
    scaler.load_state_dict({
        name: type(value)(saved[name])
        for name, value in needed.items()
    })


def _set_scale(scaler: Any, saved: Mapping[str, Any],
               log: Callable[[str], None]) -> None:
    scale = float(saved['loss_scaler0']['loss_scale'])
    state = scaler.state_dict()
    scaler.load_state_dict(dict(state, scale=scale))
    log(f'the checkpoint was written with apex: its loss scale {scale:g} was '
        'taken over by the torch GradScaler')


class DistOptimizerHook(OptimizerHook):
    """Optimizer hook of the apex_runner family of configs.

    Gradients of ``update_interval`` iterations are added up before a step.
    With ``use_fp16`` apex scales the loss if the repo called
    ``apex.amp.initialize``; otherwise torch's autocast and GradScaler do.

    Args:
        update_interval (int): Iterations a step. Default: 1.
        grad_clip (dict, optional): Arguments of ``clip_grad_norm_``.
            Default: None.
        coalesce (bool): Kept for the configs; DDP reduces gradients itself.
            Default: True.
        bucket_size_mb (int): As ``coalesce``. Default: -1.
        use_fp16 (bool): Whether to train in mixed precision. Default: False.
    """

    def __init__(self,
                 update_interval: int = 1,
                 grad_clip: Optional[Dict[str, Any]] = None,
                 coalesce: bool = True,
                 bucket_size_mb: int = -1,
                 use_fp16: bool = False) -> None:
        if type(update_interval) is not int or update_interval < 1:
            raise ConfigError('update_interval must be an int of at least 1, '
                              f'but got {update_interval!r}')
        super().__init__(grad_clip=grad_clip)
        self.update_interval = update_interval
        self.coalesce = coalesce
        self.bucket_size_mb = bucket_size_mb
        self.use_fp16 = use_fp16
        #: torch's scaler; None without AMP or with apex
        self.loss_scaler: Optional[Any] = None
        if use_fp16 and active_apex() is None:
            self.loss_scaler = make_grad_scaler(torch.cuda.is_available())

    def before_run(self, runner: Any) -> None:
        runner.optimizer.zero_grad()
        if not self.use_fp16:
            return
        if active_apex() is not None:
            self.loss_scaler = None
            runner.logger.info('Mixed precision: apex.amp')
            return
        device = next(runner.model.parameters()).device.type
        runner.model.train_step = _with_autocast(runner.model.train_step,
                                                 device)
        runner.logger.info(
            f'Mixed precision: torch autocast on {device}, GradScaler '
            f'{"on" if scalers_of([self]) else "off"} (apex.amp was not '
            'initialised)')

    def after_train_iter(self, runner: Any) -> None:
        loss = runner.outputs['loss'] / self.update_interval
        with self._scaled(loss, runner.optimizer) as scaled_loss:
            scaled_loss.backward()
        if not self.every_n_iters(runner, self.update_interval):
            return
        if self.loss_scaler is not None:
            self.loss_scaler.unscale_(runner.optimizer)
        if self.grad_clip is not None:
            norm = self.clip_grads(runner.model.parameters())
            if norm is not None:
                runner.log_buffer.update({'grad_norm': float(norm)},
                                         runner.outputs['num_samples'])
        if self.loss_scaler is not None:
            self.loss_scaler.step(runner.optimizer)
            self.loss_scaler.update()
        else:
            runner.optimizer.step()
        runner.optimizer.zero_grad()

    @contextmanager
    def _scaled(self, loss: torch.Tensor, optimizer: Any) -> Iterator[Any]:
        apex = active_apex() if self.use_fp16 else None
        if apex is not None:
            with apex.scale_loss(loss, optimizer) as scaled_loss:
                yield scaled_loss
        elif self.loss_scaler is not None:
            yield self.loss_scaler.scale(loss)
        else:
            yield loss


def _with_autocast(step: Callable[..., Any],
                   device: str) -> Callable[..., Any]:

    def train_step(*args: Any, **kwargs: Any) -> Any:
        with autocast(device):
            return step(*args, **kwargs)

    return train_step
