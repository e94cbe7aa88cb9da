"""Checkpoint files mapped into memory, and tensors that leave them.

The weights of a mapped file are copied once, to where they are needed. But a
run must not go on with the file: it would keep the disk space of a deleted
checkpoint, and whoever truncates it would kill the run with SIGBUS. So what a
run keeps is detached.
"""
import mmap
import weakref
from collections import deque
from contextlib import suppress
from typing import Any, Dict, Iterator, MutableSet, Optional, Tuple

import numpy as np
import torch

from .compat import resolved, storage_pointer, tensor_over

_CONTAINERS = (dict, list, tuple, set, frozenset)


class MappedFile(mmap.mmap):
    """A file in which tensors lie; it lives as long as any of them.

    What is written to them does not reach the file.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._address: int = np.frombuffer(self, np.uint8).ctypes.data
        # storages that were taken: type and elements by first byte
        self._taken: Dict[int, Tuple[torch.dtype, int]] = {}
        _live.add(self)

    def storage(self, start: int, dtype: torch.dtype,
                numel: int) -> Optional[torch.Tensor]:
        """Return a part of the file as a flat tensor.

        Args:
            start (int): Its first byte.
            dtype (dtype): Its type.
            numel (int): Its elements, at least one; inside the file.

        Returns:
            Tensor | None: None if there is no such type at that address.
        """
        size = torch.empty(0, dtype=dtype).element_size()
        if start % size:
            return None
        self._taken[start] = dtype, numel
        return tensor_over(self, dtype, numel, start)

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor lies in the file."""
        return 0 <= self._start(tensor) < len(self)

    def copied(self, tensor: torch.Tensor,
               copies: Dict[int, torch.Tensor]) -> torch.Tensor:
        """Return a copy of a tensor that lies in the file.

        Args:
            tensor (Tensor): One that the file holds.
            copies (dict): Of storages, by first byte; what is missing is
                added. Tensors that shared a storage share its copy.
        """
        plain = resolved(tensor)
        if not self.holds(plain):
            return plain
        start = self._start(tensor)
        if start not in copies:
            flat = self.storage(start, *self._taken[start])
            assert flat is not None  # it was there before
            copies[start] = flat.clone()
            self.release(tensor)
        return viewed(copies[start], tensor)

    def release(self, tensor: torch.Tensor) -> None:
        """Give back the memory of a tensor's storage; it can be read again."""
        if not hasattr(mmap, 'MADV_DONTNEED'):  # not on Windows
            return
        start = self._start(tensor)
        dtype, numel = self._taken[start]
        stop = start + numel * torch.empty(0, dtype=dtype).element_size()
        # only whole pages: the others hold parts of other storages
        start += -start % mmap.PAGESIZE
        stop -= stop % mmap.PAGESIZE
        if start < stop:
            self.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def _start(self, tensor: torch.Tensor) -> int:
        return storage_pointer(tensor) - self._address


_live: MutableSet[MappedFile] = weakref.WeakSet()


def map_file(descriptor: int) -> Optional[MappedFile]:
    """Map an open file; None if that cannot be done."""
    with suppress(OSError, ValueError):
        return MappedFile(descriptor, 0, access=mmap.ACCESS_COPY)
    return None


def detach(value: Any) -> None:
    """Copy what lies in mapped files into memory of its own.

    Tensors are changed in place, one after the other; those that share memory
    still do.

    Args:
        value: A tensor, or any tree of containers.
    """
    copies: Dict[MappedFile, Dict[int, torch.Tensor]] = {}
    for file, tensor in _mapped_tensors(value):
        tensor.data = file.copied(tensor, copies.setdefault(file, {}))


def release(value: Any) -> None:
    """Give back the memory of mapped tensors that were copied elsewhere.

    Those that were written to keep it: only there is what was written.

    Args:
        value: A tensor, or any tree of containers.
    """
    for file, tensor in _mapped_tensors(value):
        if not tensor._version:
            file.release(tensor)


def viewed(flat: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """View a flat tensor as another views its own storage."""
    return torch.as_strided(
        flat.view(like.dtype), like.size(), like.stride(),
        like.storage_offset()).detach()


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in a tree of containers whose memory is on the CPU."""
    left, seen = deque([value]), set()
    while left:
        one = left.popleft()
        if isinstance(one, torch.Tensor):
            if one.device.type == 'cpu' and one.layout == torch.strided:
                yield one
        elif isinstance(one, _CONTAINERS) and id(one) not in seen:
            seen.add(id(one))
            left += one.values() if isinstance(one, dict) else one


def _mapped_tensors(value: Any) -> Iterator[Tuple[MappedFile, torch.Tensor]]:
    files = list(_live)
    for tensor in tensors_in(value) if files else ():
        yield from ((file, tensor) for file in files if file.holds(tensor))
