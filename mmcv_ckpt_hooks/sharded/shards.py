"""What of a run is written in shards: tensors of model and optimizers.

Each rank has its own part of what is spread over them; what all of them have
alike may be written by any.
"""
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import torch

from .. import distributed
from ..errors import CheckpointError
from ..folders.layout import MODEL, optimizer_prefix
from ..optimizers import Optimizers, spread
from ..state import is_replicated, model_state

#: How torch's own converter puts a tensor back: the keys of nested dicts.
Path = Tuple[str, ...]


@dataclass
class Shards:
    """The tensors of one save that a rank has, and what is none.

    Args:
        tensors (dict[str, Tensor]): By their names in the checkpoint; live.
        paths (dict[str, tuple[str]]): Of each, the keys in nested dicts.
        rest (dict): The fields ``state_dict`` and ``optimizer`` without them.
    """
    tensors: Dict[str, torch.Tensor] = field(default_factory=dict)
    paths: Dict[str, Path] = field(default_factory=dict)
    rest: Dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, path: Path, tensor: torch.Tensor) -> None:
        """Have a tensor written."""
        self.tensors[name] = tensor.detach()
        self.paths[name] = path

    def shape(self) -> List[Tuple[Any, ...]]:
        """Return what a plan depends on; equal if the same plan fits."""
        return [(name, tuple(one.shape), one.dtype, *_division(one))
                for name, one in self.tensors.items()]


def is_sharded(tensor: Any) -> bool:
    """Whether a rank has a part of it: a DTensor or a ShardedTensor."""
    return hasattr(tensor, 'device_mesh') or hasattr(tensor, 'local_shards')


def has_shards(model: torch.nn.Module) -> bool:
    """Whether a part of a model is on other ranks."""
    return is_wrapped_by_fsdp(model) or any(
        is_sharded(one) for one in model.parameters())


def refuse_spread(optimizers: Optimizers) -> None:
    """Refuse what gathers its state on one rank.

    Raises:
        CheckpointError: If there is such an optimizer.
    """
    for one in spread(optimizers):
        raise CheckpointError(
            f"format='dcp' cannot save {type(one).__name__}: its state is "
            "gathered on one rank. Use format='pth', or FSDP2 (fully_shard) "
            'with a plain optimizer')


def collect(model: torch.nn.Module, optimizers: Optimizers) -> Shards:
    """Return what this rank has of model and optimizers; nothing is copied.

    Buffers are those of rank 0, as in a checkpoint of one file: ranks may
    have different ones.

    Args:
        model (Module): Wrapped or not.
        optimizers (Optimizer | dict, optional): One, or several by name; None
            if they are not saved.

    Order: on all ranks; FSDP communicates.
    """
    found = Shards()
    is_first = distributed.rank() == 0
    # what every rank trains by itself is rank 0's, as in one file
    is_shared = is_first or is_replicated(model) or has_shards(model)
    state = _model_state(model)
    rest: Any = OrderedDict()
    rest._metadata = getattr(state, '_metadata', OrderedDict())
    names: Dict[int, str] = {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            rest[name] = value
            continue
        names.setdefault(id(value), name)
        is_parameter = isinstance(value, torch.nn.Parameter)
        if is_sharded(value) or is_first or is_shared and is_parameter:
            found.add(MODEL + name, ('state_dict', name), value)
    found.rest['state_dict'] = rest
    if isinstance(optimizers, dict):
        found.rest['optimizer'] = {
            name: _add_optimizer(found, model, one, name, names, is_shared)
            for name, one in optimizers.items()
        }
    elif optimizers is not None:
        found.rest['optimizer'] = _add_optimizer(found, model, optimizers, '',
                                                 names, is_shared)
    return found


def _add_optimizer(found: Shards, model: torch.nn.Module, optimizer: Any,
                   name: str, names: Mapping[int, str],
                   is_shared: bool) -> Dict[str, Any]:
    """Add an optimizer's tensors; return the rest of its state."""
    packed, of_position = _optimizer_state(model, optimizer, names)
    state: Dict[Any, Dict[str, Any]] = {}
    for position, values in packed['state'].items():
        for key, value in values.items():
            if not isinstance(value, torch.Tensor):
                state.setdefault(position, {})[key] = value
            elif is_sharded(value) or is_shared:
                parameter = of_position[position]
                path = ('optimizer', name, 'state', parameter, key)
                found.add(f'{optimizer_prefix(name)}{parameter}.{key}',
                          tuple(part for part in path if part), value)
    return dict(
        state=state,
        param_groups=packed['param_groups'],
        param_names=of_position)


def _optimizer_state(model: torch.nn.Module, optimizer: Any,
                     names: Mapping[int, str]) -> Tuple[Any, List[str]]:
    """Return a state by position, and the parameter of each position."""
    if is_wrapped_by_fsdp(model):
        from torch.distributed.checkpoint.state_dict import \
            get_optimizer_state_dict
        return _by_position(get_optimizer_state_dict(model, optimizer))
    parameters = [
        one for group in optimizer.param_groups for one in group['params']
    ]
    return optimizer.state_dict(), [
        names.get(id(one), str(index)) for index, one in enumerate(parameters)
    ]


def _by_position(state: Any) -> Tuple[Any, List[str]]:
    """Turn a state by name into that of a plain optimizer."""
    names = [
        name for group in state['param_groups'] for name in group['params']
    ]
    places = {name: index for index, name in enumerate(names)}
    groups = [{
        **group, 'params': [places[name] for name in group['params']]
    } for group in state['param_groups']]
    values = {places[name]: value for name, value in state['state'].items()}
    return dict(state=values, param_groups=groups), names


def _model_state(model: torch.nn.Module) -> Mapping[str, Any]:
    if is_wrapped_by_fsdp(model):
        from torch.distributed.checkpoint.state_dict import \
            get_model_state_dict
        return get_model_state_dict(model)
    return model_state(model)


def is_wrapped_by_fsdp(model: torch.nn.Module) -> bool:
    """Whether FSDP has flattened parameters (not FSDP2, which has DTensors).
    """
    # not imported for it: only who has such a model needs it
    return any(kind.__name__ == 'FullyShardedDataParallel'
               for one in model.modules() for kind in type(one).__mro__)


def _division(tensor: Any) -> Iterator[Any]:
    """Yield how a tensor is divided among the ranks."""
    if hasattr(tensor, 'local_shards'):
        for shard in tensor.local_shards():
            yield tuple(shard.metadata.shard_offsets)
            yield tuple(shard.metadata.shard_sizes)
    elif is_sharded(tensor):
        yield str(tensor.placements)
        yield str(tensor.device_mesh)
