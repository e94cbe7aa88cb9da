"""A file that fsspec has open, as the backend hands it out."""
from typing import Any, Callable

from .seekable import SeekableReader

#: Largest piece that is handed on at a time (bytes).
_BLOCK_BYTES = 8 << 20


class Stream:
    """What ``put`` hands out: large writes go on in blocks.

    Its own errors are mapped, to be told from those of the writer.
    """

    def __init__(self, file: Any, errors: Callable[[], Any]) -> None:
        self._file = file
        self._errors = errors
        self.size_bytes = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast('B')
        with self._errors():
            for start in range(0, len(view), _BLOCK_BYTES):
                self._file.write(view[start:start + _BLOCK_BYTES])
        self.size_bytes += len(view)
        return len(view)

    def flush(self) -> None:
        """Nothing: what is buffered goes on when the file is complete."""


class Reader(SeekableReader):
    """A file with a position of its own, and mapped errors.

    Two readers of a file in memory would share one.
    """

    def __init__(self, file: Any, size: int, errors: Callable[[],
                                                              Any]) -> None:
        super().__init__(size)
        self._file = file
        self._errors = errors

    def readinto(self, buffer: Any) -> int:
        """Fill all of the buffer, up to the end of the file."""
        target = memoryview(buffer).cast('B')
        done = 0
        with self._errors():
            self._file.seek(self._at)
            while done < len(target):
                block = self._file.read(len(target) - done)
                if not block:
                    break
                target[done:done + len(block)] = block
                done += len(block)
        self._at += done
        return done

    def close(self) -> None:
        if not self.closed:
            with self._errors():
                self._file.close()
        super().close()
