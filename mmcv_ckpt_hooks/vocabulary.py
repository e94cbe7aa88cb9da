"""What the pickle of a checkpoint may name: a closed list of harmless things.

Each name leads to a function of this package, which does one thing with
checked arguments, never to the function of that name. Standard library only:
what is of torch and numpy is given, by :mod:`allowlist` for who loads and by
:mod:`outline` for who only looks.
"""
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from .building import build_scalar
from .instructions import Malformed, Refused, shortened

Calls = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, repr=False)
class Name:
    """What stands for a name in a pickle; by itself it does nothing.

    Args:
        text (str): The name.
        call (callable, optional): What REDUCE calls. Default: None.
        factory (type, optional): What a ``defaultdict`` would call.
            Default: None.
        storage_dtype (optional): Of a storage class. Default: None.
        new (callable, optional): What NEWOBJ calls, without arguments: the
            pickle of a checkpoint builds no objects, that of the metadata of
            a folder does. Default: None.
    """
    text: str
    call: Optional[Callable[..., Any]] = None
    factory: Optional[type] = None
    storage_dtype: Any = None
    new: Optional[Callable[[], Any]] = None

    def __repr__(self) -> str:
        return self.text


#: Types of a key, or of its parts if it is a tuple.
_KEY_TYPES = frozenset(
    [str, int, bool, float, complex, bytes,
     type(None), range])
#: How many parts a key may have, and how deep they may lie.
_KEY_PARTS, _KEY_DEPTH = 100000, 100
#: Modulo this Python hashes integers: of larger ones any number hash alike,
#: and a dict of them takes time by the square of their number.
_HASH_MODULUS = (1 << 61) - 1

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


class Vocabulary:
    """The names, and what may be a key.

    Args:
        calls (dict): What the names of torch lead to.
        storages (dict): The types of torch's storages by their names.
        dtype (type): A :class:`building.Dtype`.
        array (type): A :class:`building.Array`.
        key_types (tuple[type]): What may be a key beside builtin types.
    """
    #: How many containers and remembered values a pickle may ask for: those
    #: of 60,000 tensors are a million, and each may take 60 times the memory
    #: of its instruction.
    values_limit = 2 << 20
    #: Whether some of the names are those of objects.
    has_objects = False

    def __init__(self, calls: Calls, storages: Mapping[str, Any],
                 dtype: Callable[..., Any], array: Callable[[], Any],
                 key_types: Tuple[type, ...]) -> None:
        self._array = array
        self._array_type = Name('numpy.ndarray')
        self._key_types = key_types
        names = [self._array_type]
        names += [
            Name(text, call) for text, call in {
                **_COLLECTIONS,
                **self._numpy_calls(dtype),
                **calls
            }.items()
        ]
        builtin_calls = self._builtin_calls()
        for module in ('builtins', '__builtin__'):
            for text in sorted({*builtin_calls, *_FACTORIES}):
                names.append(
                    Name(f'{module}.{text}', builtin_calls.get(text),
                         _FACTORIES.get(text)))
        names += [
            Name(text, storage_dtype=kind) for text, kind in storages.items()
        ]
        self.names: Dict[Tuple[str, str], Any] = {}
        for name in names:
            module, _, text = name.text.rpartition('.')
            self.names[module, text] = name

    def find(self, module: str, name: str) -> Any:
        """Return what stands for a name; None if it is not allowed."""
        return self.names.get((module, name))

    def check_key(self, key: Any) -> None:
        """Check what is about to be hashed.

        Hashing recurses in C without a limit: a tuple nested a million times
        crashes the process, and one of tuples of the same tuples takes for
        ever.
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
                    not isinstance(part, self._key_types):
                raise Malformed(f'a key is {shortened(part)}')

    def _builtin_calls(self) -> Calls:
        return {
            'range': _range,
            'xrange': _range,  # protocol 2 names builtins as Python 2 did
            'set': self._set,
            'frozenset': self._frozenset,
            'complex': _complex,
            'bytes': _no_bytes,
            'bytearray': _bytearray,
        }

    def _numpy_calls(self, dtype: Callable[..., Any]) -> Calls:
        return {
            'numpy.dtype': dtype,
            'numpy.core.multiarray.scalar': build_scalar,
            'numpy.core.multiarray._reconstruct': self._new_array,
            'numpy._core.multiarray.scalar': build_scalar,
            'numpy._core.multiarray._reconstruct': self._new_array,
        }

    def _new_array(self, array_type: Any, *rest: Any) -> Any:
        if array_type is not self._array_type:
            raise Refused(f'it holds an array of {shortened(array_type)}')
        return self._array()

    def _set(self, items: Any = ()) -> Any:
        return set(self._keys(items))

    def _frozenset(self, items: Any = ()) -> Any:
        return frozenset(self._keys(items))

    def _keys(self, items: Any) -> Any:
        # set(range(n)) would make n objects
        if type(items) not in (list, tuple):
            raise Malformed(f'a set is built on {shortened(items)}')
        for item in items:
            self.check_key(item)
        return items


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


_COLLECTIONS: Calls = {
    'collections.OrderedDict': _ordered_dict,
    'collections.Counter': _counter,
    'collections.defaultdict': _default_dict,
    '_codecs.encode': _encode,
}
