"""The zip directory of a checkpoint without anything unusual, read quickly.

``zipfile`` builds an object of every record. A directory of 200 checkpoints
has a quarter of a million: who asks of each for its digest and for one or two
small records takes this. Neighbours have entries of one length, but for a few:
they are taken apart together. Standard library only.
"""
import hashlib
import os
import struct
import zipfile
from contextlib import suppress
from functools import cached_property, lru_cache
from itertools import repeat
from typing import IO, List, NamedTuple, Optional, Tuple

from .errors import CorruptError
from .records import Archive, reading
from .verification import open_archive, zip_digest
from .zip_layout import (DIRECTORY_LIMIT_BYTES, END_BYTES, ENTRY_MAGIC,
                         FILE_MAGIC, FLAGS, IS_FOLDER, MAX32, end_fields)

#: Begin of an entry: magic, version that reads it, flags, method.
_HEAD = struct.Struct('<4s2xBx2H')
#: Lengths of name, extra fields and comment, disk, attributes.
_MIDDLE = struct.Struct('<4H2xL')
#: The begin, time and date, CRC-32, size as it is stored, size, the middle,
#: offset; then name and extra fields.
_ENTRY = f'<{_HEAD.size}s4x3L{_MIDDLE.size}sL'
_ENTRY_BYTES, _MIDDLE_AT = struct.calcsize(_ENTRY), 28
#: Where neighbours of another length would differ: in the magic, the lengths.
_TELLING = (0, 1, _MIDDLE_AT, _MIDDLE_AT + 1, _MIDDLE_AT + 2)
#: Extra fields by their length: none; those of a record behind so much that
#: its offset is wide; those of the plugin, with both sizes besides.
_EXTRA = {0: '', 12: 'LQ', 28: 'L3Q'}
#: In the names, which are between zeros: what leads elsewhere, is empty, or is
#: another separator somewhere.
_NEVER = (b'..', b'//', b'\0/', b'/\0', b'\0\0', b'\\')
#: Of the zip files that ``zipfile`` opens (10 times that), at most.
_VERSION = 63
#: How many runs any directory may have, and records for each run of one that
#: has more. torch's files have a run for each length of a number, and a few
#: besides; before ``.format_version`` 1, when torch sorted numbers as text,
#: two for every ten records.
_MOST_RUNS, _RECORDS_OF_A_RUN = 64, 4
#: How far is looked for the end of a run at first, and how much farther then.
_AHEAD, _FARTHER = 16, 8
#: Larger directories are read apart from the end records.
_TAIL_BYTES = 1 << 17


class _Run(NamedTuple):
    """Neighbours in the directory, a tuple of each field."""
    names: Tuple[bytes, ...]
    sizes: Tuple[int, ...]
    checksums: Tuple[int, ...]
    offsets: Tuple[int, ...]


class QuickDirectory:
    """Stands for a ``ZipFile``, for who reads a few of its records.

    Args:
        fp (file): The checkpoint.
        start_dir (int): Where its zip directory begins.
        runs (list[_Run]): All records.
    """

    def __init__(self, fp: IO[bytes], start_dir: int,
                 runs: List[_Run]) -> None:
        self.fp: Optional[IO[bytes]] = fp
        self.start_dir = start_dir
        self._runs = runs

    @property
    def digest(self) -> str:
        """What :func:`verification.zip_digest` returns."""
        content = hashlib.sha256()
        for run in self._runs:
            length = len(run.names[0])
            pack = _layout(f'<I{length}sQI').pack
            content.update(b''.join(
                map(pack, repeat(length), run.names, run.sizes,
                    run.checksums)))
        return f'sha256-zipdir:{content.hexdigest()}'

    def namelist(self) -> List[str]:
        """Return the names of all records, in order."""
        return self._names

    def getinfo(self, name: str) -> zipfile.ZipInfo:
        """Return a record.

        Raises:
            KeyError: If there is none of that name.
        """
        for run in self._runs:
            if name.encode() in run.names:
                at = run.names.index(name.encode())
                record = zipfile.ZipInfo(name)
                record.file_size = record.compress_size = run.sizes[at]
                record.CRC = run.checksums[at]
                record.header_offset = run.offsets[at]
                return record
        raise KeyError(name)

    @cached_property
    def _names(self) -> List[str]:
        return [name.decode() for run in self._runs for name in run.names]


def open_directory(file: IO[bytes], path: str) -> Tuple[Archive, str]:
    """Return what reads records, and the digest.

    Args:
        file (file): Binary and seekable; it stays open.
        path (str): Its name, for the messages.

    Raises:
        IntegrityError: As :func:`verification.open_archive`.
    """
    # what is on a bad place of the disk, and whether it matters, that says
    with suppress(CorruptError), reading(path, 'its zip directory'):
        quick = quick_directory(file)
        if quick is not None:
            return quick, quick.digest
    archive = open_archive(file, path)
    return archive, zip_digest(archive.infolist())


