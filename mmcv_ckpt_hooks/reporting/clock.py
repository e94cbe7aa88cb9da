"""How far the clock of logs is from UTC: the saves that both know tell.

Standard library only.
"""
from itertools import islice
from typing import Counter, Dict, Iterable, List, Mapping, Optional, Sequence

from .events import Save
from .logs import Log
from .values import is_time

#: Zones differ by multiples of it.
_QUARTER_SECS = 900
#: No zone is farther from UTC.
_FARTHEST_SECS = 14 * 3600
#: So many votes are enough; with as many candidates each.
_ENOUGH = 200
_CANDIDATES = 20


def offsets(logs: Sequence[Log], saves: Sequence[Save],
            begins: Sequence[float]) -> Mapping[str, int]:
    """Return by log how many seconds its clock is ahead of UTC.

    What a log says itself counts, else what the others say: summer time ends
    between two starts. Where nothing was saved the begins of starts tell: a
    tool names its log a few seconds before. Without any it is missing.

    Args:
        logs (Sequence[Log]): Of a work dir.
        saves (Sequence[Save]): Of its history.
        begins (Sequence[float]): Of its starts, in seconds since 1970.
    """
    by_name: Dict[str, List[Save]] = {}
    by_iter: Dict[int, List[Save]] = {}
    for save in saves:
        by_name.setdefault(save.name, []).append(save)
        by_iter.setdefault(save.iter, []).append(save)
    votes = {
        log.name:
        Counter(islice(_told(log, by_name), _ENOUGH))
        or Counter(islice(_estimated(log, by_iter), _ENOUGH))
        for log in logs
    }
    together: Counter[int] = Counter()
    for one in votes.values():
        together.update(one)
    if not together and logs:
        for at in begins[:_ENOUGH]:
            # an older log may be of a start that no history has
            own = min(logs, key=lambda log: (at - log.wall) % _QUARTER_SECS)
            together.update(_zone(own.wall - at))
    if not together:
        return {}
    common = _first(together)
    return {
        log.name: _first(votes[log.name]) if votes[log.name] else common
        for log in logs
    }


def _first(votes: Counter[int]) -> int:
    # of as many votes the one nearest to UTC: the same input, the same page
    return min(votes, key=lambda one: (-votes[one], abs(one), one))


def _told(log: Log, by_name: Mapping[str, List[Save]]) -> Iterable[int]:
    """Compare the lines that tell of a save."""
    for name, wall in log.saved:
        for save in by_name.get(name, [])[:_CANDIDATES]:
            if save.at is not None:
                yield from _zone(wall - save.at)


def _estimated(log: Log, by_iter: Mapping[int, List[Save]]) -> Iterable[int]:
    """Count the seconds of the iterations from the begin of the log."""
    at = log.wall
    before: Optional[int] = None
    for line in log.lines:
        if line.mode != 'train':
            continue
        # the first line has those since the start, or the resume
        steps = 1 if before is None else max(line.iter - before, 0)
        later = at + steps * line.values.get('time', 0.)
        if not is_time(later):
            continue  # the line after it counts for both
        at, before = later, line.iter
        for save in by_iter.get(line.iter, [])[:_CANDIDATES]:
            if save.at is not None:
                yield from _zone(at - save.at)


def _zone(ahead: float) -> Iterable[int]:
    found = round(ahead / _QUARTER_SECS) * _QUARTER_SECS
    if abs(found) <= _FARTHEST_SECS:
        yield found
