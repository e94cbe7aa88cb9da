"""A stream that goes to an object store in parts, while it is written."""
import threading
from collections import deque
from typing import Any, Callable, Deque, Iterator, List, Optional, Union

from ..executor import Follower

#: One part of an upload (bytes). S3 takes 10,000 of them: 156 GiB.
PART_BYTES = 16 << 20
#: So many parts are under way at a time.
PARALLEL_PARTS = 4
#: Copied bytes are handed on in blocks of so many.
_BLOCK_BYTES = 8 << 20
#: So many wait for the client.
_WAITING_BLOCKS = 2

Block = Union[bytes, bytearray, memoryview]


class Abandoned(Exception):
    """The writer has failed: the upload is to be aborted."""


class UploadStream:
    """What ``put`` hands out: sends large objects in parts, small ones whole.

    Copied bytes take at most the blocks that wait and the parts under way;
    lent ones nothing.

    Args:
        send_whole (callable): Called with all blocks of a small object.
        send_parts (callable): Called with an iterator over the blocks of a
            large one, on another thread; it aborts the upload and raises if
            the iterator does.

    Order: ``write`` and ``lend``, then ``finish`` or ``abandon``.

    Thread: one.
    """

    def __init__(self, send_whole: Callable[[List[Block]], Any],
                 send_parts: Callable[[Iterator[Block]], Any]) -> None:
        self._send_whole = send_whole
        self._send_parts = send_parts
        self._block = bytearray()
        # of what may still be sent whole
        self._first: List[Block] = []
        self._first_bytes = 0
        self._parts: Optional[_Parts] = None
        self.size_bytes = 0

    @property
    def failure(self) -> Optional[Exception]:
        """What ended an upload in parts, as the client raised it."""
        return None if self._parts is None else self._parts.error

    def write(self, data: Any) -> int:
        """Take a copy of all bytes of a buffer and return their number."""
        view = memoryview(data).cast('B')
        taken = 0
        while taken < len(view):
            part = view[taken:taken + _BLOCK_BYTES - len(self._block)]
            self._block += part
            taken += len(part)
            if len(self._block) == _BLOCK_BYTES:
                self._send_block()
        self.size_bytes += taken
        return taken

    def lend(self, data: memoryview) -> int:
        """Take bytes that stay as they are until ``put`` returns."""
        self._send_block()
        self._give(data)
        self.size_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing: what is buffered goes on when the object is complete."""

    def finish(self) -> None:
        """Send what is left, and wait until the object is committed."""
        self._send_block()
        if self._parts is None:
            self._send_whole(self._first)
        else:
            self._parts.finish()

    def abandon(self) -> None:
        """Have an upload aborted; nothing is committed."""
        if self._parts is not None:
            self._parts.abandon()

    def _send_block(self) -> None:
        if self._block:
            block, self._block = self._block, bytearray()
            self._give(block)

    def _give(self, block: Block) -> None:
        if self._parts is None:
            self._first.append(block)
            self._first_bytes += len(block)
            if self._first_bytes <= PART_BYTES:
                return
            self._parts = _Parts(self._send_parts)
            first, self._first = self._first, []
            for one in first:
                self._parts.give(one)
        else:
            self._parts.give(block)


class MappedStream(UploadStream):
    """Its own errors are mapped, to be told from those of the writer.

    Args:
        errors (callable): Returns the context in which they are.
        send (callable): Those of :class:`UploadStream`.
    """

    def __init__(self, errors: Callable[[], Any], *send: Any) -> None:
        super().__init__(*send)
        self._errors = errors

    def write(self, data: Any) -> int:
        with self._errors():
            return super().write(data)

    def lend(self, data: memoryview) -> int:
        with self._errors():
            return super().lend(data)

    def finish(self) -> None:
        with self._errors():
            super().finish()


class _Parts:
    """Blocks on their way from the writer's thread to the client's.

    Where no thread can be started (the interpreter is ending) they wait until
    all are there.
    """

    def __init__(self, send: Callable[[Iterator[Block]], Any]) -> None:
        self._send = send
        self._changed = threading.Condition()
        self._blocks: Deque[Block] = deque()
        self._is_complete = self._is_abandoned = self._has_ended = False
        self.error: Optional[Exception] = None
        self._follower = Follower(1)
        self._is_beside = self._follower.start()
        if self._is_beside:
            self._follower.submit(self._run)

    def give(self, block: Block) -> None:
        """Hand on a block; waits for room."""
        with self._changed:
            if self._is_beside:
                self._changed.wait_for(lambda: self._has_ended or len(
                    self._blocks) < _WAITING_BLOCKS)
            self._raise()
            self._blocks.append(block)
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait for the upload."""
        with self._changed:
            self._is_complete = True
            self._changed.notify_all()
        self._end()
        self._raise()

    def abandon(self) -> None:
        """Have the upload aborted, and wait for that."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()
        if self._is_beside:
            self._end()

    def _end(self) -> None:
        if not self._is_beside:
            self._run()
            return
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended)
        self._follower.close()

    def _run(self) -> None:
        error: Optional[Exception] = None
        try:
            self._send(self._taken())
        except Exception as raised:  # handed to the thread that writes
            error = raised
        with self._changed:
            self.error, self._has_ended = error, True
            self._blocks.clear()
            self._changed.notify_all()

    def _taken(self) -> Iterator[Block]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._blocks or self.
                                       _is_complete or self._is_abandoned)
                if self._is_abandoned:
                    raise Abandoned('the writer has failed')
                if not self._blocks:
                    return
                block = self._blocks.popleft()
                self._changed.notify_all()
            yield block

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error
