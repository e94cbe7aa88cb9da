"""The copy that lets training go on while a checkpoint is written.

A checkpoint is split in two: a tree of builtin values in which every tensor
is a :class:`TensorRef`, and the storages that they refer to. Tensors that
share memory (tied weights) share a storage, as in ``torch.save``; of a larger
storage only the part that is referred to is kept.
"""
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import torch

from .compat import resolved, storage_pointer
from .verification import ARCHIVE
from .zip_writing import ArchiveLayout

if TYPE_CHECKING:
    from .copying import PendingCopy


class TensorRef:
    """A tensor as a view of one of the staged storages.

    Attributes:
        storage (int): Index into :attr:`StagedState.storages`.
        dtype (torch.dtype): Its type, the same as the storage's.
        offset (int): First element inside the storage.
        size (tuple[int]): Shape.
        stride (tuple[int]): Strides in elements.
    """
    __slots__ = ('storage', 'dtype', 'offset', 'size', 'stride')

    def __init__(self, storage: int, dtype: torch.dtype, offset: int,
                 size: Tuple[int, ...], stride: Tuple[int, ...]) -> None:
        self.storage = storage
        self.dtype = dtype
        self.offset = offset
        self.size = size
        self.stride = stride


@dataclass
class StagedState:
    """A checkpoint that can be written.

    Args:
        tree: Builtin values and :class:`TensorRef`.
        storages (list[Tensor]): One-dimensional and contiguous, on any
            device.
        image (memoryview, optional): If the storages lie in memory as
            :meth:`layout` says, that memory. Default: None.
        pending (PendingCopy, optional): If not all of it is copied there
            yet. Default: None.
    """
    tree: Any
    storages: List[torch.Tensor] = field(default_factory=list)
    image: Optional[memoryview] = None
    pending: Optional['PendingCopy'] = None

    @property
    def nbytes(self) -> int:
        """Bytes of all storages."""
        return sum(_nbytes(flat) for flat in self.storages)

    def layout(self) -> ArchiveLayout:
        """Return where the storages lie in the file: at its beginning."""
        layout = ArchiveLayout()
        for index, flat in enumerate(self.storages):
            layout.add(f'{ARCHIVE}/data/{index}', _nbytes(flat))
        return layout


def _nbytes(flat: torch.Tensor) -> int:
    return flat.numel() * flat.element_size()


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
    split = _walk(tree, extents.refer)
    return StagedState(split, extents.flat_views())


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
        self._order: Dict[Any, int] = {}
        # of each storage: first and last element, and a tensor in it
        self._starts: List[int] = []
        self._stops: List[int] = []
        self._samples: List[torch.Tensor] = []
        self._refs: List[TensorRef] = []

    def refer(self, tensor: torch.Tensor) -> TensorRef:
        """Stand for a tensor; its offset counts from the live storage yet."""
        tensor = _plain(tensor)
        start, stop, pointer = 0, 0, 0
        size, stride = tuple(tensor.size()), tensor.stride()
        # wherever an empty one lies, it shares nothing: all share no storage
        if tensor.numel():
            start = int(tensor.storage_offset())
            stop = start + 1 + sum(
                [int(length - 1) * step for length, step in zip(size, stride)])
            pointer = storage_pointer(tensor)
        key = (tensor.device, pointer, tensor.dtype)
        index = self._order.setdefault(key, len(self._samples))
        if index == len(self._samples):
            self._starts.append(start)
            self._stops.append(stop)
            # it holds materialised memory, and so its address, meanwhile
            self._samples.append(tensor)
        else:
            self._starts[index] = min(self._starts[index], start)
            self._stops[index] = max(self._stops[index], stop)
        ref = TensorRef(index, tensor.dtype, start, size, stride)
        self._refs.append(ref)
        return ref

    def flat_views(self) -> List[torch.Tensor]:
        """Return the storages; offsets count from their beginning then."""
        for ref in self._refs:
            ref.offset -= self._starts[ref.storage]
        return [
            torch.as_strided(sample, (stop - start, ), (1, ),
                             start) for sample, start, stop in zip(
                                 self._samples, self._starts, self._stops)
        ]


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach()
    if plain.layout is not torch.strided or plain.is_quantized:
        raise TypeError(f'cannot save a tensor of layout {plain.layout} '
                        f'(quantized: {plain.is_quantized}), shape '
                        f'{tuple(plain.shape)}: convert it to a dense one '
                        'before')
    return resolved(plain)
