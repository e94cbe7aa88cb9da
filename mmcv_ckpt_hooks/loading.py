"""A checkpoint file to tensors, without executing anything from it.

The pickle inside a checkpoint names functions to call. Here each name leads to
a function of this module that does one harmless thing with checked arguments;
any other name is refused. ``torch.load(weights_only=True)`` is not relied on:
it could be bypassed before torch 2.6 (CVE-2025-32434), and it refuses numpy
scalars, which stock mmcv writes.
"""
import io
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from typing import IO, Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch

from .compat import STORAGE_NAMES, trusting_load
from .errors import (CorruptError, IntegrityError, UnsafeCheckpointError,
                     UnverifiableError)
from .serialization import host_memory
from .verification import open_archive, read_record

#: Largest pickle that is read (bytes): 20,000 tensors take about 4 MB.
_PICKLE_LIMIT_BYTES = 256 << 20


def load_checkpoint(file: IO[bytes], path: str, trust: bool = False) -> Any:
    """Load a checkpoint to the CPU.

    The CRC-32 of every record that is read is checked.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages; the real path of the file if
            ``trust`` is set.
        trust (bool): Whether a file that needs it is unpickled in full, which
            may run any code that it holds. Default: False.

    Raises:
        IntegrityError: If the file is damaged.
        UnsafeCheckpointError: If loading it would need to run code.
    """
    try:
        archive = open_archive(file, path)
    except UnverifiableError:
        if trust:
            return trusting_load(path)
        raise
    with archive:
        try:
            return _load_archive(archive, path)
        except UnsafeCheckpointError:
            if trust:
                return trusting_load(path)
            raise


def _load_archive(archive: zipfile.ZipFile, path: str) -> Any:
    folder = archive.infolist()[0].filename.split('/')[0]
    records = {
        record.filename[len(folder) + 1:]: record
        for record in archive.infolist()
    }
    order = records.get('byteorder')
    if order is not None:
        found = b''.join(read_record(archive, order, path))
        if found != b'little':
            raise CorruptError(f'{path} has byte order {found!r}, expected '
                               "b'little'")
    pickled = records['data.pkl']
    if pickled.file_size > _PICKLE_LIMIT_BYTES:
        raise UnsafeCheckpointError(
            f'{path}: its pickle has {pickled.file_size} bytes, expected at '
            f'most {_PICKLE_LIMIT_BYTES}')
    data = b''.join(read_record(archive, pickled, path))
    unpickler = _RestrictedUnpickler(data, archive, records, path)
    try:
        return _plain(unpickler.load())
    except (IntegrityError, UnsafeCheckpointError):
        raise
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError,
            ValueError, AttributeError, OverflowError, RuntimeError,
            UnicodeError, MemoryError) as error:
        raise CorruptError(f'{path}: its pickle cannot be read '
                           f'({type(error).__name__}: {error})') from error


class _StorageType:
    """Stands for ``torch.FloatStorage`` and the like."""

    def __init__(self, name: str, dtype: Optional[torch.dtype]) -> None:
        self.name = name
        self.dtype = dtype


class _Storage:
    """A storage that was read: flat, on the CPU."""

    def __init__(self, flat: torch.Tensor) -> None:
        self.flat = flat


