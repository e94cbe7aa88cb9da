"""Whether a file is a complete, undamaged torch checkpoint.

Standard library only: neither torch nor mmcv is needed, and nothing is
unpickled.
"""
import hashlib
import json
import struct
import sys
import zipfile
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Any, Callable, Dict, Iterable, Mapping, Optional

from .errors import TRUST, CorruptError, TruncatedError, UnverifiableError
from .records import Archive, check_data, read_record, reading
from .wording import counted
from .zip_layout import ADVICE, FILE_MAGIC, check_directory, check_records

#: Top folder of the records inside the zip file, as torch names it.
ARCHIVE = 'archive'
#: Of the numbers in the records, as torch writes and checks it.
BYTE_ORDER = sys.byteorder.encode()
#: The record that says which checkpoint this is.
INFO_RECORD = 'checkpoint_info.json'
#: Largest such record that is read (bytes).
_INFO_LIMIT_BYTES = 1 << 20
#: Of a tar file, in its first header; torch < 0.4 wrote such.
_TAR_MAGIC, _TAR_MAGIC_AT = b'ustar', 257


@dataclass(frozen=True)
class VerifyReport:
    """What was checked.

    Args:
        path (str): The file.
        bytes (int): Its size.
        records (int): Records whose CRC-32 was checked.
        digest (str): ``sha256-zipdir:<hex>``; of a folder
            ``sha256-manifest:<hex>``.
        info (dict): The record ``checkpoint_info.json``; empty in files of
            other programs.
        note (str): What could not be checked; empty if nothing. Default: ''.
    """
    path: str
    bytes: int
    records: int
    digest: str
    info: Dict[str, Any]
    note: str = ''


def zip_digest(records: Iterable[zipfile.ZipInfo]) -> str:
    """SHA-256 over name, size and CRC-32 of every record.

    Reading the zip directory is enough to compute it; with the CRC-32 values
    checked it stands for the whole content.

    Returns:
        str: ``sha256-zipdir:<hex>``.
    """
    content = hashlib.sha256()
    for record in records:
        name = record.filename.encode()
        content.update(
            struct.pack('<I', len(name)) + name +
            struct.pack('<QI', record.file_size, record.CRC))
    return f'sha256-zipdir:{content.hexdigest()}'


def verify_file(
        file: IO[bytes],
        path: str,
        digest: Optional[str] = None,
        progress: Optional[Callable[[int], None]] = None) -> VerifyReport:
    """Check structure, every CRC-32 and the digest, as a stream.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.
        digest (str, optional): What the catalog has for it. Default: None.
        progress (callable, optional): Called with the number of bytes just
            checked. Default: None.

    Returns:
        VerifyReport: If all is well.

    Raises:
        IntegrityError: One subclass a way in which a file can be wrong.
    """
    with open_archive(file, path) as archive:
        return verify_archive(archive, path, digest, progress)


def verify_archive(
    archive: zipfile.ZipFile,
    path: str,
    digest: Optional[str] = None,
    progress: Optional[Callable[[int], None]] = None,
    targets: Mapping[str, memoryview] = MappingProxyType({})
) -> VerifyReport:
    """As :func:`verify_file`, of a file that :func:`open_archive` opened.

    Args:
        targets (dict[str, memoryview]): See :func:`records.check_data`.
            Default: none.
    """
    found = zip_digest(archive.infolist())
    if digest and digest != found:
        raise CorruptError(
            f'{path} is not the checkpoint that the catalog lists: '
            f'expected digest {digest}, found {found}. Restore the file, '
            'or run "mmcv-ckpt verify --repair-catalog" if it was '
            'replaced on purpose')
    check_data(archive, path, progress, targets)
    info = read_info(archive, path)
    assert archive.fp is not None  # it is open
    size = archive.fp.seek(0, 2)
    return VerifyReport(path, size, len(archive.infolist()), found, info)


def open_archive(file: IO[bytes], path: str) -> zipfile.ZipFile:
    """Open a checkpoint's zip directory and check that torch could read it.

    Raises:
        TruncatedError: If the directory at the end is missing.
        CorruptError: If it is there, but wrong, or on a bad place of a disk.
        UnverifiableError: For the formats of torch < 1.6.
    """
    with reading(path, 'its zip directory'):
        file.seek(0)
        head = file.read(_TAR_MAGIC_AT + len(_TAR_MAGIC))
        size = file.seek(0, 2)
        if head[:4] != FILE_MAGIC:
            raise _not_a_zip(head, size, path)
        check_directory(file, size, path)
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError,
                OverflowError, struct.error) as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__  # zipfile hides it
            raise CorruptError(f'{path}: its zip directory is damaged '
                               f'({error}). {ADVICE}') from error
    check_records(archive.infolist(), size, path)
    return archive


def read_info(archive: Archive, path: str) -> Dict[str, Any]:
    """Read ``checkpoint_info.json``; an empty dict if there is none.

    Raises:
        CorruptError: If it is there, but is not a JSON object.
    """
    folder = archive.namelist()[0].split('/')[0]
    try:
        record = archive.getinfo(f'{folder}/{INFO_RECORD}')
    except KeyError:
        return {}
    if record.file_size > _INFO_LIMIT_BYTES:
        raise CorruptError(
            f'{path}: record {record.filename} claims {record.file_size} '
            f'bytes, expected at most {_INFO_LIMIT_BYTES}')
    data = b''.join(read_record(archive, record, path))
    try:
        info = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f'{path}: record {record.filename} is no JSON: '
                           f'{error}') from error
    if not isinstance(info, dict):
        raise CorruptError(f'{path}: record {record.filename} is no object')
    return info


def _not_a_zip(head: bytes, size: int, path: str) -> Exception:
    magic = head[:4]
    if FILE_MAGIC.startswith(magic):
        return TruncatedError(
            f'{path} has {counted(size, "bytes")}: it was cut off while it '
            f'was written or copied. {ADVICE}')
    is_tar = head[_TAR_MAGIC_AT:] == _TAR_MAGIC
    if is_tar or magic[:1] == b'\x80':
        return UnverifiableError(
            f'{path} has the format of torch < {"0.4" if is_tar else "1.6"}, '
            'which has no checksums: '
            f'whether it is undamaged cannot be known. {TRUST}')
    return CorruptError(
        f'{path} ({counted(size, "bytes")}) is no torch checkpoint: expected '
        f'a zip file, found the first bytes {magic!r}')
