"""NVIDIA's apex: whether a run uses it, how it was initialised, its state.

Standard library only; apex itself is never imported.
"""
import math
import numbers
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional

from .instructions import shortened

Log = Callable[[str], None]

#: What apex calls a loss scale that follows the overflows.
_DYNAMIC = 'dynamic'


def active_apex() -> Optional[Any]:
    """Return ``apex.amp`` if ``amp.initialize`` was called, else None.

    The package named apex on the package index is a web toolkit, and NVIDIA's
    raises from ``state_dict`` before ``initialize``: both count as absent.
    """
    amp = sys.modules.get('apex.amp')
    state = getattr(amp, '_amp_state', None)
    if getattr(state, 'loss_scalers', None):
        return amp
    return None


def apex_settings() -> Dict[str, Any]:
    """Return how ``amp.initialize`` was called; empty if it was not.

    Returns:
        dict: ``opt_level`` and ``loss_scale``, ``'dynamic'`` or a number.
        They are not in apex's own state, which refuses further keys.
    """
    options = _options()
    level, scale = (
        getattr(options, name, None) for name in ('opt_level', 'loss_scale'))
    settings: Dict[str, Any] = {}
    if isinstance(level, str):
        settings['opt_level'] = level
    if scale is not None:
        settings['loss_scale'] = scale if scale == _DYNAMIC else float(scale)
    return settings


def is_apex_state(saved: Mapping[str, Any]) -> bool:
    """Whether AMP state was written by apex, and not by a GradScaler."""
    return 'loss_scaler0' in saved


def restore_apex(saved: Mapping[str, Any], settings: Mapping[str, Any],
                 log: Log) -> bool:
    """Load what apex saved into the apex of this run.

    Args:
        saved (dict): ``amp.state_dict()``.
        settings (dict): What :func:`apex_settings` was then; empty for files
            of other programs.
        log (callable): Told what differs.

    Returns:
        bool: Whether it was loaded.

    Raises:
        ValueError: If it is no such state; nothing is changed then.
    """
    _check(saved)
    now, scalers = apex_settings(), _scalers()
    _compare_levels(settings, now, log)
    fixed = now.get('loss_scale', _DYNAMIC)
    scale = saved['loss_scaler0']['loss_scale']
    if fixed != _DYNAMIC and fixed != scale:
        log(f'the loss scale of this run is fixed at {fixed:g}: that of the '
            f'checkpoint, {scale:g}, was not taken over')
        return False
    before = settings.get('loss_scale', _DYNAMIC)
    if before != _DYNAMIC and fixed == _DYNAMIC:
        log(f'the checkpoint was saved with the fixed loss scale {scale:g}: '
            'the loss scale starts anew')
        return False
    if len(saved) != len(scalers):
        log(f'the checkpoint has the state of {len(saved)} loss scalers of '
            f'apex, this run has {len(scalers)} (num_losses): the first '
            f'{min(len(saved), len(scalers))} were restored')
    loaded: Any = active_apex()
    loaded.load_state_dict(dict(list(saved.items())[:len(scalers)]))
    return True


def take_scale(scale: float, unskipped: int, log: Log) -> bool:
    """Let apex go on with the loss scale of a GradScaler.

    Returns:
        bool: Whether it was taken.

    Raises:
        ValueError: If it is no scale.
    """
    state = {
        f'loss_scaler{number}': dict(loss_scale=scale, unskipped=unskipped)
        for number in range(len(_scalers()))
    }
    if not restore_apex(state, {}, log):
        return False
    log('the checkpoint was written with torch GradScaler: its loss scale '
        f'{scale:g} was taken over by apex')
    return True


def tell_of_masters(log: Log) -> None:
    """Say that a resume is not exact where apex has weights of its own."""
    options = _options()
    if getattr(options, 'master_weights', None):
        log(f'with opt level {shortened(getattr(options, "opt_level", None))} '
            'apex trains weights that are in no checkpoint: the run goes on '
            'from those of the model, which are rounded to half precision')


def _options() -> Any:
    state = getattr(active_apex(), '_amp_state', None)
    return getattr(state, 'opt_properties', None)


def _scalers() -> List[Any]:
    state = getattr(active_apex(), '_amp_state', None)
    return list(getattr(state, 'loss_scalers', ()))


def _compare_levels(before: Mapping[str, Any], now: Mapping[str, Any],
                    log: Log) -> None:
    levels = before.get('opt_level'), now.get('opt_level')
    if None not in levels and levels[0] != levels[1]:
        log(f'the checkpoint was saved with opt level {shortened(levels[0])} '
            f'of apex, this run has {shortened(levels[1])}: what follows '
            'differs from a run that was not stopped')


def _check(saved: Mapping[str, Any]) -> None:
    """Check what apex would load half before it fails, or use much later."""
    for name, state in saved.items():
        numbers_of = state if isinstance(state, Mapping) else {}
        scale = numbers_of.get('loss_scale')
        if not isinstance(scale, numbers.Real) or \
                not 0 < float(scale) < math.inf:
            raise ValueError(f'{shortened(name)} has no loss_scale above 0')
        if not isinstance(numbers_of.get('unskipped'), numbers.Integral):
            raise ValueError(f'{shortened(name)} has no number for unskipped')
