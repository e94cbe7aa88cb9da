"""The arguments of a runner, checked before mmcv fails on them later.

Standard library only.
"""
import inspect
from typing import Any, Callable, Collection, List, Mapping, Optional

from .errors import ConfigError
from .wording import nearest

#: What a run ends after, and the runner that counts it.
_LIMITS = {
    'max_iters': ('iterations', 'IterBasedRunnerAmp'),
    'max_epochs': ('epochs', 'EpochBasedRunnerAmp'),
}


def check_runner(given: Mapping[str, Any], valid: Optional[Collection[str]],
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
            raise ConfigError(f'unknown argument {name} of the runner; {hint}'
                              f'valid are: {", ".join(sorted(names))}')
    for name in _LIMITS:
        steps = given.get(name)
        if steps is None:
            continue
        if type(steps) is not int or steps < 1:
            raise ConfigError(
                f'{name} of the runner must be an int of at least 1, but got '
                f'{steps!r} of type {type(steps).__name__}')
        if name != limit and given.get(limit) is None:
            raise ConfigError(
                f'{name}={steps} of the runner, which counts '
                f'{_LIMITS[limit][0]}: give {limit} in its place, or '
                f'type={_LIMITS[name][1]!r}')


def arguments_of(call: Callable[..., Any]) -> Optional[List[str]]:
    """Return the names that a constructor takes, and ``sample_seeds``.

    None if it takes any.
    """
    found = inspect.signature(call).parameters
    if any(one.kind is one.VAR_KEYWORD for one in found.values()):
        return None
    return [*found, 'sample_seeds']
