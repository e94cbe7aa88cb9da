"""Large pages of memory, where the system has them."""
import ctypes
import mmap
import sys

#: Below it there is no huge page to be had (x86-64 and most of ARM).
_HUGE_BYTES = 2 << 20
_MADV_HUGEPAGE = 14


def prefer_huge_pages(address: int, nbytes: int) -> None:
    """Have memory that is not touched yet come in huge pages, if it can.

    The first touch of a page costs more than filling it; there are 512 times
    fewer of them. Nothing happens where the system has none.

    Args:
        address (int): Where it begins.
        nbytes (int): Its size. Pages that it shares with its neighbours are
            left as they are.

    Source: madvise(2), MADV_HUGEPAGE.
    """
    if sys.platform != 'linux' or nbytes < _HUGE_BYTES:
        return
    page = mmap.PAGESIZE
    start = -(-address // page) * page
    stop = (address + nbytes) // page * page
    # an error is the answer of a kernel that was built without
    ctypes.CDLL(None).madvise(
        ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _MADV_HUGEPAGE)
