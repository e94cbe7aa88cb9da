"""Whether a saved optimizer fits a run, before anything of it is loaded.

torch counts groups and parameters. Whatever else is wrong shows in the first
step, with an error that names neither the file nor the tensor.
"""
from typing import Any, Iterator, List, Mapping, Tuple

import torch
from torch.optim import Optimizer

from .errors import ResumeError
from .instructions import shortened
from .state import unwrapped

#: Where there is something to resume from, load_from is passed over.
TAKE_WEIGHTS = 'take only the weights: load_from, in another work dir (and ' \
    'out_dir), or without resume in the config'
#: What a step of torch's own optimizers reads of a parameter that has a state.
_NEEDED: Mapping[str, Tuple[str, ...]] = {
    'Adam': ('exp_avg', 'exp_avg_sq'),
    'AdamW': ('exp_avg', 'exp_avg_sq'),
    'Adamax': ('exp_avg', 'exp_inf'),
    'RMSprop': ('square_avg', ),
    'Adadelta': ('square_avg', 'acc_delta'),
    'Adagrad': ('sum', ),
}
#: What has the shape of its parameter in torch's own.
_OF_ITS_SHAPE = ('exp_avg', 'exp_avg_sq', 'max_exp_avg_sq', 'exp_inf',
                 'momentum_buffer', 'square_avg', 'grad_avg', 'acc_delta',
                 'sum')


def check_fit(runner: Any, checkpoint: Mapping[str, Any], path: str) -> None:
    """Check that the optimizers of a run can go on with what was saved.

    Args:
        runner (BaseRunner): Built; nothing of it is changed.
        checkpoint (dict): Its fields were checked.
        path (str): Of the checkpoint, for the message.

    Raises:
        ResumeError: If one cannot. Weights that do not fit are left out, as
            mmcv does; with a state of the optimizer they cannot be.
    """
    saved, optimizer = checkpoint.get('optimizer'), runner.optimizer
    if saved is None or optimizer is None:
        return
    pairs = [(optimizer, saved)]
    if isinstance(optimizer, dict):
        missing = [name for name in optimizer if name not in saved]
        if missing:
            _refuse(path, f'it has no state of the optimizer {missing[0]!r}')
        pairs = [(one, saved[name]) for name, one in optimizer.items()]
    names = {
        id(parameter): name
        for name, parameter in unwrapped(runner.model).named_parameters()
    }
    for one, its in pairs:
        # who loads in a way of its own may make fit what does not
        if type(one).load_state_dict is Optimizer.load_state_dict:
            _check(one, its, names, checkpoint['state_dict'], path)


def _check(optimizer: Any, saved: Any, names: Mapping[int, str],
           weights: Mapping[str, Any], path: str) -> None:
    kind, groups = type(optimizer).__name__, saved.get('param_groups')
    if groups is None:
        _refuse(
            path, f'expected the state of one optimizer ({kind}), found the '
            f'fields {shortened(list(saved)[:5])}')
    found = [len(group['params']) for group in groups]
    expected = [len(group['params']) for group in optimizer.param_groups]
    if found != expected:
        _refuse(
            path, f'its optimizer has groups of {shortened(found)} parameters,'
            f' expected {shortened(expected)}')
    needed: Tuple[str, ...] = ()
    if _is_of_torch(optimizer):
        needed = _NEEDED.get(kind, ())
        _check_options(optimizer, groups, path)
    for parameter, state, number in _states(optimizer, saved):
        name = names.get(id(parameter), f'parameter {number}')
        lacks = [key for key in needed if key not in state]
        if lacks:
            _refuse(
                path, f'its optimizer has no {lacks[0]!r} of {name}, which '
                f'{kind} needs')
        weight = weights.get(name, weights.get(f'module.{name}'))
        for key, value in state.items():
            if _is_wrong(optimizer, key, value, parameter, weight):
                _refuse(
                    path, f'{key!r} of its optimizer for {name} has the shape '
                    f'{tuple(value.shape)}, and {name} is here '
                    f'{tuple(parameter.shape)}')


def _is_wrong(optimizer: Any, key: str, value: Any, parameter: Any,
              weight: Any) -> bool:
    """Whether a part of a parameter's state cannot be of that parameter.

    Other optimizers than torch's keep moments of other shapes on purpose, by
    row and column (Adafactor), projected to few rows (GaLore), in blocks
    (8-bit), under the same names. Of theirs that is wrong only where the file
    has the weight itself in another shape, too: it was another model.
    """
    if not isinstance(value, torch.Tensor) or not value.dim() or \
            value.shape == parameter.shape:
        return False
    if _is_of_torch(optimizer) and key in _OF_ITS_SHAPE:
        return True
    return isinstance(weight, torch.Tensor) and \
        weight.shape != parameter.shape


def _is_of_torch(optimizer: Any) -> bool:
    return type(optimizer).__module__.split('.')[:2] == ['torch', 'optim']


def _check_options(optimizer: Any, groups: List[Any], path: str) -> None:
    """Check for what a step reads of its group.

    torch fills in what versions before did not have; here it does so for
    groups that nobody uses.
    """
    trial = object.__new__(type(optimizer))
    trial.__setstate__(
        dict(
            defaults=dict(optimizer.defaults),
            state={},
            param_groups=[dict(group, params=[]) for group in groups]))
    for group in trial.param_groups:
        missing = sorted(set(optimizer.defaults) - set(group))
        if missing:
            _refuse(
                path, f'a group of its optimizer has no {missing[0]!r}, which '
                f'{type(optimizer).__name__} needs')


def _states(optimizer: Any,
            saved: Mapping[str, Any]) -> Iterator[Tuple[Any, Any, Any]]:
    """Yield each parameter that has a state, that state, and its number."""
    states = saved.get('state', {})
    for group, own in zip(saved['param_groups'], optimizer.param_groups):
        for number, parameter in zip(group['params'], own['params']):
            state = states.get(number) if isinstance(number, int) else None
            # what is frozen is not stepped
            if isinstance(state, dict) and state and parameter.requires_grad:
                yield parameter, state, number


def _refuse(path: str, why: str) -> None:
    raise ResumeError(
        f'{path} does not fit this run: {why}. Resume it with the model and '
        f'the optimizer that it was saved with, or {TAKE_WEIGHTS}')
