"""Errors of fsspec's file systems, mapped in one table."""
import sys
from contextlib import contextmanager
from typing import Iterator, Sequence, Tuple, Type

from ..errors import (AccessError, DependencyError, MissingCheckpointError,
                      StorageError)
from .mapped_errors import storage_error
from .names import redacted

#: What file systems raise: errors of Python and, by package, which is
#: imported when a file system needs it, those of their clients.
_ERRORS = (OSError, ImportError, NotImplementedError, RuntimeError, ValueError,
           TypeError, LookupError, EOFError)
_CLIENT_ERRORS = (
    ('aiohttp', 'ClientError'),
    ('asyncio', 'TimeoutError'),
    ('azure.core.exceptions', 'AzureError'),
    ('botocore.exceptions', 'BotoCoreError'),
    ('botocore.exceptions', 'ClientError'),
    ('fsspec.exceptions', 'FSTimeoutError'),
    ('gcsfs.retry', 'HttpError'),
    ('google.auth.exceptions', 'GoogleAuthError'),
    ('paramiko', 'SSHException'),
)
#: Names of those that are refusals, or say that a file is missing.
_REFUSALS = {
    'AuthenticationException', 'BadAuthenticationType',
    'ClientAuthenticationError', 'DefaultCredentialsError',
    'NoCredentialsError', 'PartialCredentialsError',
    'PasswordRequiredException', 'RefreshError'
}
_MISSING = {'ResourceNotFoundError'}
_REFUSED_STATUS, _MISSING_STATUS = (401, 403, 407), (404, 410)
_ADVICE = 'Check the credentials and what they allow'


@contextmanager
def fsspec_errors(
    what: str,
    url: str,
    missing: Type[StorageError] = MissingCheckpointError,
    secrets: Sequence[str] = ()
) -> Iterator[None]:
    """Turn errors of a file system into the matching ``StorageError``.

    Args:
        what (str): What could not be done, for the message.
        url (str): To which file, for the message.
        missing (type): What "no such file" means here. Default:
            MissingCheckpointError.
        secrets (sequence[str]): What no message may hold. Default: none.
    """
    try:
        yield
    except StorageError:
        raise
    except _kinds() as error:
        mapped = _mapped(error, f'{what} {url}', missing)
        told = redacted(str(mapped), secrets)
        if told == str(mapped):
            raise mapped from error
        # the traceback would show the cause, too
        raise type(mapped)(told) from None


def _kinds() -> Tuple[Type[Exception], ...]:
    """Return what a file system raises, by the packages that it imported."""
    found = (getattr(sys.modules.get(package), name, None)
             for package, name in _CLIENT_ERRORS)
    return (*_ERRORS, *(kind for kind in found if kind is not None))


def _mapped(error: Exception, what: str,
            missing: Type[StorageError]) -> StorageError:
    detail = f'{type(error).__name__}: {error}'
    if isinstance(error, ImportError):
        return DependencyError(f'{what}: {error}')
    names = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, 'status_code', getattr(error, 'status', None))
    if names & _REFUSALS or status in _REFUSED_STATUS:
        return AccessError(f'{what}: {detail}. {_ADVICE}')
    if names & _MISSING or status in _MISSING_STATUS:
        return missing(f'{what}: {detail}')
    if isinstance(error, OSError):
        return storage_error(error, what, missing, remote=True)
    return StorageError(f'{what}: {detail}')
