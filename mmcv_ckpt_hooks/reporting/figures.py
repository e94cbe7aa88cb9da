"""The pictures of a report: what is drawn where."""
import math
from statistics import median
from typing import (TYPE_CHECKING, Any, Callable, Dict, List, Optional,
                    Sequence, Tuple)

from .curves import Curve
from .disk import Held
from .drawing import (BAD, GOOD, LINE, MOST_TITLES, MUTED, OTHER, WARN, Titles,
                      drawn)
from .events import Save
from .starts import EXCEPTION, FINISHED, KILLED, SIGNAL, Start
from .story import Story
from .wordings import end_text, number_text, save_text, size_text, step_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DAY_SECS = 86400.
#: Of more saves each column of the picture has the least and the most.
MOST_MARKS = 600
_COLUMNS = 300
#: Of more the marks are small.
_CROWD = 60
#: From so much more than the median on an axis has powers of ten.
_FAR = 30.

#: Marker and colour of the end of a start.
_ENDS = {
    FINISHED: ('s', GOOD),
    SIGNAL: ('v', WARN),
    EXCEPTION: ('D', BAD),
    KILLED: ('X', BAD),
}


def timeline(story: Story) -> Optional[str]:
    """Draw the steps over wall time; None if no time is known."""
    starts = [one for one in story.starts if one.points]
    if not starts:
        return None

    def paint(axes: List['Axes']) -> Titles:
        ax, titles = axes[0], {}  # type: Any, Dict[str, Sequence[str]]
        for one in starts:
            times, steps = _days(
                at for at, _ in one.points), [iter for _, iter in one.points]
            mine = one.lineage == story.lineage
            ax.plot(times, steps, color=LINE if mine else OTHER, zorder=3)
        _paint_returns(ax, starts)
        timed = [(save, kept) for save, kept in zip(story.saves, story.kept)
                 if save.at is not None]
        for group, wanted, fill in (('gone', False, 'none'), ('kept', True,
                                                              LINE)):
            some = [save for save, kept in timed if kept is wanted]
            if wanted or len(timed) <= MOST_MARKS:
                _marks(
                    ax, group, some, [save.iter for save in some], titles,
                    save_text,
                    dict(
                        marker='o',
                        color=LINE,
                        fillstyle='full',
                        markerfacecolor=fill))
        for end, (marker, colour) in _ENDS.items():
            ended = [one for one in starts if one.end == end]
            ax.plot(
                _days(one.points[-1][0] for one in ended),
                [one.points[-1][1] for one in ended],
                marker,
                color=colour,
                markersize=8,
                markeredgewidth=0,
                zorder=6,
                gid=end)
            titles[end] = [end_text(one) for one in ended]
        ax.set_ylabel('iterations')
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter(_formatter(step_text))
        _time_axis(ax, story)
        return titles

    return drawn('timeline', [2.7], paint)


def _paint_returns(ax: Any, starts: Sequence[Start]) -> None:
    """From where a start ended to where the next one of its run began."""
    last: Dict[str, Start] = {}
    for one in starts:
        before = last.get(one.lineage)
        if before is not None:
            ax.plot(
                _days((before.points[-1][0], one.points[0][0])),
                [before.points[-1][1], one.points[0][1]],
                color=MUTED,
                linewidth=.9,
                linestyle=(0, (2, 2)),
                zorder=2)
        last[one.lineage] = one


def costs(story: Story) -> Optional[str]:
    """Draw what saves have cost over wall time; None if nothing tells."""
    timed = [save for save in story.saves if save.at is not None]
    blocked = [save for save in timed if save.blocked_secs is not None]
    durable = [save for save in timed if save.durable_secs is not None]
    if not blocked and not durable:
        return None

    def paint(axes: List['Axes']) -> Titles:
        titles: Dict[str, Sequence[str]] = {}
        _cost(axes[0], 'blocked', blocked, [(save.blocked_secs or 0.) * 1e3
                                            for save in blocked], titles, WARN)
        axes[0].set_ylabel('training waited, ms')
        _cost(axes[1], 'durable', durable,
              [save.durable_secs or 0. for save in durable], titles, LINE)
        axes[1].set_ylabel('until durable, s')
        _time_axis(axes[1], story)
        return titles

    return drawn('costs', [1.5, 1.5], paint)


def _cost(ax: Any, group: str, saves: Sequence[Save], values: Sequence[float],
          titles: Dict[str, Sequence[str]], colour: str) -> None:
    if not values:
        return
    middle = median(values)
    if len(values) > MOST_MARKS:
        columns = _columns([save.at or 0. for save in saves])
        groups = [[values[index] for index in column] for column in columns]
        ax.vlines(
            _days(saves[column[0]].at or 0. for column in columns),
            [min(group) for group in groups], [max(group) for group in groups],
            color=colour,
            linewidth=1.2)
    else:
        _marks(
            ax, group, saves, values, titles, save_text,
            dict(marker='o', color=colour, markersize=3.5, markeredgewidth=0))
    ax.axhline(middle, color=MUTED, linewidth=.8, linestyle=(0, (4, 3)))
    least = min(values)
    if least > 0 and max(values) > _FAR * middle:
        _logarithmic(ax)
    else:
        ax.set_ylim(bottom=0)


def _logarithmic(ax: Any) -> None:
    ax.set_yscale('log')
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(_formatter(number_text))


def _columns(times: Sequence[float]) -> List[List[int]]:
    """Return by column of a picture the places of what is in it, in order.

    Args:
        times (Sequence[float]): In seconds.
    """
    begin, end = min(times), max(times)
    width = (end - begin) / _COLUMNS or 1.
    found: Dict[int, List[int]] = {}
    for index, at in enumerate(times):
        found.setdefault(int((at - begin) / width), []).append(index)
    return [found[column] for column in sorted(found)]


