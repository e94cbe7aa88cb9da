"""A remote object as a seekable file, read in ranges and ahead."""
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Deque, List, NamedTuple, Optional

from .seekable import SeekableReader

#: What one look elsewhere reads at least (bytes).
SMALL_BYTES = 64 << 10
#: What is read ahead: ranges of so many bytes, so many at a time.
RANGE_BYTES = 8 << 20
RANGES_AHEAD = 4
#: Who goes on so close after what was read last reads in order (bytes):
#: between the records of a checkpoint is padding.
_GAP_BYTES = 4 << 10
#: Small ranges that are kept: the beginning, the end and two more.
_KEPT_RANGES = 4

#: ``fetch(start, stop)`` returns all of these bytes.
Fetch = Callable[[int, int], Any]


class _Range(NamedTuple):
    start: int
    data: memoryview

    @property
    def stop(self) -> int:
        return self.start + len(self.data)


class _Coming(NamedTuple):
    start: int
    stop: int
    data: 'Future[Any]'


class RangedFile(SeekableReader):
    """Reads what is asked for where reads jump, and ahead where they follow.

    At most :data:`RANGES_AHEAD` ranges and one more are in memory.

    Args:
        fetch (callable): Called on several threads.
        size (int): Of the object, in bytes.
        head (bytes): Its beginning.

    Thread: one at a time.
    """

    def __init__(self, fetch: Fetch, size: int, head: Any = b'') -> None:
        super().__init__(size)
        self._fetch = fetch
        self._kept: List[_Range] = [_Range(0, memoryview(head).cast('B'))]
        self._current: Optional[_Range] = None
        self._ahead: Deque[_Coming] = deque()
        # where what was looked at last ends
        self._followed = 0
        self._pool: Optional[ThreadPoolExecutor] = None

    def readinto(self, buffer: Any) -> int:
        """Fill all of the buffer, up to the end of the object."""
        if self.closed:
            raise ValueError('I/O operation on closed file')
        target = memoryview(buffer).cast('B')
        done = 0
        while done < len(target) and self._at < self._size:
            found = self._range_at(self._at, len(target) - done)
            start = self._at - found.start
            part = found.data[start:start + len(target) - done]
            target[done:done + len(part)] = part
            done += len(part)
            self._at += len(part)
            self._followed = found.stop
        return done

    def close(self) -> None:
        if not self.closed:
            self._stop()
            self._kept.clear()
            self._current = None
            if self._pool is not None:
                self._pool.shutdown(wait=True)
        super().close()

    def _range_at(self, start: int, wanted: int) -> _Range:
        """Return bytes that hold a place; read from the store if need be."""
        for one in self._kept + ([self._current] if self._current else []):
            if one.start <= start < one.stop:
                return one
        while self._ahead and self._ahead[0].stop <= start:
            self._ahead.popleft().data.cancel()
        if not self._ahead or start < self._ahead[0].start:
            self._stop()
            if not 0 <= start - self._followed <= _GAP_BYTES:
                return self._looked_up(start, wanted)
            self._read_ahead(start)
        coming = self._ahead.popleft()
        # the next one is on its way while this one is looked at
        self._read_ahead(self._ahead[-1].stop if self._ahead else coming.stop)
        self._current = _Range(coming.start,
                               memoryview(coming.data.result()).cast('B'))
        return self._current

    def _looked_up(self, start: int, wanted: int) -> _Range:
        stop = min(self._size, start + max(wanted, SMALL_BYTES))
        if self._size - start <= SMALL_BYTES:
            # the zip directory is read from its end
            start = max(0, self._size - SMALL_BYTES)
        found = _Range(start, memoryview(self._fetch(start, stop)).cast('B'))
        if len(found.data) <= SMALL_BYTES * 2:
            # the first is the object's beginning
            self._kept[1:] = (self._kept[1:] + [found])[-_KEPT_RANGES + 1:]
        else:
            self._current = found
        return found

    def _read_ahead(self, start: int) -> None:
        while len(self._ahead) < RANGES_AHEAD and start < self._size:
            stop = min(self._size, start + RANGE_BYTES)
            self._ahead.append(_Coming(start, stop, self._begun(start, stop)))
            start = stop

    def _begun(self, start: int, stop: int) -> 'Future[Any]':
        if self._pool is None:
            self._pool = ThreadPoolExecutor(RANGES_AHEAD, 'mmcv-ckpt-ranges')
        try:
            return self._pool.submit(self._fetch, start, stop)
        except RuntimeError:
            # the interpreter is ending
            now: 'Future[Any]' = Future()
            now.set_result(self._fetch(start, stop))
            return now

    def _stop(self) -> None:
        for coming in self._ahead:
            coming.data.cancel()
        self._ahead.clear()
