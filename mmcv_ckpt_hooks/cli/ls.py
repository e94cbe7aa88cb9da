"""``mmcv-ckpt ls``: what is in a directory, and what a resume would take."""
import argparse
from dataclasses import asdict
from typing import Any, Dict, List, Mapping

from ..bounded_lines import MOST_BYTES
from ..errors import ConfigError
from ..folders.folder import incomplete
from ..folders.place import leads_to_folder
from ..wording import counted, iso_time_text, size_text
from .cells import (count_text, flags_text, metrics_text, structure_of,
                    verified_text)
from .choice import DAMAGED, NEEDS_TRUST, NOT_RESUMABLE
from .elsewhere import noted_elsewhere, those_below
from .listing import Listing, look
from .output import (Column, add_json, print_json, print_line, print_table,
                     status, warn)
from .place import Place, Places, is_directory, path_of
from .remote import Access, add_access
from .set_aside import set_aside_in
from .unfinished import Unfinished, unfinished_in

_COLUMNS = (
    Column('name'),
    Column('iter', right=True),
    Column('epoch', right=True),
    Column('size', right=True),
    Column('metrics', wraps=True),
    Column('time (UTC)'),
    Column('verified'),
    Column('flags', wraps=True),
)
#: So many that are not damaged, and yet refused, are told why.
_SHOWN_REFUSALS = 3
#: What is said of what a resume takes, by the flag of the newest.
_NEWEST_THAT = {
    DAMAGED: 'the newest that is not damaged',
    NEEDS_TRUST: 'the newest that can be verified',
    NOT_RESUMABLE: 'the newest that a run can go on from',
}
#: What --json has of a directory that cannot be listed.
_NOTHING: Dict[str, Any] = {
    'directory': '',
    'lineage': '',
    'latest': None,
    'resume': None,
    'best': {},
    'checkpoints': [],
    **asdict(Unfinished()),
    'set_aside': {},
}

_EPILOG = (
    'A number of iterations or epochs that neither a file nor its name tells '
    'is "-". Verified: when "mmcv-ckpt verify" last read every byte of the '
    'file as it is now (UTC), "damaged" before it: and found it so; '
    '"structure" its zip directory was read, just '
    'now, and is as it was committed; "no" it is damaged; "-" not looked at. '
    'Flags: "resume" a run would continue from it; "latest" '
    'latest.pth, or latest.dcp, leads to it; "best KEY" it has the best '
    'score so far; "pinned" no policy of a run deletes it (--json says why); '
    '"link" a symbolic link that somebody made, never deleted; '
    '"link to PATH, which is not there" its disk may be away; "same as NAME" '
    'a second name of that file, or a copy; "superseded" the run went on '
    'from an earlier one; "other run" of the plugin; "not owned" of another '
    'program, or the catalog was lost: never deleted; "damaged" it cannot be '
    'used; "not resumable" undamaged, but without what a run needs to go on: '
    'load_from may take its weights; "needs trust_checkpoint" its format has '
    'no checksums (torch < 1.6), or loading it could run code: it is not '
    'loaded without that. Below the table: "incomplete" a folder without its '
    '.metadata; "not finished" one that a run is writing or removing, or was '
    'when it was killed; "set aside" what had a name that a run has written '
    'since: no run takes or deletes it. Exit code: 0, also without '
    'checkpoints, and for a URL under which there is nothing; 2 if the '
    'directory is missing or may not be read.')


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'ls',
        help='list the checkpoints of a directory',
        description='Lists the checkpoints of a directory, files (.pth) and '
        'sharded ones (folders, .dcp), by finished iterations, with their '
        "scores, and says which one a run with resume='auto' would continue "
        'from. Tensors are not read: "mmcv-ckpt verify" does that.',
        epilog=_EPILOG)
    parser.add_argument(
        'directory',
        metavar='DIR',
        nargs='?',
        default='.',
        help='directory of checkpoints, or a URL (default: the current '
        'directory)')
    add_json(parser)
    add_access(parser)
    parser.set_defaults(
        run=run, nothing=lambda given: {
            'path': given.directory,
            **_NOTHING
        })


def run(arguments: argparse.Namespace) -> int:
    """List a directory.

    Returns:
        int: 0.

    Raises:
        StorageError: If it cannot be read.
        ConfigError: If it is no directory.
    """
    path = path_of(arguments.directory)
    if not is_directory(path):
        raise ConfigError(
            f'{path} is a file, expected a directory of checkpoints. '
            f'"mmcv-ckpt verify {path}" checks one file')
    if leads_to_folder(path):
        raise ConfigError(
            f'{path} is a sharded checkpoint, expected a directory of '
            f'checkpoints. "mmcv-ckpt inspect {path}" shows what is in it, '
            f'"mmcv-ckpt verify {path}" checks it')
    access = Access(arguments)
    listing = look(Places(access, warn, MOST_BYTES).open(path))
    folders = unfinished_in(listing.place)
    aside = set_aside_in(listing.place)
    if arguments.json:
        print_json({
            'path': arguments.directory,
            **status(0),
            **_content(listing),
            **asdict(folders), 'set_aside': aside
        })
    elif listing.flags:
        _print_listing(listing, folders, aside)
    else:
        _print_empty(listing.place, access, folders, aside)
    return 0


