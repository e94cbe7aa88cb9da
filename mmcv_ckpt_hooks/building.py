"""What the instructions of a pickle build on: checked parts, in two shapes.

A resume builds tensors and numpy values of them (:mod:`rebuilding`); who only
looks builds stand-ins (:mod:`outline`). The checks are here, so that neither
takes what the other refuses. Every argument is checked before it is used: a
file may be hostile. Standard library only.
"""
import math
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict

from .instructions import Malformed, Refused, shortened
from .wording import counted

#: What torch and numpy count in.
_MAX_NUMBER = (1 << 63) - 1
#: Dimensions: those of a numpy array end there, and the product of a million
#: large lengths takes for ever.
_MAX_DIMENSIONS = 64


@dataclass(frozen=True, repr=False)
class Storage:
    """A storage: flat, on the CPU; bytes if it is untyped."""
    flat: Any

    def __repr__(self) -> str:
        return 'a storage'


def check_counts(values: Any, what: str) -> None:
    """Check for a tuple of ints that are not negative."""
    if not isinstance(values, tuple) or any(
            type(value) is not int or not 0 <= value <= _MAX_NUMBER
            for value in values):
        raise Malformed(f'{what} is {shortened(values)}')


def check_view(storage_numel: int, offset: Any, size: Any,
               stride: Any) -> None:
    """Check that a tensor lies within its storage."""
    check_counts((offset, ), "a tensor's offset")
    _check_lengths(size, "a tensor's size")
    _check_lengths(stride, "a tensor's stride")
    if len(size) != len(stride) or math.prod(filter(None, size)) > _MAX_NUMBER:
        raise Malformed(f'a tensor has size {shortened(size)} and stride '
                        f'{shortened(stride)}')
    stop = offset
    if all(size):
        stop += 1 + sum(
            (length - 1) * step for length, step in zip(size, stride))
    # INVARIANT: as_strided does not check in every version of torch
    if stop > storage_numel:
        raise Malformed(
            f'a tensor of size {shortened(size)} and stride '
            f'{shortened(stride)} at offset {offset} reaches beyond its '
            f'storage of {counted(storage_numel, "elements")}')


def _check_lengths(values: Any, what: str) -> None:
    if isinstance(values, tuple) and len(values) > _MAX_DIMENSIONS:
        raise Malformed(f'{what} has {len(values)} dimensions')
    check_counts(values, what)


class Tensors:
    """Builds tensors, with the arguments that torch's own functions have.

    Subclasses say what a storage's content and a tensor are.

    Source: torch/_utils.py, ``_rebuild_tensor_v2`` and the like.
    """

    #: types of a dtype and of a tensor
    dtype: Any
    made: Any

    def numel(self, flat: Any) -> int:
        """Return the elements of a storage's content."""
        raise NotImplementedError

    def retyped(self, flat: Any, dtype: Any) -> Any:
        """Return it as another type."""
        raise NotImplementedError

    def view(self, flat: Any, offset: int, size: Any, stride: Any,
             metadata: Any) -> Any:
        """Return a tensor, which lies within it."""
        raise NotImplementedError

    def calls(self) -> Dict[str, Callable[..., Any]]:
        """Return the functions by the names that pickles have for them."""
        return {
            'torch._utils._rebuild_tensor': self.tensor,
            'torch._utils._rebuild_tensor_v2': self.tensor,
            'torch._utils._rebuild_tensor_v3': self.typed_tensor,
            'torch._utils._rebuild_parameter': self.parameter,
        }

    def tensor(self,
               storage: Any,
               offset: Any,
               size: Any,
               stride: Any,
               requires_grad: Any = False,
               hooks: Any = None,
               metadata: Any = None) -> Any:
        """View a storage as a tensor, within its bounds."""
        if type(storage) is not Storage:
            raise Malformed(f'a tensor is built on {shortened(storage)}')
        check_view(self.numel(storage.flat), offset, size, stride)
        return self.view(storage.flat, offset, size, stride, metadata)

    def typed_tensor(self,
                     storage: Any,
                     offset: Any,
                     size: Any,
                     stride: Any,
                     requires_grad: Any,
                     hooks: Any,
                     dtype: Any,
                     metadata: Any = None) -> Any:
        """View an untyped storage as a tensor, within its bounds."""
        if type(storage) is not Storage or type(dtype) is not self.dtype:
            raise Malformed(f'a tensor is built on {shortened(storage)} as '
                            f'{shortened(dtype)}')
        typed = Storage(self.retyped(storage.flat, dtype))
        return self.tensor(typed, offset, size, stride, metadata=metadata)

    def parameter(self,
                  data: Any,
                  requires_grad: Any = True,
                  hooks: Any = None) -> Any:
        """Return the tensor itself: what is loaded needs no gradient."""
        if type(data) is not self.made:
            raise Malformed(f'a parameter is built on {shortened(data)}')
        return data


class Unfinished:
    """A numpy value under construction; another takes its place."""

    def build(self, state: Any) -> None:
        """Take over what BUILD hands over."""
        raise NotImplementedError

    def finished(self) -> Any:
        """Return the value."""
        raise NotImplementedError


class Dtype(Unfinished):
    """A numpy dtype; neither objects nor fields."""

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

    def scalar(self, data: bytes) -> Any:
        """Return a value of this type from its bytes, which fit."""
        raise NotImplementedError


class Array(Unfinished):
    """A numpy array: its content comes with BUILD."""

    def build(self, state: Any) -> None:
        """Take over shape, type and bytes."""
        if type(state) is not tuple or len(state) != 5:
            raise Malformed(f'a numpy array has the state {shortened(state)}')
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, Dtype) or type(data) is not bytes:
            raise Refused('it holds a numpy array of objects')
        _check_lengths(shape, "a numpy array's shape")
        kind = dtype.finished()
        if math.prod(shape) * kind.itemsize != len(data) or \
                not kind.itemsize:
            raise Malformed(f'a numpy array of shape {shortened(shape)} and '
                            f'type {kind} has {counted(len(data), "bytes")}')
        self.fill(shape, kind, data, bool(fortran))

    def fill(self, shape: Any, kind: Any, data: bytes, fortran: bool) -> None:
        """Take over parts that fit together."""
        raise NotImplementedError


def build_scalar(dtype: Any, data: Any = None) -> Any:
    """Return a numpy scalar."""
    if not isinstance(dtype, Dtype) or type(data) is not bytes:
        raise Refused('it holds a numpy scalar that is an object')
    kind = dtype.finished()
    if kind.itemsize != len(data):
        raise Malformed(f'a numpy scalar of type {kind} has '
                        f'{counted(len(data), "bytes")}')
    return dtype.scalar(data)
