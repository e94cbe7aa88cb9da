"""The copy that lets training go on while a checkpoint is written.

A checkpoint is split in two: a tree of builtin values in which every tensor
is a :class:`TensorRef`, and the storages that they refer to. Tensors that
share memory (tied weights) share a storage, as in ``torch.save``; of a larger
storage only the part that is referred to is kept.
"""
import os
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

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
        tree: Builtin containers and strided tensors.

    Returns:
        StagedState: Its storages are the live tensors' memory; it must be
        written before training changes them.

    Raises:
        TypeError: If a tensor is sparse or quantized.
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
        keys = [(index, flat.dtype, flat.numel())
                for index, flat in enumerate(state.storages)]
        # INVARIANT: what no longer fits is freed before more is allocated
        kept = self._buffers
        self._buffers = {key: kept.pop(key) for key in keys if key in kept}
        kept.clear()
        copies, devices = [], set()
        for key, flat in zip(keys, state.storages):
            if key not in self._buffers:
                self._buffers[key] = torch.empty(
                    flat.numel(), dtype=flat.dtype, pin_memory=flat.is_cuda)
            if flat.is_cuda:
                devices.add(flat.device)
            copies.append(self._buffers[key].copy_(
                flat, non_blocking=flat.is_cuda))
        for device in devices:
            # without an argument only the current device is waited for
            torch.cuda.synchronize(device)
        return StagedState(state.tree, copies)

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return sum(buffer.numel() * buffer.element_size()
                   for buffer in self._buffers.values())


def available_memory_bytes(root: str = '/') -> Optional[int]:
    """Memory that may still be allocated, None where nothing tells.

    The smallest of the machine's available memory and what is left below the
    limits of the process's control groups and all above them (v2 and v1; the
    limit of a Slurm job is in the middle). Cached files, among them the
    checkpoints just written, count as available: the kernel drops them.

    Args:
        root (str): Where ``proc`` and ``sys`` are. Default: ``'/'``.

    Source: Linux, ``Documentation/filesystems/proc.rst``,
    ``admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
    """
    limits = []
    available = _kernel_numbers(os.path.join(root, 'proc/meminfo'))
    if 'MemAvailable' in available:
        limits.append(available['MemAvailable'] << 10)
    for group, limit_name, usage_name, prefix in _memory_groups(root):
        limit = _kernel_numbers(os.path.join(group, limit_name)).get('')
        usage = _kernel_numbers(os.path.join(group, usage_name)).get('')
        if limit is None or usage is None:
            continue  # no such group, or 'max'
        cached = _kernel_numbers(os.path.join(group, 'memory.stat'))
        usage -= cached.get(f'{prefix}inactive_file', 0)
        usage -= cached.get(f'{prefix}active_file', 0)
        limits.append(max(0, limit - max(0, usage)))
    return min(limits) if limits else None


def _memory_groups(root: str) -> Iterator[Tuple[str, str, str, str]]:
    """Yield directory, file of the limit, of the usage, prefix of counts."""
    top = os.path.join(root, 'sys/fs/cgroup')
    for line in _read_lines(os.path.join(root, 'proc/self/cgroup')):
        _, controllers, path = line.split(':', 2)
        names = ('memory.max', 'memory.current', '')
        mount = top
        if 'memory' in controllers.split(','):
            names = ('memory.limit_in_bytes', 'memory.usage_in_bytes',
                     'total_')
            mount = os.path.join(top, 'memory')
        elif controllers:
            continue
        parts = [part for part in path.split('/') if part]
        for depth in range(len(parts) + 1):
            yield (os.path.join(mount, *parts[:depth]), *names)


def _kernel_numbers(path: str) -> Dict[str, int]:
    """Read ``name number`` lines; a bare number has the name ``''``."""
    numbers = {}
    for line in _read_lines(path):
        words = line.replace(':', ' ').split()
        name = words[0] if len(words) > 1 else ''
        value = words[min(1, len(words) - 1)] if words else ''
        if value.isdigit():
            numbers[name] = int(value)
    return numbers


def _read_lines(path: str) -> List[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []  # not this kernel, or not for this user


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
        key, start, _ = self._span(plain)
        return TensorRef(self._order[key], plain.dtype,
                         start - self._ranges[key][0], tuple(plain.size()),
                         tuple(plain.stride()))

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
        device = str(tensor.device)
        if not tensor.numel():
            # wherever it lies, it shares nothing: all share no storage
            return (device, 0, tensor.dtype), 0, 0
        start = int(tensor.storage_offset())
        stop = start + 1 + sum(
            int(length - 1) * int(step)
            for length, step in zip(tensor.size(), tensor.stride()))
        return (device, storage_pointer(tensor), tensor.dtype), start, stop
