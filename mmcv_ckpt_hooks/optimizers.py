"""The optimizers of a run, and their state: whole, or spread over the ranks.

``torch.distributed.optim.ZeroRedundancyOptimizer`` (ZeRO stage 1), and what
has its methods (``OSS`` of fairscale), keep a part of it on every rank. They
gather it on one with ``consolidate_state_dict``, a collective; what
``state_dict`` returns there is the state of a plain optimizer.
"""
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Union

from torch.optim import Optimizer

from . import distributed
from .errors import CheckpointError

#: One, or several by name.
Optimizers = Union[Optimizer, Dict[str, Optimizer], None]

#: Where the gathered state is kept: torch >= 1.10; torch 1.8 and fairscale.
_GATHERED = ('_all_state_dicts', '_all_states')


def listed(optimizers: Optimizers) -> List[Optimizer]:
    """Return the optimizers, without their names."""
    if isinstance(optimizers, dict):
        return list(optimizers.values())
    return [] if optimizers is None else [optimizers]


def capture_optimizer(optimizers: Optimizers) -> Optional[Dict[str, Any]]:
    """Return the state of one optimizer or, by name, of several.

    Raises:
        CheckpointError: If a part of it is on ranks that were not asked.
    """
    if isinstance(optimizers, dict):
        return {name: _state(one) for name, one in optimizers.items()}
    return None if optimizers is None else _state(optimizers)


def spread(optimizers: Optimizers) -> List[Any]:
    """Return those optimizers whose state is on several ranks."""
    return [
        one for one in listed(optimizers)
        if callable(getattr(one, 'consolidate_state_dict', None))
    ]


@contextmanager
def consolidated(optimizers: Optimizers) -> Iterator[None]:
    """Let rank 0 have the whole state of every optimizer meanwhile.

    Order: on all ranks together, on the training thread; it communicates.
    """
    held = spread(optimizers)
    try:
        for one in held:
            # by position: the argument has another name in fairscale
            one.consolidate_state_dict(0)
        yield
    finally:
        for one in held:
            _forget(one)


def _state(optimizer: Optimizer) -> Dict[str, Any]:
    try:
        return optimizer.state_dict()
    except RuntimeError as error:
        if not spread(optimizer):
            raise
        if distributed.world_size() == 1:
            with consolidated(optimizer):
                return optimizer.state_dict()
        raise CheckpointError(
            f'a part of the state of {type(optimizer).__name__} is on other '
            'ranks, which take no part in this save. What all ranks save '
            '(by interval, at an agreed signal) is gathered before; for a '
            'save by one rank, call consolidate_state_dict on all of them'
        ) from error


def _forget(optimizer: Any) -> None:
    """Drop what was gathered: it is large, and of this step alone.

    A later save by one rank would mix it with the state of another step.
    """
    for name in _GATHERED:
        if hasattr(optimizer, name):
            setattr(optimizer, name, [])
