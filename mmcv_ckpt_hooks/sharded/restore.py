"""The tensors of a folder, brought to where a run holds them.

Each rank reads what overlaps with its part, whatever parts they were saved
in: any number of ranks goes on from what any other has saved.
"""
from collections import OrderedDict
from typing import Any, Dict, Iterator, List, Mapping

import torch

from ..folders.loading import FolderCheckpoint, StandInTensor
from ..folders.reading import Target, whole
from ..optimizers import Optimizers
from ..state_loading import has_own_load
from .held_parts import empty_like, held_parts


def read_model(checkpoint: Mapping[str, Any], own: Mapping[str, Any],
               saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill the tensors of a model in place, and read all others.

    Args:
        checkpoint (dict): Of a file: then nothing is done.
        own (dict): The state dict of the model, of its live tensors.
        saved (dict): That of the checkpoint, renamed for the model.

    Returns:
        dict: What :func:`state_loading.restore_model` is given: the model's
        own tensors, where they are filled; of what does not fit the values,
        as a file has them.
    """
    if not isinstance(checkpoint, FolderCheckpoint):
        return saved
    found: 'OrderedDict[str, Any]' = OrderedDict(saved)
    setattr(found, '_metadata', getattr(saved, '_metadata', OrderedDict()))
    targets: List[Target] = []
    for key, value in saved.items():
        if not isinstance(value, StandInTensor):
            continue
        live = own.get(key)
        # else a module may take it by its own rules, under another name
        found[key] = live if isinstance(live, torch.Tensor) and \
            live.shape == value.shape else \
            torch.empty(value.shape, dtype=value.dtype)
        targets += _targets(value.saved_name, found[key])
    checkpoint.reader.fill(targets)
    return found


def read_late(checkpoint: Mapping[str, Any],
              late: Mapping[str, Any]) -> Dict[str, Any]:
    """Read what has no owner yet; see :func:`ema.split_late`."""
    if not isinstance(checkpoint, FolderCheckpoint):
        return dict(late)
    return {key: _whole(checkpoint, value) for key, value in late.items()}


def read_optimizers(checkpoint: Mapping[str, Any],
                    optimizers: Optimizers) -> Any:
    """Return the state of the optimizers, with what this rank holds of it.

    It lies where the optimizer will keep it: on the device of its parameter,
    and of a sharded parameter only this rank's part.

    Args:
        checkpoint (dict): Of a file: then its own field.
        optimizers (Optimizer | dict): The run's; the checkpoint fits.
    """
    saved = checkpoint['optimizer']
    if not isinstance(checkpoint, FolderCheckpoint):
        return saved
    if isinstance(optimizers, dict):
        return {
            name: _read_optimizer(checkpoint, one, saved[name])
            for name, one in optimizers.items()
        }
    return _read_optimizer(checkpoint, optimizers, saved)


def _read_optimizer(checkpoint: FolderCheckpoint, optimizer: Any,
                    saved: Mapping[str, Any]) -> Dict[str, Any]:
    parameters = dict(_parameters(optimizer, saved))
    # it takes its own part of the whole
    takes_all = has_own_load(optimizer)
    targets: List[Target] = []
    states: Dict[Any, Any] = {}
    for number, state in saved['state'].items():
        filled = states[number] = dict(state)
        for key, value in state.items():
            if not isinstance(value, StandInTensor):
                continue
            filled[key] = torch.empty(
                value.shape, dtype=value.dtype) if takes_all else empty_like(
                    value, parameters.get(number))
            targets += _targets(value.saved_name, filled[key])
    checkpoint.reader.fill(targets)
    return {**saved, 'state': states}


def _parameters(optimizer: Any, saved: Mapping[str, Any]) -> Iterator[Any]:
    for group, own in zip(saved['param_groups'], optimizer.param_groups):
        yield from zip(group['params'], own['params'])


def _targets(name: str, tensor: torch.Tensor) -> List[Target]:
    return [Target(name, part, memory) for part, memory in held_parts(tensor)]


def _whole(checkpoint: FolderCheckpoint, value: Any) -> Any:
    if not isinstance(value, StandInTensor):
        return value
    memory = torch.empty(value.shape, dtype=value.dtype)
    checkpoint.reader.fill(
        [Target(value.saved_name, whole(value.shape), memory)])
    return memory
