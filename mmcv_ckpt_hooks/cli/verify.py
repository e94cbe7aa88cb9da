"""``mmcv-ckpt verify``: whether checkpoints are complete and undamaged."""
import argparse
from dataclasses import asdict
from typing import Any, Dict, List, Sequence, Tuple

from ..catalog import CATALOG_NAME
from ..errors import (CheckpointError, MissingCheckpointError, ResumeError,
                      StorageError)
from ..folders.place import leads_to_folder
from ..given_path import refuse_part
from .checks import Identity, check
from .elsewhere import those_below
from .outcomes import (DAMAGED, NOT_CHECKED, OK, UNSAFE, UNVERIFIABLE, Amount,
                       Outcome, Target, amount_of, amount_text, failure_of,
                       outcome_text, summary_of)
from .output import add_json, print_json, print_line, status, warn
from .place import Place, Places, is_directory, path_of, split_path
from .remote import Access, add_access
from .repair import repair_catalog, repair_text
from .unfinished import unfinished_in
from .verified import Notes

EXIT_DAMAGED = 1
EXIT_MISSING = 2
EXIT_UNSAFE = 3

#: Exit codes by status, the gravest first.
_EXIT_CODES = {
    DAMAGED: EXIT_DAMAGED,
    UNVERIFIABLE: EXIT_DAMAGED,
    UNSAFE: EXIT_UNSAFE,
    NOT_CHECKED: EXIT_MISSING,
    OK: 0,
}


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'verify',
        help='check that checkpoints are complete and undamaged',
        description='Checks the structure of a checkpoint, the CRC-32 of '
        'every record and, where a catalog (checkpoints.json) lists it, its '
        'digest; then whether its pickle names something that loading would '
        'refuse. Nothing is unpickled. When that was, and of which state of '
        'a file, is noted beside it (checkpoints.verified.json) for '
        '"mmcv-ckpt ls".',
        epilog='Exit code: 0 all is good; 1 something is damaged, or has a '
        'format without checksums (torch < 1.6); 2 wrong usage, or nothing '
        'is damaged, but something is missing or may not be read; 3 nothing '
        'is damaged, but something ("unsafe") could run code when it is '
        'loaded, and needs trust_checkpoint.')
    parser.add_argument(
        'paths',
        metavar='PATH',
        nargs='+',
        help='a checkpoint, also a sharded one (a folder) or a .safetensors; '
        'or a directory, which means the newest in it; or the URL of one')
    parser.add_argument(
        '--all',
        action='store_true',
        help='of a directory, check every checkpoint; a folder without its '
        '.metadata is damaged, one that a run is writing is only told')
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
            'unfinished': {},
            'repaired': {},
            **asdict(Amount())
        })


def run(arguments: argparse.Namespace) -> int:
    """Check all that was named, whatever is found on the way.

    Returns:
        int: The exit code.

    Raises:
        StorageError: If a catalog cannot be repaired.
    """
    places = Places(Access(arguments), warn)
    targets, outcomes, unfinished = _select(places, arguments.paths,
                                            arguments.all)
    repaired = {}
    if arguments.repair_catalog:
        for place in {id(one.place): one.place for one in targets}.values():
            path = place.path(CATALOG_NAME)
            repaired[path] = repair_catalog(place)
            if not arguments.json:
                print_line(f'{path}: {repair_text(repaired[path])}')
    checked: Dict[Identity, Outcome] = {}
    notes = Notes(warn)
    for number, target in enumerate(targets, 1):
        notes.begin(target.place, target.name)
        of = f' ({number} of {len(targets)})' if len(targets) > 1 else ''
        outcome = check(target, checked, places, of)
        notes.end(outcome.status)
        outcomes.append(outcome)
        if outcome.status == NOT_CHECKED:
            continue  # it was told
        if not arguments.json:
            print_line(outcome_text(outcome))
        elif outcome.problem:
            warn(outcome.problem)
    gravest = _gravest(outcomes)
    code = _EXIT_CODES[gravest.status]
    amount = amount_of(outcomes)
    if arguments.json:
        summary = summary_of(outcomes) if code else ''
        print_json({
            'paths':
            arguments.paths,
            **status(code), 'error':
            gravest.error,
            'problem':
            gravest.problem if len(outcomes) == 1 else summary,
            'checked': [{
                **asdict(outcome), 'ok': outcome.status == OK
            } for outcome in outcomes],
            'unfinished':
            unfinished,
            'repaired':
            repaired,
            **asdict(amount)
        })
    elif len(outcomes) > 1:
        print_line(f'{summary_of(outcomes)}; {amount_text(amount)}')
    # INVARIANT: last: no note costs the result of a long check
    notes.write()
    return code


# -- what to check ---------------------------------------------------------


def _select(
        places: Places, paths: Sequence[str], everything: bool
) -> Tuple[List[Target], List[Outcome], Dict[str, str]]:
    """Return what to check, an outcome for what cannot be, and what is no
    checkpoint yet, by its path.
    """
    targets: List[Target] = []
    failures = []
    unfinished: Dict[str, str] = {}
    for path in paths:
        try:
            targets += _targets(places, path, everything, unfinished)
        except CheckpointError as error:
            warn(str(error))
            failures.append(failure_of(path, NOT_CHECKED, error))
    return targets, failures, unfinished


def _targets(places: Places, given: str, everything: bool,
             unfinished: Dict[str, str]) -> List[Target]:
    path = path_of(given)
    refuse_part(path)
    of_folder = leads_to_folder(path)
    if of_folder:
        path = path.rstrip('/')
    if not is_directory(path) or of_folder:
        directory, name = split_path(path)
        return [Target(given, _place_of_file(places, directory), name)]
    place = places.open(path)
    newest, folders = place.newest(), unfinished_in(place)
    # one that has lost a small file may be the newest
    names = [] if newest is None else [newest.name, *folders.incomplete]
    if everything:
        names = [info.name for info in place.checkpoints]
        names += folders.incomplete
        for name, problem in folders.unfinished.items():
            unfinished[place.path(name)] = problem
            warn(f'not checked: {problem}')
    if not names:
        below = filter(None, [those_below(place, places.access)])
        said = [*folders.incomplete.values(), *folders.unfinished.values()]
        raise MissingCheckpointError('; '.join(
            [f'{path} holds no checkpoints', *said, *below]))
    return [Target(place.path(name), place, name) for name in names]


def _place_of_file(places: Places, directory: str) -> Place:
    """Open the directory of a file, which can be checked without a catalog."""
    try:
        return places.open(directory)
    except MissingCheckpointError:
        raise
    except (ResumeError, StorageError) as error:
        warn(f'checked without the catalog: {error}')
        return places.without_catalog(directory)


def _gravest(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome that the exit code is about."""
    order = list(_EXIT_CODES)
    return min(outcomes, key=lambda outcome: order.index(outcome.status))
