"""Random generators that an object holds as attributes, and their state.

Samplers shuffle with generators of their own. A state is builtin: torch's is
the tensor ``uint8[N]`` that torch gives, all others are JSON text with a
``kind``, for their numbers of 128 bits and lists of 625 fit no tensor.
"""
import json
import random
from typing import Any, Dict, List

import numpy as np
import torch

#: numpy's bit generators, by the names in their states.
_BIT_GENERATORS: Dict[str, Any] = {
    name: getattr(np.random, name)
    # PCG64DXSM came with numpy 1.21
    for name in ('PCG64', 'PCG64DXSM', 'MT19937', 'Philox', 'SFC64')
    if hasattr(np.random, name)
}
#: Words of a Mersenne Twister; numbers that a Philox makes at a time.
_WORDS, _BUFFER = 624, 4
_KINDS = (torch.Generator, random.Random, np.random.RandomState,
          np.random.Generator)


def generators_in(holder: Any) -> List[Any]:
    """Return the generators among the attributes of an object, in order.

    Not the global ones of python, numpy and torch, even if it holds them, nor
    any whose state another machine could not set: those on a GPU, of the
    operating system, or around bit generators that numpy does not have.
    """
    shared = torch.default_generator, random._inst, np.random.mtrand._rand
    return [
        value for value in getattr(holder, '__dict__', {}).values()
        if isinstance(value, _KINDS) and all(
            value is not one for one in shared) and _has_state(value)
    ]


def _has_state(generator: Any) -> bool:
    if isinstance(generator, torch.Generator):
        return bool(generator.device.type == 'cpu')
    if isinstance(generator, np.random.RandomState):
        # around another one get_state() gives a dict
        around = getattr(generator, '_bit_generator', None)
        return type(around).__name__ == 'MT19937'
    if isinstance(generator, np.random.Generator):
        return type(generator.bit_generator).__name__ in _BIT_GENERATORS
    return not isinstance(generator, random.SystemRandom)


def state_of(generator: Any) -> Any:
    """Return a generator's state; see above."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return json.dumps(dict(kind='python', state=generator.getstate()))
    if isinstance(generator, np.random.RandomState):
        # not get_state(legacy=False), which numpy < 1.19 lacks
        state: Any = generator.get_state()
        name, keys, *rest = state
        return json.dumps(
            dict(kind='RandomState', state=[name, keys.tolist(), *rest]))
    assert isinstance(generator, np.random.Generator)  # one of _KINDS
    return json.dumps(
        dict(kind='Generator', state=generator.bit_generator.state),
        default=np.ndarray.tolist)


def set_state(generator: Any, state: Any) -> None:
    """Set what :func:`state_of` returned, if it was of such a generator.

    Raises:
        TypeError, ValueError, LookupError, RuntimeError, OverflowError: If
            it is no state.
    """
    if isinstance(state, torch.Tensor):
        if isinstance(generator, torch.Generator):
            generator.set_state(state)
        return
    told = json.loads(state)
    kind, state = told['kind'], told['state']
    if kind == 'python' and isinstance(generator, random.Random):
        version, internal, gauss = state
        generator.setstate((version, tuple(internal), gauss))
    elif kind == 'RandomState' and isinstance(generator,
                                              np.random.RandomState):
        _check_position(state[2], state[1], _WORDS)
        generator.set_state(tuple(state))
    elif kind == 'Generator' and isinstance(generator, np.random.Generator):
        name = state['bit_generator']
        if name == 'MT19937':
            _check_position(state['state']['pos'], state['state']['key'],
                            _WORDS)
        elif name == 'Philox':
            _check_position(state['buffer_pos'], state['buffer'], _BUFFER)
        if type(generator.bit_generator).__name__ == name:
            generator.bit_generator.state = _with_arrays(state)


def try_state(state: Any) -> None:
    """Set a state on a generator that nobody uses.

    Raises:
        TypeError, ValueError, LookupError, RuntimeError, OverflowError: If
            it is no state.
    """
    if isinstance(state, torch.Tensor):
        torch.Generator().set_state(state)
        return
    told = json.loads(state)
    kind = told['kind']
    if kind == 'python':
        set_state(random.Random(), state)
    elif kind == 'RandomState':
        set_state(np.random.RandomState(), state)
    elif kind == 'Generator':
        made = _BIT_GENERATORS[told['state']['bit_generator']]()
        set_state(np.random.Generator(made), state)
    else:
        raise ValueError(f'no generator is a {kind!r}')


def _check_position(position: int, words: List[int], count: int) -> None:
    # INVARIANT: numpy does not check, and reads memory that is not its own
    # with a position beyond its words
    if not 0 <= position <= count or len(words) != count:
        raise ValueError(f'position {position} of {len(words)} words')


def _with_arrays(value: Any) -> Any:
    """Make arrays of the lists in the state of a bit generator."""
    if isinstance(value, dict):
        return {key: _with_arrays(item) for key, item in value.items()}
    return np.array(value, np.uint64) if isinstance(value, list) else value
