"""``s3://``, ``gs://`` and ``az://`` URLs, and the options for them."""
import os
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..errors import ConfigError, DependencyError
from .aws_profile import profile_options
from .near_names import closest, option_of_others
from .object_errors import configuration_error

#: By scheme the class of the client.
SCHEMES = {'s3': 'S3Store', 'gs': 'GCSStore', 'az': 'AzureStore'}

#: Who asks.
_KEYS = ('access_key_id', 'secret_access_key', 'session_token', 'token')
#: Options of our own; all others are the client's.
_OWN = ('profile', 'retry_secs', 'client_options')
#: So long a request that fails is repeated (seconds), with growing pauses.
_RETRY_SECS = 180.
#: One request may take so long (seconds): a part over a slow line.
_REQUEST_SECS = 300.
#: A connection in which nothing moves (seconds).
_SILENCE_SECS = 60.
#: Of the check before training: who waits looks at it.
_QUICK_SECS, _QUICK_RETRIES = 10., 2
#: The time alone ends it: the client's own ten pauses may be over in seconds.
_MANY_RETRIES = 1000

#: Of each request with bytes; None in the options leaves it out.
_CHECKSUM = 'SHA256'

#: What says where a store is, and never who may use it.
_OPEN_OPTIONS = re.compile(
    r'(?:aws_|google_|azure_)?(?:storage_)?'
    r'(?:endpoint(?:_url)?(?:_s3)?|(?:default_)?region(?:_name)?|account_name|'
    r'bucket(?:_name)?|container_name|profile|checksum_algorithm|'
    r'host(?:name)?|port|project|'
    r'[a-z_]*(?:use|disable|virtual|allow|skip|unsigned)[a-z_]*)')
#: Shorter ones stand in too many words to be told from them.
_LEAST_CHARACTERS = 4
#: The name for S3 alone has no short one.
_PREFIX = re.compile('^aws_(?!endpoint_url_s3)')
#: The client panics at others.
_ENDPOINT = re.compile(r'https?://[\w.:\[\]-]+(?:/\S*)?$')
_BUCKET = re.compile(r'[\w.-]+')
_ENDPOINTS = ('aws_endpoint_url_s3', 'endpoint', 'aws_endpoint',
              'endpoint_url', 'aws_endpoint_url', 'azure_endpoint',
              'azure_storage_endpoint')
_REGIONS = ('region', 'aws_region', 'default_region', 'aws_default_region')
_ACCOUNTS = ('account_name', 'azure_storage_account_name')
_ENDPOINTS_IN_ENVIRONMENT = {
    's3': ('AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL', 'AWS_ENDPOINT'),
    'az': ('AZURE_ENDPOINT', 'AZURE_STORAGE_ENDPOINT'),
    'gs': ()
}


