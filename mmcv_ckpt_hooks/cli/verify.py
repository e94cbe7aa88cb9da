"""``mmcv-ckpt verify``: whether checkpoints are complete and undamaged."""
import argparse
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, Dict, List, Sequence, Tuple

from ..catalog import CATALOG_NAME
from ..errors import (CheckpointError, IntegrityError, MissingCheckpointError,
                      ResumeError, StorageError, UnsafeCheckpointError,
                      UnverifiableError)
from ..scanning import verify_loadable
from ..storage.mapped_errors import mapped_errors
from .output import (add_json, count_text, print_json, print_line, size_text,
                     status, warn)
from .place import Place, Places, is_directory, path_of, split_path
from .progress import progress_of
from .remote import Access, add_access
from .repair import repair_catalog, repair_text

EXIT_DAMAGED = 1
EXIT_MISSING = 2
EXIT_UNSAFE = 3

_OK = 'ok'
_DAMAGED = 'damaged'
_UNVERIFIABLE = 'unverifiable'
_UNSAFE = 'unsafe'
_NOT_CHECKED = 'not checked'

#: Exit codes by status, the gravest first.
_EXIT_CODES = {
    _DAMAGED: EXIT_DAMAGED,
    _UNVERIFIABLE: EXIT_DAMAGED,
    _UNSAFE: EXIT_UNSAFE,
    _NOT_CHECKED: EXIT_MISSING,
    _OK: 0,
}

#: Device and inode, or URL and name.
_Identity = Tuple[Any, Any]


