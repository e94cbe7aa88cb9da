"""Which part of a tensor a rank holds: all, a shard, or none of it."""
from typing import Any, List, Optional, Tuple

import torch

from ..compat import dtensor_parts
from ..errors import ResumeError
from ..folders.chunks import Chunk

#: A part, and the memory in which it lies.
HeldPart = Tuple[Chunk, torch.Tensor]


def held_parts(tensor: Any) -> List[HeldPart]:
    """Return the parts of a tensor that this rank holds.

    Args:
        tensor (Tensor): A plain one, of which it holds all; a ``DTensor``
            (FSDP2, tensor parallel) or a ``ShardedTensor`` (FSDP).
    """
    if hasattr(tensor, 'local_shards'):
        return [(_chunk(shard.metadata.shard_offsets,
                        shard.metadata.shard_sizes), shard.tensor)
                for shard in tensor.local_shards()]
    if is_dtensor(tensor):
        found = dtensor_parts(tensor)
        if found is None:
            return []
        sizes, offsets = found
        local = tensor.detach().to_local()
        if tuple(local.shape) != tuple(sizes):
            raise ResumeError(
                f'this rank has {tuple(local.shape)} of a tensor of size '
                f'{tuple(tensor.shape)}, expected {tuple(sizes)}: it is '
                'placed in a way that cannot be filled '
                f'({tensor.placements})')
        return [(_chunk(offsets, sizes), local)]
    sizes = tuple(tensor.shape)
    return [(Chunk((0, ) * len(sizes), sizes), tensor.detach())]


def _chunk(offsets: Any, sizes: Any) -> Chunk:
    return Chunk(tuple(offsets), tuple(sizes))


def is_dtensor(tensor: Any) -> bool:
    """Whether a tensor is spread over ranks by placements."""
    return hasattr(tensor, 'placements') and hasattr(tensor, 'to_local')


def empty_like(saved: torch.Tensor, parameter: Optional[Any]) -> Any:
    """Return memory for a part of the state of a parameter.

    Args:
        saved (Tensor): With the type and size of all of it.
        parameter (Tensor, optional): None if it is not known.
    """
    if parameter is None:
        return torch.empty(saved.shape, dtype=saved.dtype)
    if is_dtensor(parameter) and saved.shape == parameter.shape:
        plain = parameter.detach()
        local = torch.empty_like(plain.to_local(), dtype=saved.dtype)
        return type(plain).from_local(
            local,
            plain.device_mesh,
            plain.placements,
            run_check=False,
            shape=plain.shape,
            stride=plain.stride())
    return torch.empty(saved.shape, dtype=saved.dtype, device=parameter.device)
