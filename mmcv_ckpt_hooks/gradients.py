"""Gradients that are accumulated over several iterations.

A checkpoint saved between two optimizer steps holds them: otherwise a resumed
run would lose a part of its batch.
"""
from typing import Any, Dict, List, Mapping

import torch

from .errors import CheckpointError

#: Attributes by which optimizer hooks call the number of iterations: of
#: mmcv's ``GradientCumulative...OptimizerHook`` (since 1.3.12), and of the
#: apex_runner family's ``DistOptimizerHook``.
_PERIODS = ('cumulative_iters', 'update_interval')
#: What mmcv's, and copies of them, count with.
_COUNTED = ('divisible_iters', 'remainder_iters', 'initialized')


def accumulates(hooks: List[Any]) -> bool:
    """Whether gradients are carried from one iteration to the next.

    Args:
        hooks (list): The runner's.
    """
    return bool(_periods(hooks))


def is_accumulating(hooks: List[Any], finished: int) -> bool:
    """Whether a run has gradients that no optimizer step has used yet.

    Args:
        hooks (list): The runner's.
        finished (int): Finished iterations.
    """
    return any(finished % period for period in _periods(hooks))


def _periods(hooks: List[Any]) -> List[int]:
    """Return the numbers of iterations that make a step, of more than one."""
    found = [getattr(hook, name, 1) for hook in hooks for name in _PERIODS]
    return [one for one in found if isinstance(one, int) and one > 1]


def capture_gradients(model: torch.nn.Module, hooks: List[Any],
                      finished: int) -> Dict[str, torch.Tensor]:
    """Return the accumulated gradients by parameter; not copied.

    Args:
        model (Module): Without wrappers.
        hooks (list): The runner's.
        finished (int): Finished iterations.

    Raises:
        CheckpointError: If this rank has a part of them only.
    """
    if not is_accumulating(hooks, finished):
        return {}
    found = {
        name: parameter.grad.detach()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    if any(hasattr(one, 'device_mesh') for one in found.values()):
        raise CheckpointError(
            'gradients that are accumulated over several iterations, and '
            'spread over ranks, are not saved: let the interval be a multiple '
            f'of {max(_periods(hooks))} iterations')
    return found


def restore_gradients(model: torch.nn.Module,
                      saved: Mapping[str, torch.Tensor]) -> None:
    """Give the parameters the gradients they had."""
    if not saved:
        return
    for name, parameter in model.named_parameters():
        gradient = saved.get(name)
        if gradient is None:
            parameter.grad = None
        elif gradient.shape == parameter.shape:
            parameter.grad = gradient.to(parameter, copy=True)


def continue_accumulation(runner: Any) -> None:
    """Let mmcv's hooks count iterations from the start of the whole run.

    Up to mmcv 1.5 (1.5.3, hooks/optimizer.py:145) they count from the resume,
    and divide some losses by a wrong number; later ones only warn that
    gradients are lost, which here they are not.
    """
    for hook in runner.hooks:
        period = getattr(hook, 'cumulative_iters', None)
        if not isinstance(period, int) or not all(
                hasattr(hook, name) for name in _COUNTED):
            continue
        hook.divisible_iters = runner.max_iters // period * period
        hook.remainder_iters = runner.max_iters - hook.divisible_iters
        hook.initialized = True
