"""What the pickle of a checkpoint may name: a closed list of harmless things.

Each name leads to a function of this package, which does one thing with
checked arguments, never to the function of that name.
"""
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch

from . import rebuilding
from .compat import STORAGE_NAMES, torch_dtypes
from .instructions import Malformed, Refused
from .rebuilding import Array, Dtype, shortened


@dataclass(frozen=True, repr=False)
class Name:
    """What stands for a name in a pickle; by itself it does nothing.

    Args:
        text (str): The name.
        call (callable, optional): What REDUCE calls. Default: None.
        factory (type, optional): What a ``defaultdict`` would call.
            Default: None.
        storage_dtype (torch.dtype, optional): Of a storage class.
            Default: None.
    """
    text: str
    call: Optional[Callable[..., Any]] = None
    factory: Optional[type] = None
    storage_dtype: Optional[torch.dtype] = None

    def __repr__(self) -> str:
        return self.text


#: Types of a key, or of its parts if it is a tuple.
_KEY_TYPES = frozenset([
    str, int, bool, float, complex, bytes,
    type(None), torch.dtype, torch.device, torch.Size, range
])
#: How many parts a key may have, and how deep they may lie.
_KEY_PARTS, _KEY_DEPTH = 100000, 100
#: Modulo this Python hashes integers: of larger ones any number hash alike,
#: and a dict of them takes time by the square of their number.
_HASH_MODULUS = (1 << 61) - 1


def check_key(key: Any) -> None:
    """Check what is about to be hashed.

    Hashing recurses in C without a limit: a tuple nested a million times
    crashes the process, and one of tuples of the same tuples takes for ever.
    """
    if type(key) in _KEY_TYPES and type(key) is not int:
        return
    left, count = [(key, 0)], 0
    while left:
        part, depth = left.pop()
        count += 1
        if count > _KEY_PARTS or depth > _KEY_DEPTH:
            raise Malformed('a key has too many parts')
        if type(part) in (tuple, frozenset):
            left += [(inner, depth + 1) for inner in part]
        elif type(part) is int and abs(part) >= _HASH_MODULUS:
            raise Malformed(f'a key is the number {shortened(part)}')
        elif type(part) not in _KEY_TYPES and \
                not isinstance(part, np.generic):
            raise Malformed(f'a key is {shortened(part)}')


def _encode(text: Any, encoding: Any = 'latin1') -> bytes:
    # so protocol 2 writes bytes
    if type(text) is not str or encoding not in ('latin1', 'latin-1'):
        raise Malformed(f'bytes are encoded with {shortened(encoding)}')
    return text.encode('latin1')


def _no_bytes() -> bytes:
    # so protocol 2 writes b''
    return b''


def _bytearray(data: Any = b'', encoding: Any = 'latin1') -> bytearray:
    # bytearray(n) would allocate n bytes
    plain = _encode(data, encoding) if type(data) is str else data
    if type(plain) is not bytes:
        raise Malformed(f'a bytearray is built on {shortened(data)}')
    return bytearray(plain)


def _complex(real: Any, imaginary: Any) -> complex:
    return complex(float(real), float(imaginary))


def _range(*limits: Any) -> range:
    if not all(type(limit) is int for limit in limits):
        raise Malformed(f'a range has the limits {shortened(limits)}')
    return range(*limits)


def _set(items: Any = ()) -> Any:
    return set(_keys(items))


def _frozenset(items: Any = ()) -> Any:
    return frozenset(_keys(items))


def _keys(items: Any) -> Any:
    # set(range(n)) would make n objects
    if type(items) not in (list, tuple):
        raise Malformed(f'a set is built on {shortened(items)}')
    for item in items:
        check_key(item)
    return items


def _ordered_dict() -> Any:
    return OrderedDict()


def _counter(counts: Any = None) -> Any:
    # a Counter of anything else would count its items
    if counts is not None and type(counts) is not dict:
        raise Malformed(f'a Counter is built on {shortened(counts)}')
    return Counter(counts)


def _default_dict(factory: Any = None) -> Any:
    if factory is None:
        return defaultdict(None)
    if type(factory) is not Name or factory.factory is None:
        raise Refused('it holds a defaultdict with the factory '
                      f'{shortened(factory)}')
    return defaultdict(factory.factory)


def _size(lengths: Any) -> torch.Size:
    rebuilding.check_counts(lengths, 'a torch.Size')
    return torch.Size(lengths)


def _device(kind: Any, *index: Any) -> torch.device:
    if type(kind) is not str or any(type(value) is not int for value in index):
        raise Malformed(f'a device is {shortened((kind, *index))}')
    return torch.device(kind, *index)


def _array(array_type: Any, *rest: Any) -> Any:
    if array_type is not _ARRAY_TYPE:
        raise Refused(f'it holds an array of {shortened(array_type)}')
    return Array()


_ARRAY_TYPE = Name('numpy.ndarray')

_CALLS: Dict[str, Callable[..., Any]] = {
    'collections.OrderedDict': _ordered_dict,
    'collections.Counter': _counter,
    'collections.defaultdict': _default_dict,
    '_codecs.encode': _encode,
    'torch.Size': _size,
    'torch.device': _device,
    'torch._utils._rebuild_tensor': rebuilding.rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': rebuilding.rebuild_tensor,
    'torch._utils._rebuild_tensor_v3': rebuilding.rebuild_typed_tensor,
    'torch._utils._rebuild_parameter': rebuilding.rebuild_parameter,
    'numpy.dtype': Dtype,
    'numpy.core.multiarray.scalar': rebuilding.rebuild_scalar,
    'numpy.core.multiarray._reconstruct': _array,
    'numpy._core.multiarray.scalar': rebuilding.rebuild_scalar,
    'numpy._core.multiarray._reconstruct': _array,
}

_BUILTIN_CALLS: Dict[str, Callable[..., Any]] = {
    'range': _range,
    'xrange': _range,  # protocol 2 names builtins as Python 2 did
    'set': _set,
    'frozenset': _frozenset,
    'complex': _complex,
    'bytes': _no_bytes,
    'bytearray': _bytearray,
}

_FACTORIES: Dict[str, type] = {
    'list': list,
    'dict': dict,
    'set': set,
    'tuple': tuple,
    'float': float,
    'bool': bool,
    'int': int,
    'long': int,
    'str': str,
    'unicode': str,
}


def _allowed() -> Dict[Tuple[str, str], Any]:
    names: List[Name] = [_ARRAY_TYPE]
    names += [Name(text, call) for text, call in _CALLS.items()]
    for module in ('builtins', '__builtin__'):
        for text in sorted({*_BUILTIN_CALLS, *_FACTORIES}):
            names.append(
                Name(f'{module}.{text}', _BUILTIN_CALLS.get(text),
                     _FACTORIES.get(text)))
    names += [
        Name(f'torch.{text}', storage_dtype=dtype)
        for dtype, text in STORAGE_NAMES.items()
    ]
    names += [
        Name(f'{module}.UntypedStorage', storage_dtype=torch.uint8)
        for module in ('torch', 'torch.storage')
    ]
    allowed: Dict[Tuple[str, str], Any] = {}
    for name in names:
        module, _, text = name.text.rpartition('.')
        allowed[module, text] = name
    for dtype in torch_dtypes():
        allowed['torch', str(dtype)[len('torch.'):]] = dtype
    return allowed


#: By module and name; dtypes are pickled by name and stand for themselves.
ALLOWED = _allowed()
