"""``mmcv-ckpt report``: what a run has done, as one HTML page."""
import argparse
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..bounded_lines import MOST_BYTES
from ..errors import ConfigError
from ..folders.folder import incomplete
from ..folders.place import leads_to_folder
from ..history import HISTORY_NAME, open_history
from ..reporting.drawing import need_matplotlib
from ..reporting.page import MARK, page
from ..reporting.story import Facts, Resume, Story, tell
from ..storage.mapped_errors import mapped_errors
from ..storage.names import temporary_beside
from .elsewhere import noted_elsewhere, those_below
from .listing import Listing, look
from .output import add_json, print_json, print_line, status, warn, write
from .place import Place, Places, is_directory, path_of
from .remote import Access, add_access
from .run_logs import logs_of
from .set_aside import set_aside_in
from .unfinished import unfinished_in

_DEFAULT_NAME = 'report.html'
_TO_OUTPUT = '-'
#: What --json has of a directory that cannot be looked at.
_NOTHING: Dict[str, Any] = {'page': None, **Story(Facts('')).as_json()}

_EPILOG = (
    'The history (checkpoints.log.jsonl) tells when starts began and how they '
    'ended, what was saved, what it cost and what was deleted; the catalog '
    'what is there; the logs of mmcv (*.log.json, and the *.log beside them) '
    'how far a start that was killed came, the loss, and what it warned of. '
    'What one of them lacks, the page says. '
    'The page loads nothing and runs nothing. Needs matplotlib (pip install '
    "'mmcv_ckpt_hooks[report]'), except with --json alone. Exit code: 0, also "
    'without checkpoints (above several runs it names their directories, and '
    'writes no page); 2 if the directory is missing or may not be read, '
    'the page cannot be written, or matplotlib is missing.')


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'report',
        help='write a page about a run: steps, costs, scores, what is kept',
        description='Writes one HTML page about the runs of a directory: '
        'what is there and what a resume would take, steps over time with '
        'kills and resumes, what each save cost, bytes on the disk, scores '
        'with the checkpoints that are kept.',
        epilog=_EPILOG)
    parser.add_argument(
        'directory',
        metavar='DIR',
        nargs='?',
        default='.',
        help='directory of checkpoints, or a URL (default: the current '
        'directory)')
    parser.add_argument(
        '-o',
        '--output',
        metavar='FILE',
        help=f'where the page goes (default: {_DEFAULT_NAME}, in the current '
        'directory; - for the standard output)')
    parser.add_argument(
        '--logs',
        metavar='DIR',
        help='the work dir that has the logs of mmcv (default: DIR, or where '
        'a URL has them)')
    add_json(parser)
    add_access(parser)
    parser.set_defaults(
        run=run, nothing=lambda given: {
            'path': given.directory,
            **_NOTHING
        })


def run(arguments: argparse.Namespace) -> int:
    """Write a page.

    Returns:
        int: 0.

    Raises:
        StorageError: If the directory cannot be read, or the page not be
            written.
        ConfigError: If it is no directory, or the page would replace what is
            none.
        DependencyError: If matplotlib is missing.
    """
    path = path_of(arguments.directory)
    if not is_directory(path) or leads_to_folder(path):
        raise ConfigError(f'{path} is a checkpoint, expected a directory of '
                          'checkpoints')
    target = _target(arguments)
    if target is not None:
        need_matplotlib()  # before anything is read
    notes: List[str] = []

    def note(text: str) -> None:
        warn(text)
        notes.append(text)

    places = Places(Access(arguments), note, MOST_BYTES)
    listing = look(places.open(path))
    facts = _facts(arguments, listing, places, notes)
    below = _runs_below(facts, listing.place, places)
    if below:
        target = None
    story = tell(facts)
    if target is not None:
        _write(target, page(story))
    if arguments.json:
        print_json({
            'path': arguments.directory,
            **status(0), 'page': target,
            **story.as_json()
        })
    elif below:
        # the standard output may be meant for the page
        say = warn if arguments.output == _TO_OUTPUT else print_line
        say(f'No checkpoints in {listing.place.shown}, and no page is written')
        say(f'But {below}')
    elif target != _TO_OUTPUT:
        print_line(f'{target}: the report of {listing.place.shown}')
    return 0


# -- what is read ----------------------------------------------------------


def _facts(arguments: argparse.Namespace, listing: Listing, places: Places,
           notes: List[str]) -> Facts:
    place, choice = listing.place, listing.choice
    folders = unfinished_in(place)
    notes += [*folders.incomplete.values(), *folders.unfinished.values()]
    notes += set_aside_in(place).values()
    refused = {name: one.why for name, one in listing.refused.items()}
    if not listing.checkpoints and place.is_local and noted_elsewhere(place):
        notes.append(noted_elsewhere(place).replace('ckpt ls', 'ckpt report'))
    passed_over = {name: one.why for name, one in choice.refused.items()}
    return Facts(
        place=place.files.url,
        is_local=place.is_local,
        checkpoints=listing.checkpoints,
        flags=listing.flags,
        problems={
            **refused,
            **listing.away
        },
        bytes=listing.bytes,
        lineage=listing.lineage,
        best=place.best_scores(),
        resume=Resume(choice.taken, choice.stops_at or _stops_at(listing),
                      passed_over),
        events=_events(place, notes),
        logs=logs_of(arguments.logs, place, places, notes),
        notes=notes)


def _runs_below(facts: Facts, place: Place, places: Places) -> str:
    """Say which directories below have runs, if this one has nothing to tell.
    """
    if facts.checkpoints or facts.events or facts.logs or facts.notes or \
            facts.resume.stops_at is not None:
        return ''
    return those_below(place, places.access)


def _stops_at(listing: Listing) -> Optional[str]:
    """Return an incomplete folder over which no run begins anew, or None."""
    if listing.checkpoints:
        return None
    return next(iter(incomplete(listing.place.files)), None)


def _events(place: Place, notes: List[str]) -> Sequence[Mapping[str, Any]]:

    def note(text: str) -> None:
        warn(text)
        notes.append(text)

    try:
        return open_history(place.catalog.home).read(note, MOST_BYTES)
    except OSError as error:
        note(f'{HISTORY_NAME} cannot be read ({error})')
        return []


# -- where it goes ---------------------------------------------------------


def _target(given: argparse.Namespace) -> Optional[str]:
    """Return where the page goes; None if only the data are wanted.

    Raises:
        ConfigError: If it would replace what is no page.
    """
    if given.output is None:
        if given.json:
            return None
        if os.path.lexists(_DEFAULT_NAME) and not _is_page(_DEFAULT_NAME):
            raise ConfigError(
                f'{_DEFAULT_NAME} is there, and no report of mmcv-ckpt: '
                '-o FILE says where the page goes')
        return _DEFAULT_NAME
    if given.output == _TO_OUTPUT:
        if given.json:
            raise ConfigError('-o - and --json would both print: give -o a '
                              'file')
        return _TO_OUTPUT
    target: str = os.path.expanduser(given.output)
    if not target.lower().endswith(('.html', '.htm')):
        # a slip must not cost a checkpoint
        raise ConfigError(f'-o {given.output} must end in .html')
    return target


def _is_page(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with mapped_errors('cannot read', path), open(path, 'rb') as file:
        return file.read(len(MARK)) == MARK.encode()


def _write(target: str, text: str) -> None:
    if target == _TO_OUTPUT:
        write(text)
        return
    temporary = temporary_beside(target)
    with mapped_errors('cannot write', target):
        try:
            with open(temporary, 'x', encoding='utf-8') as file:
                file.write(text)
            os.replace(temporary, target)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
