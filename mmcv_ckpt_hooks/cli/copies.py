"""Checkpoints of one place copied to another, and what became of each."""
from dataclasses import asdict, dataclass
from typing import Any, Collection, Dict, List, Optional, Tuple

from ..errors import CheckpointError, IntegrityError, TruncatedError
from ..mirroring import MirrorPlace
from ..sending import Gone
from ..types import CheckpointInfo
from ..wording import rate_text, size_text
from .left_out import left_out
from .output import print_line, status, warn
from .place import Place
from .progress import WORTH_A_BAR_BYTES, progress_of
from .unfinished import unfinished_in

EXIT_DAMAGED = 1
EXIT_FAILED = 2

_COPIED = 'copied'
_SKIPPED = 'skipped'
_FAILED = 'failed'


@dataclass(frozen=True)
class Outcome:
    """What became of one checkpoint.

    Args:
        name (str): Its name.
        status (str): ``'copied'``, ``'skipped'`` or ``'failed'``.
        bytes (int): Size of the file.
        secs (float): How long the copy took.
        why (str): Why it was skipped, or of what it is a copy there.
        error (str): Class of the error; empty if all is well.
        problem (str): What it says.
    """
    name: str
    status: str
    bytes: int
    secs: float = 0.
    why: str = ''
    error: str = ''
    problem: str = ''


def copy_all(place: Place,
             mirror: MirrorPlace,
             quiet: bool,
             only: Optional[Collection[str]] = None) -> List[Outcome]:
    """Copy what the other place lacks of a run, the newest first.

    Args:
        place (Place): Where from.
        mirror (MirrorPlace): Where to; open.
        quiet (bool): Whether only failures are told.
        only (collection[str], optional): Names of what to copy. Default:
            None, which means all that the other place keeps.
    """
    run = place.catalog
    mirror.catalog.lineage = run.lineage
    owned = [info for info in run.owned() if only is None or info.name in only]
    missing = [info for info in mirror.missing(run) if info in owned]
    outcomes = [
        _skipped(info, mirror) for info in owned if info not in missing
    ]
    if only is None:
        outcomes += _passed_over(place)
    for one in outcomes:
        _tell(one, quiet)
    for number, info in enumerate(missing):
        outcome, goes_on = _copy(place, mirror, info)
        outcomes.append(outcome)
        _tell(outcome, quiet)
        if not goes_on:
            outcomes += [
                Outcome(
                    rest.name,
                    _FAILED,
                    rest.bytes,
                    error=outcome.error,
                    problem='not tried: the copy before failed')
                for rest in missing[number + 1:]
            ]
            break
    mirror.follow(run, prunes=False)
    return outcomes


def _skipped(info: CheckpointInfo, mirror: MirrorPlace) -> Outcome:
    if not mirror.takes(info.name):
        why = f'{mirror.url} cannot hold sharded checkpoints'
    elif mirror.catalog.same(info) is None:
        why = 'the mirror does not keep it'
    else:
        why = 'it is there'
    return Outcome(info.name, _SKIPPED, info.bytes, why=why)


def _passed_over(place: Place) -> List[Outcome]:
    """Return what is there and cannot be copied, or is not the run's."""
    folders = unfinished_in(place)
    found = [
        Outcome(info.name, _SKIPPED, info.bytes, why=why)
        for info, why in left_out(place)
    ]
    found += [
        Outcome(name, _SKIPPED, 0, why=why)
        for name, why in folders.unfinished.items()
    ]
    return found + [
        Outcome(
            name, _FAILED, 0, error=TruncatedError.__name__, problem=problem)
        for name, problem in folders.incomplete.items()
    ]


def _copy(place: Place, mirror: MirrorPlace,
          info: CheckpointInfo) -> Tuple[Outcome, bool]:
    """Copy one; also return whether to go on with the others."""
    shown = place.path(info.name)
    try:
        with progress_of(shown, info.bytes) as advance:
            copied = mirror.add(
                info,
                place.files,
                advance or (lambda nbytes: None),
                prunes=False)
    except Gone as gone:
        return _failed(info, gone.error), True
    except CheckpointError as error:
        return _failed(info, error), isinstance(error, IntegrityError)
    why = copied.twin and f'a copy of {copied.twin} there'
    return Outcome(info.name, _COPIED, info.bytes, copied.secs, why), True


def _failed(info: CheckpointInfo, error: CheckpointError) -> Outcome:
    return Outcome(
        info.name,
        _FAILED,
        info.bytes,
        error=type(error).__name__,
        problem=str(error))


def exit_code(outcomes: List[Outcome]) -> int:
    """Return the exit code: the gravest failure."""
    failed = [one for one in outcomes if one.status == _FAILED]
    if any(one.error in _DAMAGES for one in failed):
        return EXIT_DAMAGED
    return EXIT_FAILED if failed else 0


#: Names of the errors of a damaged file.
_DAMAGES = {'IntegrityError'
            } | {kind.__name__
                 for kind in IntegrityError.__subclasses__()}


def _tell(outcome: Outcome, quiet: bool) -> None:
    if outcome.status == _FAILED:
        warn(f'{outcome.name} is not copied: {outcome.problem}')
    elif not quiet:
        why = outcome.why or f'{size_text(outcome.bytes)} in ' \
            f'{outcome.secs:.1f} s'
        if not outcome.why and outcome.bytes >= WORTH_A_BAR_BYTES:
            why += f', {rate_text(outcome.bytes, outcome.secs)}'
        print_line(f'{outcome.status:<9}{outcome.name}: {why}')


def content(outcomes: List[Outcome]) -> Dict[str, Any]:
    """Return what --json has of them, with the first failure."""
    first = next((one for one in outcomes if one.error), None)
    return {
        **status(exit_code(outcomes)), 'error':
        '' if first is None else first.error,
        'problem': '' if first is None else first.problem,
        'checkpoints': [asdict(one) for one in outcomes]
    }


def summary(outcomes: List[Outcome], url: str) -> str:
    """Say how many came to what."""
    copied, skipped, failed = (
        sum(one.status == what for one in outcomes)
        for what in (_COPIED, _SKIPPED, _FAILED))
    return f'{url}: {copied} copied, {skipped} skipped, {failed} failed'
