"""Axes of time and of steps, and marks on them, for all pictures."""
from typing import (Any, Callable, Dict, Iterable, List, Optional, Sequence,
                    Tuple)

from .drawing import MOST_TITLES, Titles, is_narrow
from .events import Save
from .story import Story
from .wordings import save_text, step_text

_DAY_SECS = 86400.
#: Of more saves each column of the picture has the least and the most.
MOST_MARKS = 600
_COLUMNS, _NARROW_COLUMNS = 300, 120
#: Of more the marks are small.
_CROWD = 60


def marks(ax: Any, group: str, saves: Sequence[Save], values: Sequence[float],
          titles: Titles, style: Dict[str, Any]) -> None:
    """Have a mark a save, each with a title if they are not too many.

    Args:
        ax (Axes): Of time.
        group (str): Letters; tells these marks from others.
        saves (Sequence[Save]): With a time.
        values (Sequence[float]): One each.
        titles (dict): The titles are added there.
        style (dict): Of matplotlib's marks.
    """
    if len(saves) > _CROWD:
        style = {**style, 'markersize': 2.5}
    ax.plot(
        days(save.at or 0. for save in saves),
        values,
        linestyle='none',
        zorder=4,
        gid=group,
        **style)
    if len(saves) <= MOST_TITLES:
        titles[group] = [save_text(save) for save in saves]


def days(times: Iterable[float]) -> List[float]:
    """Return seconds since 1970 as matplotlib counts them."""
    return [at / _DAY_SECS for at in times]


def _span(story: Story) -> Tuple[Optional[float], Optional[float]]:
    times = [save.at for save in story.saves if save.at is not None]
    times += [at for one in story.starts for at, _ in one.points]
    return min(times, default=None), max(times, default=None)


def time_axis(ax: Any, story: Story) -> None:
    """Have the same time at the same place in all pictures."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    begin, end = _span(story)
    if begin is not None and end is not None:
        margin = max((end - begin) * .02, 1.)
        ax.set_xlim((begin - margin) / _DAY_SECS, (end + margin) / _DAY_SECS)
    locator = AutoDateLocator(minticks=3, maxticks=4 if is_narrow(ax) else 8)
    ax.xaxis.set_major_locator(locator)
    # years, months, days, hours, minutes, seconds: each as one reads it
    ax.xaxis.set_major_formatter(
        ConciseDateFormatter(
            locator,
            formats=['%Y', '%b', '%d', '%H:%M', '%H:%M', '%H:%M:%S'],
            zero_formats=['', '%Y', '%b', '%d %b', '%H:%M', '%H:%M:%S'],
            offset_formats=[
                '', '%Y', '%b %Y', '%d %b %Y', '%d %b %Y', '%d %b %Y'
            ]))


def step_axis(ax: Any) -> None:
    """Have iterations below."""
    from matplotlib.ticker import MaxNLocator
    ax.set_xlabel('iterations')
    ax.xaxis.set_major_locator(
        MaxNLocator(nbins=4 if is_narrow(ax) else 6, integer=True))
    ax.xaxis.set_major_formatter(formatter(step_text))


def formatter(say: Callable[[float], str]) -> Any:
    """Return what has the numbers of an axis in our words."""
    from matplotlib.ticker import FuncFormatter
    return FuncFormatter(lambda value, place: say(value))


def columns(ax: Any, times: Sequence[float]) -> List[List[int]]:
    """Return by column of a picture the places of what is in it, in order.

    Args:
        ax (Axes): Of the picture.
        times (Sequence[float]): In seconds.
    """
    begin, end = min(times), max(times)
    count = _NARROW_COLUMNS if is_narrow(ax) else _COLUMNS
    width = (end - begin) / count or 1.
    found: Dict[int, List[int]] = {}
    for index, at in enumerate(times):
        found.setdefault(int((at - begin) / width), []).append(index)
    return [found[column] for column in sorted(found)]
