"""What checking a checkpoint has found, and how it is told."""
from dataclasses import dataclass
from typing import Sequence

from ..errors import CheckpointError
from ..wording import counted, size_text
from .place import Place

OK = 'ok'
DAMAGED = 'damaged'
UNVERIFIABLE = 'unverifiable'
UNSAFE = 'unsafe'
NOT_CHECKED = 'not checked'


@dataclass(frozen=True)
class Target:
    """One file, or folder, to check.

    Args:
        shown (str): Its path as it was given.
        place (Place): The directory that it is in.
        name (str): Its name there: links are followed.
    """
    shown: str
    place: Place
    name: str


@dataclass(frozen=True)
class Outcome:
    """What was found of one file.

    Args:
        path (str): As it was given.
        status (str): ``'ok'``, ``'damaged'``, ``'unverifiable'`` (a format
            without checksums), ``'unsafe'`` (undamaged, but loading it could
            run code) or ``'not checked'``.
        bytes (int): Size of the file.
        records (int): Records whose CRC-32 was checked.
        secs (float): How long that took.
        digest (str): ``sha256-zipdir:<hex>``, of a folder
            ``sha256-manifest:<hex>``; empty if it has none.
        same_as (str): Path under which the same file was checked before;
            empty if none.
        error (str): Class of the error; empty if all is well.
        problem (str): What it says.
        note (str): What could not be checked; empty if nothing.
    """
    path: str
    status: str
    bytes: int = 0
    records: int = 0
    secs: float = 0.
    digest: str = ''
    same_as: str = ''
    error: str = ''
    problem: str = ''
    note: str = ''


@dataclass(frozen=True)
class Amount:
    """What was read.

    Args:
        bytes (int): Of all that was found good, second names not counted.
            Default: 0.
        secs (float): How long that took. Default: 0.
    """
    bytes: int = 0
    secs: float = 0.


def amount_of(outcomes: Sequence[Outcome]) -> Amount:
    read = [one for one in outcomes if one.status == OK and not one.same_as]
    return Amount(
        sum(one.bytes for one in read), sum(one.secs for one in read))


def amount_text(amount: Amount) -> str:
    rate = size_text(amount.bytes / max(amount.secs, 1e-9))
    return f'{size_text(amount.bytes)} in {amount.secs:.2f} s, {rate}/s'


def failure_of(path: str, status: str, error: CheckpointError) -> Outcome:
    return Outcome(
        path, status, error=type(error).__name__, problem=str(error))


def outcome_text(outcome: Outcome) -> str:
    if outcome.status != OK:
        return f'{outcome.status:<13}{outcome.problem}'
    if outcome.same_as:
        return (f'{OK:<13}{outcome.path}: {size_text(outcome.bytes)}, the '
                f'same file as {outcome.same_as}')
    return (f'{OK:<13}{outcome.path}: {counted(outcome.records, "records")}, '
            f'{amount_text(amount_of([outcome]))}' +
            (f'; {outcome.note}' if outcome.note else ''))


def summary_of(outcomes: Sequence[Outcome]) -> str:
    counts = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in (OK, DAMAGED, UNVERIFIABLE, UNSAFE, NOT_CHECKED)
    }
    return ', '.join(f'{count} {status}' for status, count in counts.items()
                     if count)
