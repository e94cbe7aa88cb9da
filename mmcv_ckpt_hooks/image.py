"""Memory that is laid out like a checkpoint file, and reused by every save.

A copy that lies where the file will have it can be written to the disk as it
is, in large aligned blocks.
"""
import ctypes
import mmap
import os
from contextlib import suppress
from typing import List
from weakref import WeakSet

import numpy as np
import torch

from .compat import tensor_over

#: The unit in which memory is touched; each lets the interpreter lock go.
_PIECE_BYTES = 16 << 20

#: The memory of all images.
_memories: 'WeakSet[mmap.mmap]' = WeakSet()
#: In a forked child: what it may not give back.
_not_inherited: List[mmap.mmap] = []


def _keep_all() -> None:
    """Let a forked child never unmap what it did not inherit.

    It has other things at those addresses soon, which would go instead.
    """
    _not_inherited.extend(_memories)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_keep_all)


class FileImage:
    """Private memory of whole pages; a forked child does not inherit it.

    Without that, the next save after each fork of data loader workers would
    copy every page of it, and the workers would keep the old ones. And what
    goes to the disk with O_DIRECT while a process forks may be damaged unless
    the child has no part in the memory, or shares it (open(2), NOTES).

    Args:
        nbytes (int): Its size; at least one byte.
    """

    def __init__(self, nbytes: int) -> None:
        if hasattr(mmap, 'MAP_PRIVATE'):
            self._memory = mmap.mmap(
                -1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:  # Windows, which never forks
            self._memory = mmap.mmap(-1, nbytes)
        if hasattr(mmap, 'MADV_DONTFORK'):  # Linux
            self._memory.madvise(mmap.MADV_DONTFORK)
            _memories.add(self._memory)
        if hasattr(mmap, 'MADV_HUGEPAGE'):  # Linux
            # O_DIRECT hands the disk page after page; a kernel may have none
            with suppress(OSError):
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self.view = memoryview(self._memory)
        #: where it begins
        self.address: int = np.frombuffer(self._memory, np.uint8).ctypes.data
        self._is_pinned = self._is_refused = False

    def __len__(self) -> int:
        return len(self.view)

    def tensor(self, dtype: torch.dtype, numel: int,
               offset: int) -> torch.Tensor:
        """View a part as a one-dimensional tensor.

        Args:
            dtype (torch.dtype): Any.
            numel (int): Its elements.
            offset (int): Where it begins (bytes), a multiple of 64.
        """
        return tensor_over(self._memory, dtype, numel, offset)

    def touch(self) -> None:
        """Have the kernel map all pages, which takes a while.

        Thread: any, before the memory is used.
        """
        for start in range(0, len(self), _PIECE_BYTES):
            # unlike a slice assignment, it lets the interpreter lock go
            ctypes.memset(self.address + start, 0,
                          min(_PIECE_BYTES,
                              len(self) - start))

    def pin(self) -> None:
        """Let a GPU copy into it while the processor does other things.

        What the system refuses stays unpinned, and is not asked for again:
        copies then take longer.
        """
        # torch.empty(pin_memory=True) takes up to twice the memory: torch
        # rounds up to a power of two
        if self._is_pinned or self._is_refused:
            return
        status = torch.cuda.cudart().cudaHostRegister(self.address, len(self),
                                                      0)
        self._is_pinned = int(status) == 0
        if not self._is_pinned:
            self._is_refused = True
            _forget_cuda_error()

    def unpin(self) -> None:
        """Undo :meth:`pin`: before the memory goes."""
        if self._is_pinned:
            torch.cuda.cudart().cudaHostUnregister(self.address)
            self._is_pinned = False


def _forget_cuda_error() -> None:
    """Have the CUDA runtime forget the last error of this thread.

    Else torch takes it for that of the next kernel, in the middle of training.
    Its binding has no ``cudaGetLastError``; a kernel of our own reads it.
    """
    with suppress(RuntimeError):
        torch.ones(1, device='cuda')
