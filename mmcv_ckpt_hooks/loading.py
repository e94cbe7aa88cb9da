"""A checkpoint file to tensors, without executing anything from it."""
import pickle
import struct
import tarfile
import zipfile
from typing import IO, Any, Dict

import torch

from .compat import trusting_load
from .errors import (CorruptError, ResumeError, UnsafeCheckpointError,
                     UnverifiableError)
from .rebuilding import shortened
from .scanning import read_pickle
from .serialization import BYTE_ORDER, host_memory
from .unpickling import unpickle
from .verification import open_archive, read_record, verify_file


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
    try:
        with open_archive(file, path) as archive:
            return _load_archive(archive, path)
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


def _load_archive(archive: zipfile.ZipFile, path: str) -> Any:
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

    def read(key: str, dtype: torch.dtype, numel: int) -> torch.Tensor:
        return _read_storage(archive, records, path, key, dtype, numel)

    return unpickle(data, read, path)


def _read_storage(archive: zipfile.ZipFile,
                  records: Dict[str, zipfile.ZipInfo], path: str, key: str,
                  dtype: torch.dtype, numel: int) -> torch.Tensor:
    record = records.get(f'data/{key}')
    if record is None:
        raise CorruptError(f'{path}: storage {shortened(key)} has no record '
                           'in the file')
    nbytes = numel * torch.empty(0, dtype=dtype).element_size()
    # INVARIANT: the claim is checked before memory is allocated for it
    if record.file_size != nbytes:
        raise CorruptError(f'{path}: storage {key} claims {nbytes} bytes, its '
                           f'record has {record.file_size}')
    try:
        flat = torch.empty(numel, dtype=dtype)
    except RuntimeError as error:
        # not the file's fault
        raise MemoryError(f'{path}: no memory for the {nbytes} bytes of '
                          f'storage {key}') from error
    if nbytes:
        view, start = host_memory(flat), 0
        for block in read_record(archive, record, path):
            view[start:start + len(block)] = block
            start += len(block)
    return flat
