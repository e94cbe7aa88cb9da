"""Any value to builtin types, so that a checkpoint loads without trust.

``torch.load(weights_only=True)``, the default since torch 2.6, refuses numpy
scalars, ``range``, ``defaultdict`` and every class it does not know; stock
mmcv writes all of them (``best_score`` is a ``numpy.float64``, ``gpu_ids`` a
``range``).
"""
import datetime
import enum
import os
import reprlib
from collections import OrderedDict, deque
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import torch

_BUILTINS = (type(None), bool, int, float, complex, str, bytes)
#: Those of them that can always be written.
_PLAIN = frozenset((type(None), bool, float, complex, str))
#: Base classes whose subclasses lose nothing but their type.
_SCALAR_BASES: Tuple[Any, ...] = (int, float, complex, str, bytes)
#: Things with one obvious text.
_TEXTUAL = (os.PathLike, datetime.date, datetime.time, datetime.timedelta,
            np.dtype, torch.device, torch.dtype)
#: Longer integers are pickled with an instruction that torch refuses.
_INT_LIMIT_BITS = 2000
#: Deeper trees would meet Python's recursion limit, here or in the reader.
_DEPTH_LIMIT = 100

_REPR = reprlib.Repr()
_REPR.maxother = 10000


def to_portable(value: Any, where: str) -> Tuple[Any, List[str]]:
    """Copy a value, reduced to builtin types and tensors.

    The copy is deep except for tensors, which share their memory: those that
    require gradients are detached, others the same objects. ``OrderedDict``
    (with its ``_metadata``) stays one, since model state dicts are; every
    other mapping becomes a ``dict``, also ``mmcv.Config``.

    Args:
        value: Any tree of containers, numpy values, tensors and objects.
        where (str): Name of the tree, for the warnings.

    Returns:
        tuple[Any, list[str]]: The copy, and for each value that could not be
        reduced its place and type; its ``repr`` stands there instead.
    """
    reducer = _Reducer()
    return reducer.reduce(value, where), reducer.irreducible


def _is_plain(value: Any) -> bool:
    """Whether a value stays what it is, whatever it holds.

    A tensor stays the same object: it is recognised in the next checkpoint.
    """
    kind = type(value)
    return kind in _PLAIN or kind is torch.Tensor and not value.requires_grad


class _Reducer:

    def __init__(self) -> None:
        self.irreducible: List[str] = []
        self._open: Dict[int, str] = {}

    def reduce(self, value: Any, where: str) -> Any:
        if type(value) in _BUILTINS:
            return self._checked_builtin(value, where)
        if isinstance(value, torch.Tensor):
            return value if _is_plain(value) else value.detach()
        if id(value) in self._open:
            self.irreducible.append(f'{where} (contains itself)')
            return '...'
        if len(self._open) >= _DEPTH_LIMIT:
            return self._give_up(value, where, 'nested too deep')
        self._open[id(value)] = where
        try:
            return self._reduce_object(value, where)
        finally:
            del self._open[id(value)]

    def _checked_builtin(self, value: Any, where: str) -> Any:
        if type(value) is int and value.bit_length() > _INT_LIMIT_BITS:
            self.irreducible.append(f'{where} (int above 2000 bits)')
            return hex(value)
        if type(value) is bytes and not value:
            # protocol 2 writes it as a call of "bytes", which torch refuses
            return self._give_up(value, where, 'empty bytes')
        return value

    def _reduce_object(self, value: Any, where: str) -> Any:
        if isinstance(value, Mapping):
            return self._reduce_mapping(value, where)
        if isinstance(value, tuple):
            return tuple(self._reduce_items(value, where))
        if isinstance(value, (list, range, deque)):
            return self._reduce_items(value, where)
        if isinstance(value, (set, frozenset)):
            return {self._reduce_key(item, where) for item in value}
        if isinstance(value, (np.generic, np.ndarray)):
            return self._reduce_numpy(value, where)
        return self._reduce_scalar(value, where)

    def _reduce_scalar(self, value: Any, where: str) -> Any:
        if isinstance(value, enum.Enum):
            return self.reduce(value.value, where)
        for base in _SCALAR_BASES:
            if isinstance(value, base):
                # base.__new__ would call a subclass's __str__ for str
                plain = base.__str__(value) if base is str else base(value)
                return self._checked_builtin(plain, where)
        if isinstance(value, (bytearray, memoryview)):
            return self._checked_builtin(bytes(value), where)
        if isinstance(value, _TEXTUAL):
            return str(value)
        config = getattr(value, '__dict__', {}).get('_cfg_dict')
        if isinstance(config, Mapping):  # mmcv.Config
            return self.reduce(config, where)
        return self._give_up(value, where, type(value).__qualname__)

    def _reduce_numpy(self, value: Any, where: str) -> Any:
        kind = value.dtype.kind
        if kind == 'V':  # the names of its fields would be lost
            return self._give_up(value, where, f'{value.dtype} of numpy')
        if kind in 'mM':
            value = value.astype(str)
        elif value.dtype.char in 'gG':
            # no builtin type has the precision of longdouble
            value = value.astype(float if kind == 'f' else complex)
        # other items are builtin already
        plain = value.tolist()
        return plain if kind in 'biufcmMU' else self.reduce(plain, where)

    def _reduce_mapping(self, value: Mapping[Any, Any], where: str) -> Any:
        reduced: Dict[Any, Any] = {}
        if isinstance(value, OrderedDict):
            reduced = OrderedDict()
            if hasattr(value, '_metadata'):
                reduced._metadata = self.reduce(  # type: ignore[attr-defined]
                    value._metadata, f'{where}._metadata')
        for key, item in value.items():
            plain_key = key if type(key) is str else \
                self._reduce_key(key, where)
            if plain_key in reduced:
                self.irreducible.append(f'{where} (two keys {plain_key!r})')
            # almost all are plain: training waits for this
            reduced[plain_key] = item if _is_plain(item) else \
                self.reduce(item, f'{where}.{plain_key}')
        return reduced

    def _reduce_items(self, value: Any, where: str) -> List[Any]:
        return [
            item if _is_plain(item) else self.reduce(item, f'{where}[{index}]')
            for index, item in enumerate(value)
        ]

    def _reduce_key(self, key: Any, where: str) -> Any:
        return self._hashable(self.reduce(key, f'{where} (a key)'), where)

    def _hashable(self, plain: Any, where: str) -> Any:
        if isinstance(plain, torch.Tensor):
            return self._give_up(plain, f'{where} (a key)', 'Tensor')
        if isinstance(plain, dict):
            plain = list(plain.items())
        if isinstance(plain, (list, tuple)):
            return tuple(self._hashable(item, where) for item in plain)
        if isinstance(plain, set):
            items = [self._hashable(item, where) for item in plain]
            return tuple(sorted(items, key=repr))
        return plain

    def _give_up(self, value: Any, where: str, why: str) -> str:
        self.irreducible.append(f'{where} ({why})')
        # a repr that fails, or of many megabytes, must not stop a save
        return _REPR.repr_instance(value, 0)
