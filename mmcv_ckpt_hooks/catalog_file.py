"""``checkpoints.json`` to records and back. Standard library only."""
import json
from dataclasses import asdict
from typing import Dict, List, Mapping, Sequence, Tuple

from .best_scores import BestScore
from .card import checked
from .errors import ResumeError
from .types import CheckpointInfo

CATALOG_VERSION = 1


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
    return json.dumps(content, indent=1, sort_keys=True).encode()


def decode(
    data: bytes
) -> Tuple[str, Dict[str, CheckpointInfo], List[BestScore], Dict[str, str]]:
    """Read the content of ``checkpoints.json``.

    Returns:
        tuple: The last run's lineage, checkpoints by name, best scores, and
        by lineage the metric that ``'auto'`` means.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: If it is damaged.
        ResumeError: If it is of a newer version.
    """
    content = json.loads(data)
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
