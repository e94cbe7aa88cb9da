"""Which checkpoints of a directory belong to what a run goes on from.

Pure functions of a list. Standard library only.
"""
from typing import AbstractSet, Dict, List, Sequence, Set, Tuple

from .card import steps_in_name
from .types import MAX_STEPS, CheckpointInfo


def by_step(info: CheckpointInfo) -> Tuple[int, int, bool, str]:
    """Sort key: the regular checkpoint of a step before its other names."""
    return info.iter, info.epoch, not info.regular, info.name


def current(checkpoints: Sequence[CheckpointInfo], lineage: str,
            generation: int, started_iter: int) -> List[CheckpointInfo]:
    """Leave out what a later start of the same run went on from before.

    Args:
        checkpoints (Sequence): All.
        lineage (str): Of this run.
        generation (int): Of this start.
        started_iter (int): Finished iterations when it began.

    Returns:
        list[CheckpointInfo]: In the same order.
    """
    starts: Dict[str, Set[Tuple[int, int]]] = {}
    for info in checkpoints:
        starts.setdefault(info.lineage, set()).add(
            (info.generation, info.started_iter))
    starts.setdefault(lineage, set()).add((generation, started_iter))
    return [
        info for info in checkpoints if not info.lineage or not any(
            generation > info.generation and started < info.iter
            for generation, started in starts[info.lineage])
    ]


def resumable(checkpoints: Sequence[CheckpointInfo], lineage: str,
              appeared: AbstractSet[str]) -> List[CheckpointInfo]:
    """Return what a run may continue from, newest first.

    The last run's checkpoints, then those of other programs (stock mmcv),
    from which it may have started; before both what such a program wrote
    since, when it went on from there.

    Args:
        checkpoints (Sequence): Those of :func:`current`.
        lineage (str): Of the last run; empty if that is not known.
        appeared (set[str]): Files that came since the catalog was written.
    """
    # of one step, the regular name before best_*
    there = sorted(
        checkpoints,
        key=lambda info:
        (-info.iter, -info.epoch, not info.regular, info.name))
    last = lineage
    if not last or not any(info.lineage == last for info in there):
        # the catalog is lost: the lineage that committed last
        last = max(
            there,
            key=lambda info: info.created_at,
            default=CheckpointInfo('', 0, 0, 0)).lineage
    own = [info for info in there if info.lineage == last]
    others = [info for info in there if not info.lineage and last]
    newest = max((info.iter for info in own), default=0)
    # of stock mmcv's epoch_N.pth the name does not tell iterations; where ours
    # count those, epochs are passes of the data, and nothing to compare with
    newest_epoch = max(
        (info.epoch for info in own if 'epoch' in steps_in_name(info.name)),
        default=MAX_STEPS)
    since = [
        info for info in others
        if (info.iter > newest or not info.iter and info.epoch > newest_epoch)
        and info.regular and info.name in appeared
    ]
    return since + own + [info for info in others if info not in since]
