"""The position in a file that is read from elsewhere."""
import io


class SeekableReader(io.RawIOBase):
    """A read-only file of a known size; ``readinto`` is the subclass's.

    Args:
        size (int): In bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if self.closed:
            raise ValueError('I/O operation on closed file')
        base = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._at,
            io.SEEK_END: self._size
        }[whence]
        if base + offset < 0:
            raise OSError(22, 'negative seek position')
        self._at = base + offset
        return self._at

    def readall(self) -> bytes:
        return self.read(max(0, self._size - self._at)) or b''
