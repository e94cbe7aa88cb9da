"""A folder into a model that FullyShardedDataParallel has flattened.

Only torch knows which part of a parameter this rank has, and under which name:
its own functions give the parts, which are filled, and take them back. (FSDP2
needs none of it: its parameters are DTensors.)

Order: on all ranks; FSDP communicates.
"""
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping

import torch

from ..errors import ResumeError
from ..fitting import TAKE_WEIGHTS
from ..folders.layout import MODEL, REST_NAME, optimizer_prefix
from ..folders.loading import FolderCheckpoint
from ..folders.reading import Target
from ..loading import load_checkpoint
from .held_parts import held_parts
from .shards import is_wrapped_by_fsdp


def goes_through_fsdp(checkpoint: Mapping[str, Any],
                      model: torch.nn.Module) -> bool:
    """Whether torch's functions are needed: of a folder, into such a model."""
    return isinstance(checkpoint, FolderCheckpoint) and \
        is_wrapped_by_fsdp(model)


def restore_through_fsdp(checkpoint: Any, model: torch.nn.Module,
                         optimizers: Any, path: str) -> None:
    """Fill model and optimizers.

    Args:
        checkpoint (FolderCheckpoint): What was saved.
        model (Module): Without other wrappers.
        optimizers (Optimizer | dict): The run's; None to leave them.
        path (str): Of the folder, for the messages.

    Raises:
        ResumeError: If they do not fit; nothing is changed then.
    """
    from torch.distributed.checkpoint import state_dict as torchs
    weights = torchs.get_model_state_dict(model)
    targets = _targets(checkpoint, MODEL, weights, path)
    saved = checkpoint.get('optimizer')
    by_name = {} if saved is None or optimizers is None else \
        {'': (optimizers, saved)} if not isinstance(optimizers, dict) else \
        {name: (one, saved.get(name)) for name, one in optimizers.items()}
    with _as_new_on_failure([one for one, _ in by_name.values()]):
        states = {
            name: _optimizer_parts(checkpoint, model, one, name, its, path)
            for name, (one, its) in by_name.items()
        }
        for name, state in states.items():
            for parameter, values in state['state'].items():
                targets += _targets(checkpoint,
                                    f'{optimizer_prefix(name)}{parameter}.',
                                    values, path)
        checkpoint.reader.fill(targets)
    torchs.set_model_state_dict(model, weights)
    for name, state in states.items():
        # torch 2.3 takes it by its name alone
        torchs.set_optimizer_state_dict(
            model, by_name[name][0], optim_state_dict=state)


@contextmanager
def _as_new_on_failure(optimizers: List[Any]) -> Iterator[None]:
    """Take from optimizers that have no state yet what torch gives them.

    To tell the parts of their state, it lets them take a first step.
    """
    new = [one for one in optimizers if not one.state]
    try:
        yield
    except BaseException:
        for one in new:
            one.state.clear()
        raise


def _optimizer_parts(checkpoint: FolderCheckpoint, model: torch.nn.Module,
                     optimizer: Any, name: str, saved: Any,
                     path: str) -> Dict[str, Any]:
    """Return the state of an optimizer by name, with what groups had."""
    from torch.distributed.checkpoint import state_dict as torchs
    found: Dict[str, Any] = torchs.get_optimizer_state_dict(model, optimizer)
    groups = saved.get('param_groups') if isinstance(saved, dict) else None
    own = found['param_groups']
    if groups is None or [len(one['params']) for one in groups] != \
            [len(one['params']) for one in own]:
        raise ResumeError(
            f'{path} does not fit this run: its optimizer {name} has other '
            f'groups of parameters. To go on, {TAKE_WEIGHTS}')
    found['param_groups'] = [{
        **group, 'params': mine['params']
    } for group, mine in zip(groups, own)]
    _take_plain(found['state'], _plain_values(checkpoint, name),
                optimizer_prefix(name), path)
    return found


def _plain_values(checkpoint: FolderCheckpoint,
                  name: str) -> Dict[str, Mapping[str, Any]]:
    """Return what is no tensor in the state of an optimizer, by parameter.

    The fields of a checkpoint have it by position, and torch's order of the
    parameters need not be that of who has saved.
    """
    folder = checkpoint.reader.folder
    with folder.files.open(REST_NAME) as file:
        saved = load_checkpoint(file, folder.file_path(REST_NAME))['optimizer']
    if name:
        saved = saved[name]
    names = dict(enumerate(saved.get('param_names', ())))
    return {
        names[number]: values
        for number, values in saved['state'].items() if number in names
    }


def _take_plain(state: Mapping[str, Dict[str, Any]],
                saved: Mapping[str, Mapping[str, Any]], prefix: str,
                path: str) -> None:
    for parameter, values in state.items():
        its = saved.get(parameter, {})
        for key, value in values.items():
            # torch has taken a first step to make them
            if value is not None and not _is_tensor(value) and key not in its:
                raise ResumeError(
                    f'{path} does not fit this run: {prefix}{parameter}.{key} '
                    f'is missing. To go on, {TAKE_WEIGHTS}')
        values.update(its)


def _targets(checkpoint: FolderCheckpoint, prefix: str,
             parts: Mapping[str, Any], path: str) -> List[Target]:
    tensors = checkpoint.reader.folder.metadata.tensors
    found: List[Target] = []
    for key, value in parts.items():
        if not _is_tensor(value):
            continue
        saved = tensors.get(f'{prefix}{key}')
        if saved is None or saved.size != tuple(value.shape):
            there = 'is missing' if saved is None else f'has {saved.size}'
            raise ResumeError(
                f'{path} does not fit this run: {prefix}{key} {there}, '
                f'expected the shape {tuple(value.shape)}. To go on, '
                f'{TAKE_WEIGHTS}')
        found += [
            Target(f'{prefix}{key}', part, memory)
            for part, memory in held_parts(value)
        ]
    return found


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or hasattr(value, 'local_shards')
