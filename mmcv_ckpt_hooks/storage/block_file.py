"""A file that is written in large aligned blocks, while its writer goes on."""
import errno
import mmap
import os
from typing import IO, List, Optional, Union

from ..executor import Follower

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: One write to the disk (bytes): so large that their number costs nothing
#: (`make bench` tries 1 to 32 MiB), so small that three fit in any memory.
BLOCK_BYTES = 8 << 20
#: What O_DIRECT wants memory, offset and length to be multiples of: no disk
#: that Linux knows wants more, and a page is no less.
_ALIGNMENT = 4096
#: Blocks for bytes that cannot be written from where they lie.
_BLOCKS = 3
#: How a file system refuses O_DIRECT, at the flag or at a write.
_REFUSALS = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)

Buffer = Union[bytes, bytearray, memoryview]


class BlockFile:
    """Collects what is written to blocks, and writes them on another thread.

    Whole blocks go past the page cache (``O_DIRECT``) where the file system
    allows it: no copy is made then, and the cache is left to the training
    data. The rest goes through the cache, as everything
    does where it is not allowed.

    Args:
        file (FileIO): New, empty and unbuffered; it is not closed.
        direct (bool): Whether to go past the page cache.

    Raises:
        OSError: Each method may raise that of an earlier block.

    Thread: one.
    """

    def __init__(self, file: IO[bytes], direct: bool) -> None:
        self._file = file
        self._may_be_direct = direct
        self._is_direct = False
        self._follower = Follower(_BLOCKS - 1)
        self._free: List[mmap.mmap] = []
        self._made = 0
        self._block: Optional[mmap.mmap] = None
        self._filled = 0

    def write(self, data: Buffer) -> int:
        """Take a copy of all bytes and return their number."""
        view = memoryview(data)
        taken = 0
        while taken < len(view):
            block = self._block_to_fill()
            part = view[taken:taken + BLOCK_BYTES - self._filled]
            block[self._filled:self._filled + len(part)] = part
            taken += len(part)
            self._filled += len(part)
            if self._filled == BLOCK_BYTES:
                self._send_block()
        return taken

    def lend(self, data: memoryview) -> int:
        """Take bytes that stay as they are until :meth:`finish`, uncopied."""
        if self._filled or len(data) % _ALIGNMENT or \
                len(data) > BLOCK_BYTES:
            return self.write(data)
        self._follower.submit(lambda: self._put(data))
        return len(data)

    def finish(self) -> None:
        """Wait until everything is handed to the file system, unsynced."""
        if self._filled:
            self._send_block()
        self._follower.finish()

    def close(self) -> None:
        """End the thread; what is not written yet is left out."""
        self._follower.close()

    def _block_to_fill(self) -> mmap.mmap:
        if self._block is None:
            while self._made >= _BLOCKS and not self._free:
                self._follower.wait_for_one()
            if self._free:
                self._block = self._free.pop()
            else:
                self._made += 1
                self._block = _new_block()
        return self._block

    def _send_block(self) -> None:
        block, size = self._block, self._filled
        assert block is not None
        self._block, self._filled = None, 0

        def send() -> None:
            with memoryview(block) as view:
                self._put(view[:size])
            self._free.append(block)

        self._follower.submit(send)

    def _put(self, data: memoryview) -> None:
        """Write all of a block; on the follower's thread."""
        self._set_mode(len(data) % _ALIGNMENT == 0)
        done = 0
        while done < len(data):
            written = self._write(data[done:])
            if self._is_direct:
                # what stands beyond an aligned place is written again
                odd = written % _ALIGNMENT
                self._file.seek(-odd, os.SEEK_CUR)
                written -= odd
            if not written:
                # neither an error nor a byte: the disk or a limit is full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            done += written

    def _set_mode(self, aligned: bool) -> None:
        """Go past the cache, or through it: the end of the file does."""
        direct = self._may_be_direct and aligned
        if direct != self._is_direct:
            self._is_direct = _set_direct(self._file.fileno(), direct)
            # a file system that does not allow it is not asked again
            self._may_be_direct = self._is_direct

    def _write(self, data: memoryview) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            # file systems that take the flag, but not the writes (some FUSE),
            # or want a larger alignment
            if error.errno not in _REFUSALS or not self._is_direct:
                raise
        self._set_mode(False)
        return self._file.write(data)


def _new_block() -> mmap.mmap:
    """Return whole pages, which begin where O_DIRECT wants it.

    Shared with forked children: from private memory that is forked while it
    goes to the disk with O_DIRECT, wrong bytes may come (open(2), NOTES).
    """
    if hasattr(mmap, 'MAP_SHARED'):
        return mmap.mmap(
            -1, BLOCK_BYTES, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, BLOCK_BYTES)  # Windows, which never forks


def _set_direct(descriptor: int, on: bool) -> bool:
    """Set or clear O_DIRECT; return whether it is set.

    Not at ``open``: a file system that refuses may have made the file.
    """
    flag = getattr(os, 'O_DIRECT', 0)
    if fcntl is None or not flag:
        return False
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL,
                    flags | flag if on else flags & ~flag)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        return False
    return on