@dataclass(frozen=True)
class ObjectPlace:
    """A prefix in a bucket, and how to reach it.

    Args:
        scheme (str): One of :data:`SCHEMES`.
        bucket (str): Its bucket or container.
        prefix (str): Without slashes around it; may be empty.
        config (dict): The client's options. They may be credentials.
        client_options (dict): Of its connections.
        retry_secs (float): See :data:`_RETRY_SECS`.
    """
    scheme: str
    bucket: str
    prefix: str
    config: Mapping[str, Any] = field(repr=False)
    client_options: Mapping[str, Any] = field(repr=False)
    retry_secs: float = _RETRY_SECS

    @property
    def url(self) -> str:
        """Return the URL, which holds no credentials."""
        prefix = f'/{self.prefix}' if self.prefix else ''
        return f'{self.scheme}://{self.bucket}{prefix}'

    @property
    def secrets(self) -> Tuple[str, ...]:
        """Return the values of options that may be credentials."""
        return secrets_of(self.config)

    @property
    def plain(self) -> Dict[str, Any]:
        """Return the options by their short names: ``region``."""
        return {
            _PREFIX.sub('', name.lower()): value
            for name, value in self.config.items()
        }

    def patience_secs(self, quick: bool = False) -> float:
        """Return how long a request is repeated; see :meth:`connect`."""
        return min(_QUICK_SECS, self.retry_secs) if quick else self.retry_secs

    def connect(self, quick: bool = False) -> Any:
        """Build the client's store; nothing is sent yet.

        Args:
            quick (bool): Whether to give up early. Default: False.

        Raises:
            ConfigError: If it refuses the options.
            DependencyError: If the client is not installed.
        """
        obstore = import_client(self.url)
        retries = dict(
            max_retries=_QUICK_RETRIES if quick else _MANY_RETRIES,
            retry_timeout=timedelta(seconds=self.patience_secs(quick)))
        options = {
            'timeout': timedelta(seconds=_REQUEST_SECS),
            'read_timeout': timedelta(seconds=_SILENCE_SECS),
            **self.client_options
        }
        config, more = dict(self.config), {}
        keys = {name: self.plain.get(name) for name in _KEYS}
        if self.scheme == 's3' and keys['access_key_id']:
            # as options the client would sign with them and with a session
            # token that the environment has for other ones
            config = {
                name: value
                for name, value in self.plain.items() if name not in _KEYS
            }
            more['credential_provider'] = lambda: dict(
                access_key_id=keys['access_key_id'],
                secret_access_key=keys['secret_access_key'],
                token=keys['session_token'] or keys['token'],
                expires_at=None)
        try:
            return getattr(obstore.store, SCHEMES[self.scheme])(
                self.bucket,
                prefix=self.prefix or None,
                config=config,
                client_options=options,
                retry_config=retries,
                **more)
        except (obstore.exceptions.BaseError, ValueError, TypeError) as error:
            told = configuration_error(error, self.url, self.secrets)
            raise told from type(error)(str(told))


def import_client(url: str) -> Any:
    """Import the client.

    Raises:
        DependencyError: If it is not installed.
    """
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise DependencyError(
            f"{url} needs the package 'obstore' ({error}): pip install "
            "'mmcv_ckpt_hooks[s3]'. To have mmcv.FileClient store it, as "
            "before, give file_client_args=dict(backend='petrel')") from error
    return obstore


def secrets_of(options: Mapping[str, Any]) -> Tuple[str, ...]:
    """Return the values of options that may be credentials."""
    found: List[str] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            found += secrets_of(value)
        elif isinstance(value, str) and \
                len(value) >= _LEAST_CHARACTERS and \
                not _OPEN_OPTIONS.fullmatch(str(name).lower()):
            found.append(value)
    return tuple(found)


def whereabouts(options: Mapping[str, Any]) -> Dict[str, str]:
    """Return what says where an S3 store is, and nothing else.

    Returns:
        dict[str, str]: ``endpoint`` and ``region``, as far as they are given.
    """
    given = {str(name).lower(): value for name, value in options.items()}
    found = {}
    for name, spellings in (('endpoint', _ENDPOINTS), ('region', _REGIONS)):
        said = [given[one] for one in spellings if given.get(one)]
        # what may have credentials in it does not leave the config
        if said and isinstance(said[0], str) and not set('@?') & set(said[0]):
            found[name] = said[0]
    return found


