"""What a checkpoint holds, told by its pickle alone.

In the place of tensors and numpy values stand descriptions. Nothing but the
pickle is read, and the instructions run that a resume would run: what is
refused here, it refuses. Standard library only.
"""
import math
import re
from dataclasses import dataclass
from typing import Any, Optional, Tuple

from . import building
from .building import check_counts
from .instructions import Malformed, shortened
from .vocabulary import Vocabulary

#: Of this torch and of later ones; the first number is bits, or of complex
#: types their sum.
_DTYPE = re.compile(
    r'(?:bfloat|q?u?int|float|complex|bits)(\d+)(?:x(\d+))?(?:_\w+)?')
#: Of all versions of torch; the index has eight bits.
_DEVICE = re.compile(
    '(?:cpu|cuda|ipu|xpu|mkldnn|opengl|opencl|ideep|hip|ve|fpga|maia|ort|xla|'
    'lazy|vulkan|mps|meta|hpu|mtia|privateuseone)(?::(?:0|[1-9][0-9]{0,2}))?')
_MAX_DEVICE = 127
#: Bytes of the numbers that numpy has, by the letter of their type.
_NUMPY_BYTES = {
    'b': (1, ),
    'i': (1, 2, 4, 8),
    'u': (1, 2, 4, 8),
    'f': (2, 4, 8, 12, 16),
    'c': (8, 16, 24, 32)
}
_NUMPY_LIMIT_BYTES = (1 << 31) - 1


@dataclass(frozen=True, repr=False)
class Dtype:
    """Stands for a type of torch.

    Args:
        name (str): For example ``'float32'``.
        itemsize (int): Bytes of an element.
    """
    name: str
    itemsize: int

    def __repr__(self) -> str:
        return f'torch.{self.name}'


@dataclass(frozen=True, repr=False)
class Flat:
    """Stands for the content of a storage.

    Args:
        key (str): As the pickle names it.
        dtype (Dtype): Its type.
        numel (int): Its elements.
    """
    key: str
    dtype: Dtype
    numel: int


@dataclass(frozen=True, repr=False, eq=False)
class Tensor:
    """Stands for a tensor.

    Args:
        dtype (Dtype): Its type.
        shape (tuple[int]): Its size.
        storage (str): Key of its storage.
    """
    dtype: Dtype
    shape: Tuple[int, ...]
    storage: str

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __repr__(self) -> str:
        return 'a tensor'


@dataclass(frozen=True, repr=False)
class Device:
    """Stands for a device."""
    name: str

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False)
class NumpyType:
    """Stands for a type of numpy."""
    name: str
    itemsize: int

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False, eq=False)
class NumpyValue:
    """Stands for a numpy array, or a scalar, whose shape is ``()``."""
    dtype: NumpyType
    shape: Tuple[int, ...]

    def __repr__(self) -> str:
        return f'numpy values of type {self.dtype} and shape {self.shape}'


class _Tensors(building.Tensors):
    """Descriptions of tensors."""

    dtype, made = Dtype, Tensor

    def numel(self, flat: Flat) -> int:
        return flat.numel

    def retyped(self, flat: Flat, dtype: Dtype) -> Flat:
        numel, rest = divmod(flat.numel * flat.dtype.itemsize, dtype.itemsize)
        if rest:
            raise Malformed(f'a storage of {flat.numel} {flat.dtype} is no '
                            f'storage of {dtype}')
        return Flat(flat.key, dtype, numel)

    def view(self, flat: Flat, offset: int, size: Any, stride: Any,
             metadata: Any) -> Tensor:
        return Tensor(flat.dtype, tuple(size), flat.key)


def _size(lengths: Any) -> Tuple[int, ...]:
    check_counts(lengths, 'a torch.Size')
    return tuple(lengths)


def _device(kind: Any, *index: Any) -> Device:
    if type(kind) is not str or any(type(value) is not int for value in index):
        raise Malformed(f'a device is {shortened((kind, *index))}')
    return torch_device(':'.join([kind, *map(shortened, index)]))


class _NumpyDtype(building.Dtype):

    def finished(self) -> NumpyType:
        return numpy_type(self._code)

    def scalar(self, data: bytes) -> NumpyValue:
        return NumpyValue(self.finished(), ())


class _NumpyArray(building.Array):

    def __init__(self) -> None:
        self._array = NumpyValue(NumpyType('f8', 8), (0, ))

    def fill(self, shape: Any, kind: Any, data: bytes, fortran: bool) -> None:
        self._array = NumpyValue(kind, tuple(shape))

    def finished(self) -> NumpyValue:
        return self._array


def numpy_type(code: str) -> NumpyType:
    """Return what stands for a type of numpy: a letter, bytes, a unit of time.

    Raises:
        CorruptError: If numpy has no such type.
    """
    name = code.lstrip('<>=|')
    kind, size = name[0], int(name[1:].partition('[')[0])
    if kind == 'U':
        size *= 4
    fits = size in _NUMPY_BYTES[kind] if kind in _NUMPY_BYTES else \
        size <= _NUMPY_LIMIT_BYTES
    if not fits:
        raise Malformed(f'numpy has no type {code}')
    return NumpyType(name, size)


def torch_device(name: str) -> Device:
    """Return what stands for a device: ``'cuda:0'``.

    Raises:
        CorruptError: If there is none.
    """
    if not _DEVICE.fullmatch(name) or \
            int(name.partition(':')[2] or 0) > _MAX_DEVICE:
        raise Malformed(f'there is no device {shortened(name)}')
    return Device(name)


def torch_dtype(name: str) -> Optional[Dtype]:
    """Return what stands for a type of torch; None if it has none."""
    if name == 'bool':
        return Dtype(name, 1)
    match = _DTYPE.fullmatch(name)
    if match is None:
        return None
    bits = int(match[1][:4]) * int((match[2] or '1')[:4])
    return Dtype(name, max(1, bits // 8))


class _OutlineVocabulary(Vocabulary):

    def find(self, module: str, name: str) -> Any:
        if module == 'torch' and (module, name) not in self.names:
            return torch_dtype(name)
        return super().find(module, name)


_STORAGES = {
    'torch.DoubleStorage': 'float64',
    'torch.FloatStorage': 'float32',
    'torch.HalfStorage': 'float16',
    'torch.BFloat16Storage': 'bfloat16',
    'torch.LongStorage': 'int64',
    'torch.IntStorage': 'int32',
    'torch.ShortStorage': 'int16',
    'torch.CharStorage': 'int8',
    'torch.ByteStorage': 'uint8',
    'torch.BoolStorage': 'bool',
    'torch.ComplexFloatStorage': 'complex64',
    'torch.ComplexDoubleStorage': 'complex128',
    'torch.UntypedStorage': 'uint8',
    'torch.storage.UntypedStorage': 'uint8',
}

VOCABULARY = _OutlineVocabulary(
    calls={
        'torch.Size': _size,
        'torch.device': _device,
        **_Tensors().calls(),
    },
    storages={
        name: torch_dtype(kind)
        for name, kind in _STORAGES.items()
    },
    dtype=_NumpyDtype,
    array=_NumpyArray,
    key_types=(Dtype, Device, NumpyValue))
