"""The starts of runs: when each began, how far it came, how it ended.

Standard library only.
"""
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .events import Save
from .logs import Log
from .steps import Counting, finished, points_of
from .values import is_time

#: How a start ended.
FINISHED = 'finished'
SIGNAL = 'signal'
EXCEPTION = 'exception'
KILLED = 'killed'
OPEN = 'open'

#: The first save of a start may have the second of its first line.
_SECOND = 1.


@dataclass(frozen=True)
class Start:
    """One start of a run.

    Args:
        lineage (str): Of the run; '' if nothing tells.
        generation (int, optional): Of the start; None if it saved nothing.
        from_iter (int, optional): Finished iterations when it began.
        began (float, optional): When, in seconds since 1970.
        saves (int): How many it made.
        points (list[tuple[float, int]]): When it was how far.
        reached (int, optional): How far it is known to have come.
        end (str): One of the names above.
        signal (str): On which it was left; '' if not known.
        most (int, optional): Iterations of the whole run.
        repeated (int): Iterations that the next start did again.
        log (str): Name of its logs; '' if there are none.
    """
    lineage: str
    generation: Optional[int]
    from_iter: Optional[int]
    began: Optional[float] = None
    saves: int = 0
    points: List[Tuple[float, int]] = field(default_factory=list)
    reached: Optional[int] = None
    end: str = OPEN
    signal: str = ''
    most: Optional[int] = None
    repeated: int = 0
    log: str = ''

    @property
    def last_seen(self) -> Optional[float]:
        """When something told of it for the last time."""
        return self.points[-1][0] if self.points else self.began


def find_starts(saves: Sequence[Save], logs: Sequence[Log],
                ahead: Mapping[str, int], counting: Counting) -> List[Start]:
    """Return the starts, the oldest first.

    Args:
        saves (Sequence[Save]): In the order of the history.
        logs (Sequence[Log]): The oldest first.
        ahead (dict): By log how far its clock is ahead of UTC; one that is
            missing counts as UTC.
        counting (Counting): How the logs count.
    """
    groups: Dict[Tuple[str, int], List[Save]] = {}
    for save in saves:
        if save.lineage:
            groups.setdefault((save.lineage, save.generation), []).append(save)
    began = {log.name: log.wall - ahead.get(log.name, 0) for log in logs}
    left = _Unclaimed(logs, began)
    found: List[Start] = []
    for (lineage, generation), made in groups.items():
        log = _log_of(made, left)
        found.append(
            _start(lineage, generation, made, log, began, ahead, counting))
    found += [
        _start('', None, [], log, began, ahead, counting)
        for log in left.rest() if log.lines or log.marks
    ]
    # stable: without times the order of the history
    if all(_begin(one) is not None for one in found):
        found.sort(key=lambda one: _begin(one) or 0.)
    return _joined(_related(found), saves)


def _begin(start: Start) -> Optional[float]:
    return start.points[0][0] if start.points else start.began


def _log_of(saves: Sequence[Save], logs: '_Unclaimed') -> Optional[Log]:
    """Return the last log that begins before the first save."""
    first = min((save.at for save in saves if save.at is not None),
                default=None)
    return None if first is None else logs.claim_last(first + _SECOND)


class _Unclaimed:
    """The logs that are of no start yet.

    A loop of crashes makes thousands of starts: none of them looks at all.

    Args:
        logs (Sequence[Log]): The oldest first.
        began (dict): By name when each began.
    """

    def __init__(self, logs: Sequence[Log], began: Mapping[str,
                                                           float]) -> None:
        self._logs = sorted(logs, key=lambda log: began[log.name])
        self._begins = [began[log.name] for log in self._logs]
        # by place, from 1 on, itself or one before it; none is free at 0
        self._free = list(range(len(self._logs) + 1))

    def claim_last(self, latest: float) -> Optional[Log]:
        """Return the last that is free and began by then, no more free."""
        place = bisect_right(self._begins, latest)
        passed = []
        while self._free[place] != place:
            passed.append(place)
            place = self._free[place]
        for one in passed:
            self._free[one] = place
        if not place:
            return None
        self._free[place] = place - 1
        return self._logs[place - 1]

    def rest(self) -> List[Log]:
        """Return those that are still free."""
        return [
            log for place, log in enumerate(self._logs, 1)
            if self._free[place] == place
        ]


