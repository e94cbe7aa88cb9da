"""What ranks must agree on.

Every function that communicates is called on all ranks, on the training
thread.
"""
from typing import Any, Callable, Iterable, List, Optional, TypeVar

import torch
from torch import distributed as dist

from .errors import ResumeError

_Result = TypeVar('_Result')


def world_size() -> int:
    """Number of ranks, 1 without ``torch.distributed``."""
    return dist.get_world_size() if _initialized() else 1


def rank() -> int:
    """This process's rank, 0 without ``torch.distributed``."""
    return dist.get_rank() if _initialized() else 0


def raise_together(failure: Optional[Exception], what: str) -> None:
    """Raise on all ranks if any rank has failed: nobody waits for the dead.

    Args:
        failure (Exception, optional): This rank's.
        what (str): What was tried, for the other ranks' message.

    Raises:
        Exception: This rank's own.
        ResumeError: On the others, naming the rank that failed.
    """
    failures = gather_objects(failure
                              and f'{type(failure).__name__}: {failure}')
    if failure is not None:
        raise failure
    for number, text in enumerate(failures):
        if text:
            raise ResumeError(f'{what} failed on rank {number}: {text}')


def together(job: Callable[[], _Result], what: str) -> _Result:
    """Do something on all ranks: it fails on all of them or on none.

    Args:
        job (callable): Does not communicate.
        what (str): What it does, for the other ranks' message.
    """
    results, failure = [], None
    try:
        results.append(job())
    except Exception as error:  # passed on to all ranks
        failure = error
    raise_together(failure, what)
    return results[0]


def broadcast_object(value: Any) -> Any:
    """Send rank 0's value to all ranks and return it."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def gather_objects(value: Any) -> List[Any]:
    """Return every rank's value, by rank, on all ranks.

    Args:
        value: This rank's; what can be pickled.
    """
    if world_size() == 1:
        return [value]
    values: List[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def average_float_buffers(buffers: Iterable[torch.Tensor]) -> None:
    """Average floating-point buffers over all ranks, in place.

    Integer buffers (``num_batches_tracked``) are the same on all ranks and
    cannot be averaged: mmcv's ``allreduce_params`` fails on them.
    """
    count = world_size()
    if count == 1:
        return
    for buffer in buffers:
        if buffer.is_floating_point():
            dist.all_reduce(buffer.data.div_(count))


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()
