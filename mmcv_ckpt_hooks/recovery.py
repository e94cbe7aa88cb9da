"""What a lost catalog knew besides the files: from the history.

Standard library only.
"""
import math
from dataclasses import dataclass, replace
from typing import (TYPE_CHECKING, Any, Dict, List, Mapping, Optional,
                    Sequence, Tuple)

from .best_scores import BestScore
from .card import checked
from .history import HISTORY_NAME
from .storage.mapped_errors import storage_error
from .types import CheckpointInfo

if TYPE_CHECKING:
    from .catalog import Catalog

#: What a best file's record in the history says of it, and its type.
_OWNED = {'lineage': str, 'generation': int, 'started_iter': int}


@dataclass(frozen=True)
class Recovered:
    """What was found.

    Args:
        checkpoints (list[CheckpointInfo]): Those given, with their scores;
            best ones also with their run.
        best (list[BestScore]): Of all runs.
        auto (dict): By lineage the metric that ``'auto'`` means.
        count (int): How many checkpoints got scores.
    """
    checkpoints: List[CheckpointInfo]
    best: List[BestScore]
    auto: Dict[str, str]
    count: int


def recovered(events: Sequence[Mapping[str, Any]],
              checkpoints: Sequence[CheckpointInfo]) -> Recovered:
    """Join the history to what the files say of themselves.

    A file is known by its digest: one that was saved again under the same
    name gets no score of the file before.

    Args:
        events (Sequence[dict]): The history, oldest first; other programs may
            have written to it.
        checkpoints (Sequence): As described by the files.
    """
    owners = {
        (event.get('name'), event.get('digest')): event
        for event in events if event.get('event') in ('save', 'link') and all(
            isinstance(event.get(key), str) for key in ('name', 'digest'))
    }
    scores: Dict[Tuple[str, str], Dict[str, float]] = {}
    best: Dict[Tuple[str, str], BestScore] = {}
    auto: Dict[str, str] = {}
    for event in events:
        kind, lineage = event.get('event'), event.get('lineage')
        if not isinstance(lineage, str) or not lineage:
            continue
        if kind == 'scores':
            for digest in _strings(event.get('digests')):
                scores.setdefault((lineage, digest),
                                  {}).update(_numbers(event.get('metrics')))
        elif kind == 'auto_metric' and isinstance(event.get('key'), str):
            auto[lineage] = event['key']
        elif kind == 'best':
            try:
                one = checked(BestScore, event)
            except TypeError:
                continue  # edited by hand
            best[lineage, one.key] = one
    found = [
        _joined(
            _owned(info, owners.get((info.name, info.digest), {})), scores)
        for info in checkpoints
    ]
    there = {(info.name, info.lineage) for info in found}
    return Recovered(
        found,
        [one for one in best.values() if (one.name, one.lineage) in there],
        auto,
        count=sum(info.metrics != before.metrics
                  for info, before in zip(found, checkpoints)))


def _owned(info: CheckpointInfo, event: Mapping[str, Any]) -> CheckpointInfo:
    """Give a best file back to the run that wrote it.

    Of itself it cannot say so: it may be a second name, or a copy.
    """
    if info.trigger != 'best' or info.lineage or not info.digest:
        return info
    told = {
        key: event[key]
        for key, expected in _OWNED.items()
        if isinstance(event.get(key), expected)
    }
    if len(told) < len(_OWNED):
        return info
    same_as = event.get('same_as')
    if isinstance(same_as, str):
        told['same_as'] = same_as
    return replace(info, **told)


def _joined(
        info: CheckpointInfo,
        scores: Mapping[Tuple[str, str], Mapping[str,
                                                 float]]) -> CheckpointInfo:
    known = scores.get((info.lineage, info.digest), {})
    return replace(info, metrics={**info.metrics, **known})


def _strings(value: Any) -> List[str]:
    return [one for one in value if isinstance(one, str)] \
        if isinstance(value, list) else []


def _numbers(value: Any) -> Dict[str, float]:
    if not isinstance(value, dict):
        return {}
    return {
        key: float(one)
        for key, one in value.items() if isinstance(one, (int, float))
        and not isinstance(one, bool) and math.isfinite(one)
    }


def identity_of(info: CheckpointInfo) -> Dict[str, Any]:
    """What a lost catalog is rebuilt from."""
    return {
        'name': info.name,
        'iter': info.iter,
        'digest': info.digest,
        'lineage': info.lineage,
        'generation': info.generation,
        'started_iter': info.started_iter,
    }


def check_scores(best: Optional[int], catalog: 'Catalog') -> None:
    """Refuse to choose the best among checkpoints whose scores are lost.

    INVARIANT: a history that cannot be read today may be readable tomorrow;
    the best, which would have no rank, could not be brought back.

    Args:
        best (int, optional): How many are kept; None if none is asked for.
        catalog (Catalog): Opened.

    Raises:
        StorageError: As the reading of the history has failed.
    """
    if catalog.lost_scores is not None and best is not None and \
            catalog.checkpoints():
        raise storage_error(
            catalog.lost_scores, f'keep.best={best} would delete '
            f'the best checkpoints in {catalog.home.url}: their scores are in '
            f'{HISTORY_NAME}, which cannot be read. Make it readable, or move '
            'it away to go on without them')
