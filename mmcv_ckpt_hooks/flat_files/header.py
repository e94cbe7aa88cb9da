"""The header of a safetensors file, checked before anything is made of it.

A file may be hostile, or cut off: what its header claims is held against its
size. Standard library only.
"""
import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from typing import IO, Any, Dict, List, Mapping, Tuple

from ..errors import CorruptError, TruncatedError
from ..instructions import shortened
from ..records import reading
from ..wording import counted
from ..zip_layout import ADVICE

SUFFIX = '.safetensors'
#: As that of the library: a larger one is refused.
LIMIT_BYTES = 100000000
#: How many values it may ask for: a byte can be a list, which takes 60 bytes
#: and more. Those of 60,000 tensors are less than a million.
VALUES_LIMIT = 8 << 20
#: Bytes of the length before the header, and what all is aligned to.
LENGTH_BYTES = 8
TEXTS = '__metadata__'
#: Bits of an element of each type. Source: safetensors 0.8, ``Dtype``.
BITS: Mapping[str, int] = {
    **{
        f'{kind}{bits}': bits
        for kind in 'IU'
        for bits in (8, 16, 32, 64)
    }, 'F64': 64,
    'F32': 32,
    'F16': 16,
    'BF16': 16,
    'BOOL': 8,
    'C64': 64,
    'F8_E4M3': 8,
    'F8_E4M3FNUZ': 8,
    'F8_E5M2': 8,
    'F8_E5M2FNUZ': 8,
    'F8_E8M0': 8,
    'F6_E2M3': 6,
    'F6_E3M2': 6,
    'F4': 4
}
#: What torch calls them, in one of its versions.
TORCH_NAMES: Mapping[str, str] = {
    'F64': 'float64',
    'F32': 'float32',
    'F16': 'float16',
    'BF16': 'bfloat16',
    'I64': 'int64',
    'I32': 'int32',
    'I16': 'int16',
    'I8': 'int8',
    'U8': 'uint8',
    'BOOL': 'bool',
    'C64': 'complex64',
    'U64': 'uint64',
    'U32': 'uint32',
    'U16': 'uint16',
    'F8_E4M3': 'float8_e4m3fn',
    'F8_E4M3FNUZ': 'float8_e4m3fnuz',
    'F8_E5M2': 'float8_e5m2',
    'F8_E5M2FNUZ': 'float8_e5m2fnuz',
    'F8_E8M0': 'float8_e8m0fnu',
}
#: As in the other formats: the product of many lengths takes for ever.
MAX_DIMENSIONS = 64


@dataclass(frozen=True)
class Entry:
    """What the header says of a tensor.

    Args:
        dtype (str): One of :data:`BITS`.
        shape (tuple[int]): Of it.
        start (int): Its first byte after the header.
        stop (int): The one after its last.
    """
    dtype: str
    shape: Tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Args:
        entries (dict): The tensors by name, in the order of the header.
        texts (dict): Its metadata.
        begin (int): Where in the file the data begins.
        digest (str): ``sha256-header:<hex>``.
    """
    entries: Mapping[str, Entry]
    texts: Mapping[str, str] = field(default_factory=dict)
    begin: int = 0
    digest: str = ''


def header_bytes(entries: Mapping[str, Entry], texts: Mapping[str,
                                                              str]) -> bytes:
    """Return the beginning of a file: the same for the same tensors."""
    content: Dict[str, Any] = {TEXTS: dict(texts)}
    for name, one in entries.items():
        content[name] = {
            'dtype': one.dtype,
            'shape': list(one.shape),
            'data_offsets': [one.start, one.stop]
        }
    data = json.dumps(content).encode()
    data += b' ' * (-len(data) % LENGTH_BYTES)
    return len(data).to_bytes(LENGTH_BYTES, 'little') + data


def values_in(header: bytes) -> int:
    """Return how many values a header may ask for, before it is read."""
    return sum(header.count(one) for one in (b',', b'[', b'{'))


def digest_of(header: bytes) -> str:
    """Return the digest of what :func:`header_bytes` gave."""
    content = hashlib.sha256(header[LENGTH_BYTES:])
    return f'sha256-header:{content.hexdigest()}'


def read_header(file: IO[bytes], path: str) -> Header:
    """Read the header of a file.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.

    Raises:
        TruncatedError: If bytes are missing at its end.
        CorruptError: If it is no safetensors file, or claims what cannot be.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    with reading(path, 'its header'):
        start = file.read(LENGTH_BYTES)
        length = int.from_bytes(start, 'little')
        # INVARIANT: before memory is taken for it
        _check_length(path, size, start, length)
        data = file.read(length)
    if len(data) != length:
        raise TruncatedError(f'{path} was cut off meanwhile. {ADVICE}')
    content = _parsed(path, data)
    texts = content.pop(TEXTS, {})
    if not isinstance(texts, dict) or not all(
            isinstance(text, str) for text in texts.values()):
        raise _malformed(
            path, f'{TEXTS} is {shortened(texts)}, expected '
            'texts by name')
    entries = {name: _entry(path, name, content[name]) for name in content}
    begin = LENGTH_BYTES + length
    _check_places(path, entries, size - begin)
    return Header(entries, texts, begin, digest_of(start + data))