def parse_place(url: str,
                options: Optional[Mapping[str, Any]] = None) -> ObjectPlace:
    """Read a URL and its options.

    Args:
        url (str): ``s3://bucket/prefix``, ``gs://`` or ``az://``.
        options (dict, optional): Those of obstore (``endpoint``, ``region``,
            ``access_key_id``, ...), and ``profile``, ``retry_secs`` and
            ``client_options``. Default: None; the environment, then the
            profile, say what is not given.

    Raises:
        ConfigError: If the URL names no bucket or holds credentials, or an
            option is wrong.
    """
    scheme, _, rest = url.partition('://')
    bucket, _, prefix = rest.partition('/')
    if not {'@', ':'}.isdisjoint(bucket):
        # not repeated: it is a secret, and keys may hold slashes
        raise ConfigError(
            f'a {scheme}:// URL must not hold credentials: give them in '
            'storage_options or, better, in the environment or a profile')
    prefix = prefix.strip('/')
    example = f"expected such as '{scheme}://bucket/prefix'"
    if not _BUCKET.fullmatch(bucket):
        has = f'{bucket!r} is no name of a bucket, which has letters, ' \
            "digits, '.', '_' and '-'" if bucket else 'it names no bucket'
        raise ConfigError(f'{url!r}: {has}; {example}')
    if not {'', '.', '..'}.isdisjoint(prefix.split('/') if prefix else ()):
        raise ConfigError(f'{url!r}: a level of the prefix must not be empty, '
                          f"'.' or '..'; {example}")
    given = dict(options or {})
    own = {name: given.pop(name) for name in _OWN if name in given}
    for name in given:
        near = option_of_others(str(name), scheme) or closest(str(name), _OWN)
        if near:
            raise ConfigError(f'storage_options: unknown {name!r}; did you '
                              f'mean {near!r}?')
    retry_secs = own.get('retry_secs', _RETRY_SECS)
    if isinstance(retry_secs, bool) or \
            not isinstance(retry_secs, (int, float)) or not retry_secs > 0:
        raise ConfigError('storage_options.retry_secs must be a positive '
                          f'number, but got {retry_secs!r}')
    if scheme == 's3':
        # the signature alone does not have every server look at the bytes
        given.setdefault('checksum_algorithm',
                         os.environ.get('AWS_CHECKSUM_ALGORITHM', _CHECKSUM))
        # one request an object, which every server knows
        given.setdefault('disable_bulk_delete', True)
        given = {**profile_options(own.get('profile'), given), **given}
    elif 'profile' in own:
        raise ConfigError('storage_options.profile is for s3:// only')
    given = {name: one for name, one in given.items() if one is not None}
    place = ObjectPlace(scheme, bucket, prefix, given, {}, float(retry_secs))
    if scheme == 's3' and bool(place.plain.get('access_key_id')) is not \
            bool(place.plain.get('secret_access_key')):
        raise ConfigError('storage_options: access_key_id and '
                          'secret_access_key belong together')
    endpoint = _endpoint(scheme, given)
    if not isinstance(own.get('client_options', {}), Mapping):
        raise ConfigError('storage_options.client_options must be a dict')
    client_options = dict(own.get('client_options', {}))
    if endpoint.startswith('http://'):
        client_options.setdefault('allow_http', True)
    return replace(place, client_options=client_options)


def endpoint_of(place: ObjectPlace) -> str:
    """Return the endpoint of a place; '' for the client's own."""
    return _endpoint(place.scheme, place.config)


def server_of(place: ObjectPlace) -> str:
    """Return what tells places of one URL apart: endpoint and account."""
    account = [
        str(value) for name, value in place.config.items()
        if name.lower() in _ACCOUNTS
    ]
    return ' '.join([endpoint_of(place), *account[:1]])


def _endpoint(scheme: str, options: Mapping[str, Any]) -> str:
    """Return the endpoint that the client will take; '' for its own."""
    given = {name.lower(): value for name, value in options.items()}
    found = [given[name] for name in _ENDPOINTS if given.get(name)] + [
        os.environ[name]
        for name in _ENDPOINTS_IN_ENVIRONMENT[scheme] if os.environ.get(name)
    ]
    endpoint = str(found[0]) if found else ''
    if '@' in endpoint:
        raise ConfigError('storage_options.endpoint must not hold credentials')
    if endpoint and not _ENDPOINT.match(endpoint):
        raise ConfigError('storage_options.endpoint must begin with http:// '
                          f'or https:// and a host, but got {endpoint!r}')
    return endpoint
