"""Foreign errors, mapped to the ``StorageError`` tree in one table."""
import errno
import os
from contextlib import contextmanager
from typing import Iterator, Optional, Type

from ..errors import (AccessError, MissingCheckpointError, OutOfSpaceError,
                      StorageError, UnsupportedError)

#: No space, no quota, over the file system's or the process's size limit.
NO_SPACE = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG])

_LOCAL_ADVICE = ('Check the owner and mode of the directory and whether it is '
                 'mounted read-only')
_REMOTE_ADVICE = 'Check the credentials and what they allow'

_HTTP_MISSING = (404, 410)
_HTTP_REFUSED = (401, 403, 407)
_HTTP_NO_SPACE = (413, 507)


@contextmanager
def mapped_errors(what: str,
                  path: str,
                  missing: Type[StorageError] = MissingCheckpointError,
                  remote: bool = False) -> Iterator[None]:
    """Turn an ``OSError`` into the matching ``StorageError``.

    Args:
        what (str): What could not be done, for the message.
        path (str): To which file, for the message.
        missing (type): What "no such file" means here. Default:
            MissingCheckpointError.
        remote (bool): Whether refused access is about credentials.
            Default: False.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(error, f'{what} {path}{_in_the_way(error, path)}',
                            missing, remote) from error


def _in_the_way(error: OSError, path: str) -> str:
    """Say which level of a path is a file, if that is what is wrong."""
    if not isinstance(error, (NotADirectoryError, FileExistsError)):
        return ''
    while path and not os.path.lexists(path):
        path = os.path.dirname(path)
    return f' ({path} is a file)' if os.path.isfile(path) else ''


def storage_error(error: OSError,
                  what: str,
                  missing: Type[StorageError] = MissingCheckpointError,
                  remote: bool = False) -> StorageError:
    """Choose the ``StorageError`` for an ``OSError``; see the above.

    The errors of ``urllib`` and ``requests`` are ``OSError`` as well, and
    have the HTTP status. A refusal is never taken for a missing file.
    """
    detail = error.strerror or str(error) or type(error).__name__
    message, status = f'{what}: {detail}', _http_status(error)
    if isinstance(error, PermissionError) or error.errno == errno.EROFS or \
            status in _HTTP_REFUSED:
        advice = _REMOTE_ADVICE if remote else _LOCAL_ADVICE
        return AccessError(f'{message}. {advice}')
    if error.errno in NO_SPACE or status in _HTTP_NO_SPACE:
        return OutOfSpaceError(f'{message}. Free space or lower '
                               'max_keep_ckpts')
    if isinstance(error, FileNotFoundError) or status in _HTTP_MISSING:
        return missing(message)
    return StorageError(message)


def unsupported(url: str, capability: str, reason: str) -> UnsupportedError:
    """Build the error of a verb that a backend does not declare.

    Args:
        url (str): The backend's.
        capability (str): Field of ``Capabilities``, or the verb.
        reason (str): Why, and what to do.
    """
    return UnsupportedError(f'{url} does not support {capability!r}: {reason}')


def _http_status(error: OSError) -> Optional[int]:
    response = getattr(error, 'response', None)  # requests
    status = getattr(response, 'status_code', None)
    if status is None:
        status = getattr(error, 'code', None)  # urllib
    return status if isinstance(status, int) else None


def raise_if_full(error: BaseException) -> None:
    """Raise an error again that says that there is no space."""
    if getattr(error, 'errno', None) in NO_SPACE:
        raise error
