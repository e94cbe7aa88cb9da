"""``checkpoints.json`` to records and back. Standard library only."""
import json
import re
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Sequence, Tuple

from .card import checked
from .types import CheckpointInfo

CATALOG_VERSION = 1
#: Largest catalog that is read (bytes): 10,000 checkpoints take about 5 MB.
CATALOG_LIMIT_BYTES = 64 << 20

_STEP = re.compile(r'_(epoch|iter)_\d+\.pth$')


@dataclass(frozen=True)
class BestScore:
    """The best score of one metric so far.

    Args:
        key (str): The metric.
        score (float): Its best value.
        rule (str): ``'greater'`` or ``'less'``.
        name (str): The checkpoint that has it.
        iter (int): Finished iterations then.
        lineage (str): Of the run; the catalog fills it in. Default: ''.
    """
    key: str
    score: float
    rule: str
    name: str
    iter: int
    lineage: str = field(default='', compare=False)


def encode(lineage: str, checkpoints: Sequence[CheckpointInfo],
           best: Sequence[BestScore]) -> bytes:
    """Return the content of ``checkpoints.json``."""
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
    }
    return _dumped({**content, 'crc32': zlib.crc32(_dumped(content))})


def decode(
    data: bytes
) -> Tuple[str, Dict[str, CheckpointInfo], Dict[Tuple[str, str], BestScore]]:
    """Read the content of ``checkpoints.json``.

    Returns:
        tuple: The last run's lineage, checkpoints by name, and best scores by
        lineage and metric.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: If it
            is damaged, was edited or is of a newer version.
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
        raise ValueError(f'version {version}, expected {CATALOG_VERSION}')
    checkpoints: List[CheckpointInfo] = [
        checked(CheckpointInfo, item) for item in content['checkpoints']
    ]
    scores: List[BestScore] = [
        checked(BestScore, item) for item in [
            *content.get('best', {}).values(),
            *content.get('best_of_others', [])
        ]
    ]
    return str(content['lineage']), {
        info.name: info
        for info in checkpoints
    }, {
        (one.lineage, one.key): one
        for one in scores
    }


def _dumped(content: Dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()


def without_step(name: str) -> str:
    """Return ``best_mIoU`` for ``best_mIoU_iter_8.pth``."""
    return _STEP.sub('', name)
