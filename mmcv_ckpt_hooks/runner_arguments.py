"""The arguments of a runner, checked before mmcv fails on them later.

Standard library only.
"""
import inspect
from numbers import Real
from typing import Any, Callable, Collection, Dict, List, Mapping, Optional

from .errors import ConfigError
from .wording import nearest

#: What a run ends after, and the runner that counts it.
_LIMITS = {
    'max_iters': ('iterations', 'IterBasedRunnerAmp'),
    'max_epochs': ('epochs', 'EpochBasedRunnerAmp'),
}

#: What is given to a runner, and asked of the hook of the optimizer.
_OF_PRECISION = ('fp16', 'use_fp16', 'amp', 'opt_level')


def check_arguments(given: Mapping[str, Any], valid: Optional[Collection[str]],
                    limit: str) -> None:
    """Refuse what the ``runner`` of a config cannot mean.

    Args:
        given (dict): By name; the name of the class is put before a message
            by ``mmcv.build_from_cfg``.
        valid (collection[str], optional): Names that the runner takes. None
            for any.
        limit (str): ``'max_iters'`` or ``'max_epochs'``, which it counts.

    Raises:
        ConfigError: If a name is unknown, or the length is none.
    """
    names = [*given] if valid is None else [*valid]
    for name in given:
        if name not in names:
            near = nearest(name, names)
            hint = f'did you mean {near!r}? ' if near else ''
            if name in _OF_PRECISION:
                hint = "mixed precision is that of optimizer_config, such " \
                    "as dict(type='DistOptimizerHook', use_fp16=True); "
            raise ConfigError(f'unknown argument {name} of the runner; {hint}'
                              f'valid are: {", ".join(sorted(names))}')
    for name in _LIMITS:
        steps = given.get(name)
        if steps is None:
            continue
        if not _is_length(steps):
            raise ConfigError(
                f'{name} of the runner must be a whole number of at least 1, '
                f'but got {steps!r} of type {type(steps).__name__}')
        if name != limit and given.get(limit) is None:
            raise ConfigError(
                f'{name}={steps} of the runner, which counts '
                f'{_LIMITS[limit][0]}: give {limit} in its place, or '
                f'type={_LIMITS[name][1]!r}')


def _is_length(steps: Any) -> bool:
    """Whether stock mmcv, too, would count up to it and end there.

    It only compares: a number of numpy will do, and so will ``160e3``.
    """
    if isinstance(steps, bool) or not isinstance(steps, Real):
        return False
    number: Any = steps
    # neither infinity nor what is no number is whole
    return bool(number >= 1 and number % 1 == 0)


def with_whole_lengths(given: Mapping[str, Any]) -> Dict[str, Any]:
    """Return checked arguments, each length as an int.

    mmcv writes it into its log, and others compute with it.
    """
    return {
        name: value if value is None or name not in _LIMITS else int(value)
        for name, value in given.items()
    }


def arguments_of(call: Callable[..., Any]) -> Optional[List[str]]:
    """Return the names that a constructor takes, and ``sample_seeds``.

    None if it takes any.
    """
    found = inspect.signature(call).parameters
    if any(one.kind is one.VAR_KEYWORD for one in found.values()):
        return None
    return [*found, 'sample_seeds']
