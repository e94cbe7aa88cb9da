"""Durable, verified and resumable checkpoints for mmcv 1.x runners.

Importing the package registers its hooks and runners in mmcv; nothing else
happens.
"""
from .compat import register as _register
from .compat import require_mmcv as _require_mmcv
from .version import __version__

_require_mmcv()

from mmcv.runner import HOOKS, RUNNERS  # noqa: E402
from mmcv.utils import get_logger as _get_logger  # noqa: E402

from .amp import DistOptimizerHook  # noqa: E402
from .core import save_checkpoint  # noqa: E402
from .errors import (CheckpointError, ConfigError,  # noqa: E402
                     IntegrityError, ResumeError, StorageError)
from .hook import DurableCheckpointHook  # noqa: E402
from .resume import find_resumable, verify_checkpoint  # noqa: E402
from .runners import (DurableRunnerConstructor,  # noqa: E402
                      EpochBasedRunnerAmp, IterBasedRunnerAmp)

__all__ = [
    'CheckpointError', 'ConfigError', 'DistOptimizerHook',
    'DurableCheckpointHook', 'DurableRunnerConstructor',
    'EpochBasedRunnerAmp', 'IntegrityError', 'IterBasedRunnerAmp',
    'ResumeError', 'StorageError', '__version__', 'find_resumable',
    'save_checkpoint', 'verify_checkpoint'
]


def _register_all() -> None:
    from .compat import runner_builders

    classes = [(HOOKS, DurableCheckpointHook), (HOOKS, DistOptimizerHook),
               (RUNNERS, IterBasedRunnerAmp), (RUNNERS, EpochBasedRunnerAmp)]
    if runner_builders() is not None:
        classes.append((runner_builders(), DurableRunnerConstructor))
    for registry, cls in classes:
        before = _register(registry, cls)
        if before is not None:
            _get_logger('mmcv_ckpt_hooks').info(
                f'{cls.__name__} of mmcv_ckpt_hooks takes the place of the '
                f'one registered by {before.__module__}')


_register_all()
