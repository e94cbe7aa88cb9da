"""A tree of values as JSON, from which the same tree comes back.

What JSON has is written as it is; anything else is an object with the key
``$``, which says what it is. Tensors are named, and lie elsewhere. Nothing is
imported or called for a text: it may be hostile.
"""
import base64
import math
import re
import struct
from collections import Counter, OrderedDict, defaultdict
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import torch

from ..allowlist import VOCABULARY
from ..compat import torch_dtypes
from ..errors import ConfigError, CorruptError
from ..instructions import shortened
from ..staging import TensorRef

KIND = '$'
#: Deeper trees would meet Python's recursion limit, here or in the reader.
_DEPTH_LIMIT = 100
#: Numbers, texts and times of numpy: no objects.
_NUMPY_TYPE = re.compile(r'[<>|=]?[biufcSUmM]\d+(\[\w+\])?')
_DTYPES = {str(one): one for one in torch_dtypes()}

#: ``name_of(tensor, path)`` returns the name of a tensor at a place.
NameOf = Callable[[TensorRef, Tuple[Any, ...]], str]


class Encoder:
    """Turns trees into what ``json.dumps`` takes.

    Args:
        name_of (callable): See :data:`NameOf`.
    """

    def __init__(self, name_of: NameOf) -> None:
        self._name_of = name_of

    def encode(self, value: Any, path: Tuple[Any, ...] = ()) -> Any:
        """Encode a tree, or a part of it.

        Raises:
            ConfigError: If it holds what cannot be told in a text.
        """
        if len(path) > _DEPTH_LIMIT:
            raise ConfigError(
                f'{_shown(path[:3])} is nested more than {_DEPTH_LIMIT} deep, '
                'which a safetensors file cannot hold')
        kind = type(value)
        if value is None or kind in (bool, int, str) or \
                kind is float and math.isfinite(value):
            return value
        if kind is list:
            return self._items(value, path)
        if kind is dict and all(type(key) is str for key in value) and \
                KIND not in value:
            return {
                key: self.encode(item, (*path, key))
                for key, item in value.items()
            }
        return {KIND: self._what(value), **self._tagged(value, path)}

    def _what(self, value: Any) -> str:
        if isinstance(value, (np.ndarray, np.generic)):
            return 'numpy'
        return 'tensor' if type(value) is TensorRef else type(value).__name__

    def _tagged(self, value: Any, path: Tuple[Any, ...]) -> Dict[str, Any]:
        kind = type(value)
        if kind is TensorRef:
            return {'name': self._name_of(value, path)}
        if kind in (dict, OrderedDict, Counter, defaultdict):
            return self._mapping(value, path)
        if kind in (tuple, set, frozenset, torch.Size):
            return {'items': self._items(list(value), path)}
        if kind is float:
            return {'hex': struct.pack('>d', value).hex()}
        if kind is complex:
            return {'hex': struct.pack('>dd', value.real, value.imag).hex()}
        if kind in (bytes, bytearray):
            return {'base64': base64.b64encode(value).decode()}
        if kind is range:
            return {'items': [value.start, value.stop, value.step]}
        if kind in (torch.dtype, torch.device):
            return {'text': str(value)}
        if isinstance(value, (np.ndarray, np.generic)) and \
                _NUMPY_TYPE.fullmatch(value.dtype.str):
            shape = list(value.shape) if isinstance(value, np.ndarray) \
                else None
            return {
                'dtype': value.dtype.str,
                'shape': shape,
                'base64': base64.b64encode(value.tobytes()).decode()
            }
        raise ConfigError(
            f'{_shown(path)} is of the type {kind.__module__}.'
            f'{kind.__qualname__}, which a safetensors file cannot hold: '
            'convert to .pth or .dcp')

    def _mapping(self, value: Any, path: Tuple[Any, ...]) -> Dict[str, Any]:
        told: Dict[str, Any] = {
            'items':
            [[self.encode(key, path),
              self.encode(item, (*path, key))] for key, item in value.items()]
        }
        if hasattr(value, '_metadata'):  # of a module's state dict
            told['metadata'] = self.encode(value._metadata,
                                           (*path, '_metadata'))
        return told

    def _items(self, values: List[Any], path: Tuple[Any, ...]) -> List[Any]:
        return [
            self.encode(item, (*path, index))
            for index, item in enumerate(values)
        ]


