"""A safetensors file to a checkpoint, verified; nothing in it is executed."""
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any, Dict, Mapping

import torch

from ..checksums import crc32
from ..errors import CorruptError, ResumeError, TruncatedError
from ..instructions import shortened
from ..mapping import map_file
from ..records import descriptor, reading
from ..serialization import blocks_of, host_memory
from ..wording import counted
from ..zip_layout import ADVICE
from .dtypes import dtype_of
from .header import Entry, Header, read_header
from .metadata import NO_SUMS, damaged, malformed, own_of
from .tree_text import decode


@dataclass(frozen=True)
class FlatContent:
    """What a file holds.

    Args:
        fields (Any): The checkpoint, with its tensors.
        card (dict): What was written beside it.
        tensors (int): How many are in the file.
        digest (str): Of the file, see :attr:`FlatFile.digest`; empty if it
            has no checksums.
        note (str): What it does not have; empty if nothing.
    """
    fields: Any
    card: Mapping[str, Any]
    tensors: int
    digest: str
    note: str = ''


def read_flat(file: IO[bytes], path: str) -> FlatContent:
    """Read a file, and hold every tensor against its CRC-32.

    Of a local file the tensors lie in the mapped file, see :mod:`mapping`. Of
    one of another program they are the weights.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.

    Raises:
        IntegrityError: If it is damaged, or none.
        ResumeError: If it has tensors of a type that this torch lacks.
        MemoryError: If there is none for a tensor of a file elsewhere.
    """
    header = read_header(file, path)
    own = own_of(header, path)
    _check_types(path, header)
    tensors = _Tensors(file, path, header)
    if own is None:
        weights = OrderedDict(
            (name, tensors.load(name)) for name in header.entries)
        meta = dict(safetensors=dict(header.texts))
        return FlatContent(
            dict(meta=meta, state_dict=weights), {}, len(weights), '', NO_SUMS)
    loaded: Dict[str, torch.Tensor] = {}
    for name in header.entries:
        loaded[name] = tensors.load(name)
        _check(path, name, loaded[name], own['crc32'][name])
    try:
        fields = decode(own['tree'], loaded.__getitem__)
    except CorruptError as error:
        raise malformed(path, str(error)) from error
    return FlatContent(fields, own['card'], len(loaded), header.digest)


class _Tensors:

    def __init__(self, file: IO[bytes], path: str, header: Header) -> None:
        self._file = file
        self._path = path
        self._header = header
        number = descriptor(file)
        self._mapped = None if number is None else map_file(number)

    def load(self, name: str) -> torch.Tensor:
        """Return a tensor."""
        entry = self._header.entries[name]
        dtype = _dtype(entry)
        numel = torch.Size(entry.shape).numel()
        start = self._header.begin + entry.start
        flat = None
        if numel and self._mapped is not None:
            flat = self._mapped.storage(start, dtype, numel)
        if flat is None:
            flat = self._read(name, entry, dtype, numel)
        return flat.reshape(entry.shape)

    def _read(self, name: str, entry: Entry, dtype: torch.dtype,
              numel: int) -> torch.Tensor:
        try:
            flat = torch.empty(numel, dtype=dtype)
        except RuntimeError as error:
            raise MemoryError(
                f'{self._path}: no memory for {shortened(name)} of '
                f'{counted(entry.stop - entry.start, "bytes")}') from error
        self._file.seek(self._header.begin + entry.start)
        memory = host_memory(flat) if numel else memoryview(b'')
        done = 0
        while done < len(memory):
            with reading(self._path, f'its tensor {shortened(name)}'):
                count = self._file.readinto(memory[done:])  # type: ignore
            if not count:
                raise TruncatedError(f'{self._path} was cut off meanwhile. '
                                     f'{ADVICE}')
            done += count
        return flat


def _check_types(path: str, header: Header) -> None:
    """Refuse what is no damage, before anything is read."""
    for name, entry in header.entries.items():
        if dtype_of(entry.dtype) is None:
            raise ResumeError(
                f'{path}: tensor {shortened(name)} is of the type '
                f'{entry.dtype}, which torch {torch.__version__} does not '
                'have. The file is not damaged: read it with a torch that '
                'has the type, or with the program that wrote it')


def _dtype(entry: Entry) -> torch.dtype:
    dtype = dtype_of(entry.dtype)
    assert dtype is not None  # so it was checked
    return dtype


def _check(path: str, name: str, tensor: torch.Tensor, expected: Any) -> None:
    found = 0
    for block in blocks_of(tensor):
        found = crc32(block, found)
    if f'{found:08x}' != expected:
        raise damaged(path, name, found, expected)
