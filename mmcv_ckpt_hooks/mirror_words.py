"""What is wrong with a mirror, told as something of the mirror.

A run has two places, and what a storage says of one would do for both.
"""
import os
from typing import ContextManager

from .argument_checks import naming
from .errors import ConfigError
from .options import CheckpointOptions
from .storage import OBJECT_STORES, is_of_fsspec, scheme_of
from .storage.names import without_credentials
from .storage.near_names import meant_url
from .storage.object_url import parse_place, server_of


def told_of_mirror(options: CheckpointOptions) -> ContextManager[None]:
    """Have an error of the mirror's storage name the argument.

    Args:
        options (CheckpointOptions): Of the hook.
    """
    return naming(argument_of(options))


def argument_of(options: CheckpointOptions) -> str:
    """Return ``"mirror=dict(url='s3://bucket/prefix')"``, as it is given."""
    url = '' if options.mirror is None else options.mirror.url
    return f'mirror=dict(url={without_credentials(url)!r})'


def refuse_scheme(url: str) -> None:
    """Refuse a URL that no mirror can have.

    What only ``mmcv.FileClient`` serves is one: it replaces no file at once.

    Raises:
        ConfigError: It says what a mirror can be.
    """
    scheme = scheme_of(url)
    if scheme in ('', 'file', *OBJECT_STORES) or is_of_fsspec(scheme):
        return
    shown = without_credentials(url)
    meant = meant_url(shown)
    raise ConfigError(
        f'{shown} cannot be a mirror: {scheme}:// is none of a storage that '
        'lists files and replaces them at once. ' +
        (f'Did you mean {meant!r}? ' if meant else '') +
        "Expected a path on another disk, 's3://', 'gs://', 'az://', or a "
        "file system of fsspec (pip install 'mmcv_ckpt_hooks[fsspec]')")


def shared_with(options: CheckpointOptions, mirror: str, place: str) -> str:
    """Say what a mirror shares with the first place; '' if nothing is seen.

    Args:
        options (CheckpointOptions): Of the hook.
        mirror (str): URL of the mirror.
        place (str): URL of the first place.
    """
    if _are_on_one_disk(mirror, place):
        return f'is on the same disk as {place}: who loses it loses both. ' \
            'Look whether the other disk is mounted'
    if options.file_client_args is None and \
            _are_in_one_bucket(options, mirror, place):
        return f'is in the same bucket as {place}: who loses it, or the ' \
            'right to it, loses both'
    return ''


def is_inside(mirror: str, place: str) -> bool:
    """Whether a mirror is a directory in the first place, of the same disk.

    Args:
        mirror (str): URL of the mirror, which need not be there.
        place (str): URL of the first place.
    """
    if scheme_of(mirror) or scheme_of(place):
        return False
    outer, inner = os.path.realpath(place), os.path.realpath(mirror)
    if not inner.startswith(outer.rstrip(os.sep) + os.sep):
        return False
    # another disk may be mounted on the way
    while not os.path.exists(inner):
        inner = os.path.dirname(inner)
    return len(inner) <= len(outer) or \
        os.stat(inner).st_dev == os.stat(outer).st_dev


def _are_on_one_disk(one: str, other: str) -> bool:
    """Whether two places are directories of one file system."""
    try:
        return not (scheme_of(one) or scheme_of(other)) and \
            os.stat(one).st_dev == os.stat(other).st_dev
    except OSError:
        return False


def _are_in_one_bucket(options: CheckpointOptions, mirror: str,
                       place: str) -> bool:
    """Whether two places are in one bucket of one server."""
    if not {scheme_of(mirror), scheme_of(place)} <= set(OBJECT_STORES):
        return False
    given = None if options.mirror is None else options.mirror.storage_options
    one, other = parse_place(mirror,
                             given), parse_place(place,
                                                 options.storage_options)
    return (one.scheme, one.bucket, server_of(one)) == \
        (other.scheme, other.bucket, server_of(other))
