"""``manifest.json``: sizes and digests of all files of a folder.

Standard library only.
"""
import json
import re
from dataclasses import dataclass
from typing import Any, Dict

from ..errors import CorruptError
from ..instructions import shortened
from ..storage.names import is_plain
from .layout import MANIFEST_NAME, MANIFEST_VERSION

#: Largest one that is read (bytes): a line of 150 for each of 100,000 ranks.
MANIFEST_LIMIT_BYTES = 16 << 20
_DIGEST = re.compile(r'(sha256|sha256-zipdirs?):[0-9a-f]{64}')


@dataclass(frozen=True)
class ListedFile:
    """A file as the manifest has it.

    Args:
        bytes (int): Its size.
        digest (str): ``sha256:<hex>`` over its bytes; of a checkpoint file
            ``sha256-zipdir:<hex>``, of one of items
            ``sha256-zipdirs:<hex>``, see :func:`folder.items_digest`.
    """
    bytes: int
    digest: str


def parse_manifest(data: bytes, path: str) -> Dict[str, ListedFile]:
    """Read ``manifest.json``.

    Args:
        data (bytes): Its content.
        path (str): The folder, for the messages.

    Raises:
        CorruptError: If it is none.
    """
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f'{path}: {MANIFEST_NAME} is damaged: it is no '
                           f'JSON ({error})') from error
    if not isinstance(content, dict) or \
            content.get('version') != MANIFEST_VERSION:
        found = content.get('version') if isinstance(content, dict) else None
        raise CorruptError(
            f'{path}: {MANIFEST_NAME} has the version {shortened(found)}, '
            f'this program reads {MANIFEST_VERSION}')
    files = content.get('files')
    if not isinstance(files, dict):
        raise CorruptError(f'{path}: {MANIFEST_NAME} is damaged: it lists no '
                           'files')
    return {name: _file(name, value, path) for name, value in files.items()}


def _file(name: str, value: Any, path: str) -> ListedFile:
    size = value.get('bytes') if isinstance(value, dict) else None
    digest = value.get('digest') if isinstance(value, dict) else None
    if not is_plain(name) or type(size) is not int or size < 0 or \
            not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise CorruptError(f'{path}: {MANIFEST_NAME} is damaged: of '
                           f'{shortened(name)} it has {shortened(value)}')
    return ListedFile(size, digest)
