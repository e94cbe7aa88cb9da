"""Which file systems fsspec has, and what their classes can do."""
import sys
from typing import Any, Mapping

from ..errors import ConfigError, DependencyError
from .object_url import secrets_of


def serves(scheme: str) -> bool:
    """Whether fsspec is installed and has a file system for a scheme.

    A prefix that somebody registered with ``mmcv.FileClient`` is mmcv's.
    """
    mmcv = sys.modules.get('mmcv.fileio')
    client = getattr(mmcv, 'FileClient', None)
    if scheme in getattr(client, '_prefix_to_backends', ()):
        return False
    try:
        from fsspec.registry import known_implementations, registry
    except ImportError:
        return False
    return scheme in known_implementations or scheme in registry


def class_of(url: str, scheme: str) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise DependencyError(
            f"{url} needs the package 'fsspec' ({error}): "
            "pip install 'mmcv_ckpt_hooks[fsspec]'") from error
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        # it says which package to install
        raise DependencyError(f'{url}: {error}') from error
    except ValueError as error:
        raise ConfigError(f'{url}: {error}') from error


def has_verb(kind: Any, verb: str) -> bool:
    """Whether a class of file systems does more than to refuse a verb."""
    return any(
        name in vars(one) for one in kind.__mro__
        for name in (verb, f'_{verb}')
        if one.__module__ not in ('fsspec.spec', 'fsspec.asyn'))


def where_of(options: Mapping[str, Any]) -> str:
    """Return what options say of where a file system is.

    The same for whoever connects to it anew: without keys, which change, and
    without objects.
    """
    secrets = secrets_of(options)

    def words(given: Mapping[str, Any]) -> Any:
        return {
            name: words(value) if isinstance(value, Mapping) else value
            for name, value in sorted(given.items())
            if isinstance(value, (Mapping, str, int)) and value not in secrets
        }

    return str(words(options))