def _start(lineage: str, generation: Optional[int], saves: Sequence[Save],
           log: Optional[Log], began: Mapping[str, float],
           ahead: Mapping[str, int], counting: Counting) -> Start:
    from_iter = saves[0].started_iter if saves else \
        None if log is None else log.resumed_at
    points = [(save.at, save.iter) for save in saves if save.at is not None]
    begin = None if log is None else began[log.name]
    reached = [save.iter for save in saves]
    if log is not None:
        shift = ahead.get(log.name, 0)
        points += [(mark.wall - shift, finished(counting, mark.epoch,
                                                mark.iter))
                   for mark in log.marks]
        if begin is not None and from_iter is not None:
            points.append((begin, from_iter))
        points = _rising(points)
        points += _estimated(log, counting, points, begin)
        reached += [point.iter for point in points_of(log, counting)]
        reached += [iter for _, iter in points]
    return Start(
        lineage,
        generation,
        from_iter,
        begin,
        len(saves),
        _rising(points),
        max(reached, default=from_iter),
        signal='' if log is None else log.left_on,
        most=_most(log, counting),
        log='' if log is None else log.name)


def _most(log: Optional[Log], counting: Counting) -> Optional[int]:
    if log is None or log.most is None:
        return None
    steps, unit = log.most
    if unit == 'iters':
        return steps
    return steps * counting.per_epoch or None


def _rising(points: Sequence[Tuple[float, int]]) -> List[Tuple[float, int]]:
    """Leave out what goes back: seconds are whole in some of them."""
    found: List[Tuple[float, int]] = []
    for at, iter in sorted(set(points), key=lambda one: (one[1], one[0])):
        if not found or at >= found[-1][0]:
            found.append((at, iter))
    return found


def _estimated(log: Log, counting: Counting, known: Sequence[Tuple[float,
                                                                   int]],
               began: Optional[float]) -> List[Tuple[float, int]]:
    """Count on from the last that is known, by the seconds of iterations."""
    if known:
        at, last = known[-1]
    elif began is not None:
        at, last = began, -1
    else:
        return []
    found = []
    for point in points_of(log, counting):
        secs = point.values.get('time')
        if point.mode != 'train' or point.iter <= last or secs is None:
            continue
        # before its first line nothing tells how many they are
        later = at + secs * (point.iter - last if last >= 0 else 1)
        if not is_time(later):
            continue  # the line after it counts for both
        at, last = later, point.iter
        found.append((at, last))
    return found


# -- how they hang together ------------------------------------------------


def _related(starts: Sequence[Start]) -> List[Start]:
    """Give a start that saved nothing to the run before it, or after it."""
    found: List[Start] = []
    before = ''
    behind = next((one.lineage for one in starts if one.lineage), '')
    for one in starts:
        if not one.lineage:
            one = replace(one, lineage=before or behind)
        before = one.lineage
        found.append(one)
    return found


def _joined(starts: Sequence[Start], saves: Sequence[Save]) -> List[Start]:
    """Say how each ended, and what the next one did again."""
    last: Dict[Tuple[str, Optional[int]], Save] = {}
    for save in saves:
        key = save.lineage, save.generation
        # a best one of the same step does not tell why the first was made
        if save.trigger != 'best' or key not in last or \
                last[key].iter != save.iter:
            last[key] = save
    found: List[Start] = []
    behind: Dict[str, Start] = {}
    for one in reversed(starts):
        follower = behind.get(one.lineage)
        again = 0
        if follower and follower.from_iter is not None and one.reached:
            again = max(one.reached - follower.from_iter, 0)
        behind[one.lineage] = one
        found.append(
            replace(
                one,
                end=_end(one, last.get((one.lineage, one.generation)), follower
                         is not None),
                repeated=again))
    return found[::-1]


def _end(start: Start, last: Optional[Save], goes_on: bool) -> str:
    trigger = '' if last is None or last.iter != start.reached else \
        last.trigger
    if start.signal:
        return SIGNAL
    if trigger == 'last' or start.most is not None and \
            start.reached is not None and start.reached >= start.most:
        return FINISHED
    if trigger in (SIGNAL, EXCEPTION):
        return trigger
    # the last step may be one of the interval: who ended behind it, and who
    # was killed before the next line, look the same without a length
    may_be_all = last is not None and last.iter == start.reached and \
        start.most is None
    return KILLED if goes_on and not may_be_all else OPEN
