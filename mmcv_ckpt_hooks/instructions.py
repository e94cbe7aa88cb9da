"""Which instructions the pickle of weights needs, and no others.

Standard library only: who only looks needs neither torch nor numpy.
"""
import pickle
import reprlib
from typing import Any

from .errors import CorruptError, UnsafeCheckpointError

#: Python's own unpickler, which unlike the C version asks its table for every
#: instruction.
Unpickler: Any = getattr(pickle, '_Unpickler')

#: Instructions for which CPython's own code is right.
_HARMLESS_NAMES = (
    'PROTO FRAME MARK POP POP_MARK MEMOIZE BINPUT LONG_BINPUT BINGET '
    'LONG_BINGET NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 '
    'BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES '
    'BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST EMPTY_DICT '
    'EMPTY_SET GLOBAL STACK_GLOBAL BINPERSID')


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


class Malformed(CorruptError):
    """A pickle that no program writes; the caller adds which file."""


class Refused(UnsafeCheckpointError):
    """A pickle that asks for more than weights; the caller adds the file."""


def harmless() -> Any:
    """Return the table of the instructions that stay as they are."""
    numbers = [getattr(pickle, name)[0] for name in _HARMLESS_NAMES.split()]
    return {number: Unpickler.dispatch[number] for number in numbers}


def refused_name(module: str, name: str) -> Refused:
    """Return the error for a name that is not allowed."""
    wanted = f'{module}.{name}'[:100]
    return Refused(f'it names {wanted}, which is not needed to hold weights: '
                   'loading it could run code')


def refuse_instruction(machine: Any) -> None:
    """Stand in the table for every other instruction."""
    raise Refused('its pickle has an instruction that is not needed to hold '
                  'weights: it could run code')
