"""Errors of the client for object stores, mapped in one table."""
import re
from contextlib import contextmanager
from typing import Iterator, Sequence, Type

from ..errors import (AccessError, ConfigError, MissingCheckpointError,
                      MissingPlaceError, OutOfSpaceError, StorageError)
from .names import redacted
from .near_names import near_option
from .no_answer import no_answer

#: What the client's message has of the response. Nothing else of it is
#: repeated: a refusal may hold what was signed, and with it the session token.
_STATUS = re.compile(r'status code: (\d{3})')
_CODE = re.compile(r'<Code>(\w+)</Code>|\(code: (\w+)\)')
_MESSAGE = re.compile(r'<Message>([^<]*)</Message>')
#: Who is asked for the role of a machine when nothing else has credentials.
_INSTANCE = 'http://169.254.169.254'
#: What a client in Rust raises when it meets what it did not expect.
_PANIC = 'PanicException'
#: Largest part of a message without a response that is repeated.
_SHOWN_CHARACTERS = 300

_REFUSED = {'401', '403', '407'}
_REFUSED_CODES = {
    'AccessDenied', 'AuthenticationFailed', 'AuthorizationFailure',
    'ExpiredToken', 'InvalidAccessKeyId', 'SignatureDoesNotMatch'
}
_NO_PLACE_CODES = {'NoSuchBucket', 'ContainerNotFound'}
_NO_SPACE = {'507'}
_NO_SPACE_CODES = {'QuotaExceeded', 'XMinioStorageFull'}
_REPLACED = {'412'}
#: The server does not know, and never will, what it was asked.
_UNKNOWN = {'501'}
_UNKNOWN_CODES = {'NotImplemented', 'InvalidArgument', 'InvalidRequest'}
#: What may not come again, although the client takes it for an answer: most
#: say that bytes were changed on their way.
_PASSING = {'408', '429'}
_PASSING_CODES = {
    'BadDigest', 'IncompleteBody', 'InternalError', 'InvalidDigest',
    'InvalidPart', 'InvalidPartOrder', 'MalformedXML', 'Md5Mismatch',
    'OperationAborted', 'OperationTimedOut', 'RequestTimeout', 'ServerBusy',
    'ServiceUnavailable', 'SlowDown', 'XAmzContentChecksumMismatch',
    'XAmzContentSHA256Mismatch'
}
#: An answer that is cut or changed; the client does not ask again.
_UNREADABLE = re.compile('response body error|Got invalid [a-z ]*response|'
                         'Unable to extract metadata')
_GONE_UPLOAD = 'NoSuchUpload'
_UNKNOWN_OPTION = re.compile(r"Configuration key: '(\w+)' is not valid")

_LATER = 'This may pass by itself; if not, look at network and store'
_PLACE = 'Check the name of the bucket, and the endpoint'


@contextmanager
def object_errors(
    what: str,
    url: str,
    missing: Type[StorageError] = MissingCheckpointError,
    secrets: Sequence[str] = ()
) -> Iterator[None]:
    """Turn errors of the client into the matching ``StorageError``.

    A refusal is never taken for a missing object, nor is a missing bucket.

    Args:
        what (str): What could not be done, for the message.
        url (str): To which object, for the message.
        missing (type): What "no such object" means here. Default:
            MissingCheckpointError.
        secrets (sequence[str]): What no message may hold. Default: none.
    """
    from obstore.exceptions import BaseError
    try:
        yield
    except StorageError:
        raise
    except (BaseError, OSError, ValueError) as error:
        # the traceback shows the cause, too
        told = reason(error, secrets)
        cause = type(error)(told)
        raise _mapped(error, f'{what} {url}: {told}', missing) from cause
    except BaseException as error:
        # no Exception: nobody would pass it on to other ranks and threads
        if type(error).__name__ != _PANIC:
            raise
        raise StorageError(
            f'{what} {url}: the client has failed. Check URL and '
            'storage_options') from error


class ShortAnswer(OSError):
    """Of an answer only a part came."""


