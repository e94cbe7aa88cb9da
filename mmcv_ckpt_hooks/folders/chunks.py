"""Boxes: the chunks that a tensor was saved in, and what they cover.

Pure. Standard library only.
"""
import math
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from ..wording import counted

Lengths = Tuple[int, ...]

#: So many pairs of chunks of one folder are compared. Ranks cut tensors along
#: one dimension, or two; a hostile file could have billions of pairs.
PAIRS_LIMIT = 20 << 20


@dataclass(frozen=True)
class Chunk:
    """A part of a tensor.

    Args:
        offsets (tuple[int]): Where it begins, by dimension.
        sizes (tuple[int]): How long it is.
    """
    offsets: Lengths
    sizes: Lengths

    @property
    def numel(self) -> int:
        """Its elements."""
        return math.prod(self.sizes)


class TooManyPairs(Exception):
    """The chunks would take for ever to compare."""


class PairCounter:
    """How many pairs may still be compared."""

    def __init__(self) -> None:
        self._left = PAIRS_LIMIT

    def take(self, count: int) -> None:
        """Count pairs that are about to be compared.

        Raises:
            TooManyPairs: If there have been too many.
        """
        self._left -= count
        if self._left < 0:
            raise TooManyPairs


def cover_defect(size: Lengths, chunks: Sequence[Chunk],
                 pairs: PairCounter) -> str:
    """Say why chunks do not make up a tensor; empty if they do.

    Args:
        size (tuple[int]): Of the tensor.
        chunks (Sequence[Chunk]): Each once.
        pairs (PairCounter): Of the folder.
    """
    for chunk in chunks:
        if len(chunk.offsets) != len(size) or len(chunk.sizes) != len(size):
            return 'a chunk has not the ' \
                f'{counted(len(size), "dimensions")} of it'
        if any(start + length > whole for start, length, whole in zip(
                chunk.offsets, chunk.sizes, size)):
            return f'the chunk of size {chunk.sizes} at {chunk.offsets} ' \
                f'reaches beyond its size {size}'
    filled = [chunk for chunk in chunks if chunk.numel]
    found, whole = sum(chunk.numel for chunk in filled), math.prod(size)
    # with no pair that overlaps, equal counts mean that all is covered
    pair = _overlapping(filled, pairs)
    if pair is not None:
        return f'the chunks at {pair[0].offsets} and {pair[1].offsets} overlap'
    if found != whole:
        return f'its chunks hold {found} of {counted(whole, "elements")}'
    return ''


def _overlapping(chunks: Sequence[Chunk],
                 pairs: PairCounter) -> Optional[Tuple[Chunk, Chunk]]:
    """Return two that overlap, or None."""
    if len(chunks) < 2:
        return None
    # the dimension along which most of them begin apart
    dimension = max(
        range(len(chunks[0].sizes)),
        key=lambda one: len({chunk.offsets[one]
                             for chunk in chunks}),
        default=-1)
    if dimension < 0:
        return chunks[0], chunks[1]  # of a scalar
    active: List[Chunk] = []
    for chunk in sorted(chunks, key=lambda one: one.offsets[dimension]):
        start = chunk.offsets[dimension]
        pairs.take(len(active) + 1)
        active = [
            one for one in active
            if one.offsets[dimension] + one.sizes[dimension] > start
        ]
        for other in active:
            if overlap(chunk, other) is not None:
                return other, chunk
        active.append(chunk)
    return None


def overlap(one: Chunk, other: Chunk) -> Optional[Chunk]:
    """Return what is in both, or None if nothing is."""
    starts = tuple(map(max, one.offsets, other.offsets))
    stops = (min(a + b, c + d) for a, b, c, d in zip(
        one.offsets, one.sizes, other.offsets, other.sizes))
    sizes = tuple(stop - start for start, stop in zip(starts, stops))
    if any(length <= 0 for length in sizes):
        return None
    return Chunk(starts, sizes)


def inside(part: Chunk, whole: Chunk) -> Tuple[slice, ...]:
    """Return where a part lies in what it is a part of."""
    return tuple(
        slice(start - base, start - base + length) for start, length, base in
        zip(part.offsets, part.sizes, whole.offsets))
