"""Pages of new memory, many in one call.

A page that is made where somebody first writes to it interrupts the writer,
and a read into new memory once for every 4 KiB.
"""
import ctypes
import mmap
import sys
from functools import lru_cache

#: Of Linux 5.14 on; an older kernel says EINVAL, and nothing has happened.
_MADV_POPULATE_WRITE = 23
#: Below it the call costs what it saves (bytes).
_LEAST_BYTES = 64 << 10


def make_pages(memory: memoryview) -> None:
    """Have the pages of memory that is about to be filled.

    What is in it stays; whatever cannot be made here is made by who writes.

    Args:
        memory (memoryview): Writable, of single bytes.

    Thread: any; the interpreter lock is released.
    """
    if not sys.platform.startswith('linux') or len(memory) < _LEAST_BYTES:
        return
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # whole pages: others may hold something else, too
    start = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    stop = (begin + len(memory)) // mmap.PAGESIZE * mmap.PAGESIZE
    if stop > start:
        _libc().madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(stop - start),
            ctypes.c_int(_MADV_POPULATE_WRITE))


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
