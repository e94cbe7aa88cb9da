"""Registers the hooks and runners in mmcv."""
from typing import Any, List, Tuple

from mmcv.runner import HOOKS, RUNNERS
from mmcv.utils import get_logger

from .compat import register, runner_builders
from .constructor import DurableRunnerConstructor
from .dist_optimizer import DistOptimizerHook
from .hook import DurableCheckpointHook
from .runners import EpochBasedRunnerAmp, IterBasedRunnerAmp


def register_all() -> None:
    """Register every public class, also where a repo did so before."""
    classes: List[Tuple[Any, type]] = [(HOOKS, DurableCheckpointHook),
                                       (HOOKS, DistOptimizerHook),
                                       (RUNNERS, IterBasedRunnerAmp),
                                       (RUNNERS, EpochBasedRunnerAmp)]
    if runner_builders() is not None:
        classes.append((runner_builders(), DurableRunnerConstructor))
    replaced = []
    for registry, cls in classes:
        before = register(registry, cls)
        if before is not None:
            replaced.append(f'{cls.__name__} of {before.__module__}')
    if replaced:
        # not 'mmcv_...': mmcv leaves loggers below one that exists, such as
        # 'mmcv', without a level and a handler
        get_logger('ckpt_hooks').info(
            'mmcv_ckpt_hooks registers its own classes in the place of '
            f'{", ".join(replaced)}')