def quick_directory(file: IO[bytes]) -> Optional[QuickDirectory]:
    """Read the zip directory of a checkpoint without anything unusual.

    Args:
        file (file): Binary and seekable; read at its begin and at its end.

    Returns:
        QuickDirectory | None: None says nothing:
        :func:`verification.open_archive` tells whether the file is damaged.
    """
    # INVARIANT: what open_archive refuses is None
    directory, start, count, size = _read(file)
    runs = _runs(directory, max(_MOST_RUNS, count // _RECORDS_OF_A_RUN))
    names = [name for run in runs for name in run.names]
    if not count or len(names) != count or not _are_usual(names) or \
            sum(sum(run.sizes) for run in runs) > size:
        return None
    return QuickDirectory(file, start, runs)


def _read(file: IO[bytes]) -> Tuple[bytes, int, int, int]:
    """Return the directory, its begin, its records, and the file's size.

    Without records, if the file does not begin and end as a checkpoint does.
    """
    file.seek(0)
    head = file.read(len(FILE_MAGIC))
    size = file.seek(0, os.SEEK_END)
    begin = file.seek(size - min(size, _TAIL_BYTES))
    tail = file.read(size - begin)
    if head != FILE_MAGIC or len(tail) < END_BYTES:
        return b'', 0, 0, size
    start, length, count = end_fields(tail[-END_BYTES:], size)
    if not 0 <= length <= DIRECTORY_LIMIT_BYTES:
        return b'', 0, 0, size
    if start >= begin:
        directory = tail[start - begin:start - begin + length]
    else:
        file.seek(start)
        directory = file.read(length)
    return directory, start, count, size


def _runs(directory: bytes, most: int) -> List[_Run]:
    """Take a directory apart; nothing, if anything in it is unusual."""
    runs: List[_Run] = []
    place = 0
    while place < len(directory):
        left = len(directory) - place
        if left < _ENTRY_BYTES or len(runs) == most:
            return []
        name, extra, comment, *_ = _MIDDLE.unpack_from(directory,
                                                       place + _MIDDLE_AT)
        if extra not in _EXTRA or comment:
            return []
        entry = _layout(f'{_ENTRY}{name}s{_EXTRA[extra]}')
        number = _neighbours(directory, place, entry.size)
        stop = place + number * entry.size
        run = _run(entry, directory[place:stop]) if number else None
        if run is None:
            return []
        runs.append(run)
        place = stop
    return runs


def _neighbours(directory: bytes, place: int, size: int) -> int:
    """Return how many entries from a place on are alike, each of that size.

    Not the whole rest is looked at: for many runs that would take the square
    of their number.
    """
    left = (len(directory) - place) // size
    ahead = min(left, _AHEAD)
    while True:
        stop = place + ahead * size
        number = min(
            _alike(directory[place + at:stop:size]) for at in _TELLING)
        if number < ahead or ahead == left:
            return number
        ahead = min(left, ahead * _FARTHER)


def _alike(column: bytes) -> int:
    """Return how many bytes at the begin are the same."""
    return len(column) - len(column.lstrip(column[:1]))


_layout = lru_cache(maxsize=256)(struct.Struct)


def _run(entry: struct.Struct, entries: bytes) -> Optional[_Run]:
    """Return the fields of neighbours; None, if anything is unusual."""
    heads, checksums, stored, sizes, middles, offsets, names, *extras = zip(
        *entry.iter_unpack(entries))
    tags, wide = extras[:1], extras[1:]
    # in the extra field stand none of them, or the last, or all
    narrow = [sizes, stored, offsets]
    here, there = narrow[:3 - len(wide)], narrow[3 - len(wide):]
    sizes, stored, offsets = here + wide
    if not all(map(_is_head, {*heads})) or \
            not all(map(_is_middle, {*middles})) or \
            len({middle[:6] for middle in {*middles}}) > 1 or \
            sizes != stored or any(MAX32 in column for column in here) or \
            any({*column} != {MAX32} for column in there) or \
            any({*column} != {_zip64(len(wide))} for column in tags):
        return None
    return _Run(names, sizes, checksums, offsets)


def _is_head(head: bytes) -> bool:
    magic, version, flags, method = _HEAD.unpack(head)
    return magic == ENTRY_MAGIC and version <= _VERSION and \
        not flags & ~FLAGS and not method


def _is_middle(middle: bytes) -> bool:
    *_, disk, attributes = _MIDDLE.unpack(middle)
    return not disk and not attributes & IS_FOLDER


def _zip64(count: int) -> int:
    """Return how an extra field begins that has so many wide numbers."""
    return 1 | 8 * count << 16


def _are_usual(names: List[bytes]) -> bool:
    """Whether names are those of a checkpoint's records, and plain."""
    joined = b'\0'.join([b'', *names, b''])
    folder = names[0].partition(b'/')[0]
    # torch itself writes some beside the folder, '.data/serialization_id'
    inside = joined.count(b'\0%b/' % folder) + joined.count(b'\0.')
    distinct = {*names}
    return inside == len(distinct) == len(names) == joined.count(b'\0') - 1 \
        and b'%b/data.pkl' % folder in distinct and joined.isascii() \
        and not folder.startswith(b'.') \
        and not any(part in joined for part in _NEVER)
