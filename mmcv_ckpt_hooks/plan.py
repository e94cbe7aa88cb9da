"""What a run is going to save, said before it trains. Standard library only.

Pure but for :func:`write_secs`, which tries the disk.
"""
import os
import tempfile
import time
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from .keep_text import kept_text, size
from .kept_count import Kept, kept_count
from .options import CheckpointOptions
from .triggers import never_due
from .wording import counted, every

#: What schedulers usually give a job between SIGTERM and SIGKILL.
GRACE_SECS = 30.
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

    @property
    def checkpoint_bytes(self) -> int:
        """Of one checkpoint, as far as it is known."""
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
        rows = [
            ('saves', self._saves()),
            ('keeps', self._keeps()),
            ('in', self.place),
            ('resume', f'{self._resumes()}; {self.resumed}'),
            ('a save', self._takes()),
            ('a kill', self._loses()),
        ]
        if self.options.format == 'dcp':
            how = 'copied' if self.options.write.background else 'written'
            rows.insert(2, ('writes', f'{self._folder()}; {how} before '
                            'training goes on, never beside it'))
        if self.mirror is not None:
            rows.insert(-3, ('mirror', self.mirror))
        if self.took_over is not None:
            rows.append(('before', self.took_over))
        return 'Checkpoints of this run:\n' + '\n'.join(f'  {name:<7} {said}'
                                                        for name, said in rows)

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
                f'{size(self.checkpoint_bytes)} each, '
                f'{size(self.total_bytes)} in all, but {self.place} has room '
                f'for {size(room)}. Keep fewer (max_keep_ckpts), or give '
                'another out_dir')
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
            said.append(f'keep.bytes={size(budget)} is less than one '
                        f'checkpoint of {size(self.checkpoint_bytes)}: it '
                        'keeps nothing, only what the rest of keep asks for')
        return said + (
            never_due(options.interval, options.save_last, options.triggers,
                      self.unit, self.steps) if self.steps else [])

    def _saves(self) -> str:
        options, triggers = self.options, self.options.triggers
        said = []
        if options.interval > 0:
            after = f' from {triggers.begin}' if triggers.begin else ''
            said.append(f'{every(options.interval, self.unit)}{after}')
        if triggers.at:
            steps = ', '.join(map(str, triggers.at))
            said.append(f'at {steps} {self.unit}')
        if triggers.secs is not None:
            said.append(f'every {triggers.secs:g} s')
        if options.save_last:
            said.append('at the end')
        when = '' if self.ranks == 1 else \
            f', when all {self.ranks} ranks have finished a step or one ' \
            'more batch of an evaluation'
        for action, what in (('save', when), ('save_and_exit',
                                              f' (then ends){when}')):
            names = [
                name for name, one in self.signals.items() if one == action
            ]
            if names:
                said.append(f'on {", ".join(names)}{what}')
        if triggers.file is not None:
            said.append(f'when a file {triggers.file} appears in the work dir')
        if triggers.exception:
            said.append('on an exception between two steps' +
                        ('' if self.ranks == 1 else
                         ' (as rank 0 has it, with its generators only)'))
        return '; '.join(said) or 'nothing'

    def _keeps(self) -> str:
        said = kept_text(self.options, self.unit, self.best)
        parts = f'model {size(self.model_bytes)}, optimizer ' + (
            'not known before the first save'
            if self.optimizer_bytes is None else size(self.optimizer_bytes))
        free = '' if self.free_bytes is None else \
            f'; {size(self.free_bytes)} free'
        more = ' with the one that is being written' * self.kept.deletes
        return f'{said}: {self.kept.count} of {size(self.checkpoint_bytes)} ' \
            f'({parts}), at most {size(self.total_bytes)}{more}{free}'

    def _folder(self) -> str:
        folder = "a folder for each checkpoint (format='dcp')"
        if self.writers == 1:
            return folder if self.ranks == 1 else \
                f'{folder}, by rank 0 alone: every rank trains a model of ' \
                'its own'
        share = '' if self.optimizer_bytes is None else \
            f', about {size(self.checkpoint_bytes // self.writers)}'
        return f'{folder}, of which each of {self.writers} ranks writes a ' \
            f'part{share}'

    def _resumes(self) -> str:
        if self.options.resume is None:
            return "only when told to (resume='auto' does it at every start)"
        if self.options.resume == 'auto':
            return "resume='auto', from the newest one here that verifies"
        return f'from {self.options.resume}, then from what this run has saved'

    def _takes(self) -> str:
        if self.save_secs is None:
            return 'takes a time that the first one will tell'
        how = 'as the last ones did' if self.is_measured else \
            'a guess from a small write, until one is measured'
        return f'takes about {self.save_secs:.2f} s ({how}); schedulers ' \
            f'usually give {GRACE_SECS:.0f} s between SIGTERM and SIGKILL'

    def _loses(self) -> str:
        lost = 'everything since the last save'
        if self.options.interval > 0:
            lost += f', at most {counted(self.options.interval, self.unit)}'
        again = '; a resume inside an epoch repeats it from its first batch' \
            if self.repeats_epoch else ''
        if 'save_and_exit' not in self.signals.values():
            return f'loses {lost}{again}'
        if self.ranks == 1:
            said = 'loses nothing but the iteration that is running'
        else:
            # said at the end of a step, heard at the end of the next
            said = 'loses nothing if two more steps, or a batch of an ' \
                'evaluation, end before SIGKILL'
        return f'by a signal that is watched {said}; without notice ' \
            f'{lost}{again}'


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
