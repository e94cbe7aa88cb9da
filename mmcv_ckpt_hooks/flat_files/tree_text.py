"""A tree of values as JSON, from which the same tree comes back.

What JSON has is written as it is; anything else is an object with the key
``$``, which says what it is. Tensors are named, and lie elsewhere.
"""
import base64
import math
import struct
from collections import Counter, OrderedDict, defaultdict
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import torch

from ..allowlist import VOCABULARY
from ..compat import torch_dtypes
from ..errors import ConfigError
from ..outline import NumpyType
from ..staging import TensorRef
from .decoding import DEPTH_LIMIT, KIND, NUMPY_TYPE, Decoder, TensorOf

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
        if len(path) > DEPTH_LIMIT:
            raise ConfigError(
                f'{_shown(path[:3])} is nested more than {DEPTH_LIMIT} deep, '
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
                NUMPY_TYPE.fullmatch(value.dtype.str):
            # of np.str_('') numpy gives four bytes
            data = value.tobytes() if value.dtype.itemsize else b''
            shape = list(value.shape) if isinstance(value, np.ndarray) \
                else None
            return {
                'dtype': value.dtype.str,
                'shape': shape,
                'base64': base64.b64encode(data).decode()
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


def decode(told: Any, tensor: TensorOf) -> Any:
    """Return the tree that was encoded.

    Args:
        told: What ``json.loads`` gave.
        tensor (callable): See :data:`TensorOf`.

    Raises:
        CorruptError: If it tells no tree.
    """
    return _Builder(tensor).decode(told)


class _Builder(Decoder):
    """Builds the values."""
    vocabulary = VOCABULARY

    def size(self, lengths: List[Any]) -> torch.Size:
        return torch.Size(lengths)

    def dtype(self, text: str) -> torch.dtype:
        return _DTYPES[text]

    def device(self, text: str) -> torch.device:
        return torch.device(text)

    def values(self, code: str, kind: NumpyType, shape: Optional[List[int]],
               data: bytes) -> Any:
        dtype: Any = np.dtype(code)
        if not kind.itemsize:
            return dtype.type()  # numpy has no array of it: np.str_('')
        array: Any = np.frombuffer(bytearray(data), dtype)
        return array.reshape(())[()] if shape is None else array.reshape(shape)
