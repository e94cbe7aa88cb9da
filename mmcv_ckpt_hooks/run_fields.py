"""The fields without which nothing is the checkpoint of a run.

The torch-free part of :mod:`checkpoint_fields`: ``mmcv-ckpt ls`` looks at the
outline of a checkpoint with it. Standard library only.
"""
import os
from typing import Any, Mapping

from .card import steps_in_name
from .counting import is_count
from .errors import ResumeError
from .instructions import shortened
from .outline import NumpyValue

#: What must be a dict if it is there; None is taken for "not there".
_DICTS = ('optimizer', 'resume_state', 'amp')
#: What is never published.
_OF_A_RUN = ('optimizer', 'resume_state')
#: Entry of ``meta`` in what ``mmcv-ckpt publish`` writes: True.
PUBLISHED = 'published'
_META_DICTS = ('hook_msgs', 'fp16')


def check_run(checkpoint: Any, path: str) -> None:
    """Check that it is the checkpoint of a run, loaded or outlined.

    Raises:
        ResumeError: If it is not, only a part of one, or its weights alone.
    """
    if not isinstance(checkpoint, dict) or not isinstance(
            checkpoint.get('meta'), dict) or 'state_dict' not in checkpoint:
        held = list(checkpoint)[:5] if isinstance(checkpoint, dict) \
            else type(checkpoint).__name__
        raise ResumeError(
            f"{path} cannot be resumed from: expected the fields 'meta' and "
            f"'state_dict', found {shortened(held)}. Use load_from to take "
            'only the weights')
    if _is_published(checkpoint):
        raise ResumeError(
            f'{path} was published: it has the weights alone, and no state of '
            'a run. Use load_from to take them, or resume from the checkpoint '
            'that they are of')
    if not _tells_steps(checkpoint, path):
        raise ResumeError(
            f'{path} cannot be resumed from: neither its meta nor its name '
            'tells how many steps are finished. Use load_from to take only '
            'the weights')
    if _is_part(checkpoint.get('optimizer')):
        raise ResumeError(f'{path} is a part of a sharded checkpoint, without '
                          'its tensors: give the folder')
    defect = _defect(checkpoint)
    if defect:
        raise unusable(path, defect)


def unusable(path: str, defect: str) -> ResumeError:
    """Return the error for a checkpoint with a field that no run can use."""
    return ResumeError(f'{path} cannot be resumed from: {defect}. Resume from '
                       'another checkpoint')


def wrong(what: str, expected: str, found: Any) -> str:
    """Word what is wrong with a field."""
    return f'{what} is {shortened(found)}, expected {expected}'


def _is_published(checkpoint: Mapping[str, Any]) -> bool:
    """Whether ``mmcv-ckpt publish`` wrote it: weights, and no state of a run.

    ``meta`` is the user's: the entry alone may be one of theirs.
    """
    return checkpoint['meta'].get(PUBLISHED) is True and not any(
        field in checkpoint for field in _OF_A_RUN)


def _tells_steps(checkpoint: Mapping[str, Any], path: str) -> bool:
    """Whether anything says where to go on, as nothing does of weights."""
    meta = checkpoint['meta']
    return bool(
        checkpoint.get('resume_state') or 'iter' in meta or 'epoch' in meta
        or steps_in_name(os.path.basename(path.rstrip('/'))))


def _is_part(optimizer: Any) -> bool:
    """Whether the tensors of an optimizer are in the files beside it."""
    if not isinstance(optimizer, dict):
        return False
    return any('param_names' in one for one in (optimizer, *optimizer.values())
               if isinstance(one, dict))


def _defect(checkpoint: Mapping[str, Any]) -> str:
    meta, state_dict = checkpoint['meta'], checkpoint['state_dict']
    if not isinstance(state_dict, dict) or \
            not all(isinstance(key, str) for key in state_dict):
        return wrong('state_dict', 'tensors by name', state_dict)
    for fields, keys in ((checkpoint, _DICTS), (meta, _META_DICTS)):
        for key in keys:
            if not isinstance(fields.get(key), (dict, type(None))):
                return wrong(key, 'a dict', fields[key])
    for key in ('epoch', 'iter'):
        steps = meta.get(key, 0)
        # an outline does not have the value of what numpy counts
        if not is_count(steps) and not isinstance(steps, NumpyValue):
            return wrong(f'meta[{key!r}]', 'a number of steps', steps)
    scaler = (meta.get('fp16') or {}).get('loss_scaler')
    if not isinstance(scaler, (dict, type(None))):
        return wrong("fp16['loss_scaler']", 'a dict', scaler)
    return ''
