"""The records of a checkpoint's zip file: where their data lies, its CRC-32.

``zipfile`` only reads the directory: its own reader computes the CRC-32 with
zlib alone, and does not tell where the data of a record begins. Standard
library only.
"""
import errno
import io
import os
import struct
import zipfile
from contextlib import contextmanager
from threading import Event, Lock
from types import MappingProxyType
from typing import (IO, Any, Callable, Dict, Iterator, List, Mapping, Optional,
                    Protocol, cast)

from .checksums import crc32
from .errors import CorruptError
from .executor import run_together
from .paging import make_pages
from .storage.mapped_errors import storage_error
from .wording import counted
from .zip_layout import ADVICE

#: One read (bytes): large enough for the disk, and stays in the cache of a
#: processor until its CRC-32 is computed.
_BLOCK_BYTES = 1 << 20
#: Files from this size on (bytes) are checked by two threads.
_LARGE_BYTES = 64 << 20
#: Magic, other fields, lengths of name and extra fields.
_HEADER = struct.Struct('<4s22s2H')
_HEADER_MAGIC = b'PK\x03\x04'
_UTF8_NAME = 0x800

_Read = Callable[..., Any]


class Archive(Protocol):
    """What of a ``ZipFile`` is needed to read one of its records."""

    @property
    def fp(self) -> Optional[IO[bytes]]:
        """The file."""

    @property
    def start_dir(self) -> int:
        """Where its zip directory begins."""

    def namelist(self) -> List[str]:
        """Return the names of all records, in order."""

    def getinfo(self, name: str) -> zipfile.ZipInfo:
        """Return a record; KeyError if there is none of that name."""


def read_record(archive: Archive,
                record: zipfile.ZipInfo,
                path: str,
                buffer: Optional[memoryview] = None,
                target: Optional[memoryview] = None,
                starts: Optional[Dict[str, int]] = None) -> Iterator[Any]:
    """Yield a record's bytes; its CRC-32 is checked at the end.

    Args:
        archive (Archive): Of :func:`verification.open_archive`.
        record (ZipInfo): One of its records.
        path (str): Its name, for the messages.
        buffer (memoryview, optional): Where each block of a local file lies
            until the next one is read. Default: None, which means that the
            blocks have memory of their own.
        target (memoryview, optional): As large as the record: where all of
            it goes. Default: None, which means nowhere.
        starts (dict, optional): Told where the data begins, by the record's
            name. Default: None.

    Raises:
        CorruptError: If the record is damaged or shorter than it claims.
    """
    done = crc = 0
    with reading(path, f'record {record.filename}'):
        read = _reader(archive)
        start = _data_start(read, archive, record, path)
        if starts is not None:
            starts[record.filename] = start
        while done < record.file_size:
            size = min(_BLOCK_BYTES, record.file_size - done)
            if target is not None:
                # while it is in the cache of a processor
                buffer = target[done:done + size]
                make_pages(buffer)
            block = read(start + done, size, buffer)
            if not block:
                break
            done += len(block)
            crc = crc32(block, crc)
            yield block
    if done != record.file_size:
        raise CorruptError(
            f'{path}: record {record.filename} has {counted(done, "bytes")}, '
            f'expected {record.file_size}')
    if crc != record.CRC:
        raise CorruptError(
            f'{path}: record {record.filename} is damaged (its CRC-32 is '
            f'{crc:08x}, expected {record.CRC:08x}). {ADVICE}')


def check_data(
    archive: zipfile.ZipFile,
    path: str,
    progress: Optional[Callable[[int], None]] = None,
    targets: Mapping[str, memoryview] = MappingProxyType({})
) -> None:
    """Check the place and the CRC-32 of every record.

    Of a large local file two threads do it.

    Args:
        archive (ZipFile): Of :func:`verification.open_archive`.
        path (str): Its name, for the messages.
        progress (callable, optional): Called with the number of bytes just
            checked, on any thread, but on one at a time. Default: None.
        targets (dict[str, memoryview]): Where the bytes of records go, by
            their names. Default: none.

    Raises:
        CorruptError: If a record is damaged.
    """
    records = archive.infolist()
    left, lock, stop = iter(records), Lock(), Event()
    starts: Dict[str, int] = {}

    def check_all() -> None:
        buffer = memoryview(bytearray(_BLOCK_BYTES))
        for record in left:
            target = targets.get(record.filename)
            for block in read_record(archive, record, path, buffer, target,
                                     starts):
                if stop.is_set():
                    return
                if progress is not None:
                    with lock:
                        progress(len(block))

    size = sum(record.file_size for record in records)
    if size < _LARGE_BYTES or descriptor(archive.fp) is None:
        check_all()
    else:
        # reading and CRC-32 release the interpreter lock
        run_together(check_all, 2, stop.set)
    # last: going from header to header, over a file that is not in memory,
    # costs the read-ahead of the disk, and a request each where it is remote
    _check_places(archive, path, starts)


