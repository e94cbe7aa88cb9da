"""A checkpoint's bytes as they go elsewhere, held against its checksums.

Standard library only.
"""
import zipfile
from collections import deque
from typing import IO, Any, Callable, Deque, Iterable, List, NamedTuple

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
        records = records_of(archive, path)
    copy_records(file, path, records, write)


class Record(NamedTuple):
    """A record of a file, to be held against its CRC-32.

    Args:
        start (int): First byte of its data.
        stop (int): The one after them.
        crc (int): What the zip directory has for it.
        what (str): File and record, for the messages.
    """
    start: int
    stop: int
    crc: int
    what: str


def records_of(archive: zipfile.ZipFile,
               path: str,
               begin: int = 0) -> List[Record]:
    """Return the records of an archive.

    Args:
        archive (ZipFile): Of :func:`verification.open_archive`.
        path (str): Its name, for the messages.
        begin (int): Where in the file it begins. Default: 0.
    """
    starts = data_starts(archive, path)
    return [
        Record(begin + starts[one.filename],
               begin + starts[one.filename] + one.file_size, one.CRC,
               f'{path}: record {one.filename}') for one in archive.infolist()
    ]


def copy_records(file: IO[bytes], path: str, records: Iterable[Record],
                 write: Callable[[memoryview], Any]) -> None:
    """Hand on all bytes of a file, and check those of its records.

    Args:
        file, path, write: As for :func:`copy_checked`.
        records (iterable[Record]): What is in it; none overlaps another.

    Raises:
        IntegrityError: As :func:`copy_checked`.
        StorageError: If it cannot be read.
    """
    check = _Records(records)
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
        check.take(data)
        write(data)
        done += len(data)


class _Records:
    """The records of a file, whose bytes come in order.

    Args:
        records (iterable[Record]): In any order.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._left: Deque[Record] = deque(sorted(records))
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
                    f'{record.what} is damaged (its CRC-32 is '
                    f'{self._crc:08x}, expected {record.crc:08x}). {ADVICE}')
            self._left.popleft()
            self._crc = 0