def _check_length(path: str, size: int, start: bytes, length: int) -> None:
    if len(start) < LENGTH_BYTES:
        raise TruncatedError(f'{path} has {counted(size, "bytes")}, expected '
                             f'at least {LENGTH_BYTES}. {ADVICE}')
    if length > LIMIT_BYTES:
        raise CorruptError(
            f'{path} is no safetensors file: its header claims {length} '
            f'bytes, expected at most {LIMIT_BYTES}. {ADVICE}')
    if length > size - LENGTH_BYTES:
        raise TruncatedError(
            f'{path}: its header claims {counted(length, "bytes")}, but the '
            f'file has {size}. {ADVICE}')


def _parsed(path: str, data: bytes) -> Dict[str, Any]:

    def once(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError('a name stands twice in it')
        return found

    # INVARIANT: before memory is taken for them
    if values_in(data) > VALUES_LIMIT:
        raise _malformed(
            path, f'it asks for {values_in(data)} values, expected at most '
            f'{VALUES_LIMIT}')
    try:
        content = json.loads(data.decode(), object_pairs_hook=once)
    # nested a million times it ends Python's stack
    except (ValueError, RecursionError) as error:
        raise _malformed(path, f'it is no JSON ({str(error)[:200]})') \
            from error
    if not isinstance(content, dict):
        raise _malformed(path, f'it is {shortened(content)}, expected an '
                         'object')
    return content


def _entry(path: str, name: str, given: Any) -> Entry:
    what = f'its tensor {shortened(name)}'
    if not isinstance(given, dict) or \
            {*given} != {'dtype', 'shape', 'data_offsets'}:
        raise _malformed(path, f'{what} is {shortened(given)}')
    dtype, shape, places = given['dtype'], given['shape'], given[
        'data_offsets']
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _malformed(
            path, f'{what} has the type {shortened(dtype)}, '
            f'known are: {", ".join(sorted(BITS))}')
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise _malformed(path, f'{what} has the shape {shortened(shape)}')
    if not _are_counts(places) or len(places) != 2:
        raise _malformed(path, f'{what} lies at {shortened(places)}')
    bits, nbytes = math.prod(shape) * BITS[dtype], places[1] - places[0]
    if bits != nbytes * 8:
        raise _malformed(
            path, f'{what} of type {dtype} and shape {shortened(shape)} has '
            f'{counted(nbytes, "bytes")}')
    return Entry(dtype, tuple(shape), places[0], places[1])


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 1 << 63 for value in values)


def _check_places(path: str, entries: Mapping[str, Entry], size: int) -> None:
    """Check that tensors lie one after the other, up to the end."""
    end, before = 0, ''
    for name, one in sorted(
            entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if one.start < end:
            raise _malformed(
                path, f'its tensors {shortened(before)} and '
                f'{shortened(name)} overlap')
        if one.start > end:
            raise _malformed(
                path, f'{counted(one.start - end, "bytes")} before its '
                f'tensor {shortened(name)} belong to none')
        end, before = one.stop, name
    if end > size:
        raise TruncatedError(f'{path} has {counted(size, "bytes")} of '
                             f'tensors, expected {end}. {ADVICE}')
    if end < size:
        raise _malformed(
            path, f'{counted(size - end, "bytes")} at its end belong to no '
            'tensor')


def _malformed(path: str, why: str) -> CorruptError:
    return CorruptError(f'{path}: its safetensors header is malformed: {why}. '
                        f'{ADVICE}')
