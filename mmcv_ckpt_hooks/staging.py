"""The copy that lets training go on while a checkpoint is written.

A checkpoint is split in two: a tree of builtin values in which every tensor
is a :class:`TensorRef`, and the storages that they refer to. Tensors that
share memory (tied weights) share a storage, as in ``torch.save``; of a larger
storage only the part that is referred to is kept.
"""
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import torch

from .compat import is_lazy, resolved, storage_pointer
from .verification import ARCHIVE
from .zip_writing import ArchiveLayout

if TYPE_CHECKING:
    from .pending import PendingCopy


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
        storages (list[Tensor]): Contiguous, of any shape, on any device.
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
    return Splitter().split(tree)


class Splitter:
    """Splits one checkpoint after the other.

    What was found out about a tensor is kept: most of those of an optimizer
    are the same objects in the next checkpoint.
    """

    def __init__(self) -> None:
        self._known: Dict[int, '_Place'] = {}

    def split(self, tree: Any) -> StagedState:
        """As :func:`reference`."""
        extents = _Extents(self._known)
        split = _walk(tree, extents.refer)
        self._known = extents.places
        return StagedState(split, extents.storages())


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


class _Place:
    """Where a tensor lies."""
    __slots__ = ('owner', 'address', 'values', 'key', 'start', 'stop', 'size',
                 'stride')

    def __init__(self, tensor: torch.Tensor) -> None:
        plain = _plain(tensor)
        #: of the one that was asked for; it keeps no memory
        self.owner = weakref.ref(tensor)
        self.address = tensor.data_ptr()
        self.size, self.stride = tuple(plain.shape), plain.stride()
        numel = plain.numel()
        self.start = self.stop = pointer = 0
        # wherever an empty one lies, it shares nothing: all share no storage
        if numel:
            self.start = int(plain.storage_offset())
            span = numel if plain.is_contiguous() else 1 + sum(
                (length - 1) * step
                for length, step in zip(self.size, self.stride))
            self.stop = self.start + span
            pointer = storage_pointer(plain)
        self.key = (pointer, plain.dtype, plain.device)
        #: if the tensor's values had to be computed, where they are
        self.values = None if plain.data_ptr() == self.address else plain

    def is_still_of(self, tensor: torch.Tensor) -> bool:
        """Whether that tensor is the same, and lies there."""
        return self.owner() is tensor and \
            tensor.data_ptr() == self.address and \
            tensor.storage_offset() == self.start and \
            storage_pointer(tensor) == self.key[0] and \
            tensor.shape == self.size and tensor.stride() == self.stride and \
            tensor.dtype is self.key[1] and not is_lazy(tensor)


class _Extents:
    """Which part of which storage the tensors of one checkpoint cover.

    Args:
        known (dict[int, _Place]): By the ids of tensors, of the checkpoint
            before.
    """

    def __init__(self, known: Dict[int, _Place]) -> None:
        self._known = known
        #: of this checkpoint
        self.places: Dict[int, _Place] = {}
        self._order: Dict[Any, int] = {}
        # of each storage: first and last element, and a tensor in it
        self._starts: List[int] = []
        self._stops: List[int] = []
        self._samples: List[torch.Tensor] = []
        self._refs: List[TensorRef] = []

    def refer(self, tensor: torch.Tensor) -> TensorRef:
        """Stand for a tensor; its offset counts from the live storage yet."""
        place = self._known.get(id(tensor))
        if place is None or not place.is_still_of(tensor):
            place = _Place(tensor)
        index = self._order.setdefault(place.key, len(self._samples))
        if index == len(self._samples):
            self._starts.append(place.start)
            self._stops.append(place.stop)
            # it holds materialised memory, and so its address, meanwhile
            self._samples.append(tensor.detach() if place.values is
                                 None else place.values)
        else:
            self._starts[index] = min(self._starts[index], place.start)
            self._stops[index] = max(self._stops[index], place.stop)
        if place.values is None:
            self.places[id(tensor)] = place
        ref = TensorRef(index, place.key[1], place.start, place.size,
                        place.stride)
        self._refs.append(ref)
        return ref

    def storages(self) -> List[torch.Tensor]:
        """Return them; offsets count from their beginning then."""
        for ref in self._refs:
            ref.offset -= self._starts[ref.storage]
        return [
            sample if sample.numel() == stop - start
            and sample.is_contiguous() else torch.as_strided(
                sample, (stop - start, ),
                (1, ), start) for sample, start, stop in zip(
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
