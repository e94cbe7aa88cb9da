"""A part of a file, read as a file of its own."""
from typing import IO, Any

from .seekable import SeekableReader


class Window(SeekableReader):
    """A read-only view of a part of an open file.

    Args:
        file (file): Binary and seekable; it stays open. Other windows may
            move its position in between.
        start (int): First byte of the part.
        size (int): Its bytes.
    """

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        super().__init__(size)
        self._file: Any = file
        self._start = start

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast('B')
        left = max(0, self._size - self._at)
        self._file.seek(self._start + self._at)
        done = int(self._file.readinto(view[:left]) or 0)
        self._at += done
        return done
