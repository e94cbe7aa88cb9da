"""Which checkpoints to keep: pure functions of a list.

Every policy answers with the names it wants; what no policy wants may be
deleted. Lists are ordered by finished iterations, oldest first.

A policy for regular checkpoints never speaks for a best one (``best_*.pth``):
that one is kept for its score, by :class:`KeepBest` or :class:`KeepNames`.
"""
from dataclasses import dataclass
from typing import Dict, FrozenSet, List, Optional, Sequence, Set, Tuple

from .best_scores import BestScore, best_name, without_step
from .monitors import Monitor
from .types import CheckpointInfo, RetentionPolicy, SaveRequest


@dataclass(frozen=True)
class KeepLast:
    """Keep the last regular checkpoints.

    Of those off the grid the last so many are kept, too, until the next
    regular one is committed.

    Args:
        count (int, optional): How many, at least 1; None for all.
    """
    count: Optional[int]

    def keep(self, checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
        regular = [info for info in checkpoints if info.regular]
        newest = regular[-1].iter if regular else -1
        off_grid = [
            info for info in checkpoints if not info.regular
            and info.trigger != 'best' and info.iter > newest
        ]
        first = -self.count if self.count is not None else 0
        return {info.name for info in [*regular[first:], *off_grid[first:]]}


@dataclass(frozen=True)
class KeepEvery:
    """Keep what lies on a multiple of ``period`` (int) for ever.

    Args:
        period (int): In epochs or iterations.
        by_epoch (bool): Which of the two.
    """
    period: int
    by_epoch: bool

    def keep(self, checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
        return {
            info.name
            for info in checkpoints if info.regular and info.trigger != 'best'
            and (info.epoch if self.by_epoch else info.iter) % self.period == 0
        }


@dataclass(frozen=True)
class KeepBest:
    """Keep the steps with the best scores, those of each metric.

    Of a step that has several files with scores the first is kept: the
    regular one, then one off the grid, then ``best_*.pth``. Of equal scores
    the earlier counts. A step without a score of a metric has no rank in it.

    Args:
        count (int): How many steps of each metric, at least 1.
        monitors (tuple[Monitor], optional): The metrics. None: they are not
            known yet, and everything that has scores is kept.
    """
    count: int
    monitors: Optional[Tuple[Monitor, ...]]

    def keep(self, checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
        if self.monitors is None:
            return {info.name for info in checkpoints if info.metrics}
        return {
            name
            for monitor in self.monitors
            for name in self._best_names(monitor, checkpoints)
        }

    def would_keep(self, request: SaveRequest,
                   checkpoints: Sequence[CheckpointInfo]) -> bool:
        """Whether a step that has no checkpoint is among the best."""
        candidate = CheckpointInfo(
            request.name,
            request.epoch,
            request.iter,
            0,
            metrics=request.metrics,
            trigger='best',
            regular=False)
        return candidate.name in self.keep([*checkpoints, candidate])

    def leaders(self, checkpoints: Sequence[CheckpointInfo]) -> \
            List[BestScore]:
        """Return the best of each metric, as the catalog tells it."""
        by_name = {info.name: info for info in checkpoints}
        leading = [(monitor, by_name[name]) for monitor in self.monitors or ()
                   for name in self._best_names(monitor, checkpoints)[:1]]
        return [
            BestScore(
                monitor.key,
                info.metrics[monitor.key],
                monitor.rule,
                info.name,
                info.iter,
                ranked=True) for monitor, info in leading
        ]

    def has_rank(self, info: CheckpointInfo) -> bool:
        """Whether a best checkpoint was kept for one of the metrics here."""
        return any(
            without_step(info.name) == without_step(
                best_name(monitor.key, 'iter_0'))
            and monitor.goodness(info.metrics) is not None
            for monitor in self.monitors or ())

    def _best_names(self, monitor: Monitor,
                    checkpoints: Sequence[CheckpointInfo]) -> List[str]:
        ranked: Dict[int, Tuple[float, int, str]] = {}
        for info in sorted(checkpoints, key=_precedence):
            goodness = monitor.goodness(info.metrics)
            if goodness is not None:
                ranked.setdefault(info.iter, (-goodness, info.iter, info.name))
        return [name for _, _, name in sorted(ranked.values())[:self.count]]


@dataclass(frozen=True)
class KeepNames:
    """Keep files by name.

    Args:
        names (frozenset[str]): File names.
    """
    names: FrozenSet[str]

    def keep(self, checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
        return {info.name for info in checkpoints if info.name in self.names}


@dataclass(frozen=True)
class KeepAny:
    """Keep what any of ``policies`` (sequence) keeps."""
    policies: Sequence[RetentionPolicy]

    def keep(self, checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
        kept: Set[str] = set()
        for policy in self.policies:
            kept |= policy.keep(checkpoints)
        return kept


@dataclass(frozen=True)
class KeepWithin:
    """Keep what other policies keep, and what still fits into a budget.

    What the others keep, and the newest, counts first and is kept even if it
    is more than the budget: a budget never costs a best checkpoint. Then
    regular ones follow, newest first, until one does not fit; older ones go
    even if they are small, so that no gap opens between those that stay.

    Args:
        budget_bytes (int): Bytes in all; a content with several names counts
            once.
        first (RetentionPolicy): The other policies.
    """
    budget_bytes: int
    first: RetentionPolicy

    def keep(self, checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
        kept = self.first.keep(checkpoints) | _newest_names(checkpoints)
        contents = _contents(checkpoints)
        counted = dict(contents[name] for name in kept)
        for info in reversed(checkpoints):
            if not info.regular or info.name in kept:
                continue
            content, size = contents[info.name]
            counted[content] = size
            if sum(counted.values()) > self.budget_bytes:
                break
            kept.add(info.name)
        return kept


def policy_of(last: Optional[int], every: Optional[int],
              by_epoch: bool) -> RetentionPolicy:
    """Return what keeps the last so many, and multiples of so many steps."""
    policies: List[RetentionPolicy] = [KeepLast(last)]
    if every is not None:
        policies.append(KeepEvery(every, by_epoch))
    return KeepAny(policies)


def bytes_of(checkpoints: Sequence[CheckpointInfo], names: Set[str]) -> int:
    """Return the bytes that some files take; a second name takes none."""
    contents = _contents(checkpoints)
    return sum(dict(contents[name] for name in names).values())


def _contents(
        checkpoints: Sequence[CheckpointInfo]) -> Dict[str, Tuple[str, int]]:
    """Return by file name a mark of the content, and its bytes.

    One whose size the storage does not tell counts as the largest other.
    """
    largest = max([info.bytes for info in checkpoints], default=0)
    return {
        info.name:
        (info.digest or info.same_as
         or info.name, info.bytes if info.bytes >= 0 else max(largest, 0))
        for info in checkpoints
    }


def deletable(policy: RetentionPolicy, checkpoints: Sequence[CheckpointInfo],
              protected: Optional[str]) -> Sequence[CheckpointInfo]:
    """Return what may be deleted, oldest first.

    Args:
        policy (RetentionPolicy): What to keep.
        checkpoints (Sequence): What this run owns, oldest first; all
            committed.
        protected (str, optional): Name of the file resumed from.
    """
    if not checkpoints:
        return []
    # INVARIANT: the newest committed checkpoint is never deleted
    kept = policy.keep(checkpoints) | _newest_names(checkpoints)
    return [
        info for info in checkpoints if info.name not in kept and not (
            info.name == protected and _is_newest_regular(info, checkpoints))
    ]


def _newest_names(checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
    return {
        info.name
        for info in checkpoints if info.iter == checkpoints[-1].iter
    }


def _is_newest_regular(info: CheckpointInfo,
                       checkpoints: Sequence[CheckpointInfo]) -> bool:
    return all(other.iter <= info.iter for other in checkpoints
               if other.regular)


def _precedence(info: CheckpointInfo) -> Tuple[bool, bool, str]:
    return not info.regular, info.trigger == 'best', info.name
