"""The headers of a zip file whose records are stored, front to back.

Where every byte goes follows from the names and sizes alone, so that memory
can be laid out like the file before anything is known of the content: the
CRC-32 of a record stands after it and in the directory at the end. Standard
library only.

Source: APPNOTE.TXT 6.3.9, sections 4.3.7 (local header), 4.3.9 (data
descriptor), 4.3.12 to 4.3.16 (directory and its ends), 4.5.3 (zip64).
"""
import struct
import zipfile
from typing import List

#: torch maps records into memory at this alignment (bytes): caffe2/serialize/
#: inline_container.h, kFieldAlignment.
ALIGNMENT = 64
#: Larger records and offsets need the fields of zip64. Readers that take the
#: 32-bit fields for signed numbers exist.
_LIMIT, _COUNT_LIMIT = 0x7fffffff, 0xffff
_MAX16, _MAX32 = 0xffff, 0xffffffff

#: Magic, version, flags, method, time, date, CRC-32, two sizes, lengths of
#: name and extra fields.
_LOCAL = struct.Struct('<4s5H3L2H')
#: Magic, versions made by and needed, the middle as above, lengths of name,
#: extra fields and comment, disk, attributes (two), offset.
_ENTRY = struct.Struct('<4s6H3L5H2L')
_DESCRIPTOR, _DESCRIPTOR64 = struct.Struct('<4s3L'), struct.Struct('<4sL2Q')
_END = struct.Struct('<4s4H2LH')
_END64, _LOCATOR = struct.Struct('<4sQ2H2L4Q'), struct.Struct('<4sLQL')
_EXTRA = struct.Struct('<HH')
_ZIP64_ID, _PADDING_ID = 1, 0x4246

#: The sizes and the CRC-32 follow the data.
_FOLLOWS = 0x08
_VERSION, _VERSION64 = 20, 45
#: 1 January 1980: a checkpoint's bytes depend on its content only.
_DATE = 0x21


class ArchiveLayout:
    """Where each record is; records are added one after the other.

    Attributes:
        records (list[ZipInfo]): With name, size and offset; who writes the
            data sets ``CRC``.
        end (int): Where the next record begins (bytes).
    """

    def __init__(self) -> None:
        self.records: List[zipfile.ZipInfo] = []
        self.end = 0

    def add(self, name: str, nbytes: int) -> zipfile.ZipInfo:
        """Place a record after the last one."""
        record = zipfile.ZipInfo(name)
        record.file_size = record.compress_size = nbytes
        record.header_offset = self.end
        self.records.append(record)
        self.end = data_offset(record) + nbytes + _descriptor(record).size
        return record

    def directory(self) -> bytes:
        """Return what follows the last record, to the end of the file."""
        entries = b''.join(_entry(record) for record in self.records)
        return entries + _end(len(self.records), len(entries), self.end)


def data_offset(record: zipfile.ZipInfo) -> int:
    """Where a record's data begins in the file (bytes)."""
    return record.header_offset + len(local_header(record))


def local_header(record: zipfile.ZipInfo) -> bytes:
    """Return what stands before a record's data; ends at the alignment."""
    name, large = record.filename.encode('ascii'), _is_large(record)
    extra = _EXTRA.pack(_ZIP64_ID, 16) + bytes(16) if large else b''
    before = record.header_offset + _LOCAL.size + len(name) + len(extra)
    padding = -(before + _EXTRA.size) % ALIGNMENT
    extra += _EXTRA.pack(_PADDING_ID, padding) + bytes(padding)
    size = _MAX32 if large else 0
    return _LOCAL.pack(b'PK\x03\x04', _VERSION64 if large else _VERSION,
                       _FOLLOWS, zipfile.ZIP_STORED, 0, _DATE, 0, size, size,
                       len(name), len(extra)) + name + extra


def descriptor(record: zipfile.ZipInfo) -> bytes:
    """Return what stands after a record's data, of which ``CRC`` is known."""
    return _descriptor(record).pack(b'PK\x07\x08', record.CRC,
                                    record.file_size, record.file_size)


def _descriptor(record: zipfile.ZipInfo) -> struct.Struct:
    return _DESCRIPTOR64 if _is_large(record) else _DESCRIPTOR


def _is_large(record: zipfile.ZipInfo) -> bool:
    return record.file_size > _LIMIT


def _entry(record: zipfile.ZipInfo) -> bytes:
    name = record.filename.encode('ascii')
    size, offset, wide = record.file_size, record.header_offset, []
    if max(size, offset) > _LIMIT:
        # all of them: torch 2.0 adds the offset to the size without looking
        # whether it is wide, and finds it beyond the end of the file
        wide, size, offset = [size, size, offset], _MAX32, _MAX32
    extra = struct.pack(f'<HH{len(wide)}Q', _ZIP64_ID, 8 *
                        len(wide), *wide) if wide else b''
    version = _VERSION64 if wide else _VERSION
    return _ENTRY.pack(b'PK\x01\x02', version, version, _FOLLOWS,
                       zipfile.ZIP_STORED, 0, _DATE, record.CRC, size, size,
                       len(name), len(extra), 0, 0, 0, 0, offset) + \
        name + extra


def _end(count: int, length: int, offset: int) -> bytes:
    before = b''
    if count > _COUNT_LIMIT or length > _LIMIT or offset > _LIMIT:
        before = _END64.pack(b'PK\x06\x06', _END64.size - 12, _VERSION64,
                             _VERSION64, 0, 0, count, count, length, offset)
        before += _LOCATOR.pack(b'PK\x06\x07', 0, offset + length, 1)
        count, length = min(count, _MAX16), min(length, _MAX32)
        offset = min(offset, _MAX32)
    return before + _END.pack(b'PK\x05\x06', 0, 0, count, count, length,
                              offset, 0)
