"""Whether ``resume_state`` of a loaded checkpoint can be gone on from.

The generators of the ranks are looked at in :mod:`checkpoint_fields`.
"""
import numbers
from typing import Any, Callable, Mapping, Tuple

import torch

from .counting import is_count
from .held_generators import try_state
from .run_fields import wrong
from .wording import counted

#: What torch takes for a seed.
_SEEDS = range(-1 << 63, 1 << 64)
#: Of a position in the data; see ``TrackedLoader.position``.
_COUNTS = ('epoch', 'length', 'passes', 'used')

#: Batches of a loader for each finished iteration: validations take more than
#: one, and a smaller batch makes more of those that are used.
_BATCHES_PER_STEP = 1000

_Fits = Callable[[Any], bool]


def resume_state_defect(state: Mapping[str, Any], finished: int) -> str:
    """Say what no run could use; empty if there is nothing.

    Args:
        state (dict): ``resume_state``.
        finished (int): Iterations, as the checkpoint counts them.
    """
    for key, expected, fits in _FIELDS:
        # None is taken for "not there"
        if state.get(key) is not None and not fits(state[key]):
            return wrong(f'resume_state[{key!r}]', expected, state[key])
    ranks = (state.get('data') or {}).get('ranks', [])
    if not _are_dicts(ranks):
        return wrong('the data of the ranks', 'a list of dicts', ranks)
    for rank in ranks:
        seed, loaders = rank.get('seed', 0), rank.get('loaders', [])
        if not _is_seed(seed):
            return wrong('the seed of the data', 'a number of 64 bits', seed)
        if not _are_dicts(loaders):
            return wrong('the data loaders', 'a list of dicts', loaders)
        for position in loaders:
            defect = _position_defect(position, finished)
            if defect:
                return defect
    return ''


def used_defect(used: int, length: int, finished: int) -> str:
    """Say that so many batches cannot be used; empty if they can.

    The pass of an infinite sampler has no end: a number that no run comes to
    would be passed over batch by batch for ever.

    Args:
        used (int): Batches of a pass.
        length (int): Of the pass, as the loader tells; 0 if it does not.
        finished (int): Iterations.
    """
    if used <= length or used <= _BATCHES_PER_STEP * (finished + 1):
        return ''
    return wrong(
        "'used' of a data loader",
        f'a number that {counted(finished, "iterations")} can come to', used)


def _position_defect(position: Mapping[str, Any], finished: int) -> str:
    for key in _COUNTS:
        # without 'used' it says nothing of the pass
        if (key in position or 'used' in position) and \
                not is_count(position.get(key)):
            return wrong(f'{key!r} of a data loader', 'a number of steps',
                         position.get(key))
    if 'used' in position:
        defect = used_defect(position['used'], position['length'], finished)
        if defect:
            return defect
    samplers = position.get('samplers', [])
    if not _are_dicts(samplers) or not all(
            _is_seed(value) for one in samplers for value in one.values()):
        return wrong('what samplers shuffle by', 'a list of dicts of numbers',
                     samplers)
    states = position.get('generators', [])
    if not isinstance(states, (list, tuple)):
        return wrong('the generators of samplers', 'a list', states)
    try:
        for state in states:
            try_state(state)
    except (TypeError, ValueError, LookupError, RuntimeError,
            OverflowError) as error:
        return ('the state of a generator of a sampler is none '
                f'({type(error).__name__}: {str(error)[:200]})')
    return ''


def _is_seed(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and int(value) in _SEEDS


def _are_dicts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and \
        all(isinstance(one, dict) for one in value)


def _has_names(value: Any) -> bool:
    return isinstance(value, dict) and \
        all(isinstance(name, str) for name in value)


def _are_tensors(value: Any) -> bool:
    return _has_names(value) and \
        all(isinstance(one, torch.Tensor) for one in value.values())


_FIELDS: Tuple[Tuple[str, str, _Fits], ...] = (
    ('lineage', 'text', lambda value: isinstance(value, str)),
    ('world_size', 'a number of ranks', is_count),
    ('gradients', 'tensors by parameter', _are_tensors),
    ('hooks', 'states by hook', _has_names),
    ('apex', 'settings of apex', _has_names),
    ('data', 'a dict', lambda value: isinstance(value, dict)),
)
