"""Registers the hooks and runners in mmcv."""
from typing import Any, List, Tuple

from mmcv.runner import HOOKS, RUNNERS
from mmcv.utils import get_logger

from .amp import DistOptimizerHook
from .compat import register, runner_builders
from .hook import DurableCheckpointHook
from .runners import (DurableRunnerConstructor, EpochBasedRunnerAmp,
                      IterBasedRunnerAmp)


def register_all() -> None:
    """Register every public class, also where a repo did so before."""
    classes: List[Tuple[Any, type]] = [(HOOKS, DurableCheckpointHook),
                                       (HOOKS, DistOptimizerHook),
                                       (RUNNERS, IterBasedRunnerAmp),
                                       (RUNNERS, EpochBasedRunnerAmp)]
    if runner_builders() is not None:
        classes.append((runner_builders(), DurableRunnerConstructor))
    for registry, cls in classes:
        before = register(registry, cls)
        if before is not None:
            get_logger('mmcv_ckpt_hooks').info(
                f'{cls.__name__} of mmcv_ckpt_hooks takes the place of the '
                f'one registered by {before.__module__}')
