"""Tensors and numpy values from the arguments that stand in a pickle.

Every argument is checked before it is used, and nothing allocates more than
its arguments already hold: a file may be hostile.
"""
import math
import re
import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .instructions import Malformed, Refused


class _Shortener(reprlib.Repr):

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80

    def repr_int(self, value: int, level: int) -> str:
        # as text it would take time by the square of its size
        return repr(value) if value.bit_length() < 200 else 'a huge number'

    def repr_Tensor(self, value: Any, level: int) -> str:
        return 'a tensor'


#: ``repr`` of anything in few characters, however large or nested it is.
shortened = _Shortener().repr


@dataclass(frozen=True, repr=False)
class Storage:
    """A storage that was read: flat, on the CPU; bytes if it is untyped."""
    flat: torch.Tensor

    def __repr__(self) -> str:
        return 'a storage'


def check_counts(values: Any, what: str) -> None:
    """Check for a tuple of ints that are not negative."""
    if not isinstance(values, tuple) or any(
            type(value) is not int or value < 0 for value in values):
        raise Malformed(f'{what} is {shortened(values)}')


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
    check_counts((offset, ), "a tensor's offset")
    check_counts(size, "a tensor's size")
    check_counts(stride, "a tensor's stride")
    if len(size) != len(stride) or math.prod(size) >= 1 << 63:
        raise Malformed(f'a tensor has size {shortened(size)} and stride '
                        f'{shortened(stride)}')
    stop = offset
    if all(size):
        stop += 1 + sum(
            (length - 1) * step for length, step in zip(size, stride))
    # INVARIANT: as_strided does not check in every version of torch
    if stop > storage.flat.numel():
        raise Malformed(
            f'a tensor of size {shortened(size)} and stride '
            f'{shortened(stride)} at offset {offset} reaches beyond its '
            f'storage of {storage.flat.numel()} elements')
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


class Dtype:
    """A numpy dtype under construction; neither objects nor fields."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True):
        # other codes ('O8', 'f4,i4', '(9,9)f8') are objects and structures
        if type(code) is not str or \
                not re.fullmatch(r'[<>=|]?[biufcSUV]\d{1,9}', code):
            raise Refused(f'it holds numpy values of type {shortened(code)}')
        self._code = code

    def build(self, state: Any) -> None:
        """Take over the byte order, all that a state adds to the code."""
        if type(state) is not tuple or len(state) < 5:
            raise Malformed(f'a numpy dtype has the state {shortened(state)}')
        if any(part is not None for part in state[2:5]):
            raise Refused('it holds structured numpy values')
        if state[1] in ('<', '>', '=', '|'):
            self._code = state[1] + self._code.lstrip('<>=|')

    def resolve(self) -> Any:
        return np.dtype(self._code)


class Array:
    """A numpy array under construction: its content comes with BUILD."""

    def __init__(self) -> None:
        self.array: Any = np.empty(0)

    def build(self, state: Any) -> None:
        """Take over shape, type and bytes."""
        if type(state) is not tuple or len(state) != 5:
            raise Malformed(f'a numpy array has the state {shortened(state)}')
        _, shape, dtype, fortran, data = state
        if type(dtype) is not Dtype or type(data) is not bytes:
            raise Refused('it holds a numpy array of objects')
        check_counts(shape, "a numpy array's shape")
        kind = dtype.resolve()
        if math.prod(shape) * kind.itemsize != len(data) or \
                not kind.itemsize:
            raise Malformed(f'a numpy array of shape {shortened(shape)} and '
                            f'type {kind} has {len(data)} bytes')
        array: Any = np.ndarray(
            shape, kind, data or None, order='F' if fortran else 'C')
        self.array = array.astype(kind.newbyteorder('='), order='K')


def rebuild_scalar(dtype: Any, data: Any = None) -> Any:
    """Return a numpy scalar."""
    if type(dtype) is not Dtype or type(data) is not bytes:
        raise Refused('it holds a numpy scalar that is an object')
    kind = dtype.resolve()
    if kind.itemsize != len(data):
        raise Malformed(f'a numpy scalar of type {kind} has {len(data)} bytes')
    return np.frombuffer(data, kind)[0] if data else kind.type()
