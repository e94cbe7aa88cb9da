"""A safetensors file to a checkpoint, verified; nothing in it is executed."""
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any, Dict, Mapping

import torch

from ..checksums import crc32
from ..errors import CorruptError, TruncatedError
from ..instructions import shortened
from ..mapping import map_file
from ..records import descriptor, reading
from ..serialization import blocks_of, host_memory
from ..unfolding import unfolds_without_end
from ..wording import counted
from ..zip_layout import ADVICE
from .dtypes import dtype_of
from .header import Entry, Header, read_header
from .tree_text import decode
from .writing import OWN_KEY, VERSION

_NO_SUMS = ('written by another program: it has no checksums, and nothing of '
            'a run beside its tensors')


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
    """
    header = read_header(file, path)
    own = _own(header, path)
    tensors = _Tensors(file, path, header)
    if own is None:
        weights = OrderedDict(
            (name, tensors.load(name)) for name in header.entries)
        meta = dict(safetensors=dict(header.texts))
        return FlatContent(
            dict(meta=meta, state_dict=weights), {}, len(weights), '',
            _NO_SUMS)
    loaded: Dict[str, torch.Tensor] = {}
    for name in header.entries:
        loaded[name] = tensors.load(name)
        _check(path, name, loaded[name], own['crc32'][name])
    try:
        fields = decode(own['tree'], loaded.__getitem__)
    except CorruptError as error:
        raise _malformed(path, str(error)) from error
    if unfolds_without_end(fields):
        raise _malformed(path, 'the same parts stand in it again and again')
    return FlatContent(fields, own['card'], len(loaded), header.digest)


def verify_flat(file: IO[bytes], path: str, digest: str) -> None:
    """Check a file that was just written, one tensor after the other.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.
        digest (str): As :attr:`FlatFile.digest` had it.

    Raises:
        IntegrityError: If it is another one.
    """
    header = read_header(file, path)
    if header.digest != digest:
        raise CorruptError(f'{path} has another header than was written: '
                           f'digest {header.digest}, expected {digest}')
    own, tensors = _own(header, path), _Tensors(file, path, header)
    for name in header.entries:
        _check(path, name, tensors.load(name), own['crc32'][name])


def _own(header: Header, path: str) -> Any:
    text = header.texts.get(OWN_KEY)
    if text is None:
        return None
    try:
        own = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(path, str(error)[:200]) from error
    if not isinstance(own, dict) or not isinstance(own.get('version'), int):
        raise _malformed(path, f'it is {shortened(own)}')
    if own['version'] > VERSION:
        raise CorruptError(
            f'{path} is of version {own["version"]} of what mmcv_ckpt_hooks '
            f'writes, expected at most {VERSION}: read it with a newer '
            'mmcv_ckpt_hooks')
    if not isinstance(own.get('crc32'), dict) or \
            not isinstance(own.get('card'), dict) or 'tree' not in own:
        raise _malformed(path, f'it has only {shortened(sorted(own))}')
    if {*own['crc32']} != {*header.entries}:
        raise _malformed(path, 'it has not the checksums of its tensors')
    return own


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
        dtype = dtype_of(entry.dtype)
        if dtype is None:
            raise CorruptError(
                f'{self._path}: {shortened(name)} is of the type '
                f'{entry.dtype}, which torch {torch.__version__} does not '
                'have')
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


def _check(path: str, name: str, tensor: torch.Tensor, expected: Any) -> None:
    found = 0
    for block in blocks_of(tensor):
        found = crc32(block, found)
    if f'{found:08x}' != expected:
        raise CorruptError(
            f'{path}: tensor {shortened(name)} is damaged (its CRC-32 is '
            f'{found:08x}, expected {shortened(expected)}). {ADVICE}')


def _malformed(path: str, why: str) -> CorruptError:
    return CorruptError(f'{path}: its metadata {OWN_KEY!r} are malformed: '
                        f'{why}. {ADVICE}')
