"""A checkpoint file to tensors, without executing anything from it."""
import pickle
import struct
import tarfile
import zipfile
from typing import IO, Any, Callable, Dict, Optional

import torch

from .compat import trusting_load
from .errors import (CorruptError, ResumeError, UnsafeCheckpointError,
                     UnverifiableError)
from .mapping import MappedFile, detach, map_file
from .rebuilding import shortened
from .records import data_starts, descriptor, read_record
from .scanning import read_pickle
from .serialization import BYTE_ORDER, host_memory
from .unpickling import unpickle
from .verification import open_archive, verify_archive, verify_file

#: Fields that a resume copies to where they are used.
_COPIED = ('state_dict', 'optimizer')


def load_checkpoint(file: IO[bytes], path: str, trust: bool = False) -> Any:
    """Load a checkpoint to the CPU.

    The CRC-32 of every record that is read is checked. Parameters come back
    as plain tensors.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.
        trust (bool): Whether a file that needs it is unpickled in full, which
            may run any code that it holds. Default: False.

    Raises:
        IntegrityError: If the file is damaged.
        UnsafeCheckpointError: If loading it would need to run code.
        ResumeError: If a trusted file needs what is not installed here.
    """
    return _load(file, path, trust, _load_archive)


def load_mapped(file: IO[bytes],
                path: str,
                trust: bool = False,
                digest: Optional[str] = None) -> Any:
    """Verify a checkpoint, then load it without reading its weights.

    Of a local file, the tensors in ``state_dict`` and ``optimizer`` lie in the
    mapped file: see :func:`mapping.detach`.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.
        trust (bool): As for :func:`load_checkpoint`. Default: False.
        digest (str, optional): What the catalog has for it. Default: None.

    Raises:
        IntegrityError: If the file is damaged.
        UnsafeCheckpointError: If loading it would need to run code.
        ResumeError: If a trusted file needs what is not installed here.
    """

    def load(archive: zipfile.ZipFile, path: str) -> Any:
        # INVARIANT: all is read before any of it is mapped: who touches a
        # page that is not there gets no error, but SIGBUS
        verify_archive(archive, path, digest)
        number = descriptor(file)
        mapped = None if number is None else map_file(number)
        return _load_archive(archive, path, mapped)

    content = _load(file, path, trust, load)
    kept = content
    if isinstance(content, dict):
        kept = [value for key, value in content.items() if key not in _COPIED]
    detach(kept)
    return content


def _load(file: IO[bytes], path: str, trust: bool,
          load: Callable[[zipfile.ZipFile, str], Any]) -> Any:
    try:
        with open_archive(file, path) as archive:
            return load(archive, path)
    except UnverifiableError:
        if not trust:
            raise
    except UnsafeCheckpointError:
        if not trust:
            raise
        verify_file(file, path)
    return _load_trusted(file, path)


def _load_trusted(file: IO[bytes], path: str) -> Any:
    try:
        return trusting_load(file)
    except (ImportError, AttributeError) as error:
        raise ResumeError(
            f'{path} needs code that is not there ({type(error).__name__}: '
            f'{error}). Load it where it was written, and save it again '
            'without that') from error
    except (pickle.UnpicklingError, EOFError, RuntimeError, LookupError,
            ValueError, TypeError, OverflowError, struct.error,
            tarfile.TarError) as error:
        raise CorruptError(f'{path} cannot be read ({type(error).__name__}: '
                           f'{error})') from error


def _load_archive(archive: zipfile.ZipFile,
                  path: str,
                  mapped: Optional[MappedFile] = None) -> Any:
    folder = archive.infolist()[0].filename.split('/')[0] + '/'
    records = {
        record.filename[len(folder):]: record
        for record in archive.infolist() if record.filename.startswith(folder)
    }
    order = records.get('byteorder')
    if order is not None:
        found = b''.join(read_record(archive, order, path))
        if found != BYTE_ORDER:
            raise CorruptError(f'{path} has the byte order {found[:9]!r}, '
                               f'this machine {BYTE_ORDER!r}')
    data = read_pickle(archive, path)

    starts = {} if mapped is None else data_starts(archive, path)

    def read(key: str, dtype: torch.dtype, numel: int) -> torch.Tensor:
        record = _storage_record(records, path, key, dtype, numel)
        flat = None
        if mapped is not None and numel:
            flat = mapped.storage(starts[record.filename], dtype, numel)
        if flat is None:
            flat = _read_storage(archive, record, path, dtype, numel)
        return flat

    return unpickle(data, read, path)


def _storage_record(records: Dict[str, zipfile.ZipInfo], path: str, key: str,
                    dtype: torch.dtype, numel: int) -> zipfile.ZipInfo:
    record = records.get(f'data/{key}')
    if record is None:
        raise CorruptError(f'{path}: storage {shortened(key)} has no record '
                           'in the file')
    nbytes = numel * torch.empty(0, dtype=dtype).element_size()
    # INVARIANT: the claim is checked before memory is allocated for it, or
    # the file is taken for it
    if record.file_size != nbytes:
        raise CorruptError(f'{path}: storage {key} claims {nbytes} bytes, its '
                           f'record has {record.file_size}')
    return record


def _read_storage(archive: zipfile.ZipFile, record: zipfile.ZipInfo, path: str,
                  dtype: torch.dtype, numel: int) -> torch.Tensor:
    try:
        flat = torch.empty(numel, dtype=dtype)
    except RuntimeError as error:
        # not the file's fault
        raise MemoryError(
            f'{path}: no memory for the {record.file_size} bytes of '
            f'{record.filename}') from error
    if numel:
        view, start = host_memory(flat), 0
        for block in read_record(archive, record, path):
            view[start:start + len(block)] = block
            start += len(block)
    return flat
