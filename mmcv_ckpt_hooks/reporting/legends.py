"""What the marks of the pictures mean: of those that are there."""
from typing import Sequence, Tuple

from .axes import MOST_MARKS
from .curves import Curve
from .figures import timed_starts
from .markup import keys
from .starts import EXCEPTION, FINISHED, KILLED, SIGNAL
from .story import Story

_Entry = Tuple[object, Tuple[str, str, str]]


def _legend(*entries: _Entry) -> str:
    """Return those that have something drawn, which comes first."""
    return keys(*(entry for is_there, entry in entries if is_there))


def of_timeline(story: Story) -> str:
    """Return what is in the picture of steps over time."""
    starts = timed_starts(story)
    ends = {one.end for one in starts}
    lines = {one.lineage for one in starts if len(one.points) > 1}
    returns = len(starts) > len({one.lineage for one in starts})
    flags = [
        kept for save, kept in zip(story.saves, story.kept)
        if save.at is not None
    ]
    kept, gone = flags.count(True), flags.count(False)
    return _legend(
        (story.lineage in lines, ('line', 'line', 'training')),
        (0 < kept <= MOST_MARKS, ('dot', 'line', 'saved, and kept')),
        (0 < gone <= MOST_MARKS, ('ring', 'line', 'saved, deleted since')),
        (KILLED in ends, ('cross', 'bad', 'killed, or ended unrecorded')),
        (SIGNAL in ends, ('down', 'warn', 'left on a signal')),
        (EXCEPTION in ends, ('diamond', 'bad', 'ended by an exception')),
        (FINISHED in ends, ('square', 'good', 'finished')),
        (returns, ('dash', 'muted', 'went on from there')),
        (lines - {story.lineage}, ('line', 'other', 'another run')))


def of_costs(story: Story) -> str:
    """Return what is in the picture of what saves cost."""
    timed = [save for save in story.saves if save.at is not None]
    blocked = sum(save.blocked_secs is not None for save in timed)
    durable = sum(save.durable_secs is not None for save in timed)
    return _legend((blocked, (_mark(blocked), 'warn', 'training waited')),
                   (durable, (_mark(durable), 'line', 'until it was durable')),
                   (max(blocked, durable) > MOST_MARKS,
                    ('bar', 'muted', 'least to most of neighbours')),
                   (blocked or durable, ('dash', 'muted', 'median')))


def _mark(count: int) -> str:
    return 'bar' if count > MOST_MARKS else 'dot'


def of_disk(story: Story) -> str:
    """Return what is in the picture of bytes on the disk."""
    return _legend(
        (story.disk, ('line', 'line', 'checkpoints')),
        (any(one.most > one.bytes for one in story.disk),
         ('bar', 'warn', 'at a save, before what it replaces goes')))


def of_curves(story: Story, curves: Sequence[Curve]) -> str:
    """Return what is in the pictures of scores and loss.

    Args:
        story (Story): Has the loss.
        curves (Sequence[Curve]): Those that are drawn.
    """
    runs = {one.lineage for one in story.losses}
    given_up = any(one.given_up for one in curves)
    return _legend(
        (story.lineage in runs or any(one.points for one in curves),
         ('line', 'line', 'of the run')),
        (any(one.kept
             for one in curves), ('dot', 'line', 'its checkpoint is kept')),
        (any(one.best for one in curves), ('star', 'good', 'the best')),
        (given_up or runs - {story.lineage},
         ('line', 'other', 'given up, or of another run')))