def disk(story: Story) -> Optional[str]:
    """Draw the bytes of the checkpoints over wall time."""
    if not story.disk:
        return None

    def paint(axes: List['Axes']) -> Titles:
        ax: Any = axes[0]
        _time_axis(ax, story)
        # until the end of the axis
        held = story.disk
        if len(held) > MOST_MARKS:
            held = [
                Held(held[column[0]].at, held[column[-1]].bytes,
                     max(held[index].most for index in column))
                for column in _columns([one.at for one in held])
            ]
        times = [*_days(one.at for one in held), ax.get_xlim()[1]]
        sizes = [one.bytes for one in held]
        peaks = [one.most for one in held]
        ax.vlines(times[:-1], sizes, peaks, color=WARN, linewidth=1.)
        sizes.append(sizes[-1])
        ax.fill_between(
            times, sizes, step='post', color=LINE, alpha=.15, linewidth=0)
        ax.step(times, sizes, where='post', color=LINE)
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter(_formatter(size_text))
        return {}

    return drawn('disk', [1.7], paint)


def metric(curve: Curve, index: int, width: float) -> Optional[str]:
    """Draw one metric over the steps; None if it has no point."""
    if not curve.points and not curve.kept and not curve.given_up:
        return None

    def paint(axes: List['Axes']) -> Titles:
        ax: Any = axes[0]
        titles: Dict[str, Sequence[str]] = {}
        for one in curve.given_up:
            ax.plot(*zip(*one), color=OTHER, linewidth=1., zorder=2)
            if len(one) <= MOST_MARKS:
                ax.plot(*zip(*one), '.', color=OTHER, markersize=3, zorder=2)
        if curve.points:
            ax.plot(*zip(*curve.points), color=LINE, zorder=3)
        if 0 < len(curve.points) <= MOST_MARKS:
            ax.plot(
                *zip(*curve.points), '.', color=LINE, markersize=4, zorder=3)
        if curve.kept:
            ax.plot([step for step, _, _ in curve.kept],
                    [value for _, value, _ in curve.kept],
                    'o',
                    color=LINE,
                    markersize=6,
                    zorder=4,
                    gid='held')
            titles['held'] = [
                f'{name}: {number_text(value)} at {step} iterations'
                for step, value, name in curve.kept
            ]
        if curve.best is not None:
            step, value, name = curve.best
            ax.plot([step], [value],
                    '*',
                    color=GOOD,
                    markersize=14,
                    markeredgewidth=0,
                    zorder=5,
                    gid='best')
            titles['best'] = [
                f'best: {name}, {number_text(value)} at {step} iterations'
            ]
        _step_axis(ax)
        return titles

    return drawn(f'metric{index}', [1.8], paint, width)


def loss(story: Story, width: float) -> Optional[str]:
    """Draw the loss of the train lines; None if the logs have none."""
    if not story.losses:
        return None

    def paint(axes: List['Axes']) -> Titles:
        ax: Any = axes[0]
        for one in story.losses:
            points = _thinned(one.points)
            ax.plot(
                *zip(*points),
                color=LINE if one.lineage == story.lineage else OTHER,
                linewidth=1.1,
                marker='.' if len(points) < 3 else '')
        _step_axis(ax)
        return {}

    return drawn('loss', [1.8], paint, width)


def _thinned(
        points: Sequence[Tuple[int, float]]) -> Sequence[Tuple[float, float]]:
    """Return the means of neighbours, where there are more than one sees."""
    of = -(-len(points) // MOST_MARKS)
    groups = [points[index:index + of] for index in range(0, len(points), of)]
    return [(sum(step for step, _ in group) / len(group),
             sum(value for _, value in group) / len(group))
            for group in groups]


# -- axes ------------------------------------------------------------------


def _marks(ax: Any, group: str, saves: Sequence[Save], values: Sequence[float],
           titles: Dict[str, Sequence[str]], say: Callable[[Save], str],
           style: Dict[str, Any]) -> None:
    if len(saves) > _CROWD:
        style = {**style, 'markersize': 2.5}
    ax.plot(
        _days(save.at or 0. for save in saves),
        values,
        linestyle='none',
        zorder=4,
        gid=group,
        **style)
    if len(saves) <= MOST_TITLES:
        titles[group] = [say(save) for save in saves]


def _days(times: Any) -> List[float]:
    """Return seconds since 1970 as matplotlib counts them."""
    return [at / _DAY_SECS for at in times]


def _span(story: Story) -> Tuple[Optional[float], Optional[float]]:
    times = [save.at for save in story.saves if save.at is not None]
    times += [at for one in story.starts for at, _ in one.points]
    return min(times, default=None), max(times, default=None)


def _time_axis(ax: Any, story: Story) -> None:
    """Have the same time at the same place in all pictures."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    begin, end = _span(story)
    if begin is not None and end is not None:
        margin = max((end - begin) * .02, 1.)
        ax.set_xlim((begin - margin) / _DAY_SECS, (end + margin) / _DAY_SECS)
    locator = AutoDateLocator(minticks=3, maxticks=8)
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


def _step_axis(ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator
    ax.set_xlabel('iterations')
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    ax.xaxis.set_major_formatter(_formatter(step_text))


def _formatter(say: Callable[[float], str]) -> Any:
    from matplotlib.ticker import FuncFormatter
    return FuncFormatter(lambda value, place: say(value))
