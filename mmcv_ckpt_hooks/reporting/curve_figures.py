"""The pictures over steps: scores and loss."""
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from ..wording import counted
from .axes import MOST_MARKS, step_axis
from .curves import Curve
from .drawing import GOOD, LINE, OTHER, Titles, drawn
from .story import Story
from .wordings import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def has_points(curve: Curve) -> bool:
    """Whether there is something to draw."""
    return bool(curve.points or curve.kept or curve.given_up)


def metric(curve: Curve, index: int, width: float) -> str:
    """Draw one metric, which has points, over the steps."""

    def paint(axes: List['Axes']) -> Titles:
        ax: Any = axes[0]
        titles: Dict[str, Sequence[str]] = {}
        for one in curve.given_up[-MOST_MARKS:]:
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
            titles['held'] = [_text(one) for one in curve.kept]
        if curve.best is not None:
            step, value, _ = curve.best
            ax.plot([step], [value],
                    '*',
                    color=GOOD,
                    markersize=14,
                    markeredgewidth=0,
                    zorder=5,
                    gid='best')
            titles['best'] = [f'best: {_text(curve.best)}']
        step_axis(ax)
        return titles

    return drawn(f'metric{index}', [1.8], paint, width)


def _text(point: Tuple[int, float, str]) -> str:
    step, value, name = point
    return f'{name}: {number_text(value)} at {counted(step, "iterations")}'


def loss(story: Story, width: float) -> Optional[str]:
    """Draw the loss of the train lines; None if the logs have none."""
    if not story.losses:
        return None

    def paint(axes: List['Axes']) -> Titles:
        ax: Any = axes[0]
        for one in story.losses[-MOST_MARKS:]:
            points = _thinned(one.points)
            ax.plot(
                *zip(*points),
                color=LINE if one.lineage == story.lineage else OTHER,
                linewidth=1.1,
                marker='.' if len(points) < 3 else '')
        step_axis(ax)
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
