"""The copy that lets training go on while a checkpoint is written.

A checkpoint is split in two: a tree of builtin values in which every tensor
is a :class:`TensorRef`, and the storages that they refer to. Tensors that
share memory (tied weights) share a storage, as in ``torch.save``; of a larger
storage only the part that is referred to is kept.
"""
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import torch

from .compat import resolved, storage_pointer


@dataclass(frozen=True)
class TensorRef:
    """A tensor as a view of one of the staged storages.

    Args:
        storage (int): Index into :attr:`StagedState.storages`.
        dtype (torch.dtype): Its type, the same as the storage's.
        offset (int): First element inside the storage.
        size (tuple[int]): Shape.
        stride (tuple[int]): Strides in elements.
    """
    storage: int
    dtype: torch.dtype
    offset: int
    size: Tuple[int, ...]
    stride: Tuple[int, ...]


@dataclass
class StagedState:
    """A checkpoint that can be written.

    Args:
        tree: Builtin values and :class:`TensorRef`.
        storages (list[Tensor]): One-dimensional and contiguous, on any
            device.
    """
    tree: Any
    storages: List[torch.Tensor] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes of all storages."""
        return sum(flat.numel() * flat.element_size()
                   for flat in self.storages)


def reference(tree: Any) -> StagedState:
    """Split a checkpoint into tree and storages, without copying any tensor.

    Args:
        tree: Builtin containers and strided or sparse tensors.

    Returns:
        StagedState: Its storages are the live tensors' memory; it must be
        written before training changes them.
    """
    extents = _Extents()
    _walk(tree, extents.add)
    storages = extents.flat_views()
    return StagedState(_walk(tree, extents.refer), storages)


class StagingBuffers:
    """Copies storages into host memory that is allocated once and reused.

    Thread: training's thread only; the caller makes sure that the state
    copied before is no longer read.
    """

    def __init__(self) -> None:
        self._buffers: Dict[Tuple[int, torch.dtype, int], torch.Tensor] = {}

    def copy(self, state: StagedState) -> StagedState:
        """Copy every storage; on return no live tensor is referred to."""
        fresh: Dict[Tuple[int, torch.dtype, int], torch.Tensor] = {}
        copies = []
        on_gpu = False
        for index, flat in enumerate(state.storages):
            key = (index, flat.dtype, flat.numel())
            buffer = self._buffers.get(key)
            if buffer is None:
                buffer = torch.empty(
                    flat.numel(), dtype=flat.dtype, pin_memory=flat.is_cuda)
            fresh[key] = buffer
            on_gpu = on_gpu or flat.is_cuda
            copies.append(buffer.copy_(flat, non_blocking=flat.is_cuda))
        if on_gpu:
            torch.cuda.synchronize()
        # what no longer fits the state is freed
        self._buffers = fresh
        return StagedState(state.tree, copies)

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return sum(buffer.numel() * buffer.element_size()
                   for buffer in self._buffers.values())


def available_memory_bytes() -> Optional[int]:
    """Memory that may still be allocated, None where nothing tells.

    The smaller of the machine's available memory and what is left below the
    control group's limit (v2, then v1).

    Source: Linux, ``Documentation/filesystems/proc.rst`` and
    ``Documentation/admin-guide/cgroup-v2.rst``.
    """
    limits = []
    meminfo = _read_text('/proc/meminfo')
    for line in (meminfo or '').splitlines():
        if line.startswith('MemAvailable:'):
            limits.append(int(line.split()[1]) << 10)
    for limit_file, usage_file in (
        ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory.current'),
        ('/sys/fs/cgroup/memory/memory.limit_in_bytes',
         '/sys/fs/cgroup/memory/memory.usage_in_bytes')):
        limit, usage = _read_text(limit_file), _read_text(usage_file)
        if limit and usage and limit.strip().isdigit():
            limits.append(max(0, int(limit) - int(usage)))
    return min(limits) if limits else None


def _read_text(path: str) -> Optional[str]:
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return file.read()


def _walk(value: Any, visit: Any) -> Any:
    """Rebuild a tree with ``visit(tensor)`` in the place of each tensor."""
    if isinstance(value, torch.Tensor):
        return visit(value)
    if isinstance(value, dict):
        rebuilt: Dict[Any, Any] = type(value)()
        for key, item in value.items():
            rebuilt[key] = _walk(item, visit)
        if isinstance(value, OrderedDict) and hasattr(value, '_metadata'):
            rebuilt._metadata = value._metadata  # type: ignore[attr-defined]
        return rebuilt
    if isinstance(value, (list, tuple)):
        return type(value)([_walk(item, visit) for item in value])
    return value


class _Extents:
    """Which part of which storage the tensors of one checkpoint cover."""

    def __init__(self) -> None:
        self._ranges: Dict[Tuple[str, int, torch.dtype], Tuple[int, int]] = {}
        self._samples: Dict[Tuple[str, int, torch.dtype], torch.Tensor] = {}
        self._order: Dict[Tuple[str, int, torch.dtype], int] = {}
        # materialised tensors must outlive the ids that stand for them
        self._plain: Dict[int, Tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, tensor: torch.Tensor) -> None:
        plain = self._plain_of(tensor)
        key, start, stop = self._span(plain)
        if key in self._ranges:
            known = self._ranges[key]
            start, stop = min(start, known[0]), max(stop, known[1])
        else:
            self._order[key] = len(self._order)
            self._samples[key] = plain
        self._ranges[key] = (start, stop)

    def refer(self, tensor: torch.Tensor) -> TensorRef:
        plain = self._plain_of(tensor)
        key, _, _ = self._span(plain)
        return TensorRef(self._order[key], plain.dtype,
                         int(plain.storage_offset()) - self._ranges[key][0],
                         tuple(plain.size()), tuple(plain.stride()))

    def flat_views(self) -> List[torch.Tensor]:
        views = []
        for key, sample in self._samples.items():
            start, stop = self._ranges[key]
            views.append(
                torch.as_strided(sample, (stop - start, ), (1, ), start))
        return views

    def _plain_of(self, tensor: torch.Tensor) -> torch.Tensor:
        known = self._plain.get(id(tensor))
        if known is not None:
            return known[1]
        plain = tensor.detach()
        if plain.layout is not torch.strided or plain.is_quantized:
            raise TypeError(
                f'cannot save a tensor of layout {plain.layout} '
                f'(quantized: {plain.is_quantized}), shape '
                f'{tuple(plain.shape)}: convert it to a dense one before')
        plain = resolved(plain)
        self._plain[id(tensor)] = (tensor, plain)
        return plain

    @staticmethod
    def _span(
            tensor: torch.Tensor
    ) -> Tuple[Tuple[str, int, torch.dtype], int, int]:
        start = int(tensor.storage_offset())
        stop = start
        if tensor.numel():
            stop = start + 1 + sum(
                int(length - 1) * int(step)
                for length, step in zip(tensor.size(), tensor.stride()))
        # an empty tensor has a null pointer: none of them shares anything,
        # but all may share an empty storage
        pointer = storage_pointer(tensor)
        return (str(tensor.device), pointer, tensor.dtype), start, stop
