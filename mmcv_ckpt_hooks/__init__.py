"""Durable, verified and resumable checkpoints for mmcv 1.x runners.

Importing the package registers its hooks and runners in mmcv; nothing else
happens.
"""
from . import environment  # noqa: F401  mmcv and torch are checked first
from .amp import DistOptimizerHook
from .constructor import DurableRunnerConstructor
from .core import save_checkpoint
from .errors import (CheckpointError, ConfigError, IntegrityError, ResumeError,
                     StorageError, UnsafeCheckpointError)
from .hook import DurableCheckpointHook
from .registration import register_all
from .resume import find_resumable, verify_checkpoint
from .runners import EpochBasedRunnerAmp, IterBasedRunnerAmp
from .version import __version__

__all__ = [
    'CheckpointError', 'ConfigError', 'DistOptimizerHook',
    'DurableCheckpointHook', 'DurableRunnerConstructor', 'EpochBasedRunnerAmp',
    'IntegrityError', 'IterBasedRunnerAmp', 'ResumeError', 'StorageError',
    'UnsafeCheckpointError', '__version__', 'find_resumable',
    'save_checkpoint', 'verify_checkpoint'
]

register_all()
