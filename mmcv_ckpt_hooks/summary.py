"""What a run has saved, said at its end: records to text.

Standard library only; :mod:`ending` asks for what it says.
"""
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

from .tally import Tally
from .types import CheckpointInfo
from .wording import counted, logged_size


@dataclass(frozen=True)
class PlaceContent:
    """What this run has in one place.

    Args:
        url (str): Directory or URL.
        count (int): Checkpoints.
        second_names (int): Further names of those.
        bytes (int): Of their content.
    """
    url: str
    count: int
    second_names: int
    bytes: int


@dataclass(frozen=True)
class Summary:
    """Everything that the end block tells.

    Args:
        tally (Tally): Of this start.
        run_secs (float): Since it began.
        went_on_from (str): What this start was resumed from; empty if it
            began anew.
        places (tuple[PlaceContent]): The run's own, then those of the best.
        newest (CheckpointInfo, optional): Of the run.
        best (tuple): Name of the file, metric and value of each.
        mirror (str, optional): What is there.
        next_start (str): What the same command does next.
    """
    tally: Tally
    run_secs: float
    went_on_from: str
    places: Sequence[PlaceContent]
    newest: Optional[CheckpointInfo]
    best: Sequence[Tuple[str, str, float]]
    mirror: Optional[str]
    next_start: str

    def text(self) -> str:
        """The block, one record of several lines."""
        rows = [('saves', self._saves())]
        if self.tally.saves:
            rows += [('waited', self._waited()), ('wrote', self._wrote())]
        if self.tally.deleted:
            rows.append(('deleted', counted(self.tally.deleted, 'names')))
        rows.append(('there', '; '.join(map(_there, self.places))))
        if self.newest is not None:
            rows.append(('newest', _step(self.newest)))
        if self.best:
            rows.append(('best', ', '.join(f'{name} ({key} {value:.4f})'
                                           for name, key, value in self.best)))
        if self.mirror is not None:
            rows.append(('mirror', self.mirror))
        rows.append(('resume', self.next_start))
        since = f', since it went on from {self.went_on_from}' \
            if self.went_on_from else ''
        return f'What this run has saved in {self.run_secs:.1f} s{since}:\n' \
            + '\n'.join(f'  {name:<7} {said}' for name, said in rows)

    def _saves(self) -> str:
        tally = self.tally
        by_trigger = ', '.join(
            f'{trigger} {count}'
            for trigger, count in sorted(tally.triggers.items()))
        said = f'{tally.saves} ({by_trigger})' if by_trigger else 'none'
        if tally.second_names:
            said += '; ' + counted(tally.second_names,
                                   'second names of them for the best',
                                   'second name of one for the best')
        if tally.failed:
            said += f'; {tally.failed} failed'
        if tally.skipped:
            said += f"; {tally.skipped} skipped (backlog='skip')"
        return said

    def _waited(self) -> str:
        tally = self.tally
        share = f', {tally.blocked_secs / self.run_secs:.1%} of its time' \
            if self.run_secs > 0 else ''
        each = tally.blocked_secs / tally.saves
        return f'{tally.blocked_secs:.3f} s of training in all{share}; ' \
            f'{each * 1e3:.1f} ms a save, ' \
            f'at most {tally.longest_blocked_secs * 1e3:.1f} ms'

    def _wrote(self) -> str:
        tally = self.tally
        rate = f' at {tally.bytes / 1e6 / tally.durable_secs:.1f} MB/s' \
            if tally.durable_secs > 0 else ''
        each = tally.durable_secs / tally.saves
        return f'{logged_size(tally.bytes)}{rate}; durable after ' \
            f'{each:.3f} s, at most {tally.longest_durable_secs:.3f} s'


def _there(place: PlaceContent) -> str:
    more = ' and ' + counted(place.second_names, 'second names') \
        if place.second_names else ''
    return f'{counted(place.count, "checkpoints")} of this run{more}, ' \
        f'{logged_size(place.bytes)}, in {place.url}'


def _step(info: CheckpointInfo) -> str:
    epochs = f'{counted(info.epoch, "epochs")} and ' if info.epoch else ''
    return f'{info.name}: {epochs}{counted(info.iter, "iterations")}'
