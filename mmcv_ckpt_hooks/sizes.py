"""How large a checkpoint will be, before there is one."""
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Set

import torch

from .compat import storage_pointer
from .optimizers import Optimizers, listed, spread
from .sharded.shards import is_sharded
from .state import unwrapped

#: Headers, padding and directory entries of one tensor (bytes), by format: in
#: a folder each has a zip of its own, and an entry in ``.metadata``.
_RECORD_BYTES = {'pth': 270, 'dcp': 1310}
#: Random generators and what else is always there (bytes).
_FIXED_BYTES = 16000

#: Tensors of a parameter's size that an optimizer of torch will have, by the
#: options of its group. Adagrad has them from the start. All but SGD count
#: the steps of each parameter in one more.
_SLOTS: Dict[str, Callable[[Mapping[str, Any]], int]] = {
    'SGD':
    lambda group: int(bool(group['momentum'])),
    'Adam':
    lambda group: 2 + int(group['amsgrad']),
    'AdamW':
    lambda group: 2 + int(group['amsgrad']),
    'Adamax':
    lambda group: 2,
    'NAdam':
    lambda group: 2,
    'RAdam':
    lambda group: 2,
    'Adadelta':
    lambda group: 2,
    'ASGD':
    lambda group: 1,
    'RMSprop':
    lambda group: 1 + int(bool(group['momentum'])) + int(group['centered']),
}


def model_bytes(model: torch.nn.Module,
                meta: Optional[Mapping[str, Any]],
                form: str = 'pth') -> int:
    """Bytes of a checkpoint without the optimizer; tied weights count once.

    Args:
        model (Module): Wrapped or not.
        meta (dict, optional): The runner's: the text of the config is large.
        form (str): ``'pth'`` or ``'dcp'``. Default: ``'pth'``.
    """
    model = unwrapped(model)
    named = [*model.named_parameters(), *model.named_buffers()]
    # a number may have more digits than Python writes out
    text = sum(
        len(value) for value in (meta or {}).values()
        if isinstance(value, str))
    names = sum(len(name) for name, _ in named)
    return _tensor_bytes((one for _, one in named), form) + names + text + \
        _FIXED_BYTES


def averages_bytes(model: torch.nn.Module, form: str = 'pth') -> int:
    """Bytes of what an EMAHook adds: another of every parameter.

    Args:
        model (Module): Wrapped or not.
        form (str): ``'pth'`` or ``'dcp'``. Default: ``'pth'``.
    """
    named = list(unwrapped(model).named_parameters())
    return _tensor_bytes((one for _, one in named), form) + \
        sum(len(f'ema_{name}') for name, _ in named)


def optimizer_bytes(optimizers: Optimizers,
                    form: str = 'pth') -> Optional[int]:
    """Bytes of the optimizer's state; a fresh one's is told by its type.

    Args:
        optimizers (Optimizer | dict): Of the runner.
        form (str): ``'pth'`` or ``'dcp'``. Default: ``'pth'``.

    Returns:
        int | None: None if its type is not known and it has no state yet.
    """
    total = 0
    for optimizer in listed(optimizers):
        # of one that is spread over ranks this one has a part
        is_known = optimizer.state and not spread(optimizer)
        nbytes = _tensor_bytes(_state_tensors(optimizer), form) \
            if is_known else _future_bytes(optimizer, form)
        if nbytes is None:
            return None
        total += nbytes
    return total


def _state_tensors(optimizer: Any) -> Iterable[torch.Tensor]:
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                yield value


def _future_bytes(optimizer: Any, form: str) -> Optional[int]:
    # the one inside of a ZeroRedundancyOptimizer
    plain = getattr(optimizer, 'optim', optimizer)
    name = type(plain).__name__
    slots = _SLOTS.get(name)
    if slots is None:
        return None
    counts, total = int(name != 'SGD'), 0
    for group in optimizer.param_groups:
        for parameter in group['params']:
            if parameter.requires_grad:
                each = parameter.numel() * parameter.element_size()
                total += slots(group) * each + \
                    (slots(group) + counts) * _RECORD_BYTES[form]
    return total


def _tensor_bytes(tensors: Iterable[torch.Tensor], form: str) -> int:
    seen: Set[Any] = set()
    total = 0
    for tensor in tensors:
        if tensor.layout is not torch.strided:
            continue  # sparse: no storage of its own; the save tells
        # what is spread over ranks has no memory of its own
        where: Any = id(tensor) if is_sharded(tensor) else \
            (storage_pointer(tensor), tensor.storage_offset())
        if tensor.numel() and where in seen:
            continue
        seen.add(where)
        total += tensor.numel() * tensor.element_size() + \
            _RECORD_BYTES[form]
    return total
