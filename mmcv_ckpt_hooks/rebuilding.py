"""Tensors and numpy values from the arguments that stand in a pickle.

Nothing allocates more than its arguments already hold; see :mod:`building`.
"""
from typing import Any

import numpy as np
import torch

from . import building
from .building import Storage, check_view
from .instructions import Malformed, shortened


def rebuild_tensor(storage: Any,
                   offset: Any,
                   size: Any,
                   stride: Any,
                   requires_grad: Any = False,
                   hooks: Any = None,
                   metadata: Any = None) -> torch.Tensor:
    """View a storage as a tensor, within its bounds."""
    if type(storage) is not Storage:
        raise Malformed(f'a tensor is built on {shortened(storage)}')
    check_view(storage.flat.numel(), offset, size, stride)
    tensor = torch.as_strided(storage.flat, size, stride, offset)
    # lazy conjugation and negation: without them the values are wrong
    flags = metadata if type(metadata) is dict else {}
    if flags.get('conj') is True:
        tensor = tensor.conj()
    if flags.get('neg') is True:
        tensor = torch._neg_view(tensor)
    # else it would keep what it views, whatever becomes of it
    return tensor.detach()


def rebuild_typed_tensor(storage: Any,
                         offset: Any,
                         size: Any,
                         stride: Any,
                         requires_grad: Any,
                         hooks: Any,
                         dtype: Any,
                         metadata: Any = None) -> torch.Tensor:
    """View an untyped storage as a tensor, within its bounds."""
    if type(storage) is not Storage or type(dtype) is not torch.dtype:
        raise Malformed(f'a tensor is built on {shortened(storage)} as '
                        f'{shortened(dtype)}')
    typed = Storage(storage.flat.view(dtype))
    return rebuild_tensor(typed, offset, size, stride, metadata=metadata)


def rebuild_parameter(data: Any,
                      requires_grad: Any = True,
                      hooks: Any = None) -> torch.Tensor:
    """Return the tensor itself: what is loaded needs no gradient."""
    if type(data) is not torch.Tensor:
        raise Malformed(f'a parameter is built on {shortened(data)}')
    return data


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
