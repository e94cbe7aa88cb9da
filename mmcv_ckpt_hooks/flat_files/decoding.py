"""Trees of values from JSON, see :mod:`tree_text`: what both readers have.

One of them builds the values, the other describes them. Nothing is imported
or called for a text: it may be hostile. Standard library only.
"""
import base64
import math
import re
import struct
from collections import Counter, OrderedDict, defaultdict
from typing import Any, Callable, Dict, List, Optional

from ..errors import CorruptError
from ..instructions import shortened
from ..outline import NumpyType, numpy_type
from ..unfolding import unfolds_without_end
from ..vocabulary import Vocabulary
from ..wording import counted
from .header import MAX_DIMENSIONS

KIND = '$'
#: Deeper trees would meet Python's recursion limit, here or in the writer.
DEPTH_LIMIT = 100
#: Numbers, texts and times of numpy: no objects.
NUMPY_TYPE = re.compile(r'[<>|=]?(?:[biufcSU]\d{1,9}|[mM]8(?:\[\d{0,9}'
                        r'(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)')

#: ``tensor(name)`` returns the tensor of a name; ``KeyError`` if there is
#: none.
TensorOf = Callable[[str], Any]


class Decoder:
    """Returns the tree that was encoded.

    Args:
        tensor (callable): See :data:`TensorOf`.
    """
    vocabulary: Vocabulary

    def __init__(self, tensor: TensorOf) -> None:
        self._tensor = tensor

    def decode(self, told: Any) -> Any:
        """Decode what ``json.loads`` gave.

        Raises:
            CorruptError: If it tells no tree.
        """
        try:
            tree = self._decode(told)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError,
                struct.error, RuntimeError) as error:
            raise CorruptError(f'{type(error).__name__}: {str(error)[:200]}') \
                from error
        if unfolds_without_end(tree):
            raise CorruptError('the same parts stand in it again and again')
        return tree

    def size(self, lengths: List[Any]) -> Any:
        """Return a ``torch.Size``."""
        raise NotImplementedError

    def dtype(self, text: str) -> Any:
        """Return a type of torch; ``KeyError`` if there is none."""
        raise NotImplementedError

    def device(self, text: str) -> Any:
        """Return a device; ``RuntimeError`` if there is none."""
        raise NotImplementedError

    def values(self, code: str, kind: NumpyType, shape: Optional[List[int]],
               data: bytes) -> Any:
        """Return values of numpy.

        Args:
            code (str): Of their type, with the order of its bytes.
            kind (NumpyType): The same.
            shape (list[int], optional): Of an array; None of a scalar.
            data (bytes): They fit.
        """
        raise NotImplementedError

    def _decode(self, told: Any, depth: int = 0) -> Any:
        if depth > 2 * DEPTH_LIMIT:
            raise ValueError('it is nested too deep')
        if isinstance(told, list):
            return [self._decode(one, depth + 1) for one in told]
        if not isinstance(told, dict):
            return told
        if KIND not in told:
            return {
                key: self._decode(one, depth + 1)
                for key, one in told.items()
            }
        kind = told[KIND]
        if kind not in _KINDS:
            raise ValueError(f'it names {shortened(kind)}')
        return _KINDS[kind](self, told, depth + 1)

    def _named_tensor(self, told: Any, depth: int) -> Any:
        return self._tensor(told['name'])

    def _mapping(self, told: Any, depth: int) -> Any:
        found: Any = {
            'dict': dict,
            'OrderedDict': OrderedDict,
            'Counter': Counter
        }.get(told[KIND], defaultdict)()
        for key, item in told['items']:
            plain = self._decode(key, depth)
            self.vocabulary.check_key(plain)
            found[plain] = self._decode(item, depth)
        if 'metadata' in told:
            found._metadata = self._decode(told['metadata'], depth)
        return found

    def _items(self, told: Any, depth: int) -> Any:
        values = self._decode(list(told['items']), depth)
        if told[KIND] == 'Size':
            return self.size(values)
        if told[KIND] == 'tuple':
            return tuple(values)
        for one in values:
            self.vocabulary.check_key(one)
        return set(values) if told[KIND] == 'set' else frozenset(values)

    def _number(self, told: Any, depth: int) -> Any:
        data = bytes.fromhex(told['hex'])
        if told[KIND] == 'float':
            return struct.unpack('>d', data)[0]
        return complex(*struct.unpack('>dd', data))

    def _data(self, told: Any, depth: int) -> Any:
        data = base64.b64decode(told['base64'], validate=True)
        return data if told[KIND] == 'bytes' else bytearray(data)

    def _range(self, told: Any, depth: int) -> Any:
        return range(*told['items'])

    def _of_torch(self, told: Any, depth: int) -> Any:
        text = told['text']
        return self.dtype(text) if told[KIND] == 'dtype' else \
            self.device(text)

    def _of_numpy(self, told: Any, depth: int) -> Any:
        code, shape = told['dtype'], told['shape']
        if not NUMPY_TYPE.fullmatch(code):
            raise ValueError(f'it has an array of {shortened(code)}')
        kind = numpy_type(code)
        data = base64.b64decode(told['base64'], validate=True)
        if shape is None:
            expected = kind.itemsize
        elif not kind.itemsize or not _are_lengths(shape):
            # without bytes, they would be any number of values
            raise ValueError(f'it has an array of {shortened(code)} and '
                             f'shape {shortened(shape)}')
        else:
            expected = math.prod(shape) * kind.itemsize
        if len(data) != expected:
            raise ValueError(f'values of {shortened(code)} have '
                             f'{counted(len(data), "bytes")}, expected '
                             f'{shortened(expected)}')
        return self.values(code, kind, shape, data)


def _are_lengths(shape: Any) -> bool:
    return isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS and all(
        type(length) is int and 0 <= length < 1 << 63 for length in shape)


_KINDS: Dict[str, Callable[[Decoder, Any, int], Any]] = {
    'tensor': Decoder._named_tensor,
    'dict': Decoder._mapping,
    'OrderedDict': Decoder._mapping,
    'Counter': Decoder._mapping,
    'defaultdict': Decoder._mapping,
    'tuple': Decoder._items,
    'set': Decoder._items,
    'frozenset': Decoder._items,
    'Size': Decoder._items,
    'float': Decoder._number,
    'complex': Decoder._number,
    'bytes': Decoder._data,
    'bytearray': Decoder._data,
    'range': Decoder._range,
    'dtype': Decoder._of_torch,
    'device': Decoder._of_torch,
    'numpy': Decoder._of_numpy,
}
