"""The path or URL of a checkpoint, or of a place for them, that is given.

Standard library only.
"""
import os
import re

from .errors import ConfigError
from .folders.layout import LATEST_FOLDER, is_checkpoint
from .folders.place import leads_to_folder
from .storage import OBJECT_STORES, scheme_of
from .storage.names import without_credentials
from .types import LATEST_NAME
from .wording import nearest

#: What others call ``resume='auto'``.
_NEWEST = ('latest', 'last', 'newest', 'true', 'yes')
#: Schemes whose URLs are taken for a path when they are misspelt, but for
#: those of object stores; what one looks like.
_PLACES = {
    'file': 'file:///data/checkpoints',
    'pavi': 'pavi://project/model',
    'hdfs': 'hdfs://host/checkpoints',
    'sftp': 'sftp://host/checkpoints',
    'memory': 'memory://checkpoints',
}
#: Where a level of a path begins with one; elsewhere a $ is of a name.
_VARIABLE = re.compile(r'(?:^|/)(?P<variable>\$(?:\w+|\{\w+\}))')
#: What mmcv loads weights from: nothing there is of a run.
_WEIGHTS = ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls')


def check_place(name: str, given: str) -> None:
    """Check the path or URL of a directory of checkpoints.

    What begins with ``./`` is taken as it is. A ``$`` elsewhere than at the
    start of a level is a character as others.

    Args:
        name (str): The argument.
        given (str): Its value.

    Raises:
        ConfigError: If it is blank or a URL without a place, if it was meant
            as a URL and is none, or if a level begins with a variable, which
            nothing replaces. A local directory of such a name passes, if it
            is there.
    """
    start = f'DurableCheckpointHook: {name}'
    if not given.strip():
        raise ConfigError(f'{start} must be a path or URL, but got {given!r}: '
                          'leave it out for none')
    if given.startswith(os.path.join(os.curdir, '')):
        return
    _refuse_near_place(start, given)
    _refuse_variable(start, without_credentials(given))


def _refuse_near_place(start: str, given: str) -> None:
    match = re.match(r'(\w+):(//)?', given)
    scheme = match.group(1).lower() if match else ''
    if match is None or scheme not in _PLACES:
        return
    rest = given[match.end():]
    if not rest.strip('/'):
        raise ConfigError(f"{start}: {given!r} names no place: expected "
                          f"such as '{_PLACES[scheme]}'")
    if given.startswith(f'{scheme}://'):
        return
    # the path of a file may be relative, and that of others begins with a host
    meant = f'{scheme}://{rest if scheme == "file" else rest.lstrip("/")}'
    if '@' in given:
        # not repeated where it may hold a secret
        given, meant = f'{match.group()}...', _PLACES[scheme]
    raise ConfigError(f'{start}: {given} is no URL of a place: did you mean '
                      f"'{meant}'?")


def _refuse_variable(start: str, url: str) -> None:
    is_local = scheme_of(url) in ('', 'file')
    for match in _VARIABLE.finditer(url):
        # the whole level: $USER-old is the name of one, too
        level = url[:match.end()] + url[match.end():].partition('/')[0]
        if is_local and os.path.isdir(_local(level)):
            continue
        variable = match.group('variable')
        bare = variable.strip('${}')
        raise ConfigError(
            f'{start}: nothing replaces {variable} of {url!r}. A config is '
            f"Python: give os.environ[{bare!r}] + '...', or "
            "os.path.expandvars('...')")


def refuse_null(name: str, given: str) -> None:
    """Refuse a path that no system call takes.

    Raises:
        ConfigError: If it has a null character.
    """
    if '\0' in given:
        raise ConfigError(
            f'DurableCheckpointHook: {name} must be a path or URL, but got '
            f'{without_credentials(given)!r}, with a null character')


def check_resume(given: str) -> None:
    """Check the argument ``resume`` of the hook, unless it is ``'auto'``.

    Raises:
        ConfigError: If it is no path of a checkpoint.
    """
    if given == '':
        raise ConfigError("DurableCheckpointHook: resume must be 'auto' or a "
                          "path, but got ''")
    scheme = scheme_of(given)
    if scheme in _WEIGHTS:
        raise ConfigError(
            f'DurableCheckpointHook: resume={given!r} has the weights alone, '
            'and no state of a run: use load_from to take them')
    if scheme in OBJECT_STORES and '/' not in given[len(scheme) +
                                                    3:].strip('/'):
        raise ConfigError(
            f'DurableCheckpointHook: resume={without_credentials(given)!r} '
            'names a bucket, expected a checkpoint in it, such as '
            f"'{scheme}://bucket/prefix/iter_1000.pth'")
    if _is_directory(given):
        raise ConfigError(
            f'DurableCheckpointHook: resume={given!r} is a directory. '
            "resume='auto' takes the newest checkpoint of the work dir, or of "
            'out_dir if that is given; ' +
            _advice(given, 'to start from the newest of another directory'))
    word = given.strip().lower()
    if not os.path.exists(given) and (word in _NEWEST
                                      or nearest(word, ['auto'], like=.75)):
        raise ConfigError(f'DurableCheckpointHook: resume={given!r} is no '
                          "file, did you mean 'auto'?")


def refuse_directory(given: str) -> None:
    """Refuse a directory where a checkpoint is expected.

    Raises:
        ConfigError: It names the newest checkpoint there.
    """
    if _is_directory(given):
        raise ConfigError(f'{given} is a directory, expected a checkpoint; ' +
                          _advice(given, 'for the newest in it'))


def refuse_part(path: str) -> None:
    """Refuse a file of a sharded checkpoint.

    Raises:
        ConfigError: It names the whole.
    """
    # of the whole, given with a slash, nothing follows it
    directory, name = os.path.split(path)
    is_remote = scheme_of(path) not in ('', 'file')
    is_file = name and (is_remote or os.path.isfile(_local(path)))
    if not is_file or name.endswith('.pth') or \
            not leads_to_folder(directory or '.'):
        return
    whole = directory or os.getcwd()
    raise ConfigError(
        f'{path} is a part of the sharded checkpoint {whole}: expected the '
        'whole, that is the folder')


def refuse_checkpoint(given: str) -> None:
    """Refuse a checkpoint where a directory of checkpoints is expected.

    Raises:
        ConfigError: It says what checks it.
    """
    is_local = scheme_of(given) in ('', 'file')
    if is_local and os.path.isfile(_local(given)):
        what = 'a file'
    elif leads_to_folder(given):
        what = 'a sharded checkpoint'
    else:
        return
    raise ConfigError(f'{given} is {what}, expected a directory of '
                      f'checkpoints: verify_checkpoint({given!r}) checks one')


def _is_directory(given: str) -> bool:
    # what is below a URL only its storage knows
    return scheme_of(given) in ('', 'file') and os.path.isdir(
        _local(given)) and not leads_to_folder(given)


def _local(given: str) -> str:
    return os.path.expanduser(given[7:] if scheme_of(given) else given)


def _advice(given: str, purpose: str) -> str:
    """Say which path to give, and for what."""
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
    return f'{purpose} give {os.path.join(given, latest)!r}'
