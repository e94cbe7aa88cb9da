"""Names of files and places, read in one way by all backends."""
import os
import re
import uuid
from typing import Iterable

from ..errors import StorageError
from . import scheme_of

#: In the name of every unfinished file. Such a name starts with a dot and
#: never ends in ``.pth``: tools that glob for checkpoints must not meet it.
TEMPORARY_MARK = '.tmp-'

#: So much of a name is repeated in the temporary one: names as long as the
#: file system allows (255 bytes) stay possible.
_REPEATED_CHARACTERS = 40

#: Forked children share it; their pid differs.
_THIS_IMPORT = uuid.uuid4().hex[:8]

_SEPARATORS = re.compile(r'[/\0]')
# a secret key may hold slashes
_CREDENTIALS = re.compile(r'(?<=://)(?:[^/]+|[^/@:]+:[^@]*)@')


def plain_name(name: str, url: str) -> str:
    """Return a file name that stays inside its directory.

    Args:
        name (str): What a caller gave.
        url (str): The directory, for the error.

    Raises:
        StorageError: If the name is empty, has a separator or is ``'..'``.
    """
    # INVARIANT: nothing outside the directory is ever touched
    if not is_plain(name):
        raise StorageError(
            f'checkpoint name {name!r} must be a plain file name: it may not '
            f'lead out of {url}')
    return name


def is_plain(name: str) -> bool:
    """Whether a name is that of a file in a directory, and no path."""
    # basename() knows what else separates: a backslash and a drive, on Windows
    # alone; a file that came from there in an archive has one in its name
    return name not in ('', '.', '..') and not _SEPARATORS.search(name) and \
        os.path.basename(name) == name


def writer_id() -> str:
    """Return what tells this process's unfinished files from all others.

    A pid repeats: in containers, on other machines, after a reboot.
    """
    return f'{os.getpid()}-{_THIS_IMPORT}'


def temporary_beside(path: str) -> str:
    """Return a path for an unfinished file; names may be of any length."""
    directory, name = os.path.split(path)
    return os.path.join(
        directory, f'.{name[:_REPEATED_CHARACTERS]}{TEMPORARY_MARK}'
        f'{writer_id()}-{uuid.uuid4().hex[:8]}')


def is_temporary(name: str) -> bool:
    """Whether a file of that name is an unfinished write."""
    return name.startswith('.') and TEMPORARY_MARK in name


def without_credentials(url: str) -> str:
    """Return ``'s3://bucket'`` for ``'s3://key:secret@bucket'``."""
    return _CREDENTIALS.sub('', url)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return a text without what nobody is to read."""
    for secret in secrets:
        text = text.replace(secret, '***')
    return text


def same_place(one: str, other: str) -> bool:
    """Whether two paths or URLs name one directory, also through links."""
    return bool(one) and _real_place(one) == _real_place(other)


def _real_place(place: str) -> str:
    scheme = scheme_of(place)
    if scheme not in ('', 'file', 'local'):
        return place.rstrip('/')
    path = place[len(scheme) + 3:] if scheme else place
    return os.path.realpath(os.path.expanduser(path))
