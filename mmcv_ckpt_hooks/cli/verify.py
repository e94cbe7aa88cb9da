"""``mmcv-ckpt verify``: whether checkpoints are complete and undamaged."""
import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import IO, Any, Dict, List, Optional, Sequence, Tuple

from ..card import describe
from ..catalog import CATALOG_NAME
from ..errors import (CheckpointError, IntegrityError, MissingCheckpointError,
                      UnverifiableError)
from ..types import CheckpointInfo
from ..verification import VerifyReport, verify_file
from .output import count_text, print_json, print_line, size_text, warn
from .place import Place, Places, is_directory, local_path
from .progress import progress_of

EXIT_DAMAGED = 1
EXIT_MISSING = 2

_OK = 'ok'
_DAMAGED = 'damaged'
_UNVERIFIABLE = 'unverifiable'
_NOT_CHECKED = 'not checked'


@dataclass(frozen=True)
class Target:
    """One file to check, as it was named and as it is.

    Args:
        shown (str): For messages.
        place (Place): Its directory.
        name (str): Its name there.
    """
    shown: str
    place: Place
    name: str


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Args:
        path (str): As it was given.
        status (str): ``'ok'``, ``'damaged'``, ``'unverifiable'`` (a format
            without checksums) or ``'not checked'``.
        bytes (int): Size of the file.
        records (int): Records whose CRC-32 was checked.
        secs (float): How long that took.
        digest (str): ``sha256-zipdir:<hex>``.
        same_as (str): Path of the file that was read, if this one is another
            name of it.
        error (str): Class of the error; empty if all is well.
        message (str): The error.
    """
    path: str
    status: str
    bytes: int = 0
    records: int = 0
    secs: float = 0.
    digest: str = ''
    same_as: str = ''
    error: str = ''
    message: str = ''


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'verify',
        help='check that checkpoints are complete and undamaged',
        description='Checks the structure, the CRC-32 of every record and, '
        'where a catalog (checkpoints.json) lists the file, its digest. '
        'Nothing is unpickled.',
        epilog='Exit code: 0 everything is good; 1 something is damaged, or '
        'has a format without checksums (torch < 1.6); 2 wrong usage, or '
        'something is missing or may not be read, and nothing is damaged.')
    parser.add_argument(
        'paths',
        metavar='PATH',
        nargs='+',
        help='a checkpoint, or a directory: the newest in it')
    parser.add_argument(
        '--all',
        action='store_true',
        help='in a directory, check every checkpoint')
    parser.add_argument(
        '--repair-catalog',
        action='store_true',
        help='first bring the checkpoints.json of the directories up to date '
        'with their files, for those that were replaced on purpose or where '
        'it is lost; not while a run writes there')
    parser.add_argument(
        '--json', action='store_true', help='print one JSON object')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check what was named, all of it, whatever is found.

    Returns:
        int: The exit code.
    """
    say = (lambda text: None) if arguments.json else print_line
    targets, outcomes = _select(arguments.paths, arguments.all)
    repaired = {}
    if arguments.repair_catalog:
        for place in _places_of(targets):
            names = repair_catalog(place)
            path = place.path(CATALOG_NAME)
            repaired[path] = names
            say(f'{path}: {_repair_text(names)}')
    checker = _Checker()
    for outcome in outcomes:
        warn(outcome.message)
    for target in targets:
        outcome = checker.check(target)
        outcomes.append(outcome)
        say(_outcome_text(outcome))
    code = _exit_code(outcomes)
    if arguments.json:
        print_json({
            'exit_code': code,
            'checked': [asdict(outcome) for outcome in outcomes],
            'repaired': repaired,
        })
    elif len(outcomes) > 1:
        say(_summary(outcomes))
    return code
