"""What a run is going to save, said before it trains. Standard library only.

Pure but for :func:`write_secs`, which tries the disk.
"""
import math
import os
import tempfile
import time
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from .kept_count import Kept, kept_count
from .options import CheckpointOptions
from .start_block import GRACE_SECS, block
from .triggers import never_due
from .types import CheckpointInfo
from .wording import logged_size

_PROBE_BYTES = 4 << 20
#: So many of the last saves tell how long one takes.
_RECENT = 5
_MAX_MEASURED = 1 << 62


@dataclass(frozen=True)
class Plan:
    """Everything that the start block tells.

    Args:
        options (CheckpointOptions): Of the hook, what it took over included.
        unit (str): ``'epochs'`` or ``'iterations'``, of interval and steps.
        steps (int): Of the whole run.
        place (str): Directory or URL.
        signals (dict): Name to action, of those that are watched.
        best (tuple[str]): Metrics whose best checkpoint is kept.
        model_bytes (int): Of one checkpoint, without the optimizer.
        optimizer_bytes (int, optional): None if only a save can tell.
        own_bytes (int): What this run has there already.
        free_bytes (int, optional): None where nobody can tell.
        save_secs (float, optional): How long one save takes.
        is_measured (bool): Whether by earlier saves.
        took_over (str, optional): What was taken over from whom.
        resumed (str): What the run goes on from.
        ranks (int): Which save together.
        writers (int): Of those, how many write a part of a folder.
        repeats_epoch (bool): Whether a resume begins an epoch anew.
        mirror (str, optional): What is copied to where.
        waits_for (str, optional): Who reads each file at once.
        notes (tuple[str]): What may surprise.
        last (CheckpointInfo, optional): The last one that the run has saved:
            what comes is as large.
    """
    options: CheckpointOptions
    unit: str
    steps: int
    place: str
    signals: Mapping[str, str]
    best: Tuple[str, ...]
    model_bytes: int
    optimizer_bytes: Optional[int]
    own_bytes: int
    free_bytes: Optional[int]
    save_secs: Optional[float]
    is_measured: bool
    took_over: Optional[str]
    resumed: str
    ranks: int = 1
    writers: int = 1
    repeats_epoch: bool = False
    mirror: Optional[str] = None
    waits_for: Optional[str] = None
    notes: Tuple[str, ...] = ()
    last: Optional[CheckpointInfo] = None

    @property
    def checkpoint_bytes(self) -> int:
        """Of one checkpoint, as far as it is known."""
        if self.last is not None:
            return self.last.bytes
        return self.model_bytes + (self.optimizer_bytes or 0)

    @property
    def kept(self) -> Kept:
        """How many checkpoints are there at most."""
        return kept_count(self.options, self.unit, self.steps, self.best)

    @property
    def total_bytes(self) -> int:
        """What lies there at most: a new one is there before an old one goes.
        """
        kept, budget = self.kept, self.options.keep.bytes or 0
        return max(self.checkpoint_bytes * kept.count, budget) + \
            self.checkpoint_bytes * kept.deletes

    def text(self) -> str:
        """The block, one record of several lines."""
        return block(self)

    def warnings(self) -> List[str]:
        """What will go wrong, one line each."""
        said = []
        count = self.kept.count
        more = ' and one more is being written' * self.kept.deletes
        room = None if self.free_bytes is None else \
            self.free_bytes + self.own_bytes
        if room is not None and self.total_bytes > room:
            said.append(
                f'The checkpoints of this run will not fit: {count} '
                f'{"is" if count == 1 else "are"} kept{more}, of '
                f'{logged_size(self.checkpoint_bytes)} each, '
                f'{logged_size(self.total_bytes)} in all, but {self.place} '
                f'has room for {logged_size(room)}. Keep fewer '
                '(max_keep_ckpts), or give another out_dir')
        exits = [
            name for name, action in self.signals.items()
            if action == 'save_and_exit'
        ]
        if exits and self.save_secs is not None and \
                self.save_secs > GRACE_SECS:
            said.append(
                f'A save takes about {self.save_secs:.0f} s, longer than the '
                f'usual grace of {GRACE_SECS:.0f} s between SIGTERM and '
                'SIGKILL: ask the scheduler for more, or for an earlier '
                'signal')
        budget, options = self.options.keep.bytes, self.options
        if budget is not None and budget < self.checkpoint_bytes:
            said.append(
                f'keep.bytes={logged_size(budget)} is less than one '
                f'checkpoint of {logged_size(self.checkpoint_bytes)}: it '
                'keeps nothing, only what the rest of keep asks for')
        every, interval = options.keep.every, options.interval
        if every is not None and interval > 0 and every % interval:
            said.append(
                f'keep.every={every} is no multiple of interval={interval}: '
                'at the interval only every '
                f'{every * interval // math.gcd(every, interval)} {self.unit} '
                'there is one for it')
        return said + (
            never_due(options.interval, options.save_last, options.triggers,
                      self.unit, self.steps) if self.steps else [])


def free_bytes(directory: str) -> Optional[int]:
    """Bytes that a user may still write there; None if nobody can tell."""
    if not hasattr(os, 'statvfs'):
        return None  # Windows
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def measured_secs(events: Sequence[Mapping[str, Any]],
                  nbytes: int) -> Optional[float]:
    """How long a save takes by those in the history, scaled to its size.

    The slowest of the last few: what counts is whether the grace suffices.
    """
    rates = [
        event['durable_secs'] / event['bytes'] for event in events
        if event.get('event') == 'save' and _is_number(event.get('bytes'))
        and _is_number(event.get('durable_secs')) and event['bytes']
    ]
    return max(rates[-_RECENT:]) * nbytes if rates else None


def _is_number(value: Any) -> bool:
    """Whether it is one that was measured; people edit the history."""
    return isinstance(value, (int, float)) and 0 <= value < _MAX_MEASURED


def write_secs(directory: str, nbytes: int) -> Optional[float]:
    """Guess how long a save takes from a small durable write there.

    The file has no name, or not for long; a full or broken disk says nothing
    here, and will in the first save.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            begun = time.monotonic()
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
            secs = time.monotonic() - begun
    except OSError:
        return None
    return secs * max(1., nbytes / _PROBE_BYTES)
