"""A checkpoint's bytes as they go elsewhere, held against its checksums.

Standard library only.
"""
import zipfile
from collections import deque
from typing import IO, Any, Callable, Deque, NamedTuple

from .checksums import crc32
from .errors import CorruptError, TruncatedError
from .records import data_starts, reading
from .verification import open_archive, zip_digest
from .wording import counted
from .zip_layout import ADVICE

#: Read and handed on at a time (bytes).
BLOCK_BYTES = 4 << 20


def copy_checked(file: IO[bytes], path: str, digest: str,
                 write: Callable[[memoryview], Any]) -> None:
    """Hand on all bytes of a checkpoint, in one pass and in blocks.

    The CRC-32 of every record is computed of the bytes that are handed on.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.
        digest (str): What the catalog has for it; empty for nothing.
        write (callable): Called with each block; it does not keep it.

    Raises:
        IntegrityError: If the file is damaged. Something may have been handed
            on: it is not to be committed.
        StorageError: If it cannot be read.
    """
    with open_archive(file, path) as archive:
        found = zip_digest(archive.infolist())
        if digest and digest != found:
            raise CorruptError(
                f'{path} is not the checkpoint that the catalog lists: '
                f'expected digest {digest}, found {found}. {ADVICE}')
        records = _Records(archive, path)
        size = file.seek(0, 2)
    file.seek(0)
    done = 0
    while done < size:
        with reading(path, f'what begins at byte {done}'):
            data = memoryview(file.read(min(BLOCK_BYTES, size - done)))
        if not data:
            raise TruncatedError(
                f'{path} has {counted(done, "bytes")}, expected {size}: '
                f'it was cut off meanwhile. {ADVICE}')
        records.take(data)
        write(data)
        done += len(data)


class _Record(NamedTuple):
    start: int
    stop: int
    crc: int
    name: str


class _Records:
    """The records of a file, whose bytes come in order.

    Args:
        archive (ZipFile): Of :func:`verification.open_archive`.
        path (str): Its name, for the messages.
    """

    def __init__(self, archive: zipfile.ZipFile, path: str) -> None:
        starts = data_starts(archive, path)
        self._path = path
        self._left: Deque[_Record] = deque(
            sorted(
                _Record(starts[one.filename], starts[one.filename] +
                        one.file_size, one.CRC, one.filename)
                for one in archive.infolist()))
        self._at = 0
        self._crc = 0

    def take(self, data: memoryview) -> None:
        """Take the next bytes.

        Raises:
            CorruptError: If a record ends in them and is damaged.
        """
        begin, end = self._at, self._at + len(data)
        self._at = end
        while self._left:
            record = self._left[0]
            first, last = max(record.start, begin), min(record.stop, end)
            if first < last:
                self._crc = crc32(data[first - begin:last - begin], self._crc)
            if record.stop > end:
                return
            if self._crc != record.crc:
                raise CorruptError(
                    f'{self._path}: record {record.name} is damaged (its '
                    f'CRC-32 is {self._crc:08x}, expected {record.crc:08x}). '
                    f'{ADVICE}')
            self._left.popleft()
            self._crc = 0
