"""Which checkpoints to keep: pure functions of a list.

Every policy answers with the names it wants; what no policy wants may be
deleted. Lists are ordered by finished iterations, oldest first.
"""
from dataclasses import dataclass
from typing import Optional, Sequence, Set

from .types import CheckpointInfo, RetentionPolicy


@dataclass(frozen=True)
class KeepAll:
    """Keep everything."""

    def keep(self, checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
        return {info.name for info in checkpoints}


@dataclass(frozen=True)
class KeepLast:
    """Keep the last ``count`` (int, at least 1) regular checkpoints.

    One off the grid is kept until the next regular one is committed.
    """
    count: int

    def keep(self, checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
        regular = [info for info in checkpoints if info.regular]
        kept = {info.name for info in regular[-self.count:]}
        newest = regular[-1].iter if regular else -1
        return kept | {
            info.name
            for info in checkpoints if not info.regular
            and info.trigger != 'best' and info.iter > newest
        }


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
class KeepNames:
    """Keep the files that hold the best scores so far.

    Args:
        names (frozenset[str]): File names.
    """
    names: 'frozenset[str]'

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
    kept = policy.keep(checkpoints)
    # INVARIANT: the newest committed checkpoint is never deleted
    newest = checkpoints[-1].iter
    return [
        info for info in checkpoints
        if info.name not in kept and info.iter != newest and not (
            info.name == protected and _is_newest_regular(info, checkpoints))
    ]


def _is_newest_regular(info: CheckpointInfo,
                       checkpoints: Sequence[CheckpointInfo]) -> bool:
    return all(other.iter <= info.iter for other in checkpoints
               if other.regular)
