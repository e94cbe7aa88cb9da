"""The optimizer hook that configs of the apex_runner family name."""
import inspect
from contextlib import contextmanager
from typing import (Any, Callable, Dict, Iterator, List, Mapping, Optional,
                    Sequence)

import torch
from mmcv.runner import OptimizerHook
from torch.nn.utils import clip_grad_norm_

from .amp import scalers_of
from .apex_amp import active_apex
from .compat import autocast, make_grad_scaler
from .errors import ConfigError
from .wording import nearest

_ARGUMENTS = ('update_interval', 'grad_clip', 'coalesce', 'bucket_size_mb',
              'use_fp16')
#: What mmcv's optimizer hooks, apex and others call them.
_CALLED_ELSEWHERE = {
    'fp16': 'use_fp16',
    'amp': 'use_fp16',
    'cumulative_iters': 'update_interval',
    'accumulation_steps': 'update_interval',
    'clip_grad': 'grad_clip',
}
#: Attribute of a ``train_step`` that runs under autocast.
_CASTS = 'casts_automatically'


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

    Raises:
        ConfigError: If an argument is unknown or wrong.
    """

    def __init__(self,
                 update_interval: int = 1,
                 grad_clip: Optional[Dict[str, Any]] = None,
                 coalesce: bool = True,
                 bucket_size_mb: int = -1,
                 use_fp16: bool = False,
                 **unknown: Any) -> None:
        for name in unknown:
            raise _unknown('argument', name, _ARGUMENTS)
        if type(update_interval) is not int or update_interval < 1:
            raise ConfigError('update_interval must be an int of at least 1, '
                              f'but got {update_interval!r}')
        if not isinstance(use_fp16, bool):
            raise ConfigError('use_fp16 must be True or False, but got '
                              f'{use_fp16!r}')
        _check_clipping(grad_clip)
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
        if device != 'cuda':
            # also on a machine with a GPU, where one was made for it
            self.loss_scaler = make_grad_scaler(False)
        _cast_automatically(runner.model, device)
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
            norm = self.clip_grads(self._trained(runner))
            if norm is not None:
                runner.log_buffer.update({'grad_norm': float(norm)},
                                         runner.outputs['num_samples'])
        if self.loss_scaler is not None:
            self.loss_scaler.step(runner.optimizer)
            self.loss_scaler.update()
        else:
            runner.optimizer.step()
        runner.optimizer.zero_grad()

    def _trained(self, runner: Any) -> List[torch.Tensor]:
        """Return what has the gradients; with apex they may be copies."""
        apex = active_apex() if self.use_fp16 else None
        return list(runner.model.parameters() if apex is
                    None else apex.master_params(runner.optimizer))

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


def _check_clipping(given: Any) -> None:
    """Refuse what ``clip_grad_norm_`` would fail on in the first step.

    Raises:
        ConfigError: If it is no dict of its arguments.
    """
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise ConfigError('grad_clip must be a dict such as '
                          f'dict(max_norm=1.0), but got {given!r}')
    # the first are the parameters
    valid = list(inspect.signature(clip_grad_norm_).parameters)[1:]
    for name in given:
        if name not in valid:
            raise _unknown('key', f'grad_clip.{name}',
                           [f'grad_clip.{one}' for one in valid])
    if 'max_norm' not in given:
        raise ConfigError('grad_clip must have max_norm, but got '
                          f'{dict(given)!r}')


def _unknown(what: str, name: str, valid: Sequence[str]) -> ConfigError:
    near = _CALLED_ELSEWHERE.get(name) or nearest(name, valid)
    hint = f'did you mean {near!r}? ' if near else ''
    return ConfigError(f'unknown {what} {name}; {hint}valid are: '
                       f'{", ".join(sorted(valid))}')


def _cast_automatically(model: Any, device: str) -> None:
    """Let a model train under autocast, once.

    On a GPU modules with mmcv's ``auto_fp16`` and ``force_fp32`` are told, as
    mmcv's own hook does: losses are computed in 32 bits then. They cast to
    float16, which a CPU's autocast does not use.
    """
    if device == 'cuda':
        for module in model.modules():
            if hasattr(module, 'fp16_enabled'):
                setattr(module, 'fp16_enabled', True)
    step = model.train_step
    if not hasattr(step, _CASTS):
        model.train_step = _with_autocast(step, device)


def _with_autocast(step: Callable[..., Any],
                   device: str) -> Callable[..., Any]:

    def train_step(*args: Any, **kwargs: Any) -> Any:
        with autocast(device):
            return step(*args, **kwargs)

    setattr(train_step, _CASTS, True)
    return train_step
