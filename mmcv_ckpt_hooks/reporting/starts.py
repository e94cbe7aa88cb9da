"""The starts of runs: when each began, how far it came, how it ended.

Standard library only.
"""
from dataclasses import dataclass, field, replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .events import Entry, Save
from .groups import SECOND, Group, groups_of
from .logs import Log
from .steps import Counting, finished, points_of
from .unclaimed import Unclaimed
from .values import is_time

#: How a start ended.
FINISHED = 'finished'
SIGNAL = 'signal'
EXCEPTION = 'exception'
KILLED = 'killed'
OPEN = 'open'


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
        error (str): Type of the exception that ended it; '' if not known.
        is_recorded (bool): Whether the history tells of its begin, and so
            of its end, unless it was killed.
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
    error: str = ''
    is_recorded: bool = False
    most: Optional[int] = None
    repeated: int = 0
    log: str = ''

    @property
    def last_seen(self) -> Optional[float]:
        """When something told of it for the last time."""
        return self.points[-1][0] if self.points else self.began


def find_starts(entries: Sequence[Entry], saves: Sequence[Save],
                logs: Sequence[Log], ahead: Mapping[str, int],
                counting: Counting) -> List[Start]:
    """Return the starts, the oldest first.

    Args:
        entries (Sequence[Entry]): Of the history.
        saves (Sequence[Save]): In its order, and those of the catalog.
        logs (Sequence[Log]): The oldest first.
        ahead (dict): By log how far its clock is ahead of UTC; one that is
            missing counts as UTC.
        counting (Counting): How the logs count.
    """
    began = {log.name: log.wall - ahead.get(log.name, 0) for log in logs}
    left = Unclaimed(logs, began)
    found: List[Start] = []
    for group in groups_of(entries, saves):
        log = _log_of(group, left)
        found.append(
            _recorded(group, _start(group, log, began, ahead, counting)))
    found += [
        _start(None, log, began, ahead, counting) for log in left.rest()
        if log.lines or log.marks
    ]
    # stable: without times the order of the history
    if all(_begin(one) is not None for one in found):
        found.sort(key=lambda one: _begin(one) or 0.)
    return _joined(_related(found), saves)


def _begin(start: Start) -> Optional[float]:
    return start.points[0][0] if start.points else start.began


def _log_of(group: Group, logs: Unclaimed) -> Optional[Log]:
    """Return the last log that begins before the start, or its first save."""
    first = min((save.at for save in group.saves if save.at is not None),
                default=None)
    if group.begin is not None:
        first = group.begin.at
    return None if first is None else logs.claim_last(first + SECOND)


def _start(group: Optional[Group], log: Optional[Log], began: Mapping[str,
                                                                      float],
           ahead: Mapping[str, int], counting: Counting) -> Start:
    saves = [] if group is None else group.saves
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
        '' if group is None else group.lineage,
        group.generation if group is not None and saves else None,
        from_iter,
        begin,
        len(saves),
        _rising(points),
        max(reached, default=from_iter),
        signal='' if log is None else log.left_on,
        most=_most(log, counting),
        log='' if log is None else log.name)


def _recorded(group: Group, start: Start) -> Start:
    """Add what the history tells of the begin and the end of a start."""
    begin, end = group.begin, group.end
    if begin is None:
        return start
    points = [(one.at, one.iter) for one in (begin, end)
              if one is not None and one.at is not None]
    reached = max(begin.iter, start.reached or 0, end.iter if end else 0)
    ended = OPEN
    if end is not None:
        ended = end.why
    elif start.signal:
        ended = SIGNAL  # killed behind its last line
    elif group.is_over:
        ended = KILLED
    return replace(
        start,
        from_iter=begin.iter,
        began=begin.at,
        points=_rising([*start.points, *points]),
        reached=reached,
        end=ended,
        signal=end.what if end and ended == SIGNAL else start.signal,
        error=end.what if end and ended == EXCEPTION else '',
        is_recorded=True,
        most=begin.most or start.most)


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
    if start.is_recorded:
        return start.end
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