class _RestrictedUnpickler(pickle.Unpickler):

    def __init__(self, data: bytes, archive: zipfile.ZipFile,
                 records: Dict[str, zipfile.ZipInfo], path: str) -> None:
        super().__init__(io.BytesIO(data), encoding='utf-8')
        self._archive = archive
        self._records = records
        self._path = path
        self._storages: Dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None and module == 'torch':
            found = _torch_constant(name)
        if found is None:
            raise UnsafeCheckpointError(
                f'{self._path} names {module}.{name}, which is not needed to '
                'hold weights: loading it could run code. If you trust who '
                'made the file, load it once with trust_checkpoint=True')
        return found

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, numel = pid
        if kind != 'storage' or not isinstance(storage_type, _StorageType) \
                or not isinstance(numel, int) or numel < 0:
            raise CorruptError(f'{self._path}: unknown storage {pid!r}')
        key = str(key)
        if key not in self._storages:
            self._storages[key] = self._read(key, storage_type, numel)
        return self._storages[key]

    def _read(self, key: str, storage_type: _StorageType,
              numel: int) -> _Storage:
        record = self._records.get(f'data/{key}')
        if record is None:
            raise CorruptError(
                f'{self._path}: storage {key} has no record in the file')
        dtype = storage_type.dtype or torch.uint8
        nbytes = numel * torch.empty(0, dtype=dtype).element_size()
        # INVARIANT: the claim is checked before memory is allocated for it
        if record.file_size != nbytes:
            raise CorruptError(
                f'{self._path}: storage {key} claims {nbytes} bytes, its '
                f'record has {record.file_size}')
        flat = torch.empty(numel, dtype=dtype)
        if nbytes:
            view, start = host_memory(flat), 0
            for block in read_record(self._archive, record, self._path):
                view[start:start + len(block)] = block
                start += len(block)
        return _Storage(flat)


def _rebuild_tensor(storage: Any,
                    offset: int,
                    size: Tuple[int, ...],
                    stride: Tuple[int, ...],
                    requires_grad: bool = False,
                    hooks: Any = None,
                    dtype: Any = None) -> torch.Tensor:
    """View a storage as a tensor, within its bounds."""
    if not isinstance(storage, _Storage):
        raise CorruptError(f'a tensor is built on {type(storage).__name__}, '
                           'expected a storage')
    flat = storage.flat
    if isinstance(dtype, torch.dtype):
        flat = flat.view(dtype)
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or offset < 0 or any(
            not isinstance(value, int) or value < 0
            for value in size + stride):
        raise CorruptError(
            f'a tensor has size {size}, stride {stride}, offset {offset}')
    stop = offset
    if all(size):
        stop = offset + 1 + sum(
            (length - 1) * step for length, step in zip(size, stride))
    if stop > flat.numel():
        raise CorruptError(
            f'a tensor of size {size} and stride {stride} at offset {offset} '
            f'reaches beyond its storage of {flat.numel()} elements')
    return torch.as_strided(flat, size, stride, offset)


def _rebuild_parameter(data: Any, *_: Any) -> torch.Tensor:
    if not isinstance(data, torch.Tensor):
        raise CorruptError('a parameter is built on '
                           f'{type(data).__name__}, expected a tensor')
    return data


def _encode(text: Any, encoding: Any = 'latin1') -> bytes:
    # how protocol 2 writes bytes
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise CorruptError(f'bytes are encoded with {encoding!r}')
    return text.encode('latin1')


def _bytearray(data: Any = b'', *rest: Any) -> bytearray:
    # bytearray(n) would allocate n bytes
    if isinstance(data, str):
        return bytearray(_encode(data, *rest))
    if not isinstance(data, bytes):
        raise CorruptError(f'a bytearray is built on {type(data).__name__}')
    return bytearray(data)


def _defaultdict(factory: Any = None, *items: Any) -> Dict[Any, Any]:
    if factory not in (None, list, dict, set, int, float, str, tuple):
        raise UnsafeCheckpointError(
            f'a defaultdict with the factory {factory!r}')
    return defaultdict(factory, *items)


