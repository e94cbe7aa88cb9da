"""The best scores so far, of every run in a directory.

Standard library only.
"""
import re
from dataclasses import dataclass, field, replace
from typing import Container, Dict, FrozenSet, Iterable, List, Optional, Tuple

from .types import CheckpointInfo

_STEP = re.compile(r'_(epoch|iter)_\d+\.pth$')


@dataclass(frozen=True)
class BestScore:
    """The best score of one metric so far.

    Args:
        key (str): The metric.
        score (float): Its best value.
        rule (str): ``'greater'`` or ``'less'``.
        name (str): The checkpoint that has it.
        iter (int): Finished iterations then.
        lineage (str): Of the run; the catalog fills it in. Default: ''.
        ranked (bool): Whether it is told only: its file is kept by
            ``keep.best``, which ranks anew at each evaluation. Default:
            False, which means that the record keeps the file.
    """
    key: str
    score: float
    rule: str
    name: str
    iter: int
    lineage: str = field(default='', compare=False)
    ranked: bool = False


class BestScores:
    """By lineage and metric: who goes back to an older run finds its best.

    Args:
        scores (iterable[BestScore]): Known before. Default: none.
    """

    def __init__(self, scores: Iterable[BestScore] = ()) -> None:
        self._best: Dict[Tuple[str, str], BestScore] = {
            (one.lineage, one.key): one
            for one in scores
        }

    def all(self) -> List[BestScore]:
        """Return those of all runs."""
        return list(self._best.values())

    def get(self,
            lineage: str,
            key: str,
            ranked: bool = False) -> Optional[BestScore]:
        """Return the best score of a run's metric, or None.

        Args:
            lineage (str): Of the run.
            key (str): The metric.
            ranked (bool): Whether one that is told only counts, too.
                Default: False.
        """
        best = self._best.get((lineage, key))
        return best if best is None or ranked or not best.ranked else None

    def set(self, lineage: str, best: BestScore) -> None:
        """Put a score in the place of the one before."""
        self._best[lineage, best.key] = replace(best, lineage=lineage)

    def names(self, lineage: str) -> FrozenSet[str]:
        """Return the names of a run's files with the best scores."""
        return frozenset(best.name for best in self._best.values()
                         if best.lineage == lineage and not best.ranked)

    def has_replaced(self, info: CheckpointInfo) -> bool:
        """Whether a best checkpoint has a better one in its place.

        Without a record of its metric nobody knows, and the answer is no.
        """
        # a kill between file and record leaves a newer file: no replaced
        # one, but the one to come
        return any(best.lineage == info.lineage and best.iter > info.iter
                   and not best.ranked
                   and without_step(best.name) == without_step(info.name)
                   for best in self._best.values())

    def forget_later(self, lineage: str, iter: int) -> None:
        """Drop a run's scores of more than ``iter`` iterations.

        Also those that are told only: the run may rank by other metrics now.
        """
        self._best = {
            key: best
            for key, best in self._best.items()
            if best.lineage != lineage or best.iter <= iter and not best.ranked
        }

    def forget_missing(self, there: Container[Tuple[str, str]]) -> None:
        """Drop scores whose file is not there.

        Args:
            there (container): Pairs of file name and lineage.
        """
        self._best = {
            key: best
            for key, best in self._best.items()
            if (best.name, best.lineage) in there
        }


def best_name(key: str, unit: str) -> str:
    """Return ``best_mIoU_iter_8.pth`` for ``mIoU`` and ``iter_8``.

    KITTI/Car_3D_moderate and the like must not name a directory.
    """
    return f'best_{key}_{unit}.pth'.replace('/', '_').replace('\\', '_')


def without_step(name: str) -> str:
    """Return ``best_mIoU`` for ``best_mIoU_iter_8.pth``."""
    return _STEP.sub('', name)
