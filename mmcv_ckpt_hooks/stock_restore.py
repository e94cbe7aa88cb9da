"""What a restore from inside of a stock runner's ``run`` needs besides."""
from dataclasses import replace
from typing import Any

from mmcv.runner import EpochBasedRunner, TextLoggerHook
from mmcv.runner.hooks.lr_updater import LrUpdaterHook
from mmcv.runner.hooks.momentum_updater import MomentumUpdaterHook

from . import ema
from .gradients import continue_accumulation
from .restore import Restored
from .wording import counted

#: Hooks that start from a value of the optimizer: as what it is known to them
#: and to the optimizer.
_BASES = ((LrUpdaterHook, 'base_lr', 'initial_lr'),
          (MomentumUpdaterHook, 'base_momentum', 'initial_momentum'))


def finish_on_stock(runner: Any, restored: Restored) -> Restored:
    """Do what our runners do themselves, from inside ``before_run``.

    A stock epoch runner cannot begin inside an epoch: it repeats it. The
    counters go back to its first iteration; else it would end with too many.
    """
    if hasattr(runner, 'finished_steps'):
        return restored
    continue_accumulation(runner)
    runner.logger.info(
        f'{type(runner).__name__} goes over the data from the beginning; '
        'IterBasedRunnerAmp and EpochBasedRunnerAmp go on after the last '
        'batch')
    if not isinstance(runner, EpochBasedRunner) or not runner.max_iters:
        ema.restore_when_ready(runner, restored.late, restored.name, False)
        return restored
    # set at the start of run()
    per_epoch = runner.max_iters // runner.max_epochs
    used = restored.iter - restored.epoch * per_epoch
    ema.restore_when_ready(runner, restored.late, restored.name,
                           0 < used <= per_epoch or restored.unswapped)
    if used == per_epoch:
        runner._epoch += 1
    elif 0 < used < per_epoch:
        runner._iter -= used
        runner.logger.warning(
            f'{type(runner).__name__} repeats epoch {restored.epoch + 1} from '
            f'its first batch: {counted(used, "iterations")} of it had been '
            'saved. EpochBasedRunnerAmp goes on after that')
    return replace(restored, epoch=runner.epoch, iter=runner.iter)


def refresh_hooks(runner: Any) -> None:
    """Update what hooks read from the runner before it was restored.

    Needed where the restore happens inside ``run``, after the ``before_run``
    of the learning rate, momentum and logger hooks.
    """
    for hook in runner.hooks:
        for kind, base, initial in _BASES:
            # empty before its before_run, which reads them itself
            if isinstance(hook, kind) and getattr(hook, base):
                setattr(hook, base, _initial_values(runner.optimizer, initial))
        if isinstance(hook, TextLoggerHook):
            hook.start_iter = runner.iter  # its ETA


def _initial_values(optimizer: Any, key: str) -> Any:
    if isinstance(optimizer, dict):
        return {
            name: _initial_values(one, key)
            for name, one in optimizer.items()
        }
    plain = key[len('initial_'):]
    # as mmcv's hooks: a run without them has saved no initial value
    return [
        group.setdefault(
            key,
            group.get(plain) if plain in group else group.get('betas',
                                                              (0., ))[0])
        for group in optimizer.param_groups
    ]
