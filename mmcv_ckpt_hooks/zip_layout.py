"""The zip directory of a torch checkpoint, checked down to the last field.

``zipfile`` forgives much: it does not count entries, so that a flipped bit in
the length of a field hides the records that follow, and it passes flags that
make torch read something else. The CRC-32 values, which are in the directory,
do not protect it. Standard library only.
"""
import struct
import zipfile
from typing import IO, List, Tuple

from .errors import CorruptError

#: Magic, number of this disk and of the directory's, entries on this disk and
#: in all, size and offset of the directory, length of the comment.
_END = struct.Struct('<4s4H2LH')
_END_MAGIC = b'PK\x05\x06'
#: For large files, before the above: magic, size of the record, versions,
#: disks, entries, size and offset; then magic, disk, offset of that, disks.
_END64 = struct.Struct('<4sQ2H2L4Q')
_LOCATOR = struct.Struct('<4sLQL')
_LOCATOR_MAGIC = b'PK\x06\x07'
#: Magic, other fields, lengths of name, extra fields and comment, others.
_ENTRY = struct.Struct('<4s24s3H12s')
_ENTRY_MAGIC = b'PK\x01\x02'

#: Sizes follow the data; names are UTF-8. Other flags mean encryption and
#: patches.
_FLAGS = 0x0808
_IS_FOLDER = 0x10


def has_end(file: IO[bytes], size: int) -> bool:
    """Whether a file ends as a complete zip file without a comment does."""
    file.seek(max(0, size - _END.size))
    return file.read(4) == _END_MAGIC


def check_layout(archive: zipfile.ZipFile, file: IO[bytes], size: int,
                 path: str) -> None:
    """Check that torch would find the same records, and nothing but them.

    Args:
        archive (ZipFile): Opened on ``file``.
        file (file): Binary and seekable.
        size (int): Of the file in bytes.
        path (str): Its name, for the messages.

    Raises:
        CorruptError: If not.
    """
    defect = _directory_defect(file, size, len(archive.infolist())) or \
        _records_defect(archive.infolist(), size)
    if defect:
        raise CorruptError(f'{path}: {defect}. Resume from an older '
                           'checkpoint')


def _directory_defect(file: IO[bytes], size: int, count: int) -> str:
    """Say what is wrong with the end records and the entries' lengths."""
    file.seek(size - min(size, _END.size + _LOCATOR.size + _END64.size))
    tail = file.read()
    if len(tail) < _END.size:
        return 'it has no zip directory'
    magic, *disks, here, total, length, start, comment = _END.unpack(
        tail[-_END.size:])
    found: Tuple[int, ...] = (*disks, here, total, comment)
    if magic != _END_MAGIC or \
            found != (0, 0, min(count, 0xffff), min(count, 0xffff), 0):
        return (f'its zip directory has {count} entries, which its end record '
                'does not fit')
    end, told = size - _END.size, (length, start)
    if tail[-_END.size - _LOCATOR.size:][:4] == _LOCATOR_MAGIC:
        end -= _LOCATOR.size + _END64.size
        _, own, _, _, *fields, length, start = _END64.unpack(
            tail[:_END64.size])
        _, disk, offset, _ = _LOCATOR.unpack(tail[_END64.size:-_END.size])
        # the first 12 bytes of the record do not count
        fields += [own + 12, disk, offset]
        if fields != [0, 0, count, count, _END64.size, 0, end]:
            return (f'its zip directory has {count} entries, which its zip64 '
                    'end record does not fit')
    small = (min(length, 0xffffffff), min(start, 0xffffffff))
    if start + length != end or told != small:
        return 'its zip directory is not where its end record says'
    file.seek(start)
    return _entries_defect(file.read(length), count)


def _entries_defect(directory: bytes, count: int) -> str:
    place = 0
    for _ in range(count):
        if place + _ENTRY.size > len(directory):
            return 'its zip directory is too short'
        magic, _, name, extra, comment, _ = _ENTRY.unpack_from(
            directory, place)
        if magic != _ENTRY_MAGIC:
            return 'its zip directory has a damaged entry'
        place += _ENTRY.size + name + extra + comment
    if place != len(directory):
        return 'an entry of its zip directory has a wrong length'
    return ''


def _records_defect(records: List[zipfile.ZipInfo], size: int) -> str:
    """Say what is wrong with the records that the directory lists."""
    names = [record.filename for record in records]
    folder = names[0].split('/')[0] if names else ''
    if f'{folder}/data.pkl' not in names:
        return ("it is a zip file, but no torch checkpoint: it has no record "
                f"'data.pkl' (records: {names[:5]})")
    if len(set(names)) != len(names):
        return 'two records have the same name'
    if sum(record.file_size for record in records) > size:
        # a small file that takes for ever to read
        return f'its records overlap, or claim more than its {size} bytes'
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
        if record.flag_bits & ~_FLAGS or record.volume or \
                record.external_attr & _IS_FOLDER:
            return f'record {record.filename} has flags that torch never sets'
    return ''