def data_starts(archive: zipfile.ZipFile, path: str) -> Dict[str, int]:
    """Return where the data of each record begins, by name.

    Args:
        archive (ZipFile): Of :func:`verification.open_archive`.
        path (str): Its name, for the messages.

    Raises:
        CorruptError: If a record overlaps another, or the directory.
    """
    read, starts = _reader(archive), {}
    for record in _in_order(archive):
        with reading(path, f'record {record.filename}'):
            starts[record.filename] = _data_start(read, archive, record, path)
    _check_places(archive, path, starts)
    return starts


def _check_places(archive: zipfile.ZipFile, path: str,
                  starts: Mapping[str, int]) -> None:
    free = 0
    for record in _in_order(archive):
        start = starts[record.filename]
        if record.header_offset < free or \
                start + record.file_size > archive.start_dir:
            raise CorruptError(
                f'{path}: record {record.filename} overlaps another, or the '
                f'zip directory. {ADVICE}')
        free = start + record.file_size


def _in_order(archive: zipfile.ZipFile) -> List[zipfile.ZipInfo]:
    return sorted(archive.infolist(), key=lambda one: one.header_offset)


def descriptor(file: Optional[IO[Any]]) -> Optional[int]:
    """Return the descriptor of a local file that is open; else None."""
    raw = getattr(file, 'raw', file)
    if not isinstance(raw, io.FileIO) or not hasattr(os, 'preadv'):
        return None
    return raw.fileno()


@contextmanager
def reading(path: str, part: str) -> Iterator[None]:
    """Tell a bad place on the disk from a storage that fails.

    Args:
        path (str): The file; it is open.
        part (str): Of it, for the message.

    Raises:
        CorruptError: For the first.
        StorageError: For the other.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            # a network that fails must not count as damage
            raise storage_error(error, f'cannot read {path}') from error
        raise CorruptError(f'{path}: {part} cannot be read ({error}). '
                           f'{ADVICE}') from error


def _reader(archive: Archive) -> _Read:
    """Return ``read(start, size, buffer)``, for any thread if it is local."""
    file, number = archive.fp, descriptor(archive.fp)
    assert file is not None  # the archive is open
    readinto = cast(io.RawIOBase, file).readinto

    def read(start: int,
             size: int,
             buffer: Optional[memoryview] = None) -> Any:
        file.seek(start)
        if buffer is None:
            return file.read(size)
        # `read` of a raw file would copy it twice more
        return buffer[:readinto(buffer[:size])]

    def read_local(start: int,
                   size: int,
                   buffer: Optional[memoryview] = None) -> Any:
        assert number is not None
        if buffer is None:
            return os.pread(number, size, start)
        # new memory for each block would cost more than its CRC-32
        return buffer[:os.preadv(number, [buffer[:size]], start)]

    return read if number is None else read_local


def _data_start(read: _Read, archive: Archive, record: zipfile.ZipInfo,
                path: str) -> int:
    """Return where a record's data begins, which its local header tells."""
    name = record.orig_filename.encode('utf-8' if record.flag_bits
                                       & _UTF8_NAME else 'cp437')
    header = b''
    # a hostile one is more than what a file can be asked for
    if record.header_offset < archive.start_dir:
        header = read(record.header_offset, _HEADER.size + len(name))
    magic, name_bytes, extra_bytes = b'', 0, 0
    if len(header) == _HEADER.size + len(name):
        magic, _, name_bytes, extra_bytes = _HEADER.unpack_from(header)
    if magic != _HEADER_MAGIC or name_bytes != len(name) or \
            header[_HEADER.size:] != name:
        raise CorruptError(f'{path}: record {record.filename} is damaged (its '
                           f'header is not that of the directory). {ADVICE}')
    return record.header_offset + _HEADER.size + name_bytes + extra_bytes
