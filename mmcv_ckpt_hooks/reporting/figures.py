"""The pictures over time: steps, costs, bytes on the disk."""
from statistics import median
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from ..wording import size_text
from .axes import MOST_MARKS, columns, days, formatter, marks, time_axis
from .disk import Held
from .drawing import BAD, GOOD, LINE, MUTED, OTHER, WARN, Titles, drawn
from .events import Save
from .starts import EXCEPTION, FINISHED, KILLED, SIGNAL, Start
from .story import Story
from .wordings import end_text, number_text, step_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: From so much more than the median on an axis has powers of ten.
_FAR = 30.

#: Marker and colour of the end of a start.
_ENDS = {
    FINISHED: ('s', GOOD),
    SIGNAL: ('v', WARN),
    EXCEPTION: ('D', BAD),
    KILLED: ('X', BAD),
}


def timed_starts(story: Story) -> List[Start]:
    """Return the starts that are drawn."""
    # a loop of crashes may have thousands
    return [one for one in story.starts if one.points][-MOST_MARKS:]


def timeline(story: Story) -> Optional[str]:
    """Draw the steps over wall time; None if no time is known."""
    starts = timed_starts(story)
    if not starts:
        return None

    def paint(axes: List['Axes']) -> Titles:
        ax, titles = axes[0], {}  # type: Any, Dict[str, Sequence[str]]
        for one in starts:
            times, steps = days(
                at for at, _ in one.points), [iter for _, iter in one.points]
            mine = one.lineage == story.lineage
            ax.plot(times, steps, color=LINE if mine else OTHER, zorder=3)
        _paint_returns(ax, starts)
        timed = [(save, kept) for save, kept in zip(story.saves, story.kept)
                 if save.at is not None]
        for group, wanted, fill in (('gone', False, 'none'), ('kept', True,
                                                              LINE)):
            some = [save for save, kept in timed if kept is wanted]
            if len(some) <= MOST_MARKS:
                marks(
                    ax, group, some, [save.iter for save in some], titles,
                    dict(
                        marker='o',
                        color=LINE,
                        fillstyle='full',
                        markerfacecolor=fill))
        for end, (marker, colour) in _ENDS.items():
            ended = [one for one in starts if one.end == end]
            ax.plot(
                days(one.points[-1][0] for one in ended),
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
        ax.yaxis.set_major_formatter(formatter(step_text))
        time_axis(ax, story)
        return titles

    return drawn('timeline', [2.7], paint)


def _paint_returns(ax: Any, starts: Sequence[Start]) -> None:
    """From where a start ended to where the next one of its run began."""
    last: Dict[str, Start] = {}
    for one in starts:
        before = last.get(one.lineage)
        if before is not None:
            ax.plot(
                days((before.points[-1][0], one.points[0][0])),
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
        time_axis(axes[1], story)
        return titles

    return drawn('costs', [1.5, 1.5], paint)


def _cost(ax: Any, group: str, saves: Sequence[Save], values: Sequence[float],
          titles: Dict[str, Sequence[str]], colour: str) -> None:
    if not values:
        return
    middle = median(values)
    if len(values) > MOST_MARKS:
        places = columns(ax, [save.at or 0. for save in saves])
        groups = [[values[index] for index in column] for column in places]
        ax.vlines(
            days(saves[column[0]].at or 0. for column in places),
            [min(group) for group in groups], [max(group) for group in groups],
            color=colour,
            linewidth=1.2)
    else:
        marks(
            ax, group, saves, values, titles,
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
    ax.yaxis.set_major_formatter(formatter(number_text))


def disk(story: Story) -> Optional[str]:
    """Draw the bytes of the checkpoints over wall time."""
    if not story.disk:
        return None

    def paint(axes: List['Axes']) -> Titles:
        ax: Any = axes[0]
        time_axis(ax, story)
        # until the end of the axis
        held = story.disk
        if len(held) > MOST_MARKS:
            held = [
                Held(held[column[0]].at, held[column[-1]].bytes,
                     max(held[index].most for index in column))
                for column in columns(ax, [one.at for one in held])
            ]
        times = [*days(one.at for one in held), ax.get_xlim()[1]]
        sizes = [one.bytes for one in held]
        peaks = [one.most for one in held]
        ax.vlines(times[:-1], sizes, peaks, color=WARN, linewidth=1.)
        sizes.append(sizes[-1])
        ax.fill_between(
            times, sizes, step='post', color=LINE, alpha=.15, linewidth=0)
        ax.step(times, sizes, where='post', color=LINE)
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter(formatter(size_text))
        return {}

    return drawn('disk', [1.7], paint)
