"""Whether loading a checkpoint would be refused, without loading it.

What its pickle would build is outlined: no tensor is read, and nothing is
imported or called. Standard library only.
"""
import zipfile
from typing import IO, Any, Callable, Optional

from . import outline
from .errors import TRUST, CorruptError, UnsafeCheckpointError
from .instructions import shortened
from .records import Archive, read_record
from .unfolding import unfolds_without_end
from .unpickling import unpickle
from .verification import (BYTE_ORDER, VerifyReport, open_archive,
                           verify_archive)
from .wording import counted

#: Largest pickle that is read (bytes): 20,000 tensors take about 4 MB.
_PICKLE_LIMIT_BYTES = 256 << 20


def verify_loadable(
        file: IO[bytes],
        path: str,
        digest: Optional[str] = None,
        progress: Optional[Callable[[int], None]] = None) -> VerifyReport:
    """Check a file as :func:`verify_file`, then what its pickle asks for.

    Raises:
        IntegrityError: If it is damaged.
        UnsafeCheckpointError: If it is not, but names or does what is not
            needed to hold weights.
    """
    with open_archive(file, path) as archive:
        report = verify_archive(archive, path, digest, progress)
        read_outline(archive, path)
    return report


def read_outline(archive: zipfile.ZipFile, path: str) -> Any:
    """Return what a checkpoint holds, with outlines in the place of tensors.

    Only the pickle is read; what it claims of tensors is held against the
    sizes of their records.

    Args:
        archive (ZipFile): Of :func:`verification.open_archive`.
        path (str): Its name, for the messages.

    Raises:
        CorruptError: If a resume could not build it.
        UnsafeCheckpointError: If a resume would not.
    """
    check_byte_order(archive, path)

    def read(key: str, dtype: Any, numel: int) -> outline.Flat:
        storage_record(archive, path, key, numel * dtype.itemsize)
        return outline.Flat(key, dtype, numel)

    content = unpickle(
        read_pickle(archive, path), outline.VOCABULARY, read, path)
    if unfolds_without_end(content):
        raise CorruptError(f'{path} is malformed: the same parts stand in it '
                           'again and again')
    return content


def check_byte_order(archive: Archive, path: str) -> None:
    """Check that the numbers in the records are as this machine has them."""
    names = archive.namelist()
    name = f'{_folder(names[0])}/byteorder'
    if name in names:
        found = b''.join(read_record(archive, archive.getinfo(name), path))
        if found != BYTE_ORDER:
            raise CorruptError(f'{path} has the byte order {found[:9]!r}, '
                               f'this machine {BYTE_ORDER!r}')


def storage_record(archive: zipfile.ZipFile, path: str, key: str,
                   nbytes: int) -> zipfile.ZipInfo:
    """Return the record of a storage.

    Args:
        archive (ZipFile): Of :func:`verification.open_archive`.
        path (str): Its name, for the messages.
        key (str): As the pickle names the storage.
        nbytes (int): As many as the pickle claims.

    Raises:
        CorruptError: If there is none, or if it has another size.
    """
    try:
        record = archive.getinfo(
            f'{_folder(archive.infolist()[0].filename)}/data/{key}')
    except KeyError:
        raise CorruptError(f'{path}: storage {shortened(key)} has no record '
                           'in the file') from None
    # INVARIANT: the claim is checked before memory is allocated for it, or
    # the file is taken for it
    if record.file_size != nbytes:
        raise CorruptError(
            f'{path}: storage {key} claims {counted(nbytes, "bytes")}, its '
            f'record has {record.file_size}')
    return record


def read_pickle(archive: Archive, path: str) -> bytes:
    """Read the record that holds the pickle.

    Raises:
        UnsafeCheckpointError: If it is too large for one.
    """
    record = archive.getinfo(f'{_folder(archive.namelist()[0])}/data.pkl')
    if record.file_size > _PICKLE_LIMIT_BYTES:
        raise UnsafeCheckpointError(
            f'{path}: its pickle has {record.file_size} bytes, expected at '
            f'most {_PICKLE_LIMIT_BYTES}. {TRUST}')
    return b''.join(read_record(archive, record, path))


def _folder(first: str) -> str:
    return first.split('/')[0]
