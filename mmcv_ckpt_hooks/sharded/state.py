"""The state that one rank writes: many small archives, one after the other.

Each tensor is what ``torch.save`` would make of it, so that torch's own reader
takes it; the last archive of rank 0 is what no rank has a part of.
"""
import zipfile
from copy import copy
from dataclasses import dataclass, field
from typing import (IO, Any, Callable, Dict, Iterator, List, Optional,
                    Sequence, Tuple, cast)

import torch

from ..folders.folder import items_digest
from ..pending import PendingCopy
from ..serialization import write_checkpoint
from ..staging import StagedState, reference
from ..zip_writing import ALIGNMENT, ArchiveLayout

#: Less than that (bytes) is collected, and passed on together.
_SMALL_BYTES = 1 << 18


class ShardLayout(ArchiveLayout):
    """Where the storages of all archives lie in the memory of the copy."""

    def __init__(self, parts: Sequence[StagedState]) -> None:
        super().__init__()
        #: of each part where it begins and ends (bytes)
        self.spans: List[Tuple[int, int]] = []
        for part in parts:
            layout, begin = part.layout(), -(-self.end // ALIGNMENT) * \
                ALIGNMENT
            for record in layout.records:
                self.records.append(_moved(record, begin))
            self.end = begin + layout.end
            self.spans.append((begin, self.end))


def _moved(record: zipfile.ZipInfo, by: int) -> zipfile.ZipInfo:
    moved = copy(record)
    # its padding stays: they are multiples of the alignment
    moved.header_offset += by
    return moved


@dataclass
class ShardState(StagedState):
    """Several archives as one staged state.

    Args:
        items (int): How many of them are tensors of the checkpoint; one more
            is the rest.
        plan (Plan, optional): Of all ranks.
    """
    items: int = 0
    plan: Any = None
    # where the archives lie in the image; of this copy alone
    _spans: List[Tuple[int, int]] = field(
        default_factory=list, init=False, repr=False)

    def layout(self) -> ShardLayout:
        return ShardLayout(list(self.parts()))

    def parts(self) -> Iterator[StagedState]:
        """Yield the archives; none is copied yet."""
        for tree, first, last in self.tree:
            yield StagedState(tree, self.storages[first:last])

    def staged_part(self, index: int) -> StagedState:
        """Return an archive with its part of the copy."""
        tree, first, last = self.tree[index]
        image, pending = None, None
        if self.image is not None:
            if not self._spans:
                self._spans = self.layout().spans
            begin, end = self._spans[index]
            image = self.image[begin:end]
        if self.pending is not None:
            pending = cast(PendingCopy, _PartOfCopy(self.pending, first))
        return StagedState(tree, self.storages[first:last], image, pending)

    @property
    def rest(self) -> StagedState:
        """The archive that holds no tensor of the checkpoint."""
        return self.staged_part(self.items)

    def write_items(self, stream: IO[bytes],
                    advance: Callable[[int], None]) -> 'Written':
        """Write all tensors, one after the other.

        Args:
            stream (file): Of :meth:`StorageBackend.put`.
            advance (callable): Told of the bytes that pass.

        Raises:
            TornError: If tensors changed while they were copied.
        """
        out = _Counted(stream, advance)
        spans: List[Tuple[int, int]] = []
        digests: List[str] = []
        for index in range(self.items):
            begin = out.size_bytes
            digests.append(
                write_checkpoint(
                    cast(IO[bytes], out), self.staged_part(index), {}))
            spans.append((begin, out.size_bytes - begin))
        out.flush()
        if self.pending is not None:
            self.pending.check()
        return Written(spans, out.size_bytes, items_digest(digests))


@dataclass(frozen=True)
class Written:
    """What one rank has written.

    Args:
        spans (list): First byte and length of each item in its file.
        bytes (int): Size of the file; 0 if it has none.
        digest (str): Of the file, see :func:`folder.items_digest`.
    """
    spans: List[Tuple[int, int]]
    bytes: int
    digest: str


def live_state(tensors: Sequence[torch.Tensor],
               rest: Optional[Dict[str, Any]],
               plan: Any = None) -> ShardState:
    """Split what a rank writes into trees and storages; nothing is copied.

    Args:
        tensors (Sequence[Tensor]): Each becomes an archive.
        rest (dict, optional): All other fields of a checkpoint, on rank 0.
        plan (Plan, optional): Of all ranks. Default: None.
    """
    trees: List[Tuple[Any, int, int]] = []
    storages: List[torch.Tensor] = []
    for tree in [*tensors, *([] if rest is None else [rest])]:
        one = reference(tree)
        first = len(storages)
        storages += one.storages
        trees.append((one.tree, first, len(storages)))
    return ShardState(trees, storages, items=len(tensors), plan=plan)


class _PartOfCopy:
    """The copy of one archive, as who writes it asks for it.

    Args:
        pending (PendingCopy): Of all of them.
        first (int): Its first storage.
    """

    def __init__(self, pending: PendingCopy, first: int) -> None:
        self._pending = pending
        self._first = first

    def finish_storage(self, index: int) -> None:
        """Copy a storage, and those before it, or wait for who does."""
        self._pending.finish_storage(self._first + index)

    def check(self) -> None:
        """Nothing: it is checked when all are written."""


class _Counted:
    """Passes bytes on, small pieces together, and counts them.

    Args:
        stream (file): Where they go.
        advance (callable): Told of the bytes that pass.
    """

    def __init__(self, stream: IO[bytes], advance: Callable[[int],
                                                            None]) -> None:
        self._stream = stream
        self._advance = advance
        self._lend = getattr(stream, 'lend', stream.write)
        # an archive has a dozen small pieces
        self._small = bytearray()
        self.size_bytes = 0

    def write(self, data: Any) -> None:
        """Write what comes next; a copy is made of it."""
        self.size_bytes += len(data)
        self._small += data
        if len(self._small) >= _SMALL_BYTES:
            self.flush()

    def lend(self, data: memoryview) -> None:
        """Write what stays as it is until the file is complete."""
        if len(data) < _SMALL_BYTES:
            self.write(data)
            return
        self.flush()
        self.size_bytes += len(data)
        self._pass(data, self._lend)

    def flush(self) -> None:
        """Pass on what was collected."""
        small, self._small = self._small, bytearray()
        if small:
            self._pass(small, self._stream.write)

    def _pass(self, data: Any, take: Any) -> None:
        take(data)
        self._advance(len(data))
