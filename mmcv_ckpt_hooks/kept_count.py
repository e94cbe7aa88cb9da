"""How many checkpoints a run keeps at most. Standard library only."""
import math
from dataclasses import dataclass
from typing import Optional, Sequence

from .options import CheckpointOptions


@dataclass(frozen=True)
class Kept:
    """What lies in a place when retention is done.

    Args:
        count (int): Checkpoints, at most. Those that triggers ask for now and
            then are not counted; nor are those by time where all are kept,
            since nobody knows how many.
        deletes (bool): Whether one may be deleted: a new one is there before
            an old one goes.
        best (int): How many of them are counted for the best: each may be of
            a step of which nothing else is there.
    """
    count: int
    deletes: bool
    best: int = 0


def kept_count(options: CheckpointOptions, unit: str, steps: int,
               best: Sequence[str]) -> Kept:
    """Count what a run keeps.

    Args:
        options (CheckpointOptions): Of the hook.
        unit (str): ``'epochs'`` or ``'iterations'``.
        steps (int): Of the whole run.
        best (Sequence[str]): Metrics whose best checkpoint is kept.
    """
    keep, last, interval = options.keep, options.keep_last, options.interval
    on_grid = steps // interval if interval > 0 else 0
    at_end = bool(options.save_last and (interval < 1 or steps % interval))
    kept = regular = on_grid + at_end
    if last is not None and last < regular:
        kept = last
        if keep.every is not None and on_grid:
            # of the newest ones the multiples are among them already
            oldest = (regular - last + 1) * interval
            kept += (min(oldest, steps) - 1) // _lcm(interval, keep.every)
    by_time = _by_time(options, unit, steps)
    ranked = (keep.best or 0) * max(1, len(keep.monitor or best))
    bests = max(len(best), ranked)
    return Kept(
        kept + by_time + bests, kept < regular or bool(by_time or bests)
        or keep.bytes is not None, bests)


def growing_by(options: CheckpointOptions) -> Optional[int]:
    """Return after how many steps one more is kept for ever.

    Args:
        options (CheckpointOptions): Of the hook.

    Returns:
        int | None: None if what is kept stops growing, or nothing is saved
        at an interval.
    """
    if options.interval < 1:
        return None
    if options.keep_last is None:
        return options.interval
    if options.keep.every is None:
        return None
    return _lcm(options.interval, options.keep.every)


def _by_time(options: CheckpointOptions, unit: str, steps: int) -> int:
    """Off the grid, until the next regular one is there."""
    last, interval = options.keep_last, options.interval
    if options.triggers.secs is None or last is None:
        return 0
    if unit == 'epochs':
        return last  # how many iterations an epoch has is not known
    return min(last, interval - 1 if interval > 0 else steps)


def _lcm(one: int, other: int) -> int:
    # math has it since Python 3.9
    return one * other // math.gcd(one, other)
