"""What a safetensors file of this package has in its metadata.

Standard library only.
"""
import json
from typing import Any

from ..errors import CorruptError
from ..instructions import shortened
from ..zip_layout import ADVICE
from .header import Header

#: Under it the metadata have what is of this package.
OWN_KEY = 'mmcv_ckpt_hooks'
VERSION = 1
NO_SUMS = ('written by another program: it has no checksums, and nothing of '
           'a run beside its tensors')


def own_of(header: Header, path: str) -> Any:
    """Return checksums (``crc32``), ``card`` and ``tree`` of a file.

    None if another program has written it.

    Raises:
        CorruptError: If they are not what this package writes.
    """
    text = header.texts.get(OWN_KEY)
    if text is None:
        return None
    try:
        own = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise malformed(path, str(error)[:200]) from error
    if not isinstance(own, dict) or not isinstance(own.get('version'), int):
        raise malformed(path, f'it is {shortened(own)}')
    if own['version'] > VERSION:
        raise CorruptError(
            f'{path} is of version {own["version"]} of what mmcv_ckpt_hooks '
            f'writes, expected at most {VERSION}: read it with a newer '
            'mmcv_ckpt_hooks')
    if not isinstance(own.get('crc32'), dict) or \
            not isinstance(own.get('card'), dict) or 'tree' not in own:
        raise malformed(path, f'it has only {shortened(sorted(own))}')
    if {*own['crc32']} != {*header.entries}:
        raise malformed(path, 'it has not the checksums of its tensors')
    return own


def malformed(path: str, why: str) -> CorruptError:
    """Return the error for metadata that this package does not write."""
    return CorruptError(f'{path}: its metadata {OWN_KEY!r} are malformed: '
                        f'{why}. {ADVICE}')


def damaged(path: str, name: str, found: int, expected: Any) -> CorruptError:
    """Return the error for a tensor with another CRC-32 than it has to have.
    """
    return CorruptError(
        f'{path}: tensor {shortened(name)} is damaged (its CRC-32 is '
        f'{found:08x}, expected {shortened(expected)}). {ADVICE}')
