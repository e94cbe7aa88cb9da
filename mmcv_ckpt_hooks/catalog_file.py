"""``checkpoints.json`` to records and back. Standard library only."""
import json
import zlib
from dataclasses import asdict
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .best_scores import BestScore
from .card import checked
from .errors import ResumeError
from .types import CheckpointInfo

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


def decode(
    data: bytes
) -> Tuple[str, Dict[str, CheckpointInfo], List[BestScore], Dict[str, str]]:
    """Read the content of ``checkpoints.json``.

    Returns:
        tuple: The last run's lineage, checkpoints by name, best scores, and
        by lineage the metric that ``'auto'`` means.

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
    return str(content['lineage']), by_name, scores, auto


def _dumped(content: Dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()
