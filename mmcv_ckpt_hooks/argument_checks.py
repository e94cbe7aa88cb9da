"""Names, types and choices of arguments, checked in one wording.

Standard library only.
"""
import math
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Iterator, Mapping, Optional, Sequence, Tuple, Union

from .errors import CheckpointError, ConfigError
from .storage import scheme_of
from .storage.names import without_credentials
from .wording import nearest

#: By name the types that are allowed, and how they are called.
Types = Mapping[str, Tuple[Union[type, Tuple[type, ...]], str]]
_NOTHING: Mapping[str, str] = MappingProxyType({})
#: What may hold credentials: no message repeats its value.
_SECRET = ('storage_options', 'mirror')


@contextmanager
def naming(argument: str) -> Iterator[None]:
    """Have an error of what an argument leads to name it.

    Args:
        argument (str): As it was given: ``"out_dir='s3://bucket'"``; ``''``
            for nothing that was given.

    Raises:
        CheckpointError: Of the same kind.
    """
    try:
        yield
    except CheckpointError as error:
        if not argument:
            raise
        named = type(error)(f'{argument}: {error}')
        # it is the same one: nobody needs to read it twice
        raise named.with_traceback(error.__traceback__) from error.__cause__


def shown(name: str, url: Optional[str]) -> str:
    """Return ``"out_dir='s3://bucket'"``, as it is given; '' for None."""
    return '' if url is None else f'{name}={without_credentials(url)!r}'


def check_known(what: str,
                given: Mapping[str, Any],
                valid: Sequence[str],
                prefix: str = '',
                meant: Mapping[str, str] = _NOTHING) -> None:
    """Refuse a name that is not valid, with the nearest that is.

    Args:
        what (str): What the names are.
        given (dict): By name.
        valid (Sequence[str]): Names.
        prefix (str): Of the group that they are in. Default: '', the hook's.
        meant (dict): What others call so, in full. Default: nothing.

    Raises:
        ConfigError: If there is one.
    """
    for name in given:
        if name in valid:
            continue
        near = nearest(str(name), valid)
        known = meant.get(name) or (prefix + near if near else '')
        hint = f'did you mean {known!r}? ' if known else ''
        # its value is not repeated: under a wrong name credentials may stand
        raise ConfigError(
            f'DurableCheckpointHook: unknown {what} {prefix}{name}; '
            f'{hint}valid are: {", ".join(sorted(valid))}')


def check_types(values: Mapping[str, Any],
                types: Types,
                prefix: str = '') -> None:
    """Refuse a value of another type; None in a group is not given.

    Raises:
        ConfigError: If there is one.
    """
    for name, value in values.items():
        expected, text = types[name]
        wrong_bool = isinstance(value, bool) and expected is not bool
        if value is None and prefix:
            continue
        if wrong_bool or not isinstance(value, expected):
            got = '' if name in _SECRET else f'{value!r} of '
            raise ConfigError(
                f'DurableCheckpointHook: {prefix}{name} must be {text}, but '
                f'got {got}type {type(value).__name__}')


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse what is none of the choices.

    Raises:
        ConfigError: If it is not.
    """
    if value in choices:
        return
    near = nearest(str(value).lower(), choices)
    hint = f', did you mean {near!r}?' if near else ''
    raise ConfigError(
        f'DurableCheckpointHook: {name} must be one of '
        f'{", ".join(map(repr, choices))}, but got {value!r}{hint}')


def check_positive(name: str, value: Optional[float]) -> None:
    """Refuse a number that is not positive, or has no end.

    Raises:
        ConfigError: If it is one.
    """
    if value is not None and not 0 < value < math.inf:  # NaN, too
        raise ConfigError(f'DurableCheckpointHook: {name} must be positive, '
                          f'but got {value!r}')


def check_texts(name: str, given: Optional[Mapping[Any, Any]]) -> None:
    """Refuse options whose names are no texts.

    Raises:
        ConfigError: If one is none.
    """
    for key in given or ():
        if not isinstance(key, str):
            raise ConfigError(
                f'DurableCheckpointHook: the keys of {name} must be names, '
                f'but got {key!r} of type {type(key).__name__}')


def check_used(name: str, url: str, options: Optional[Mapping[str,
                                                              Any]]) -> None:
    """Refuse ``storage_options`` that a local directory has no use for.

    Raises:
        ConfigError: If there are any.
    """
    if options and scheme_of(url) in ('', 'file'):
        raise ConfigError(
            f'DurableCheckpointHook: {name}.storage_options are of an object '
            f'store or of fsspec, but {name}.url={url!r} is a local path: '
            'remove them, or give the URL that they are for')