@dataclass(frozen=True)
class Target:
    """One file to check.

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
        digest (str): ``sha256-zipdir:<hex>``.
        same_as (str): Path under which the same file was checked before;
            empty if none.
        error (str): Class of the error; empty if all is well.
        problem (str): What it says.
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


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'verify',
        help='check that checkpoints are complete and undamaged',
        description='Checks the structure of a checkpoint, the CRC-32 of '
        'every record and, where a catalog (checkpoints.json) lists it, its '
        'digest; then whether its pickle names something that loading would '
        'refuse. Nothing is unpickled.',
        epilog='Exit code: 0 all is good; 1 something is damaged, or has a '
        'format without checksums (torch < 1.6); 2 wrong usage, or nothing '
        'is damaged, but something is missing or may not be read; 3 nothing '
        'is damaged, but something ("unsafe") could run code when it is '
        'loaded, and needs trust_checkpoint.')
    parser.add_argument(
        'paths',
        metavar='PATH',
        nargs='+',
        help='a checkpoint; or a directory, which means the newest in it; or '
        'the URL of one')
    parser.add_argument(
        '--all',
        action='store_true',
        help='of a directory, check every checkpoint')
    parser.add_argument(
        '--repair-catalog',
        action='store_true',
        help='before, bring checkpoints.json up to date with the files, '
        'where it is lost or a file was replaced on purpose; refused while a '
        'run writes there')
    add_json(parser)
    add_access(parser)
    parser.set_defaults(
        run=run,
        nothing=lambda given: {
            'paths': given.paths,
            'checked': [],
            'repaired': {}
        })


def run(arguments: argparse.Namespace) -> int:
    """Check all that was named, whatever is found on the way.

    Returns:
        int: The exit code.

    Raises:
        StorageError: If a catalog cannot be repaired.
    """
    places = Places(Access(arguments), warn)
    targets, outcomes = _select(places, arguments.paths, arguments.all)
    repaired = {}
    if arguments.repair_catalog:
        for place in {id(one.place): one.place for one in targets}.values():
            path = place.path(CATALOG_NAME)
            repaired[path] = repair_catalog(place)
            if not arguments.json:
                print_line(f'{path}: {repair_text(repaired[path])}')
    checked: Dict[_Identity, Outcome] = {}
    for target in targets:
        outcome = _check(target, checked)
        outcomes.append(outcome)
        if outcome.status == _NOT_CHECKED:
            continue  # it was told
        if not arguments.json:
            print_line(_outcome_text(outcome))
        elif outcome.problem:
            warn(outcome.problem)
    gravest = _gravest(outcomes)
    code = _EXIT_CODES[gravest.status]
    if arguments.json:
        summary = _summary(outcomes) if code else ''
        print_json({
            'paths':
            arguments.paths,
            **status(code), 'error':
            gravest.error,
            'problem':
            gravest.problem if len(outcomes) == 1 else summary,
            'checked': [{
                **asdict(outcome), 'ok': outcome.status == _OK
            } for outcome in outcomes],
            'repaired':
            repaired
        })
    elif len(outcomes) > 1:
        print_line(_summary(outcomes))
    return code


# -- what to check ---------------------------------------------------------


def _select(places: Places, paths: Sequence[str],
            everything: bool) -> Tuple[List[Target], List[Outcome]]:
    """Return what to check, and an outcome for what cannot be."""
    targets: List[Target] = []
    failures = []
    for path in paths:
        try:
            targets += _targets(places, path, everything)
        except CheckpointError as error:
            warn(str(error))
            failures.append(_failure(path, _NOT_CHECKED, error))
    return targets, failures


def _targets(places: Places, given: str, everything: bool) -> List[Target]:
    path = path_of(given)
    if not is_directory(path):
        directory, name = split_path(path)
        return [Target(given, _place_of_file(places, directory), name)]
    place = places.open(path)
    newest = place.newest()
    if newest is None:
        raise MissingCheckpointError(f'{path} holds no checkpoints')
    infos = place.checkpoints if everything else [newest]
    return [Target(place.path(info.name), place, info.name) for info in infos]


def _place_of_file(places: Places, directory: str) -> Place:
    """Open the directory of a file, which can be checked without a catalog."""
    try:
        return places.open(directory)
    except MissingCheckpointError:
        raise
    except (ResumeError, StorageError) as error:
        warn(f'checked without the catalog: {error}')
        return places.without_catalog(directory)


# -- checking --------------------------------------------------------------


def _check(target: Target, checked: Dict[_Identity, Outcome]) -> Outcome:
    """Check one file.

    Args:
        target (Target): The file.
        checked (dict): Outcomes by what tells a file from another; a hard
            link of one that was found good is not read again.
    """
    known = target.place.catalog.find(target.name)
    digest = known.digest if known is not None else ''
    try:
        with target.place.files.open(target.name) as file:
            key = _identity(target, file)
            same = checked.get(key)
            if same is not None and digest in ('', same.digest):
                return replace(same, path=target.shown, same_as=same.path)
            size = file.seek(0, os.SEEK_END)
            began = time.perf_counter()
            with mapped_errors('cannot read', target.shown), \
                    progress_of(target.shown, size) as advance:
                report = verify_loadable(file, target.shown, digest, advance)
            secs = time.perf_counter() - began
    except UnverifiableError as error:
        return _failure(target.shown, _UNVERIFIABLE, error)
    except IntegrityError as error:
        return _failure(target.shown, _DAMAGED, error)
    except UnsafeCheckpointError as error:
        return _failure(target.shown, _UNSAFE, error)
    except CheckpointError as error:
        warn(str(error))
        return _failure(target.shown, _NOT_CHECKED, error)
    outcome = Outcome(target.shown, _OK, report.bytes, report.records, secs,
                      report.digest)
    checked[key] = outcome
    return outcome


def _identity(target: Target, file: IO[bytes]) -> _Identity:
    if not target.place.is_local:
        return target.place.files.url, target.name
    there = os.fstat(file.fileno())
    return there.st_dev, there.st_ino


def _failure(path: str, status: str, error: CheckpointError) -> Outcome:
    return Outcome(
        path, status, error=type(error).__name__, problem=str(error))


def _gravest(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome that the exit code is about."""
    order = list(_EXIT_CODES)
    return min(outcomes, key=lambda outcome: order.index(outcome.status))


# -- how it is shown -------------------------------------------------------


def _outcome_text(outcome: Outcome) -> str:
    if outcome.status != _OK:
        return f'{outcome.status:<13}{outcome.problem}'
    size = size_text(outcome.bytes)
    if outcome.same_as:
        return (f'{_OK:<13}{outcome.path}: {size}, the same file as '
                f'{outcome.same_as}')
    rate = size_text(outcome.bytes / max(outcome.secs, 1e-9))
    return (f'{_OK:<13}{outcome.path}: {size}, '
            f'{count_text(outcome.records, "record")}, {rate}/s')


def _summary(outcomes: Sequence[Outcome]) -> str:
    counts = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in (_OK, _DAMAGED, _UNVERIFIABLE, _UNSAFE, _NOT_CHECKED)
    }
    return ', '.join(f'{count} {status}' for status, count in counts.items()
                     if count)
