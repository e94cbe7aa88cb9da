"""The path of a checkpoint that somebody has given, checked.

Standard library only.
"""
import difflib
import os

from .errors import ConfigError
from .folders.layout import LATEST_FOLDER, is_checkpoint
from .folders.place import leads_to_folder
from .storage import scheme_of
from .types import LATEST_NAME

#: What others call ``resume='auto'``.
_NEWEST = ('latest', 'last', 'newest', 'true')


def check_resume(given: str) -> None:
    """Check the argument ``resume`` of the hook, unless it is ``'auto'``.

    Raises:
        ConfigError: If it is no path of a checkpoint.
    """
    if given == '':
        raise ConfigError("DurableCheckpointHook: resume must be 'auto' or a "
                          "path, but got ''")
    if _is_directory(given):
        raise ConfigError(
            f'DurableCheckpointHook: resume={given!r} is a directory. '
            "resume='auto' takes the newest checkpoint of the work dir, or of "
            f'out_dir if that is given; {_advice(given)}')
    word = given.strip().lower()
    if not os.path.exists(given) and (word in _NEWEST
                                      or difflib.get_close_matches(
                                          word, ['auto'], cutoff=0.75)):
        raise ConfigError(f'DurableCheckpointHook: resume={given!r} is no '
                          "file, did you mean 'auto'?")


def refuse_directory(given: str) -> None:
    """Refuse a directory where a checkpoint is expected.

    Raises:
        ConfigError: It names the newest checkpoint there.
    """
    if _is_directory(given):
        raise ConfigError(f'{given} is a directory, expected a checkpoint; '
                          f'{_advice(given)}')


def _is_directory(given: str) -> bool:
    # what is below a URL only its storage knows
    return scheme_of(given) in ('', 'file') and os.path.isdir(
        _local(given)) and not leads_to_folder(given)


def _local(given: str) -> str:
    return os.path.expanduser(given[7:] if scheme_of(given) else given)


def _advice(given: str) -> str:
    """Say what to give: as a path, in the way of the one that was given."""
    path = _local(given)
    names = [
        name for name in os.listdir(path)
        if is_checkpoint(name) and os.path.exists(os.path.join(path, name))
    ]
    if not names:
        return 'no checkpoint is in that one'
    # also where no link of that name is: it means the newest that verifies
    latest = LATEST_FOLDER if os.path.lexists(
        os.path.join(path, LATEST_FOLDER)) else LATEST_NAME
    return 'to start from the newest of another directory, give ' \
        f'{os.path.join(given, latest)!r}'
