"""``mmcv-ckpt push``: the checkpoints of a run, copied to its mirror."""
import argparse
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ..catalog import CATALOG_NAME
from ..errors import (AccessError, CheckpointError, ConfigError,
                      IntegrityError, TruncatedError)
from ..folders.place import leads_to_folder
from ..guarded import lock_of
from ..lease import Owner
from ..mirroring import MirrorPlace
from ..sending import Gone
from ..storage.local import LocalBackend
from ..types import CheckpointInfo
from .destination import destination
from .left_out import left_out
from .output import add_json, print_json, print_line, size_text, status, warn
from .place import Place, Places, is_directory, path_of
from .progress import progress_of
from .remote import Access, add_access, is_url
from .unfinished import unfinished_in

EXIT_DAMAGED = 1
EXIT_FAILED = 2

_COPIED = 'copied'
_SKIPPED = 'skipped'
_FAILED = 'failed'
#: What --json has of a directory that could not be pushed.
_NOTHING: Dict[str, Any] = {'url': '', 'endpoint': '', 'checkpoints': []}


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


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'push',
        help='copy the checkpoints of a directory to its mirror',
        description='Copies what the mirror of a run does not have yet, the '
        'newest first, each checked against its checksums on the way. The '
        "mirror gets a catalog, so that out_dir, resume='auto' and "
        'find_resumable work there. Nothing is deleted. What is not of the '
        'last run in the directory is skipped, and told.',
        epilog='Credentials come from the environment or the profile. Exit '
        'code: 0 everything of the run is there; 1 something in the directory '
        'is damaged, or a folder without its .metadata, and not copied; 2 '
        'wrong usage, a run is writing there, or nothing is damaged, but '
        'something could not be copied.')
    parser.add_argument(
        'directory', metavar='DIR', help='directory of checkpoints')
    parser.add_argument(
        'url',
        metavar='URL',
        nargs='?',
        help='the directory to copy to, such as s3://bucket/prefix/name '
        '(default: the mirror of the run that wrote DIR, of which only what '
        'that mirror keeps is copied)')
    add_access(parser)
    add_json(parser)
    parser.set_defaults(
        run=run, nothing=lambda given: {
            'path': given.directory,
            **_NOTHING
        })


def run(arguments: argparse.Namespace) -> int:
    """Copy what is missing.

    Returns:
        int: The exit code.

    Raises:
        ConfigError: If there is nothing to copy from or to.
        StorageError: If one of the places cannot be used.
    """
    path = path_of(arguments.directory)
    if is_url(path):
        raise ConfigError(f'{path} is no local path: a push goes from a local '
                          'directory to its mirror')
    if not is_directory(path):
        raise ConfigError(f'{path} is a file, expected a directory of '
                          'checkpoints')
    if leads_to_folder(path):
        raise ConfigError(f'{path} is a sharded checkpoint, expected a '
                          'directory of checkpoints: all of it is copied')
    access = Access(arguments)
    with _left_alone(LocalBackend(path)) as dead:
        place = Places(access, warn).open(path)
        mirror, endpoint, told = destination(place, arguments.url, access)
        if arguments.json:
            warn(told)
        else:
            print_line(told)
            sys.stdout.flush()  # before anything is sent
        if mirror.lock is not None:
            mirror.lock.known_dead = dead
        try:
            mirror.open()
            outcomes = _push(place, mirror, arguments.json)
        finally:
            mirror.release()
    code = _exit_code(outcomes)
    if arguments.json:
        first = next((one for one in outcomes if one.error), None)
        print_json({
            'path': arguments.directory,
            **status(code), 'error': '' if first is None else first.error,
            'problem': '' if first is None else first.problem,
            'url': mirror.url,
            'endpoint': endpoint,
            'checkpoints': [asdict(one) for one in outcomes]
        })
    else:
        print_line(_summary(outcomes, mirror.url))
    return code


@contextmanager
def _left_alone(files: LocalBackend) -> Iterator[Optional[Owner]]:
    """Keep runs out of a directory, which copy to the same mirror.

    Yields:
        Owner | None: The run that died there.
    """
    lock = lock_of(files, CATALOG_NAME, warn)
    assert lock is not None  # it is local
    try:
        lock.acquire()
    except AccessError:
        pass  # it can be read only: so it is for runs
    try:
        yield lock.dead
    finally:
        lock.release()


def _push(place: Place, mirror: MirrorPlace, quiet: bool) -> List[Outcome]:
    run = place.catalog
    mirror.catalog.lineage = run.lineage
    missing = mirror.missing(run)
    outcomes = [
        _skipped(info, mirror) for info in run.owned() if info not in missing
    ]
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


def _exit_code(outcomes: List[Outcome]) -> int:
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
        print_line(f'{outcome.status:<9}{outcome.name}: {why}')


def _summary(outcomes: List[Outcome], url: str) -> str:
    copied, skipped, failed = (
        sum(one.status == what for one in outcomes)
        for what in (_COPIED, _SKIPPED, _FAILED))
    return f'{url}: {copied} copied, {skipped} skipped, {failed} failed'
