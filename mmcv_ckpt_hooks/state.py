"""Runner to checkpoint dict, and the state of hooks back."""
import os
import time
import warnings
from typing import (Any, Dict, Iterator, List, Mapping, Optional, Sequence,
                    Tuple)

import mmcv
import torch
from mmcv.parallel import is_module_wrapper
from mmcv.runner.checkpoint import get_state_dict
from mmcv.runner.iter_based_runner import IterLoader

from . import distributed, foreign
from .amp import capture_amp
from .apex_amp import apex_settings
from .generators import capture_generators
from .gradients import capture_gradients
from .optimizers import Optimizers, capture_optimizer
from .portable import to_portable
from .version import __version__

#: Version of the field ``resume_state``.
RESUME_STATE_VERSION = 1


def build_checkpoint(
        model: torch.nn.Module,
        optimizer: Optimizers = None,
        meta: Optional[Mapping[str, Any]] = None,
        amp: Optional[Mapping[str, Any]] = None,
        resume_state: Optional[Mapping[str, Any]] = None,
        extra: Optional[Mapping[str, Any]] = None,
        rest: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """Gather the fields of a checkpoint; tensors are not copied.

    Args:
        model (Module): Wrappers (DP, DDP, nested) are removed.
        optimizer (Optimizer | dict, optional): One, or several by name.
            Default: None.
        meta (dict, optional): The caller's; it is not changed. Default: None.
        amp (dict, optional): AMP state; the field is left out if empty.
            Default: None.
        resume_state (dict, optional): See design section 7. Default: None.
        extra (dict, optional): Further fields. Default: None.
        rest (dict, optional): The fields of model and optimizer, where their
            tensors are written elsewhere. Default: None.

    Returns:
        dict: Builtin types and detached tensors only. What cannot be reduced
        is replaced by its ``repr``, with a warning that names it.

    Raises:
        TypeError: If ``meta`` is no dict.
    """
    if meta is not None and not isinstance(meta, dict):
        raise TypeError(f'meta must be a dict or None, but got {type(meta)}')
    model = unwrapped(model)
    checkpoint: Dict[str, Any] = {'meta': _full_meta(model, meta)}
    if rest is not None:
        checkpoint.update(rest)
    else:
        checkpoint['state_dict'] = get_state_dict(model)
        optimizer_state = capture_optimizer(optimizer)
        if optimizer_state is not None:
            checkpoint['optimizer'] = optimizer_state
    if amp:
        checkpoint['amp'] = amp
    if resume_state is not None:
        checkpoint['resume_state'] = resume_state
    for name, value in (extra or {}).items():
        checkpoint.setdefault(name, value)
    return _portable_checkpoint(checkpoint)


def capture_runner(runner: Any,
                   epoch: int,
                   finished: int,
                   lineage: str = '',
                   meta: Optional[Mapping[str, Any]] = None,
                   save_optimizer: bool = True,
                   ranks: Optional[Sequence[Any]] = None,
                   hook_states: Optional[Mapping[str, Any]] = None,
                   rest: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """Gather a runner's whole checkpoint; tensors are not copied.

    Args:
        runner (BaseRunner): One that saves fields of its own keeps them.
        epoch (int): Finished epochs.
        finished (int): Finished iterations.
        lineage (str): Of the run; empty for a save that no catalog lists.
            Default: ''.
        meta (dict, optional): Further meta. Default: None.
        save_optimizer (bool): Default: True.
        ranks (list, optional): What :func:`capture_rank` returned on every
            rank. Default: None, which means this rank's alone.
        hook_states (dict, optional): Of hooks whose state has changed since
            that step, by key. Default: None.
        rest (dict, optional): See :func:`build_checkpoint`. Default: None.
    """
    ranks = ranks or [capture_rank(runner)]
    extra = foreign.extra_fields(runner)
    full = dict(extra.pop('meta', {}))
    full.update(meta or {})
    full.update(runner.meta or {})
    messages = dict(full.get('hook_msgs') or {})
    for key in ('last_ckpt', 'best_ckpt'):
        if isinstance(messages.get(key), str):
            # a moved work dir must not lead back to the original
            messages[key] = os.path.basename(messages[key])
    # INVARIANT: after runner.meta, which may hold the counters of a file that
    # it was resumed from
    full.update(hook_msgs=messages, epoch=epoch, iter=finished)
    return build_checkpoint(
        runner.model,
        runner.optimizer if save_optimizer else None,
        full,
        capture_amp(runner.hooks),
        resume_state=dict(
            version=RESUME_STATE_VERSION,
            plugin_version=__version__,
            lineage=lineage,
            rng=[one['rng'] for one in ranks],
            data=dict(epoch=epoch, ranks=[one['data'] for one in ranks]),
            **_settings(),
            gradients=capture_gradients(
                unwrapped(runner.model), runner.hooks, finished),
            hooks={
                **capture_hooks(runner.hooks),
                **(hook_states or {})
            },
            world_size=distributed.world_size()),
        extra=extra,
        rest=rest)


def _settings() -> Dict[str, Any]:
    """Return the field that only runs with apex have."""
    settings = apex_settings()
    return dict(apex=settings) if settings else {}


def capture_rank(runner: Any) -> Dict[str, Any]:
    """Return what only this rank knows: generators and data position."""
    inside = getattr(runner, 'data_state', None)
    guard = getattr(runner, 'evaluation_guard', None)
    return dict(
        # while hooks evaluate, those that training goes on with
        rng=getattr(guard, 'outer', None) or capture_generators(),
        data=inside() if inside is not None else dict(
            pass_ended=_pass_ended(runner)))


def finished_epochs(runner: Any) -> int:
    """Return finished epochs while hooks are told of a train iteration.

    On stock iteration runners those since the start: as mmcv counts them, but
    not late.
    """
    if hasattr(runner, 'finished_steps'):
        return int(runner.finished_steps()[0])
    loader = getattr(runner, 'data_loader', None)
    if not isinstance(loader, IterLoader):
        return int(runner.epoch)
    return int(loader.epoch) + _pass_ended(runner)


def _pass_ended(runner: Any) -> bool:
    """Whether a stock iteration runner begins a pass with its next batch."""
    loader: Any = getattr(runner, 'data_loader', None)
    used = getattr(getattr(loader, 'iter_loader', None), '_num_yielded', 0)
    try:
        return bool(used) and used == len(loader)
    except TypeError:  # a stream without a length
        return False


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """Remove every module wrapper: DP, DDP, MMDP, MMDDP, nested."""
    while is_module_wrapper(model):
        model = getattr(model, 'module')
    return model


def model_state(model: torch.nn.Module) -> Mapping[str, Any]:
    """Return the model's own tensors by name, without names of wrappers."""
    model = unwrapped(model)
    for module in model.modules():
        # FSDP2 takes its parts back there, which an evaluation may have joined
        for hook in getattr(module, '_state_dict_pre_hooks', {}).values():
            hook(module, '', True)
    state: Mapping[str, Any] = get_state_dict(model, keep_vars=True)
    return state


def is_replicated(model: torch.nn.Module) -> bool:
    """Whether all ranks have the same parameters, which DDP sees to."""
    return is_module_wrapper(model) and \
        not isinstance(model, torch.nn.DataParallel)


def capture_hooks(hooks: List[Any]) -> Dict[str, Any]:
    """Return the state of the hooks that have one, by their keys."""
    return {key: hook.state_dict() for key, hook in stateful(hooks)}


def restore_hooks(hooks: List[Any], saved: Mapping[str, Any]) -> None:
    """Load the state of the hooks that had one."""
    for key, hook in stateful(hooks):
        if key in saved:
            hook.load_state_dict(saved[key])


def stateful(hooks: List[Any]) -> Iterator[Tuple[str, Any]]:
    """Yield ``'<class>'``, or ``'<class>.1'`` for the second, and hook."""
    seen: Dict[str, int] = {}
    for hook in hooks:
        if callable(getattr(hook, 'state_dict', None)) and \
                callable(getattr(hook, 'load_state_dict', None)):
            name = type(hook).__name__
            count = seen[name] = seen.get(name, -1) + 1
            yield f'{name}.{count}' if count else name, hook


def _full_meta(model: torch.nn.Module,
               meta: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    full = dict(meta or {})
    full.update(mmcv_version=mmcv.__version__, time=time.asctime())
    for name in ('CLASSES', 'PALETTE'):
        value = getattr(model, name, None)
        if value is not None:
            full[name] = value
    return full


def _portable_checkpoint(checkpoint: Mapping[str, Any]) -> Dict[str, Any]:
    portable: Dict[str, Any] = {}
    lost: List[str] = []
    for name, value in checkpoint.items():
        portable[name], irreducible = to_portable(value, name)
        lost += irreducible
    if lost:
        warnings.warn(
            'the checkpoint holds the repr instead of what torch could not '
            f'load without running code: {", ".join(lost)}. Put numbers, '
            'strings, lists or dicts there')
    return portable
