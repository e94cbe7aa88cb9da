"""Durable, verified and resumable checkpoints for mmcv 1.x runners.

Importing the package registers its hooks and runners in mmcv; nothing else
happens.
"""
from typing import TYPE_CHECKING, Any, List

from . import environment  # noqa: F401  mmcv and torch are checked first
from .constructor import DurableRunnerConstructor
from .dist_optimizer import DistOptimizerHook
from .errors import (CheckpointError, ConfigError, IntegrityError, ResumeError,
                     StorageError, UnsafeCheckpointError)
from .hook import DurableCheckpointHook
from .registration import register_all
from .runners import EpochBasedRunnerAmp, IterBasedRunnerAmp
from .version import __version__

if TYPE_CHECKING:
    from .checking import verify_checkpoint
    from .core import save_checkpoint
    from .resume import find_resumable

__all__ = [
    'CheckpointError', 'ConfigError', 'DistOptimizerHook',
    'DurableCheckpointHook', 'DurableRunnerConstructor', 'EpochBasedRunnerAmp',
    'IntegrityError', 'IterBasedRunnerAmp', 'ResumeError', 'StorageError',
    'UnsafeCheckpointError', '__version__', 'find_resumable',
    'save_checkpoint', 'verify_checkpoint'
]

register_all()


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import the functions when they are used first.

    Tools import the package for the names that it registers, and most of it
    is not needed before a run begins.
    """
    if name == 'save_checkpoint':
        from .core import save_checkpoint
        return save_checkpoint
    if name == 'verify_checkpoint':
        from .checking import verify_checkpoint
        return verify_checkpoint
    if name == 'find_resumable':
        from .resume import find_resumable
        return find_resumable
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
