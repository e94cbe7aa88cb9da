"""Which instructions and names the pickle of weights needs, and no others.

Standard library only: who only looks needs neither torch nor numpy.
"""
import pickle
import re
from typing import Any

from .errors import CorruptError, UnsafeCheckpointError

#: Python's own unpickler, which unlike the C version asks its table for every
#: instruction.
Unpickler: Any = getattr(pickle, '_Unpickler')

#: Instructions for which CPython's own code is right.
_HARMLESS_NAMES = (
    'PROTO FRAME STOP MARK POP POP_MARK MEMOIZE BINPUT LONG_BINPUT BINGET '
    'LONG_BINGET NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 '
    'BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES '
    'BINBYTES8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST EMPTY_DICT '
    'EMPTY_SET GLOBAL STACK_GLOBAL BINPERSID')

_NAMES = frozenset(
    f'{module}.{name}' for module, names in {
        'collections':
        'OrderedDict Counter defaultdict',
        '_codecs':
        'encode',
        'builtins':
        'range xrange set frozenset complex bytes bytearray list '
        'dict tuple float bool int long str unicode',
        'torch':
        'Size device DoubleStorage FloatStorage HalfStorage '
        'BFloat16Storage LongStorage IntStorage ShortStorage CharStorage '
        'ByteStorage BoolStorage ComplexFloatStorage ComplexDoubleStorage '
        'UntypedStorage',
        'torch.storage':
        'UntypedStorage',
        'torch._utils':
        '_rebuild_tensor _rebuild_tensor_v2 '
        '_rebuild_tensor_v3 _rebuild_parameter',
        'numpy':
        'dtype ndarray',
        'numpy.core.multiarray':
        'scalar _reconstruct',
        'numpy._core.multiarray':
        'scalar _reconstruct',
    }.items() for name in names.split())
#: Those of this torch and of later ones.
_DTYPE = re.compile(r'(bfloat|q?u?int|float|complex|bits)\d\w*|bool')


class Malformed(CorruptError):
    """A pickle that no program writes; the caller adds which file."""


class Refused(UnsafeCheckpointError):
    """A pickle that asks for more than weights; the caller adds the file."""


def harmless() -> Any:
    """Return the table of the instructions that stay as they are."""
    numbers = [getattr(pickle, name)[0] for name in _HARMLESS_NAMES.split()]
    return {number: Unpickler.dispatch[number] for number in numbers}


def is_allowed(module: str, name: str) -> bool:
    """Whether a pickle may name something; see :mod:`allowlist`."""
    if module == '__builtin__':  # of Python 2
        module = 'builtins'
    return f'{module}.{name}' in _NAMES and '.' not in name or \
        module == 'torch' and _DTYPE.fullmatch(name) is not None


def refused_name(module: str, name: str) -> Refused:
    """Return the error for a name that is not allowed."""
    wanted = f'{module}.{name}'[:100]
    return Refused(f'it names {wanted}, which is not needed to hold weights: '
                   'loading it could run code')


def refuse_instruction(machine: Any) -> None:
    """Stand in the table for every other instruction."""
    raise Refused('its pickle has an instruction that is not needed to hold '
                  'weights: it could run code')
