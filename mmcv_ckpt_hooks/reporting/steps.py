"""Finished iterations of the lines of logs, which may count within epochs.

Standard library only.
"""
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

from .events import Save
from .logs import Log


class Point(NamedTuple):
    """A line of a log: its step, and its numbers."""
    iter: int
    epoch: int
    mode: str
    values: Dict[str, float]


class Counting(NamedTuple):
    """How the logs of a work dir count.

    Args:
        by_epoch (bool): Whether iterations begin anew in each epoch.
        per_epoch (int): Iterations of one; 0 if that is not known.
    """
    by_epoch: bool
    per_epoch: int


def counting_of(logs: Sequence[Log], saves: Sequence[Save]) -> Counting:
    """Find out how the logs count.

    Args:
        logs (Sequence[Log]): Of a work dir.
        saves (Sequence[Save]): Of its history.
    """
    told = [mark.of for log in logs for mark in log.marks if mark.of]
    if told:
        return Counting(True, max(told))
    if not any(_begins_anew(log) for log in logs) and not (any(
            save.name.startswith('epoch_') for save in saves)):
        return Counting(False, 0)
    whole = [
        save.iter // save.epoch for save in saves
        if save.epoch and save.name.startswith('epoch_') and save.iter %
        save.epoch == 0
    ]
    inner = [
        line.iter for log in logs for line in log.lines if line.mode == 'train'
    ]
    return Counting(True, max(whole, default=0) or max(inner, default=0))


def _begins_anew(log: Log) -> bool:
    train = [line for line in log.lines if line.mode == 'train']
    return any(after.epoch > before.epoch and after.iter <= before.iter
               for before, after in zip(train, train[1:]))


def finished(counting: Counting, epoch: int, inner: int) -> int:
    """Return the iterations that are finished at a line of a log."""
    if not counting.by_epoch:
        return inner
    return max(epoch - 1, 0) * counting.per_epoch + inner


def points_of(log: Log, counting: Counting) -> List[Point]:
    """Return the lines of a log with their steps."""
    return list(_points(log, counting))


def _points(log: Log, counting: Counting) -> Iterator[Point]:
    last: Optional[int] = None
    for line in log.lines:
        if line.mode == 'train':
            last = finished(counting, line.epoch, line.iter)
        elif counting.by_epoch:
            # its iterations are those of the validation
            last = line.epoch * counting.per_epoch
        if last is not None:
            yield Point(last, line.epoch, line.mode, line.values)
