"""Tensors and numpy values from the arguments that stand in a pickle.

Nothing allocates more than its arguments already hold; see :mod:`building`.
"""
from typing import Any

import numpy as np
import torch

from . import building


class Tensors(building.Tensors):
    """Tensors of torch."""

    dtype, made = torch.dtype, torch.Tensor

    def numel(self, flat: torch.Tensor) -> int:
        return flat.numel()

    def retyped(self, flat: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return flat.view(dtype)

    def view(self, flat: torch.Tensor, offset: int, size: Any, stride: Any,
             metadata: Any) -> torch.Tensor:
        tensor = torch.as_strided(flat, size, stride, offset)
        # lazy conjugation and negation: without them the values are wrong
        flags = metadata if type(metadata) is dict else {}
        if flags.get('conj') is True:
            tensor = tensor.conj()
        if flags.get('neg') is True:
            tensor = torch._neg_view(tensor)
        # else it would keep what it views, whatever becomes of it
        return tensor.detach()


class Dtype(building.Dtype):
    """A numpy dtype under construction."""

    def finished(self) -> Any:
        return np.dtype(self._code)

    def scalar(self, data: bytes) -> Any:
        kind = self.finished()
        return np.frombuffer(data, kind)[0] if data else kind.type()


class Array(building.Array):
    """A numpy array under construction."""

    def __init__(self) -> None:
        self._array: Any = np.empty(0)

    def fill(self, shape: Any, kind: Any, data: bytes, fortran: bool) -> None:
        array: Any = np.ndarray(
            shape, kind, data or None, order='F' if fortran else 'C')
        self._array = array.astype(kind.newbyteorder('='), order='K')

    def finished(self) -> Any:
        return self._array