def _shown(path: Tuple[Any, ...]) -> str:
    return '.'.join(map(str, path)) or 'the checkpoint'


def decode(told: Any, tensor: Callable[[str], Any]) -> Any:
    """Return the tree that was encoded.

    Args:
        told: What ``json.loads`` gave.
        tensor (callable): Returns the tensor of a name; ``KeyError`` if there
            is none.

    Raises:
        CorruptError: If it tells no tree.
    """
    try:
        return _Decoder(tensor).decode(told)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError,
            struct.error, RuntimeError) as error:
        raise CorruptError(f'{type(error).__name__}: {str(error)[:200]}') \
            from error


class _Decoder:

    def __init__(self, tensor: Callable[[str], Any]) -> None:
        self._tensor = tensor

    def decode(self, told: Any, depth: int = 0) -> Any:
        if depth > 2 * _DEPTH_LIMIT:
            raise ValueError('it is nested too deep')
        if isinstance(told, list):
            return [self.decode(one, depth + 1) for one in told]
        if not isinstance(told, dict):
            return told
        if KIND not in told:
            return {
                key: self.decode(one, depth + 1)
                for key, one in told.items()
            }
        kind = told[KIND]
        if kind not in _KINDS:
            raise ValueError(f'it names {shortened(kind)}')
        return _KINDS[kind](self, told, depth + 1)

    def tensor(self, told: Any, depth: int) -> Any:
        return self._tensor(told['name'])

    def mapping(self, told: Any, depth: int) -> Any:
        found: Any = {
            'dict': dict,
            'OrderedDict': OrderedDict,
            'Counter': Counter
        }.get(told[KIND], defaultdict)()
        for key, item in told['items']:
            plain = self.decode(key, depth)
            VOCABULARY.check_key(plain)
            found[plain] = self.decode(item, depth)
        if 'metadata' in told:
            found._metadata = self.decode(told['metadata'], depth)
        return found

    def items(self, told: Any, depth: int) -> Any:
        made = {
            'tuple': tuple,
            'set': set,
            'frozenset': frozenset,
            'Size': torch.Size
        }[told[KIND]]
        values = self.decode(list(told['items']), depth)
        if made in (set, frozenset):
            for one in values:
                VOCABULARY.check_key(one)
        return made(values)

    def number(self, told: Any, depth: int) -> Any:
        data = bytes.fromhex(told['hex'])
        if told[KIND] == 'float':
            return struct.unpack('>d', data)[0]
        return complex(*struct.unpack('>dd', data))

    def data(self, told: Any, depth: int) -> Any:
        data = base64.b64decode(told['base64'], validate=True)
        return data if told[KIND] == 'bytes' else bytearray(data)

    def range(self, told: Any, depth: int) -> Any:
        return range(*told['items'])

    def named(self, told: Any, depth: int) -> Any:
        text = told['text']
        return _DTYPES[text] if told[KIND] == 'dtype' else torch.device(text)

    def numpy(self, told: Any, depth: int) -> Any:
        if not _NUMPY_TYPE.fullmatch(told['dtype']):
            raise ValueError(f'it has an array of {shortened(told["dtype"])}')
        data = base64.b64decode(told['base64'], validate=True)
        array: Any = np.frombuffer(bytearray(data), np.dtype(told['dtype']))
        shape = told['shape']
        return array.reshape(shape) if shape is not None else \
            array.reshape(())[()]


_KINDS: Dict[str, Callable[[_Decoder, Any, int], Any]] = {
    'tensor': _Decoder.tensor,
    'dict': _Decoder.mapping,
    'OrderedDict': _Decoder.mapping,
    'Counter': _Decoder.mapping,
    'defaultdict': _Decoder.mapping,
    'tuple': _Decoder.items,
    'set': _Decoder.items,
    'frozenset': _Decoder.items,
    'Size': _Decoder.items,
    'float': _Decoder.number,
    'complex': _Decoder.number,
    'bytes': _Decoder.data,
    'bytearray': _Decoder.data,
    'range': _Decoder.range,
    'dtype': _Decoder.named,
    'device': _Decoder.named,
    'numpy': _Decoder.numpy,
}
