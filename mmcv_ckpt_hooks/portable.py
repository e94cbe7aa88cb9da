"""Any value to builtin types, so that a checkpoint loads without trust.

``torch.load(weights_only=True)``, the default since torch 2.6, refuses numpy
scalars, ``range``, ``defaultdict`` and every class it does not know; stock
mmcv writes all of them (``best_score`` is a ``numpy.float64``, ``gpu_ids`` a
``range``).
"""
import datetime
import enum
import os
from collections import OrderedDict, deque
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import torch

_BUILTINS = (type(None), bool, int, float, complex, str, bytes)
#: Base classes whose subclasses lose nothing but their type.
_SCALAR_BASES: Tuple[Any, ...] = (int, float, complex, str, bytes)
#: Things with one obvious text.
_TEXTUAL = (os.PathLike, datetime.date, datetime.time, datetime.timedelta,
            torch.device, torch.dtype)


def to_portable(value: Any, where: str) -> Tuple[Any, List[str]]:
    """Copy a value, reduced to builtin types and tensors.

    The copy is deep except for tensors, which are detached but share their
    memory. ``OrderedDict`` (with its ``_metadata``) stays one, since model
    state dicts are; every other mapping becomes a ``dict``.

    Args:
        value: Any tree of containers, numpy values, tensors and objects.
        where (str): Name of the tree, for the warnings.

    Returns:
        tuple[Any, list[str]]: The copy, and for each value that could not be
        reduced its place and type; its ``repr`` stands there instead.
    """
    reducer = _Reducer()
    return reducer.reduce(value, where), reducer.irreducible


class _Reducer:

    def __init__(self) -> None:
        self.irreducible: List[str] = []
        self._open: Dict[int, str] = {}

    def reduce(self, value: Any, where: str) -> Any:
        if type(value) in _BUILTINS:
            return value
        if isinstance(value, torch.Tensor):
            return value.detach()
        if id(value) in self._open:
            return self._give_up(value, where, 'contains itself')
        self._open[id(value)] = where
        try:
            return self._reduce_object(value, where)
        finally:
            del self._open[id(value)]

    def _reduce_object(self, value: Any, where: str) -> Any:
        if isinstance(value, Mapping):
            return self._reduce_mapping(value, where)
        if isinstance(value, tuple):
            return tuple(self._reduce_items(value, where))
        if isinstance(value, (list, range, deque)):
            return self._reduce_items(value, where)
        if isinstance(value, (set, frozenset)):
            return set(self._reduce_items(value, where))
        return self._reduce_scalar(value, where)

    def _reduce_scalar(self, value: Any, where: str) -> Any:
        if isinstance(value, enum.Enum):
            return self.reduce(value.value, where)
        for base in _SCALAR_BASES:
            if isinstance(value, base):
                # base.__new__ would call a subclass's __str__ for str
                return base.__str__(value) if base is str else base(value)
        if isinstance(value, np.longdouble):
            return float(value)
        if isinstance(value, np.generic):
            return self.reduce(value.item(), where)
        if isinstance(value, np.ndarray) and value.dtype.kind in 'biufcSU':
            return value.tolist()
        if isinstance(value, (bytearray, memoryview)):
            return bytes(value)
        if isinstance(value, _TEXTUAL):
            return str(value)
        return self._give_up(value, where, type(value).__qualname__)

    def _reduce_mapping(self, value: Mapping[Any, Any], where: str) -> Any:
        reduced: Dict[Any, Any] = {}
        if type(value) is OrderedDict:
            reduced = OrderedDict()
            if hasattr(value, '_metadata'):
                reduced._metadata = self.reduce(  # type: ignore[attr-defined]
                    value._metadata, f'{where}._metadata')
        for key, item in value.items():
            # containers are no better as keys once they are lists
            plain_key = self.reduce(key, f'{where} (a key)')
            reduced[plain_key] = self.reduce(item, f'{where}.{plain_key}')
        return reduced

    def _reduce_items(self, value: Any, where: str) -> List[Any]:
        return [
            self.reduce(item, f'{where}[{index}]')
            for index, item in enumerate(value)
        ]

    def _give_up(self, value: Any, where: str, why: str) -> str:
        self.irreducible.append(f'{where} ({why})')
        return '...' if id(value) in self._open and why == 'contains itself' \
            else repr(value)