def passes(error: Exception) -> bool:
    """Whether an error of the client may not come again."""
    text, status = str(error), _status(error)
    if status:
        return not is_unknown_request(error) and (
            status in _PASSING or status.startswith('5')
            or _code(error) in _PASSING_CODES)
    return isinstance(error, ShortAnswer) or is_unreadable(error) or \
        no_answer(text) is not None and _INSTANCE not in text


def is_unreadable(error: Exception) -> bool:
    """Whether what was asked for may be done: the answer is not whole."""
    return not _status(error) and bool(_UNREADABLE.search(str(error)))


def is_spoilt(error: Exception) -> bool:
    """Whether a request or its answer was damaged on the way.

    The client repeats what fails in another way, for as long as it should.
    """
    return is_unreadable(error) or \
        _status(error) == '400' and _code(error) in _PASSING_CODES


def is_unknown_request(error: Exception) -> bool:
    """Whether a store, or the client, does not know what it was asked."""
    from obstore.exceptions import NotSupportedError
    return isinstance(error, (NotSupportedError, NotImplementedError)) or \
        _status(error) in _UNKNOWN or _code(error) in _UNKNOWN_CODES


def is_gone_place(error: Exception) -> bool:
    """Whether there is no such bucket."""
    return _code(error) in _NO_PLACE_CODES


def is_gone_upload(error: Exception) -> bool:
    """Whether the store knows nothing of an upload; it may be complete."""
    return _code(error) == _GONE_UPLOAD


def _mapped(error: Exception, message: str,
            missing: Type[StorageError]) -> StorageError:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
    status, code = _status(error), _code(error)
    if _INSTANCE in str(error):
        return AccessError(
            f'{message}. There are no credentials in storage_options, the '
            'environment or a profile, and this machine has no role')
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or \
            status in _REFUSED or code in _REFUSED_CODES:
        return AccessError(f'{message}. Check the credentials and what they '
                           'allow')
    if code in _NO_PLACE_CODES:
        return MissingPlaceError(f'{message}. {_PLACE}')
    if status in _NO_SPACE or code in _NO_SPACE_CODES:
        return OutOfSpaceError(f'{message}. Free space or lower '
                               'max_keep_ckpts')
    if status in _REPLACED:
        return StorageError(f'{message}. Another program has written it '
                            'meanwhile')
    if isinstance(error, FileNotFoundError):
        return missing(message if missing is
                       MissingCheckpointError else f'{message}. {_PLACE}')
    silent = no_answer(str(error))
    if silent is not None:
        return StorageError(f'{message}. {silent.advice}')
    if passes(error):
        return StorageError(f'{message}. {_LATER}')
    return StorageError(message)


def configuration_error(error: Exception, url: str,
                        secrets: Sequence[str]) -> ConfigError:
    """Build the error of options that the client refuses."""
    unknown = _UNKNOWN_OPTION.search(str(error))
    if unknown:
        name, scheme = unknown.group(1), url.partition(':')[0]
        near = near_option(name, scheme)
        return ConfigError(f'storage_options for {url}: unknown {name!r}' +
                           (f'; did you mean {near!r}?' if near else ''))
    return ConfigError(f'storage_options for {url}: {reason(error, secrets)}')


def reason(error: Exception, secrets: Sequence[str]) -> str:
    """Return what an error says, without what must not be told."""
    text = str(error)
    status, code = _status(error), _code(error)
    message = _MESSAGE.search(text)
    parts = [part for part in (status, code) if part]
    if message:
        parts.append(message.group(1))
    silent = no_answer(text)
    if silent is not None and not parts:
        parts.append(silent.told)
    # after the first paragraph the client lists everything that it knows
    told = ' '.join(parts) or text.split('\n\n')[0][:_SHOWN_CHARACTERS]
    return redacted(told, secrets).strip(' .') or type(error).__name__


def _status(error: Exception) -> str:
    match = _STATUS.search(str(error))
    return match.group(1) if match else ''


def _code(error: Exception) -> str:
    match = _CODE.search(str(error))
    return match.group(1) or match.group(2) if match else ''
