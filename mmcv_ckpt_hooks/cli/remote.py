"""URLs that the commands are given, and how to reach what they name."""
import argparse
import json
import re
from typing import Any, Dict, Mapping, Optional

from ..errors import ConfigError
from ..storage import OBJECT_STORES, is_of_fsspec, open_backend, scheme_of
from ..storage.names import without_credentials
from ..storage.near_names import meant_url
from ..storage.object_url import whereabouts
from ..types import StorageBackend

#: The last level of a URL that names a file: also one that was set aside,
#: ``iter_4.pth.1a2b3c4d``. Object stores have no directories to be asked for.
_FILE = re.compile(r'\.(pth(\.\w+)?|safetensors|dcp/?)$')
#: So long a request is repeated (seconds): who waits looks at it.
_RETRY_SECS = 10.
_NOTHING: Mapping[str, str] = {}
_OF_BUCKET = 'A bucket is s3://BUCKET/PREFIX, its server --endpoint URL'


def add_access(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a URL leads."""
    group = parser.add_argument_group(
        'of a URL',
        's3://bucket/prefix (gs://, az://), pavi:// or what fsspec knows; one '
        'that ends in .pth is a file, in .dcp a sharded checkpoint. '
        'Credentials come from the environment '
        'or a profile, as in a run')
    group.add_argument(
        '--endpoint',
        metavar='URL',
        help="of an S3 server other than Amazon's, with http:// or https://")
    group.add_argument('--region', metavar='NAME', help='of an S3 bucket')
    group.add_argument(
        '--storage-options',
        metavar='JSON',
        help='the storage_options of the run; what is secret in them is seen '
        'by all who list the processes of this machine')


def is_url(given: str) -> bool:
    """Whether an argument is a URL, and not of a local path."""
    return scheme_of(given) not in ('', 'file')


def names_file(url: str) -> bool:
    """Whether a URL is that of a file."""
    return _FILE.search(url) is not None


class Access:
    """What the arguments say of how to open URLs.

    Args:
        given (argparse.Namespace): With what :func:`add_access` added.

    Raises:
        ConfigError: If it is wrong.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self._options = _parsed(given.storage_options)
        self._place = {
            name: value
            for name, value in (('endpoint', given.endpoint),
                                ('region', given.region)) if value is not None
        }

    def open(self, url: str) -> StorageBackend:
        """Return the backend of a directory; nothing is read yet.

        Raises:
            ConfigError: If no backend serves it, or the options do not fit.
            DependencyError: If the backend needs a package that is missing.
        """
        return open_backend(url, storage_options=self.options_of(url))

    def options_of(self,
                   url: str,
                   noted: Mapping[str, str] = _NOTHING) -> Dict[str, Any]:
        """Return the ``storage_options`` for a URL.

        Args:
            url (str): Of a directory.
            noted (dict): Where it is, unless the arguments say that. Default:
                nothing.

        Raises:
            ConfigError: If no backend serves it, or the options do not fit.
        """
        options, scheme = {**self._options, **self._place}, scheme_of(url)
        said = whereabouts(options)
        missing = {name: noted[name] for name in noted if name not in said}
        options = {**missing, **options}
        if scheme not in (*OBJECT_STORES, 'pavi') and not is_of_fsspec(scheme):
            meant = meant_url(without_credentials(url))
            # mmcv's own would need mmcv
            if scheme in ('http', 'https'):
                raise ConfigError(
                    f'mmcv-ckpt reads no {scheme}:// URL, where nothing can '
                    'be listed: download the file and give its path. '
                    f'{_OF_BUCKET}. A run takes the URL of a file as resume '
                    'or load_from, and reads it with mmcv')
            raise ConfigError(
                f'mmcv-ckpt reads no {scheme}:// URL' +
                (f', did you mean {meant!r}? Expected'
                 if meant else ': expected') + ' a path, '
                's3://, gs://, az://, pavi:// or what fsspec knows (pip '
                "install 'mmcv_ckpt_hooks[fsspec]')")
        if scheme in OBJECT_STORES:
            options.setdefault('retry_secs', _RETRY_SECS)
        if scheme != 's3' and self._place:
            raise ConfigError(f'--{sorted(self._place)[0]} is for s3:// only; '
                              f'for {url} give --storage-options')
        return options


def _parsed(text: Optional[str]) -> Mapping[str, Any]:
    if text is None:
        return {}
    options: Any = None
    try:
        options = json.loads(text)
    except ValueError:
        pass  # not repeated: it may hold credentials
    if not isinstance(options, dict):
        raise ConfigError('--storage-options must be a JSON object such as '
                          '\'{"profile": "research"}\'')
    found: Dict[str, Any] = options
    return found
