"""Whether the fields of a loaded checkpoint are such that a run can use them.

What was loaded holds only numbers, text, containers and tensors, yet any of
them may stand where another is expected. All is looked at before the first of
it changes the run.
"""
import random
from typing import Any, Dict, Mapping, Tuple

import numpy as np
import torch

from .generators import has_cuda
from .instructions import shortened
from .monitors import number_of
from .resume_fields import resume_state_defect
from .run_fields import check_run, unusable, wrong
from .types import MAX_STEPS
from .unfolding import unfolds_without_end

#: Words of the state of numpy's Mersenne Twister.
_NUMPY_WORDS = 624

#: Where weights are: in files of mmcv, and of programs that train backbones
#: (BEiT, UniFormer, ConvNeXt, timm; DeepSpeed).
_WEIGHTS = ('state_dict', 'model', 'module')
_PATHS = ('best_ckpt', 'last_ckpt')


def weights_of(checkpoint: Mapping[str, Any]) -> Any:
    """Return the weights in a checkpoint, or all of a bare state dict."""
    for field in _WEIGHTS:
        weights = checkpoint.get(field)
        if isinstance(weights, Mapping):
            return weights
    return checkpoint.get(_WEIGHTS[0], checkpoint)


def weights_path(checkpoint: Any) -> Tuple[str, ...]:
    """Return the keys that lead to the weights; none in a bare state dict."""
    for field in _WEIGHTS:
        if isinstance(checkpoint, Mapping) and \
                isinstance(checkpoint.get(field), Mapping):
            return (field, )
    return ()


def check_fields(checkpoint: Any, path: str) -> None:
    """Check what a resume will read.

    Raises:
        ResumeError: If it holds no checkpoint of a run, or if a field has a
            value that no run can go on from.
    """
    check_run(checkpoint, path)
    defect = _defect(checkpoint)
    if defect:
        raise unusable(path, defect)


def _defect(checkpoint: Mapping[str, Any]) -> str:
    meta = checkpoint['meta']
    if unfolds_without_end(checkpoint):
        return 'the same parts stand in it again and again'
    state = checkpoint.get('resume_state') or {}
    return _messages_defect(meta.get('hook_msgs') or {}) or \
        _optimizers_defect(checkpoint.get('optimizer') or {}) or \
        _generators_defect(state.get('rng')) or \
        resume_state_defect(state, int(meta.get('iter', 0)))


def _messages_defect(messages: Mapping[str, Any]) -> str:
    """Look at those of mmcv's own; other hooks may leave what they want."""
    for key in _PATHS:
        if not isinstance(messages.get(key), (str, type(None))):
            return wrong(f'hook_msgs[{key!r}]', 'a path', messages[key])
    score = messages.get('best_score')
    # stock mmcv saves what the evaluation gave
    if score is not None and number_of(score) is None:
        return wrong("hook_msgs['best_score']", 'a number', score)
    return ''


def _optimizers_defect(optimizers: Dict[str, Any]) -> str:
    if not optimizers or 'param_groups' in optimizers:
        return _optimizer_defect(optimizers)
    for name, one in optimizers.items():
        if not isinstance(one, dict):
            return wrong(f'optimizer[{shortened(name)}]', 'a dict', one)
        defect = _optimizer_defect(one)
        if defect:
            return defect
    return ''


def _optimizer_defect(optimizer: Dict[str, Any]) -> str:
    states = optimizer.get('state', {})
    if not isinstance(states, dict):
        return wrong("optimizer['state']", 'a dict', states)
    groups = optimizer.get('param_groups', [])
    if not isinstance(groups, list) or not all(
            isinstance(group, dict) and isinstance(group.get('params'), list)
            for group in groups):
        return wrong("optimizer['param_groups']", 'a list of groups', groups)
    for state in states.values():
        step = state.get('step', 0) if isinstance(state, dict) else 0
        if isinstance(step, torch.Tensor) and step.numel() == 1:
            step = step.item()
        # no float(): one of a huge number overflows
        if not isinstance(step, (int, float, np.number)) or \
                not 0 <= step < MAX_STEPS:
            return wrong("an optimizer's step", 'a number', step)
    return ''


def _generators_defect(ranks: Any) -> str:
    """Try the states on generators that nobody uses."""
    if not isinstance(ranks, (list, tuple, type(None))):
        return wrong("resume_state['rng']", 'a list', ranks)
    for saved in ranks or ():
        if not isinstance(saved, dict):
            return wrong('the state of the generators', 'a dict', saved)
        try:
            _try_generators(saved)
        except (TypeError, ValueError, RuntimeError, IndexError,
                AttributeError, OverflowError) as error:
            return ('the state of a random generator is none '
                    f'({type(error).__name__}: {str(error)[:200]})')
    return ''


def _try_generators(saved: Dict[str, Any]) -> None:
    if 'python' in saved:
        version, internal, gauss = _parts(saved['python'], 3)
        random.Random().setstate((version, tuple(internal), gauss))
    if 'numpy' in saved:
        name, keys, position, has_gauss, gauss = _parts(saved['numpy'], 5)
        # INVARIANT: numpy does not check, and reads memory that is not its
        # own with a position beyond its words
        if not 0 <= position <= _NUMPY_WORDS or len(keys) != _NUMPY_WORDS:
            raise ValueError(f'position {position} of {len(keys)} words')
        np.random.RandomState().set_state(
            (name, np.asarray(keys).astype(np.uint32), position, has_gauss,
             gauss))
    if 'torch' in saved:
        torch.Generator().set_state(saved['torch'])
    cuda = saved.get('cuda', [])
    if not isinstance(cuda, (list, tuple)) or \
            not all(isinstance(one, torch.Tensor) for one in cuda):
        raise TypeError(f'cuda is {shortened(cuda)}')
    if has_cuda():
        for state in cuda:
            torch.Generator('cuda').set_state(state)


def _parts(state: Any, count: int) -> Tuple[Any, ...]:
    if not isinstance(state, (list, tuple)) or len(state) != count:
        raise ValueError(f'{shortened(state)}, expected {count} parts')
    return tuple(state)
