"""What ``~/.aws`` says, which the client does not read itself."""
import configparser
import os
from contextlib import suppress
from typing import Any, Dict, List, Mapping, Optional

from ..errors import ConfigError

_KEYS = {
    'aws_access_key_id': 'access_key_id',
    'aws_secret_access_key': 'secret_access_key',
    'aws_session_token': 'session_token',
    'region': 'region',
    'endpoint_url': 'endpoint',
}
_CREDENTIALS = ('access_key_id', 'secret_access_key', 'session_token')
#: What else gives the client credentials; a profile that nobody named does
#: not take their place.
_OTHER_SOURCES = ('AWS_ACCESS_KEY_ID', 'AWS_WEB_IDENTITY_TOKEN_FILE',
                  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
                  'AWS_CONTAINER_CREDENTIALS_FULL_URI')
#: By option of the client what the environment calls it.
IN_ENVIRONMENT = {
    'access_key_id': ('AWS_ACCESS_KEY_ID', ),
    'secret_access_key': ('AWS_SECRET_ACCESS_KEY', ),
    'session_token': ('AWS_SESSION_TOKEN', 'AWS_TOKEN'),
    'region': ('AWS_REGION', 'AWS_DEFAULT_REGION'),
    'endpoint': ('AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL', 'AWS_ENDPOINT'),
}


def profile_options(name: Optional[str],
                    given: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what a profile adds to options and environment.

    A profile that is named goes before the environment's credentials, the
    default one after them.

    Args:
        name (str, optional): The profile. Default: None, which means
            ``AWS_PROFILE``, else ``default``.
        given (dict): The options.

    Raises:
        ConfigError: If a profile that is named is not there, or gives its
            keys in another way than as text.

    Source: the AWS SDK reference, "Shared config and credentials files".
    """
    named = name or os.environ.get('AWS_PROFILE')
    found = _read(named or 'default')
    if named and found is None:
        raise ConfigError(f'the profile {named!r} is in neither '
                          f'{" nor ".join(_paths())}')
    options = {
        key: found[theirs]
        for theirs, key in _KEYS.items() if found and found.get(theirs)
    }
    lower = {one.lower().replace('aws_', '', 1) for one in given}
    if not lower.isdisjoint(_CREDENTIALS) or (not name and any(
            os.environ.get(source) for source in _OTHER_SOURCES)):
        options = {
            key: value
            for key, value in options.items() if key not in _CREDENTIALS
        }
    elif named and 'secret_access_key' not in options and \
            'skip_signature' not in lower:
        raise ConfigError(
            f'the profile {named!r} has no keys (single sign-on, roles and '
            'processes are not followed): put them into the environment, '
            'with "aws configure export-credentials --format env"')
    return {
        key: value
        for key, value in options.items() if key in _CREDENTIALS or not any(
            os.environ.get(one) for one in IN_ENVIRONMENT[key])
    }


def _paths() -> List[str]:
    return [
        os.path.expanduser(os.environ.get(variable, default))
        for variable, default in (('AWS_SHARED_CREDENTIALS_FILE',
                                   '~/.aws/credentials'), ('AWS_CONFIG_FILE',
                                                           '~/.aws/config'))
    ]


def _read(name: str) -> Optional[Dict[str, str]]:
    """Return a profile's settings; None if no file has it."""
    credentials, config = _paths()
    found: Optional[Dict[str, str]] = None
    section = name if name == 'default' else f'profile {name}'
    for path, title in ((config, section), (credentials, name)):
        parser = configparser.RawConfigParser(strict=False)
        with suppress(OSError):
            try:
                parser.read(path)
            except (configparser.Error, UnicodeDecodeError) as error:
                # what it quotes may be a key
                raise ConfigError(f'{path} cannot be read: '
                                  f'{type(error).__name__}') from None
        if parser.has_section(title):
            found = {**(found or {}), **dict(parser.items(title))}
    return found
