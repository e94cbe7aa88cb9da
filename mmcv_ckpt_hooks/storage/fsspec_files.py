"""A file that fsspec has open, as the backend hands it out."""
import io
from typing import Any, Callable

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


class Reader(io.RawIOBase):
    """A file with a position of its own, and mapped errors.

    Two readers of a file in memory would share one.
    """

    def __init__(self, file: Any, size: int, errors: Callable[[],
                                                              Any]) -> None:
        super().__init__()
        self._file = file
        self._size = size
        self._errors = errors
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._at,
            io.SEEK_END: self._size
        }[whence]
        if base + offset < 0:
            raise OSError(22, 'negative seek position')
        self._at = base + offset
        return self._at

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

    def readall(self) -> bytes:
        return self.read(max(0, self._size - self._at)) or b''

    def close(self) -> None:
        if not self.closed:
            with self._errors():
                self._file.close()
        super().close()
