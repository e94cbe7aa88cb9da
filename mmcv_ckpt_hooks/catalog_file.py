"""``checkpoints.json`` to records and back. Standard library only."""
import json
import zlib
from dataclasses import asdict
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from .best_scores import BestScore
from .card import checked
from .errors import MissingCheckpointError, ResumeError
from .types import CheckpointInfo, StorageBackend

CATALOG_VERSION = 1
#: Largest catalog that is read (bytes): 10,000 checkpoints take about 5 MB.
CATALOG_LIMIT_BYTES = 64 << 20


def encode(lineage: str, checkpoints: Sequence[CheckpointInfo],
           best: Sequence[BestScore], auto: Mapping[str, str]) -> bytes:
    """Return the content of ``checkpoints.json``.

    Args:
        lineage (str): Of the last run.
        checkpoints (Sequence): All.
        best (Sequence): Of all runs.
        auto (dict): By lineage the metric that ``'auto'`` means.
    """
    content = {
        'version': CATALOG_VERSION,
        'lineage': lineage,
        'checkpoints': [asdict(info) for info in checkpoints],
        'best': {
            one.key: asdict(one)
            for one in best if one.lineage == lineage
        },
        'best_of_others':
        [asdict(one) for one in best if one.lineage != lineage],
        'auto_metric': dict(auto),
    }
    return _dumped({**content, 'crc32': zlib.crc32(_dumped(content))})


class Content(NamedTuple):
    """What ``checkpoints.json`` has.

    Args:
        lineage (str): Of the last run.
        checkpoints (dict[str, CheckpointInfo]): By name.
        best (list[BestScore]): Of all runs.
        auto (dict): By lineage the metric that ``'auto'`` means.
        is_checked (bool): Whether it has a checksum, which was right.
    """
    lineage: str
    checkpoints: Dict[str, CheckpointInfo]
    best: List[BestScore]
    auto: Dict[str, str]
    is_checked: bool


def read_catalog(home: StorageBackend, name: str) -> Optional[Content]:
    """Read a catalog; None if there is none.

    Raises:
        ValueError: If it is damaged or was edited.
        ResumeError: If it is of a newer version.
    """
    try:
        with home.open(name) as file:
            data = file.read(CATALOG_LIMIT_BYTES + 1)
    except MissingCheckpointError:
        return None
    try:
        return decode(data)
    except ResumeError as error:
        raise ResumeError(f'{home.url}/{name}: {error}') from error
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def decode(data: bytes) -> Content:
    """Read the content of ``checkpoints.json``.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: If it
            is damaged or was edited.
        ResumeError: If it is of a newer version.
    """
    if len(data) > CATALOG_LIMIT_BYTES:
        raise ValueError(f'it has more than {CATALOG_LIMIT_BYTES} bytes')
    content = json.loads(data)
    # INVARIANT: a flipped bit in a digest or a lineage would have a good
    # checkpoint refused for ever, or another run's deleted
    expected = content.pop('crc32', None)  # version 0.1 wrote none
    if expected not in (None, zlib.crc32(_dumped(content))):
        raise ValueError('its CRC-32 is wrong')
    version = content['version']
    if version > CATALOG_VERSION:
        # INVARIANT: not taken for damaged: rebuilt, it would lose what only
        # the newer version knows
        raise ResumeError(
            f'the catalog of this directory has version {version}, expected '
            f'at most {CATALOG_VERSION}: a newer mmcv_ckpt_hooks wrote it. '
            'Update the package, or move checkpoints.json away to have it '
            'rebuilt from the checkpoints')
    checkpoints: List[CheckpointInfo] = [
        checked(CheckpointInfo, item) for item in content['checkpoints']
    ]
    scores: List[BestScore] = [
        checked(BestScore, item) for item in [
            *content.get('best', {}).values(),
            *content.get('best_of_others', [])
        ]
    ]
    auto = {
        str(lineage): str(key)
        for lineage, key in content.get('auto_metric', {}).items()
    }
    by_name = {info.name: info for info in checkpoints}
    return Content(
        str(content['lineage']), by_name, scores, auto, expected is not None)


def _dumped(content: Dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()
