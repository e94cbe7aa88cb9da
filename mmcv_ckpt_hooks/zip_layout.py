"""The zip directory of a torch checkpoint, checked down to the last field.

``zipfile`` forgives much: it does not count entries, so that a flipped bit in
the length of a field hides the records that follow, and it passes flags that
make torch read something else. The CRC-32 values, which are in the directory,
do not protect it. Standard library only.
"""
import struct
import zipfile
from typing import IO, List, Tuple

from .errors import CorruptError, TruncatedError
from .wording import counted

#: Magic, number of this disk and of the directory's, entries on this disk and
#: in all, size and offset of the directory, length of the comment.
_END = struct.Struct('<4s4H2LH')
_END_MAGIC = b'PK\x05\x06'
#: For large files, before the above: magic, size of the record, versions,
#: disks, entries, size and offset; then magic, disk, offset of that, disks.
_END64 = struct.Struct('<4sQ2H2L4Q')
_LOCATOR = struct.Struct('<4sLQL')
_END64_MAGIC = b'PK\x06\x06'
_LOCATOR_MAGIC = b'PK\x06\x07'
#: Magic, other fields, lengths of name, extra fields and comment, others.
_ENTRY = struct.Struct('<4s24s3H12s')
ENTRY_MAGIC = b'PK\x01\x02'
#: With which a file begins.
FILE_MAGIC = b'PK\x03\x04'

#: All that follows the directory.
END_BYTES = _END64.size + _LOCATOR.size + _END.size

#: Sizes follow the data; names are UTF-8. Other flags mean encryption and
#: patches.
FLAGS = 0x0808
IS_FOLDER = 0x10
MAX32 = 0xffffffff
#: Largest directory that is read (bytes): 300,000 records. In memory each of
#: them takes ten times as much.
DIRECTORY_LIMIT_BYTES = 32 << 20
ADVICE = 'Use an older checkpoint, or copy this one here again'


def check_directory(file: IO[bytes], size: int, path: str) -> None:
    """Check the end records and the lengths of the directory's entries.

    Args:
        file (file): Binary and seekable.
        size (int): Of the file in bytes.
        path (str): Its name, for the messages.

    Raises:
        TruncatedError: If the file does not end as a zip file does.
        CorruptError: If it does, but something is wrong.
    """
    file.seek(size - min(size, END_BYTES))
    tail = file.read()
    if len(tail) < _END.size or tail[-_END.size:][:4] != _END_MAGIC:
        raise TruncatedError(
            f'{path} ({counted(size, "bytes")}) has no zip directory at its '
            f'end: it was cut off while it was written or copied. {ADVICE}')
    start, length, count = end_fields(tail, size)
    defect = 'its zip directory is not where its end record says'
    if length > DIRECTORY_LIMIT_BYTES:
        defect = f'its zip directory claims {length} bytes, expected at ' \
            f'most {DIRECTORY_LIMIT_BYTES}'
    elif length >= 0:
        file.seek(start)
        defect = _entries_defect(file.read(length), count)
    if defect:
        raise CorruptError(f'{path} is damaged: {defect}. {ADVICE}')


def end_fields(tail: bytes, size: int) -> Tuple[int, int, int]:
    """Return offset, length (-1 if anything is wrong) and entries.

    Args:
        tail (bytes): The last :data:`END_BYTES` of the file.
        size (int): Of the file in bytes.
    """
    ends_with, *disks, here, count, length, start, comment = _END.unpack(
        tail[-_END.size:])
    fields = [ends_with, *disks, here, comment]
    expected = [_END_MAGIC, 0, 0, count, 0]
    end = size - _END.size
    if tail[-_END.size - _LOCATOR.size:][:4] == _LOCATOR_MAGIC and \
            len(tail) == _END64.size + _LOCATOR.size + _END.size:
        small = [min(count, 0xffff), length, start]
        end -= _LOCATOR.size + _END64.size
        magic, own, _, _, *fields64, count, length, start = _END64.unpack(
            tail[:_END64.size])
        _, disk, offset, of = _LOCATOR.unpack(tail[_END64.size:-_END.size])
        fields += [*fields64, own, disk, offset, of, magic, *small]
        expected += [
            0, 0, count, _END64.size - 12, 0, end, 1, _END64_MAGIC,
            min(count, 0xffff),
            min(length, MAX32),
            min(start, MAX32)
        ]
    if fields != expected or start + length != end:
        length = -1
    return start, length, count


def _entries_defect(directory: bytes, count: int) -> str:
    place = 0
    for _ in range(count):
        if place + _ENTRY.size > len(directory):
            return 'its zip directory is too short'
        magic, _, name, extra, comment, _ = _ENTRY.unpack_from(
            directory, place)
        if magic != ENTRY_MAGIC:
            return 'its zip directory has a damaged entry'
        place += _ENTRY.size + name + extra + comment
    if place != len(directory):
        return 'an entry of its zip directory has a wrong length'
    return ''


def check_records(records: List[zipfile.ZipInfo], size: int,
                  path: str) -> None:
    """Check that the records are a torch checkpoint's, and lie in the file.

    Raises:
        CorruptError: If not.
    """
    defect = _records_defect(records, size)
    if defect:
        raise CorruptError(f'{path}: {defect}. {ADVICE}')


def _records_defect(records: List[zipfile.ZipInfo], size: int) -> str:
    names = [record.filename for record in records]
    folder = names[0].split('/')[0] if names else ''
    if f'{folder}/data.pkl' not in names:
        return ("it is no torch checkpoint, it has no record 'data.pkl' "
                f'(records: {names[:5]})')
    if len(set(names)) != len(names):
        return 'two records have the same name'
    if sum(record.file_size for record in records) > size:
        # a small file that takes for ever to read
        return 'its records overlap, or claim more than its ' \
            f'{counted(size, "bytes")}'
    for record in records:
        parts = record.filename.split('/')
        # torch itself writes some beside the folder, for example
        # '.data/serialization_id'
        beside = parts[0] != folder and not parts[0].startswith('.')
        if beside or '..' in parts or '' in parts:
            return f'record name {record.filename!r} leads outside the archive'
        if record.compress_type != zipfile.ZIP_STORED or \
                record.compress_size != record.file_size:
            return (f'record {record.filename} is compressed; torch '
                    'checkpoints are not')
        if record.flag_bits & ~FLAGS or record.volume or \
                record.external_attr & IS_FOLDER:
            return f'record {record.filename} has flags that torch never sets'
    return ''
