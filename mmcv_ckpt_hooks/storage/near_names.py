"""Names that were meant: of options, and of the scheme of a URL."""
import re
from typing import Sequence

from ..errors import ConfigError
from ..wording import nearest

#: What boto3, s3fs, torchsnapshot and others call our options.
_CALLED_ELSEWHERE = {
    'key': 'access_key_id',
    'access_key': 'access_key_id',
    'access_id': 'access_key_id',
    'username': 'access_key_id',
    'secret': 'secret_access_key',
    'secret_key': 'secret_access_key',
    'access_secret': 'secret_access_key',
    'password': 'secret_access_key',
    'region_name': 'region',
    'host': 'endpoint',
    'url': 'endpoint',
    'endpoint_override': 'endpoint',
    'profile_name': 'profile',
    'anon': 'skip_signature',
    'account': 'account_name',
    'verify': 'client_options',
    'client_kwargs': 'client_options',
}
#: By scheme the names that are given most.
_USUAL = {
    's3': ('access_key_id', 'secret_access_key', 'session_token', 'region',
           'endpoint', 'endpoint_url', 'aws_access_key_id',
           'aws_secret_access_key', 'aws_session_token', 'aws_region',
           'aws_endpoint_url', 'skip_signature', 'checksum_algorithm',
           'virtual_hosted_style_request', 'profile', 'client_options'),
    'gs': ('service_account', 'service_account_key', 'application_credentials',
           'skip_signature'),
    'az': ('account_name', 'account_key', 'client_id', 'client_secret',
           'tenant_id', 'sas_key', 'endpoint', 'skip_signature'),
}
#: What people call the stores, and the scheme that they have.
_STORES_CALLED = {
    'aws': 's3',
    'amazon': 's3',
    'ceph': 's3',
    'minio': 's3',
    'r2': 's3',
    'gcp': 'gs',
    'google': 'gs',
    'azure': 'az',
    'wasb': 'az',
    'wasbs': 'az',
}
_SCHEMES = ('s3', 'gs', 'az', 'pavi', 'file', 'sftp', 'hdfs', 'gcs', 'abfs')
_LIKE = 0.7
#: Of two letters one may be wrong.
_LIKE_SHORT = 0.5


def option_of_others(name: str, scheme: str) -> str:
    """Return our name of an option that others call so; '' if none do.

    Args:
        name (str): What was given.
        scheme (str): Of the URL.
    """
    ours = _CALLED_ELSEWHERE.get(re.sub('^aws_', '', name.lower()), '')
    return ours if ours in _USUAL[scheme] else ''


def near_option(name: str, scheme: str) -> str:
    """Return the option that an unknown one is spelt like; '' if none is."""
    return closest(name, _USUAL[scheme])


def closest(name: str, names: Sequence[str]) -> str:
    """Return the name that another one is spelt like; '' if none is."""
    return nearest(name.lower(), names, _LIKE)


def meant_url(url: str) -> str:
    """Return the URL that one of an unknown scheme is spelt like; '' if none.

    Args:
        url (str): Without credentials.
    """
    scheme, separator, rest = url.partition('://')
    name = scheme.lower()
    like = _LIKE_SHORT if len(name) == 2 else _LIKE
    meant = _STORES_CALLED.get(name) or nearest(name, _SCHEMES, like)
    return f'{meant}://{rest}' if separator and meant else ''


def refuse_near_url(url: str, schemes: Sequence[str], what: str = '') -> None:
    """Refuse what is a path to this machine, and was meant as a URL.

    Args:
        url (str): A path or URL.
        schemes (sequence[str]): Of the URLs that are known.
        what (str): Begins the message. Default: nothing.

    Raises:
        ConfigError: For ``s3:/bucket``, ``s3//bucket``, ``s3:bucket`` and
            ``S3://bucket``, and without a bucket; it has the URL.
    """
    match = re.match(r'(\w+)(:/*|//+)', url)
    if not match or match.group(1).lower() not in schemes:
        return
    scheme = match.group(1).lower()
    is_url = url.startswith(f'{scheme}://')
    if is_url and url[len(scheme) + 3:].strip('/') and \
            url[len(scheme) + 3] != '/':
        return
    # not repeated where it may hold a secret
    rest = 'bucket/prefix' if '@' in url else url[match.end():]
    if is_url:
        raise ConfigError(
            f"{what}'{match.group(0)}{rest}' names no bucket: expected "
            f"'{scheme}://', the bucket, and a prefix in it, such as "
            f"'{scheme}://bucket/{rest.strip('/') or 'prefix'}'")
    raise ConfigError(
        f"{what}{match.group(0)}{rest} is no URL: did you mean "
        f"'{scheme}://{rest}'? A local directory of that name is given as "
        f"'./{match.group(0)}{rest}'")
