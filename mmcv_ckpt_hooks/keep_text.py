"""What is kept, in words: of a run, and of its mirror.

Standard library only.
"""
from dataclasses import replace
from typing import Sequence

from .options import CheckpointOptions
from .wording import every, logged_size


def kept_text(options: CheckpointOptions, unit: str,
              best: Sequence[str]) -> str:
    """Return what a run keeps: ``'the last 3, the best by mIoU'``.

    Args:
        options (CheckpointOptions): Of the hook.
        unit (str): ``'epochs'`` or ``'iterations'``.
        best (Sequence[str]): Metrics whose best checkpoint is kept.
    """
    keep, last = options.keep, options.keep_last
    said = 'all' if last is None else f'the last {last}'
    if options.triggers.secs is not None:
        by_time = 'all' if last is None else f'the last {last}'
        uncounted = ', not counted here' if last is None else ''
        until = ' until that of the end' if options.save_last else ''
        if options.interval > 0:
            until = ' until the next at the interval'
        said += f', by time {by_time}{until}{uncounted}'
    if keep.every is not None:
        said += f', {every(keep.every, unit)}'
    metrics = keep.monitor or tuple(best)
    if keep.best and not metrics:
        metrics = ('the first metric', )
    how = f'best {keep.best}' if keep.best else 'best'
    said += ''.join(f', the {how} by {key}' for key in metrics)
    if keep.bytes is not None:
        said += f', more up to {logged_size(keep.bytes)}'
    return said


def mirror_text(options: CheckpointOptions, url: str, unit: str,
                best: Sequence[str]) -> str:
    """Return what a mirror keeps.

    Args:
        options (CheckpointOptions): Of the hook, with a mirror.
        url (str): Of the mirror.
        unit, best: As for :func:`kept_text`.
    """
    keep = replace(options.mirror_keep, monitor=options.keep.monitor)
    there = replace(options, keep=keep, max_keep_ckpts=-1)
    return f'{url}, which keeps {kept_text(there, unit, best)}'
