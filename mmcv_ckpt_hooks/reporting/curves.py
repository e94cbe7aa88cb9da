"""The scores and the loss of a run over its steps.

Standard library only.
"""
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from ..types import CheckpointInfo
from .evaluations import which_are_given_up
from .events import Score
from .starts import Start
from .steps import Point
from .values import numbers


@dataclass(frozen=True)
class Curve:
    """One metric.

    Args:
        key (str): Its name.
        points (list[tuple[int, float]]): Of what the run has gone on from.
        given_up (list[list[tuple[int, float]]]): Of other starts, whose steps
            a later one did again, and of other runs.
        kept (list[tuple[int, float, str]]): Of checkpoints that are there,
            with their names.
        best (tuple[int, float, str], optional): The best one, and its name.
        rule (str): ``'greater'``, ``'less'`` or ``''``.
    """
    key: str
    points: List[Tuple[int, float]] = field(default_factory=list)
    given_up: List[List[Tuple[int, float]]] = field(default_factory=list)
    kept: List[Tuple[int, float, str]] = field(default_factory=list)
    best: Optional[Tuple[int, float, str]] = None
    rule: str = ''


@dataclass(frozen=True)
class Loss:
    """The loss of the train lines of one start.

    Args:
        lineage (str): Of its run.
        points (list[tuple[int, float]]): By iterations.
    """
    lineage: str
    points: List[Tuple[int, float]]


def curves_of(scores: Sequence[Score], checkpoints: Sequence[CheckpointInfo],
              best: Mapping[str, Tuple[int, float, str,
                                       str]], rules: Mapping[str, str],
              lineage: str, starts: Sequence[Start]) -> List[Curve]:
    """Return the metrics, those that a best is known of first.

    Args:
        scores (Sequence[Score]): In the order of the history.
        checkpoints (Sequence[CheckpointInfo]): What is there.
        best (dict): By metric iterations, score, name and rule of the best.
        rules (dict): By metric which direction is better, from the history.
        lineage (str): Of the run that this is about.
        starts (Sequence[Start]): The oldest first.
    """
    found: Dict[str, _Points] = {key: _Points() for key in best}
    for score, redone in zip(scores, which_are_given_up(scores, starts)):
        mine = score.lineage in ('', lineage) and not redone
        for key, value in score.metrics.items():
            found.setdefault(key, _Points()).add(score, value, mine)
    for info in checkpoints:
        if info.lineage in ('', lineage):
            for key, value in numbers(dict(info.metrics)).items():
                found.setdefault(key, _Points()).keep(info, value)
    # mmseg's scores of single classes have a dot
    order = sorted(
        found, key=lambda key: (key not in best, key not in rules, '.' in key))
    return [
        found[key].curve(key, best.get(key), rules.get(key, ''), not scores)
        for key in order
    ]


class _Points:
    """What there is of one metric."""

    def __init__(self) -> None:
        self._mine: Dict[int, float] = {}
        self._others: Dict[Tuple[str, int], List[Tuple[int, float]]] = {}
        self._kept: Set[Tuple[int, float, str]] = set()

    def add(self, score: Score, value: float, mine: bool) -> None:
        """Add what an evaluation gave."""
        if mine:
            self._mine[score.iter] = value
        else:
            self._others.setdefault((score.lineage, score.generation),
                                    []).append((score.iter, value))

    def keep(self, info: CheckpointInfo, value: float) -> None:
        """Add what a checkpoint has."""
        self._kept.add((info.iter, value, info.same_as or info.name))

    def curve(self, key: str, best: Optional[Tuple[int, float, str, str]],
              rule: str, is_lost: bool) -> Curve:
        """Return all of it.

        Args:
            key (str): Name of the metric.
            best (tuple, optional): As in :func:`curves_of`.
            rule (str): Unless the best tells it.
            is_lost (bool): Whether only checkpoints tell of scores.
        """
        points = self._mine
        if is_lost:
            points = {step: value for step, value, _ in self._kept}
        return Curve(key, sorted(points.items()), list(self._others.values()),
                     sorted(self._kept), None if best is None else best[:3],
                     rule if best is None else best[3])


def losses_in(starts: Sequence[Tuple[Start, Sequence[Point]]]) -> List[Loss]:
    """Return the loss of each start, of which there are lines."""
    found = [
        Loss(one.lineage,
             [(point.iter, point.values['loss']) for point in points
              if point.mode == 'train' and 'loss' in point.values])
        for one, points in starts
    ]
    return [one for one in found if one.points]
