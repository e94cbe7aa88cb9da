"""What ranks must agree on.

Every function that communicates is called on all ranks, on the training
thread.
"""
from typing import Any, Iterable, List, Optional

import torch
from torch import distributed as dist


def world_size() -> int:
    """Number of ranks, 1 without ``torch.distributed``."""
    return dist.get_world_size() if _initialized() else 1


def rank() -> int:
    """This process's rank, 0 without ``torch.distributed``."""
    return dist.get_rank() if _initialized() else 0


def gather_objects(value: Any) -> Optional[List[Any]]:
    """Collect one picklable value of every rank on rank 0.

    Returns:
        list | None: By rank; None on the other ranks.
    """
    if world_size() == 1:
        return [value]
    # gather_object is missing in some backends; the values are small
    gathered: List[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered if rank() == 0 else None


def broadcast_object(value: Any) -> Any:
    """Send rank 0's value to all ranks and return it."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


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