class _Dtype:
    """A numpy dtype without objects or fields."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = str(code)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and \
                state[1] in ('<', '>', '=', '|'):
            self.code = state[1] + self.code.lstrip('<>=|')

    def resolve(self) -> Any:
        dtype = np.dtype(self.code)
        if dtype.kind not in 'biufcSUV' or dtype.hasobject or dtype.fields:
            raise UnsafeCheckpointError(f'a numpy array of type {dtype}')
        return dtype


def _numpy_scalar(dtype: Any, data: Any = b'') -> Any:
    if isinstance(data, str):
        data = data.encode('latin1')
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise CorruptError('a malformed numpy scalar')
    value = np.frombuffer(data, dtype.resolve(), count=1)[0]
    return value


class _Array:
    """A numpy array under construction: its data come with BUILD."""

    def __init__(self, *_: Any) -> None:
        self.array: Any = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):
            data = data.encode('latin1')
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise UnsafeCheckpointError('a numpy array of objects')
        flat = np.frombuffer(data, dtype.resolve())
        self.array = flat.reshape(
            tuple(shape), order='F' if fortran else 'C').copy()


class _ArrayType:
    """Stands for ``numpy.ndarray`` as an argument."""


def _reconstruct_array(*_: Any) -> _Array:
    return _Array()


def _plain(value: Any, seen: Optional[Dict[int, Any]] = None) -> Any:
    """Replace :class:`_Array` by the arrays, in place where possible."""
    seen = {} if seen is None else seen
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, (_Dtype, _Storage, _StorageType)):
        raise UnsafeCheckpointError(
            f'a bare {type(value).__name__.strip("_")} as a value')
    if id(value) in seen:
        return value
    if isinstance(value, dict):
        seen[id(value)] = value
        for key in list(value):
            value[key] = _plain(value[key], seen)
    elif isinstance(value, list):
        seen[id(value)] = value
        value[:] = [_plain(item, seen) for item in value]
    elif isinstance(value, tuple) and value:
        return tuple(_plain(item, seen) for item in value)
    return value


def _torch_constant(name: str) -> Any:
    """dtypes such as ``torch.float32`` are pickled by name."""
    value = getattr(torch, name, None)
    return value if isinstance(value, torch.dtype) else None


def _storage_types() -> Dict[Tuple[str, str], _StorageType]:
    types = {
        ('torch', name): _StorageType(name, dtype)
        for dtype, name in STORAGE_NAMES.items()
    }
    for module in ('torch', 'torch.storage'):
        types[module, 'UntypedStorage'] = _StorageType('UntypedStorage', None)
    return types


def _allowed() -> Dict[Tuple[str, str], Any]:
    builtins: List[Tuple[str,
                         Callable[...,
                                  Any]]] = [('range', range), ('slice', slice),
                                            ('set', set),
                                            ('frozenset', frozenset),
                                            ('complex', complex),
                                            ('list', list), ('dict', dict),
                                            ('int', int), ('float', float),
                                            ('str', str), ('tuple', tuple),
                                            ('bytearray', _bytearray)]
    allowed: Dict[Tuple[str, str], Any] = dict(_storage_types())
    for module in ('builtins', '__builtin__'):  # the latter: protocol 2
        for name, function in builtins:
            allowed[module, name] = function
        allowed[module, 'xrange'] = range
    allowed.update({
        ('collections', 'OrderedDict'): OrderedDict,
        ('collections', 'Counter'): Counter,
        ('collections', 'defaultdict'): _defaultdict,
        ('_codecs', 'encode'): _encode,
        ('torch', 'Size'): tuple,
        ('torch', 'device'): str,
        ('torch._utils', '_rebuild_tensor'): _rebuild_tensor,
        ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
        ('torch._utils', '_rebuild_parameter'): _rebuild_parameter,
        ('torch._utils', '_rebuild_tensor_v3'): _rebuild_tensor_v3,
        ('numpy', 'dtype'): _Dtype,
        ('numpy', 'ndarray'): _ArrayType,
    })
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed[module, 'scalar'] = _numpy_scalar
        allowed[module, '_reconstruct'] = _reconstruct_array
    return allowed


def _rebuild_tensor_v3(storage: Any, offset: int, size: Any, stride: Any,
                       requires_grad: bool, hooks: Any,
                       dtype: torch.dtype) -> torch.Tensor:
    return _rebuild_tensor(storage, offset, size, stride, dtype=dtype)


_ALLOWED = _allowed()