# -- how it is shown -------------------------------------------------------


def _content(listing: Listing) -> Dict[str, Any]:
    place = listing.place
    best = {key: asdict(one) for key, one in place.best_scores().items()}
    sound = listing.looks.sound()
    return {
        'directory':
        place.files.url,
        'lineage':
        listing.lineage,
        'latest':
        listing.latest,
        'resume':
        listing.choice.taken,
        'best':
        best,
        'checkpoints': [{
            **asdict(info),
            **dict.fromkeys(listing.uncounted.get(info.name, ())),
            'flags':
            listing.flags[info.name],
            'link':
            place.catalog.link(info.name),
            'pinned':
            list(listing.pinned.get(info.name, ())),
            'structure':
            structure_of(listing, info.name, sound),
            'verified_at':
            listing.verified.get(info.name, ''),
            'damaged_at':
            _damaged_at(listing, info.name),
            'problem':
            _problem(listing, info.name),
        } for info in listing.checkpoints],
    }


def _print_empty(place: Place, access: Access, folders: Unfinished,
                 aside: Mapping[str, str]) -> None:
    print_line(f'No checkpoints in {place.shown}')
    folders.print()
    _print_aside(aside)
    if incomplete(place.files):
        print_line("resume='auto' would stop with an error, to write over "
                   'nothing that may be completed')
    if not place.is_local:
        print_line('The URL of a run is out_dir, or mirror.url, with the last '
                   f'level of its work dir: {place.path("...")}')
    elif noted_elsewhere(place):
        print_line(noted_elsewhere(place))
    below = those_below(place, access)
    if below:
        print_line(f'But {below}')


def _print_aside(aside: Mapping[str, str]) -> None:
    for text in aside.values():
        print_line(f'set aside: {text}')


def _print_listing(listing: Listing, folders: Unfinished,
                   aside: Mapping[str, str]) -> None:
    place, infos = listing.place, listing.checkpoints
    first, sound = list(place.best_scores()), listing.looks.sound()
    rows = [[
        info.name,
        count_text(listing, info, 'iter'),
        count_text(listing, info, 'epoch'),
        size_text(info.bytes),
        metrics_text(info.metrics, first),
        iso_time_text(info.created_at),
        verified_text(listing, info.name, sound),
        flags_text(listing, info.name)
    ] for info in infos]
    styles = [
        'red' if _problem(listing, info.name) else
        'green' if info.name == listing.choice.taken else '' for info in infos
    ]
    print_table(_COLUMNS, rows, styles)
    seconds = sum(bool(info.same_as) for info in infos)
    also = f' and {counted(seconds, "second names")}' if seconds else ''
    print_line('')
    print_line(f'{counted(len(infos) - seconds, "checkpoints")}{also}, '
               f'{size_text(listing.bytes)}')
    for line in _refusal_lines(listing):
        print_line(line)
    for name, problem in listing.away.items():
        print_line(f'{name}: a {problem}. Is its disk mounted?')
    folders.print()
    _print_aside(aside)
    print_line(_resume_text(listing))


def _problem(listing: Listing, name: str) -> str:
    refusal = listing.refused.get(name)
    return listing.away.get(name, '') if refusal is None else refusal.why


def _damaged_at(listing: Listing, name: str) -> str:
    refusal = listing.refused.get(name)
    return '' if refusal is None else refusal.found_at


def _refusal_lines(listing: Listing) -> List[str]:
    """Tell all that is damaged; of the rest what a resume comes to."""
    lines = [
        f'{DAMAGED}: {one.why}' for one in listing.refused.values()
        if one.flag == DAMAGED
    ]
    others = [
        f'{one.flag}: {one.why}' for one in listing.choice.refused.values()
        if one.flag != DAMAGED
    ]
    more = len(others) - _SHOWN_REFUSALS
    return lines + others[:_SHOWN_REFUSALS] + (
        [f'and {more} more, of which --json says why'] if more > 0 else [])


def _resume_text(listing: Listing) -> str:
    choice, refused = listing.choice, listing.refused
    if choice.stops_at is not None:
        return (f"resume='auto' would stop with an error at {choice.stops_at},"
                ' which is not loaded without trust_checkpoint=True')
    if choice.taken is None:
        trusted = any(one.flag == NEEDS_TRUST for one in refused.values())
        without = ' without trust_checkpoint=True' if trusted else ''
        return ("resume='auto' would stop with an error: nothing here can be "
                f'continued from{without}')
    newest = listing.place.newest(listing.lineage)
    why = 'the newest of its run' if listing.lineage else 'the newest'
    if newest is not None and newest.name in refused:
        why = _NEWEST_THAT[refused[newest.name].flag]
    elif newest is not None and newest.name in listing.away:
        why = 'the newest that is there'
    at = listing.verified.get(choice.taken)
    checked = f'Every byte was verified {iso_time_text(at)}' if at else \
        'Its structure was checked; "mmcv-ckpt verify" checks every byte'
    return f"resume='auto' would take {choice.taken}, {why}. {checked}"
