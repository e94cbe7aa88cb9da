"""The parts of a loaded checkpoint into a model and its optimizers."""
from collections import OrderedDict
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import torch
from mmcv.runner.checkpoint import load_state_dict
from torch.optim import Optimizer

from .compat import keeps_loaded_tensors
from .mapping import detach, release
from .optimizers import Optimizers, listed

#: End of the keys of what modules save beside their tensors.
_EXTRA_STATE = '_extra_state'


def restore_model(model: torch.nn.Module, saved: Mapping[str, Any],
                  logger: Any) -> None:
    """Load the weights that fit; mmcv logs which do not.

    Args:
        model (Module): Without wrappers.
        saved (dict): Its state dict.
        logger (Logger): The runner's.
    """
    # a module keeps this one
    detach([saved[key] for key in saved if key.endswith(_EXTRA_STATE)])
    saved = _without_buffers(model, saved)
    with _released_behind(model, saved):
        load_state_dict(model, saved, False, logger)
    # so may modules of a repo with others
    detach([vars(module) for module in model.modules()])


def _without_buffers(model: torch.nn.Module,
                     saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Set the buffers that torch does not save; return the other weights.

    mmcv saves them, and cannot load them. Of those whose shape is another
    (caches that grow) mmcv logs that they are left over.

    Source: mmcv v1.7.2 runner/checkpoint.py, ``_save_to_state_dict``.
    """
    left: 'OrderedDict[str, Any]' = OrderedDict(saved)
    setattr(left, '_metadata', getattr(saved, '_metadata', OrderedDict()))
    for path, module in model.named_modules():
        # torch < 1.6 has none
        for name in getattr(module, '_non_persistent_buffers_set', ()):
            key = f'{path}.{name}' if path else name
            buffer, value = module._buffers.get(name), left.get(key)
            if buffer is not None and isinstance(value, torch.Tensor) and \
                    buffer.shape == value.shape:
                with torch.no_grad():
                    buffer.copy_(left.pop(key))
    return left


@contextmanager
def _released_behind(model: torch.nn.Module,
                     saved: Mapping[str, Any]) -> Iterator[None]:
    """Release what a module has copied before the next one copies.

    Pages of a mapped file count as memory of the process; beside the state of
    the optimizer, which is loaded already, the weights would be there twice.
    """
    of_modules: Dict[str, List[Any]] = {}
    for key, value in saved.items():
        prefix = key[:key.rfind('.') + 1]
        of_modules.setdefault(prefix, []).append(value)
    copied: List[Any] = []

    def release_copied(_: Any, prefix: str, *__: Any) -> None:
        release(copied)
        copied[:] = of_modules.get(prefix, [])

    hooks = [
        module._register_load_state_dict_pre_hook(release_copied)
        for module in model.modules()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def restore_optimizer(optimizer: Optimizers, saved: Mapping[str, Any]) -> None:
    """Load the state of one optimizer or, by name, of several.

    Raises:
        KeyError: If the checkpoint lacks one of several optimizers.
        ValueError: If the parameter groups do not fit (from torch).
    """
    if isinstance(optimizer, dict):
        for name, one in optimizer.items():
            _load_optimizer(one, saved[name])
    elif optimizer is not None:
        _load_optimizer(optimizer, dict(saved))


def copied_fields(optimizer: Optimizers) -> Tuple[str, ...]:
    """Fields of a checkpoint whose tensors are not kept as they are loaded.

    Args:
        optimizer (Optimizer | dict): The one that will load it; None for
            none.
    """
    keeps = [
        has_own_load(one)
        or keeps_loaded_tensors() and not any(parameter.is_cuda
                                              for group in one.param_groups
                                              for parameter in group['params'])
        for one in listed(optimizer)
    ]
    return ('state_dict', ) if any(keeps) else ('state_dict', 'optimizer')


def has_own_load(optimizer: Any) -> bool:
    """Whether an optimizer may keep what it is given in any place."""
    return getattr(type(optimizer), 'load_state_dict',
                   None) is not Optimizer.load_state_dict


def _load_optimizer(optimizer: Any, saved: Dict[str, Any]) -> None:
    optimizer.load_state_dict(saved)
    # of one on a GPU torch >= 2.1 keeps the counters of steps as they are
    detach(vars(optimizer))
