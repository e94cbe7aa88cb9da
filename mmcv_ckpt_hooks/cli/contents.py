"""What a checkpoint is made of: sizes by module, and the state beside weights.

For ``mmcv-ckpt inspect``; standard library only.
"""
from typing import Any, Dict, List, Mapping, Sequence

from ..wording import counted
from .plain_values import PlainValues

_WEIGHTS = 'state_dict'
#: Fields that tell how a run goes on; of their tensors only the type.
_STATES = ('optimizer', 'amp', 'resume_state')


def sizes_by_module(tensors: Sequence[Mapping[str, Any]],
                    depth: int) -> List[Dict[str, Any]]:
    """Add up the tensors of each module, and those of each other field.

    Args:
        tensors (sequence[dict]): With ``name`` and ``bytes``.
        depth (int): How many levels of the names of weights make a module,
            at least 1: ``backbone``, ``backbone.layer1``.

    Returns:
        list[dict]: ``name``, ``tensors`` (how many) and ``bytes`` of each, in
        the order of the file.
    """
    found: Dict[str, Dict[str, Any]] = {}
    for one in tensors:
        field, *levels = str(one['name']).split('.')
        # the last level is the tensor itself
        inside = levels[:min(depth, len(levels) - 1)] \
            if field == _WEIGHTS else []
        name = '.'.join([field, *inside])
        module = found.setdefault(name, {
            'name': name,
            'tensors': 0,
            'bytes': 0
        })
        module['tensors'] += 1
        module['bytes'] += one['bytes']
    return list(found.values())


def states_of(fields: Mapping[Any, Any], plain: PlainValues) -> Dict[str, Any]:
    """Return what the optimizer, AMP and the run itself had, without tensors.

    Args:
        fields (dict): Of the checkpoint, with outlines for tensors.
        plain (PlainValues): Says what JSON has of them.

    Returns:
        dict: By field. Of each optimizer how many tensors its groups have
        (``params``) and their settings, of the other fields all values.
    """
    found: Dict[str, Any] = {}
    for field in _STATES:
        value = fields.get(field)
        if not isinstance(value, dict):
            continue
        if field != 'optimizer':
            found[field] = plain.value(value)
        elif 'param_groups' in value:
            found[field] = _groups(value, plain)
        else:  # several, by name
            found[field] = plain.keyed(
                value, lambda one: _groups(one, plain)
                if isinstance(one, dict) else [])
    return found


def _groups(optimizer: Mapping[Any, Any],
            plain: PlainValues) -> List[Dict[str, Any]]:
    groups = optimizer.get('param_groups')
    if not isinstance(groups, (list, tuple)):
        return []
    return [_group(one, plain) for one in groups if isinstance(one, dict)]


def _group(group: Mapping[Any, Any], plain: PlainValues) -> Dict[str, Any]:
    params = group.get('params')
    told: Dict[str, Any] = plain.value({
        key: value
        for key, value in group.items() if key != 'params'
    })
    count = len(params) if isinstance(params, (list, tuple)) else 0
    return {**told, 'params': count}


def states_text(states: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the lines of what :func:`states_of` returned, by their key."""
    found: Dict[str, Any] = {}
    for field, state in states.items():
        if isinstance(state, list):
            found[field] = groups_text(state)
        elif field == 'optimizer':
            found.update({
                f'{field}.{name}': groups_text(groups)
                for name, groups in state.items()
            })
        else:
            found.update({
                f'{field}.{key}': value
                for key, value in state.items()
            })
    return found


def groups_text(groups: Sequence[Mapping[str, Any]]) -> str:
    """Say in a line what the groups of an optimizer have.

    ``'2 groups of 26 tensors; lr 0.001 to 0.01, weight_decay 0.0'``.
    """
    total = sum(one.get('params', 0) for one in groups)
    said = []
    for key in dict.fromkeys(key for one in groups for key in one):
        values = [one[key] for one in groups if key in one]
        if key == 'params' or all(one is None for one in values):
            continue
        if all(one == values[0] for one in values):
            said.append(f'{key} {values[0]}')
        elif all(isinstance(one, (int, float)) for one in values):
            said.append(f'{key} {min(values)} to {max(values)}')
        else:
            said.append(f'{key} differs')
    settings = '; ' * bool(said) + ', '.join(said)
    return f'{counted(len(groups), "groups")} of ' \
        f'{counted(total, "tensors")}{settings}'
