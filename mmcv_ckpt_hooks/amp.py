"""State of automatic mixed precision: torch's scaler, mmcv's hook, apex.

A checkpoint has a field ``amp`` only when AMP is in use. Its shape is that of
apex's ``amp.state_dict()`` (``{'loss_scaler0': {...}}``) or of
``GradScaler.state_dict()`` (``{'scale': ..., 'growth_factor': ...}``).
"""
import math
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import torch

from .apex_amp import (active_apex, is_apex_state, restore_apex, take_scale,
                       tell_of_masters)
from .compat import grad_scaler_types, keeps_own_weights, scaler_fields


def scalers_of(hooks: List[Any]) -> List[Any]:
    """Loss scalers that the hooks hold as ``loss_scaler``, enabled ones.

    That is where mmcv's ``Fp16OptimizerHook`` and our ``DistOptimizerHook``
    keep theirs. On a machine without a GPU a scaler disables itself.
    """
    types = grad_scaler_types()
    found = []
    for hook in hooks:
        scaler: Any = getattr(hook, 'loss_scaler', None)
        if isinstance(scaler, types) and scaler.is_enabled():
            found.append(scaler)
    return found


def has_idle_scaler(hook: Any) -> bool:
    """Whether a hook has a loss scaler that has switched itself off."""
    scaler: Any = getattr(hook, 'loss_scaler', None)
    return isinstance(scaler, grad_scaler_types()) and \
        not scaler.is_enabled()


def uses_amp(hooks: List[Any]) -> bool:
    """Whether a run scales its loss."""
    return active_apex() is not None or bool(scalers_of(hooks))


def capture_amp(hooks: Optional[List[Any]] = None,
                amp: Any = None) -> Optional[Dict[str, Any]]:
    """Return what belongs in a checkpoint's ``amp`` field.

    Args:
        hooks (list, optional): A runner's hooks. Default: None.
        amp (optional): A scaler, ``apex.amp``, a state dict, or False for no
            AMP state. Default: None, which means detected.

    Returns:
        dict | None: None if AMP is not in use.

    Raises:
        TypeError: If ``amp`` is none of these.
    """
    if amp is False:
        return None
    if isinstance(amp, Mapping):
        return dict(amp) or None
    if amp is not None and amp is sys.modules.get('apex.amp'):
        amp = active_apex()
        if amp is None:
            return None
    if amp is not None:
        if not callable(getattr(amp, 'state_dict', None)):
            raise TypeError(
                'amp must be a GradScaler, apex.amp, a state dict, False or '
                f'None, but got {type(amp)}')
        # a disabled scaler has an empty state, which a new one cannot load
        return dict(amp.state_dict()) or None
    apex = active_apex()
    if apex is not None:
        return dict(apex.state_dict())
    for scaler in scalers_of(hooks or []):
        return dict(scaler.state_dict())
    return None


def mark_of_amp(hooks: List[Any]) -> List[Any]:
    """Return what is equal as long as no AMP state changes.

    It reads nothing from a GPU, which would wait for it.
    """
    apex = active_apex()
    states = [dict(vars(one)) for one in scalers_of(hooks)] \
        if apex is None else list(dict(apex.state_dict()).values())
    return [{
        name: _mark(value)
        for name, value in state.items()
    } for state in states]


def _mark(value: Any) -> Any:
    # a tensor's version counts its changes in place
    if isinstance(value, torch.Tensor):
        return id(value), value._version
    return value if isinstance(value, (int, float)) else None


def restore_amp(hooks: List[Any],
                saved: Optional[Mapping[str, Any]],
                log: Callable[[str], None],
                settings: Optional[Mapping[str, Any]] = None) -> bool:
    """Bring saved AMP state back into whatever AMP the run uses.

    Apex wants it after ``amp.initialize``, and after the model's and the
    optimizer's.

    Args:
        hooks (list): The runner's hooks.
        saved (dict, optional): A checkpoint's ``amp`` field.
        log (callable): Told what was not restored, or in another way.
        settings (dict, optional): What :func:`apex_amp.apex_settings` was
            when it was saved. Default: None, which means unknown.

    Returns:
        bool: Whether the run goes on with what was saved.
    """
    apex, scalers = active_apex(), scalers_of(hooks)
    if any(keeps_own_weights(hook) for hook in hooks):
        log('Fp16OptimizerHook of mmcv < 1.3.3 trains weights that are in no '
            'checkpoint: the run goes on from those of the model, which are '
            'rounded to half precision, and the loss scale starts anew')
    tell_of_masters(log)
    if not saved:
        if apex is not None or scalers:
            log('AMP is on, but the checkpoint has no AMP state: the loss '
                'scale starts anew')
        return False
    kind = 'apex' if is_apex_state(saved) else 'torch GradScaler'
    if apex is None and not scalers:
        log(f'the checkpoint has AMP state ({kind}), which this run does '
            'not use: it was skipped')
        return False
    try:
        if apex is not None and is_apex_state(saved):
            return restore_apex(saved, settings or {}, log)
        if apex is not None:
            return take_scale(*_scale_and_steps(saved), log)
        if is_apex_state(saved):
            _set_scale(scalers[0], saved, log)
        else:
            _set_state(scalers[0], saved)
        return True
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError,
            OverflowError) as error:
        # not worth a run: the scale finds its level in some hundred steps
        log(f'the AMP state of the checkpoint ({kind}) cannot be used: '
            f'{type(error).__name__}: {error}. The loss scale starts anew')
        return False


def fits_scalers(hooks: List[Any], saved: Mapping[str, Any]) -> bool:
    """Whether mmcv's fp16 hook could load a state from ``runner.meta``.

    It does so in its ``before_run``, and raises where another version of mmcv
    has written it: up to 1.3.1 the scaler was mmcv's own.
    """
    for hook in hooks:
        scaler: Any = getattr(hook, 'loss_scaler', None)
        if keeps_own_weights(hook) or scaler in scalers_of([hook]):
            if not scaler_fields(scaler) <= set(saved):
                return False
    return True


def _scale_and_steps(saved: Mapping[str, Any]) -> Tuple[float, int]:
    """Return scale, and steps since it was changed, of a GradScaler."""
    scale = float(dict(saved)['scale'])
    return scale, int(dict(saved).get('_growth_tracker', 0))


def _set_state(scaler: Any, saved: Mapping[str, Any]) -> None:
    # load_state_dict would stop half way
    needed = scaler.state_dict()
    wrong = [
        name for name in needed
        if not isinstance(dict(saved).get(name), (int, float))
    ]
    if wrong:
        raise ValueError(f'it has no number for {", ".join(wrong)}')
    if not 0 < saved['scale'] < math.inf:
        raise ValueError('its scale is not above 0')
    scaler.load_state_dict({
        name: type(value)(saved[name])
        for name, value in needed.items()
    })


def _set_scale(scaler: Any, saved: Mapping[str, Any],
               log: Callable[[str], None]) -> None:
    state = dict(
        scaler.state_dict(), scale=float(saved['loss_scaler0']['loss_scale']))
    _set_state(scaler, state)
    log(f'the checkpoint was written with apex: its loss scale '
        f'{state["scale"]:g} was taken over by the torch GradScaler')
