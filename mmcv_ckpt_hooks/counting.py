"""Finished epochs and iterations of a checkpoint, whoever wrote it.

Standard library only: ``mmcv-ckpt ls`` tells them, too.
"""
import numbers
from typing import Any, Callable, Mapping, Tuple

from .card import steps_in_name
from .types import MAX_STEPS
from .version import version_tuple
from .wording import counted

Log = Callable[[str], None]


def is_count(value: Any) -> bool:
    """Whether a value can be a number of steps."""
    return isinstance(value, numbers.Integral) and 0 <= int(value) < MAX_STEPS


def finished_steps(checkpoint: Mapping[str, Any], name: str,
                   epoch_runner: bool, log: Log) -> Tuple[int, int]:
    """Return finished epochs and iterations, whoever wrote the file.

    Files with ``resume_state`` count finished steps. Others do not agree:
    ``iter_8.pth`` of stock mmcv has ``meta['iter'] == 7``, that of BEiT has
    8; after a resume, UniFormer writes the epoch of the file before. The file
    name counts right in all of them; without one, the step of an Adam
    optimizer tells, and then the field ``amp``, which only the apex_runner
    family writes.

    Source: mmcv v1.7.2 runner/iter_based_runner.py:221-223,
    epoch_based_runner.py:167-175.
    """
    meta = checkpoint['meta']
    epoch, finished = int(meta.get('epoch', 0)), int(meta.get('iter', 0))
    if checkpoint.get('resume_state'):
        return epoch, finished
    told = steps_in_name(name)
    if 'iter' in told and 'epoch' not in told:
        if told['iter'] != finished:
            said = counted(told['iter'], 'finished iterations')
            log(f'{name} says {said}, its meta '
                f'{finished}: the name counts')
        # its epoch is the running one, counted from 1
        return max(epoch - 1, 0), told['iter']
    if 'epoch' in told and 'iter' not in told:
        if told['epoch'] != epoch:
            said = counted(told['epoch'], 'finished epochs')
            log(f'{name} says {said}, its meta '
                f'{epoch}: the name counts')
            if epoch and finished % epoch == 0:
                finished = finished // epoch * told['epoch']
        return told['epoch'], finished
    if epoch_runner:
        return epoch, finished
    step = _optimizer_step(checkpoint.get('optimizer'))
    if step in (finished, finished + 1):
        return max(epoch - 1, 0), int(step)
    return max(epoch - 1, 0), finished + _uncounted_iters(checkpoint)


def _uncounted_iters(checkpoint: Mapping[str, Any]) -> int:
    """Iterations that a stock iteration runner does not count: 0 or 1.

    That of mmcv >= 1.3.9 leaves out the one that it saves in; before, and in
    the files of the apex_runner family, which have ``amp``, it counts.
    """
    version = version_tuple(str(checkpoint['meta'].get('mmcv_version')))
    return int('amp' not in checkpoint
               and (not version or version >= (1, 3, 9)))


def _optimizer_step(optimizer: Any) -> int:
    """Steps that an Adam has made, -1 if it cannot be told."""
    states = optimizer.get('state', {}) if isinstance(optimizer, dict) else {}
    for state in states.values():
        if isinstance(state, dict) and 'step' in state:
            return int(state['step'])
    return -1
