"""``mmcv-ckpt ls``: what is in a directory, and what a resume would take."""
import argparse
import os
import zipfile
from dataclasses import asdict, dataclass
from typing import AbstractSet, Any, Dict, List, Mapping, Optional, Tuple

from ..errors import (ConfigError, IntegrityError, MissingCheckpointError,
                      UnverifiableError)
from ..types import CheckpointInfo
from ..verification import open_archive, zip_digest
from .output import (Column, add_json, count_text, print_json, print_line,
                     print_table, size_text, warn)
from .place import Place, Places, is_directory, latest_target, local_path

_COLUMNS = (
    Column('name'),
    Column('iter', right=True),
    Column('epoch', right=True),
    Column('size', right=True),
    Column('metrics', wraps=True),
    Column('time (UTC)'),
    Column('flags', wraps=True),
)
#: Metrics shown in the table; --json has all.
_SHOWN_METRICS = 3
#: Directories named where the one asked for has no checkpoint.
_SHOWN_HINTS = 5
#: Flag of a format without checksums.
_NEEDS_TRUST = 'needs trust_checkpoint'

_EPILOG = (
    'Flags: "resume" a run would continue from it; "latest" latest.pth leads '
    'to it; "best KEY" it has the best score so far; "same as NAME" a second '
    'name of that file; "superseded" the run went on from an earlier one; '
    '"other run" of the plugin; "not owned" of another program, or the '
    'catalog was lost: never deleted; "damaged" it cannot be used; "needs '
    'trust_checkpoint" a format without checksums (torch < 1.6), which is not '
    'loaded without that. Exit code: 0, also without checkpoints; 2 if the '
    'directory is missing or may not be read.')


@dataclass(frozen=True)
class Listing:
    """What ``ls`` found out.

    Args:
        place (Place): The directory.
        resume (str, optional): The checkpoint that ``resume='auto'`` would
            take.
        problems (dict): What is damaged, by name, and how.
        untrusted (set[str]): What is not loaded without
            ``trust_checkpoint``.
        flags (dict): The flags of every checkpoint, by name.
        latest (str, optional): The checkpoint that ``latest.pth`` leads to.
    """
    place: Place
    resume: Optional[str]
    problems: Mapping[str, str]
    untrusted: AbstractSet[str]
    flags: Mapping[str, List[str]]
    latest: Optional[str]


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'ls',
        help='list the checkpoints of a directory',
        description='Lists the checkpoints of a directory by finished '
        'iterations, with their scores, and says which one a run with '
        "resume='auto' would continue from. Their content is not read: "
        '"mmcv-ckpt verify" does that.',
        epilog=_EPILOG)
    parser.add_argument(
        'directory',
        metavar='DIR',
        nargs='?',
        default='.',
        help='directory of checkpoints (default: the current one)')
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List a directory.

    Returns:
        int: 0.

    Raises:
        StorageError: If it cannot be read.
        ConfigError: If it is no directory.
    """
    path = local_path(arguments.directory)
    if not is_directory(path):
        raise ConfigError(
            f'{path} is a file, expected a directory of checkpoints. '
            f'"mmcv-ckpt verify {path}" checks one file')
    listing = _look(Places(warn).open(path))
    if arguments.json:
        print_json(_content(listing))
    elif listing.flags:
        _print_listing(listing)
    else:
        _print_empty(listing.place)
    return 0


# -- what is there ---------------------------------------------------------


def _look(place: Place) -> Listing:
    latest = latest_target(place, warn)
    resume, passed_over = _resume_choice(place)
    for info in place.checkpoints:
        # the catalog found no digest: there is no readable zip directory
        if not info.digest and info.name not in passed_over:
            problem = _structure_problem(place, info)
            if problem:
                passed_over[info.name] = problem
    problems = {
        name: problem
        for name, problem in passed_over.items() if problem != _NEEDS_TRUST
    }
    untrusted = set(passed_over) - set(problems)
    flags: Dict[str, List[str]] = {info.name: [] for info in place.checkpoints}
    for flag, names in (('damaged', [*problems]), (_NEEDS_TRUST, [*untrusted]),
                        ('resume', [resume]), ('latest', [latest])):
        for name in names:
            if name is not None:
                flags[name].append(flag)
    for key, best in place.best_scores().items():
        flags[best.name].append(f'best {key}')
    continued = {info.name for info in place.resumable}
    for info in place.checkpoints:
        flags[info.name] += _kinship_flags(place, info, info.name in continued)
    return Listing(place, resume, problems, untrusted, flags, latest)


def _resume_choice(place: Place) -> Tuple[Optional[str], Dict[str, str]]:
    """Go through the candidates as a resume does, but read no content."""
    passed_over: Dict[str, str] = {}
    for info in place.resumable:
        problem = _structure_problem(place, info)
        if not problem:
            return info.name, passed_over
        passed_over[info.name] = problem
    return None, passed_over


def _structure_problem(place: Place, info: CheckpointInfo) -> str:
    """Return why a resume does not take a file; empty if it does.

    Its zip directory is damaged, or by its format (:data:`_NEEDS_TRUST`) it
    has none.
    """
    try:
        with place.files.open(info.name) as file, \
                open_archive(file, info.name) as archive:
            found = zip_digest(archive.infolist())
    except UnverifiableError:
        return _NEEDS_TRUST
    except (IntegrityError, MissingCheckpointError,
            zipfile.BadZipFile) as error:
        return str(error)
    if info.digest and info.digest != found:
        return (f'{info.name} is not the checkpoint that the catalog lists '
                f'("mmcv-ckpt verify {place.path(info.name)}" says more)')
    return ''


def _kinship_flags(place: Place, info: CheckpointInfo,
                   resumable: bool) -> List[str]:
    flags = []
    if _is_second_name(place, info):
        flags.append(f'same as {info.same_as}')
    if place.lineage and not info.lineage:
        flags.append('not owned')
    elif info.lineage != place.lineage:
        flags.append('other run')
    elif not resumable:
        flags.append('superseded')
    return flags


def _is_second_name(place: Place, info: CheckpointInfo) -> bool:
    return bool(info.same_as) and place.catalog.find(info.same_as) is not None


# -- how it is shown -------------------------------------------------------


def _content(listing: Listing) -> Dict[str, Any]:
    place = listing.place
    best = {key: asdict(one) for key, one in place.best_scores().items()}
    return {
        'directory':
        place.files.url,
        'lineage':
        place.lineage,
        'latest':
        listing.latest,
        'resume':
        listing.resume,
        'best':
        best,
        'checkpoints': [{
            **asdict(info),
            'flags': listing.flags[info.name],
            'problem': listing.problems.get(info.name, ''),
        } for info in place.checkpoints],
    }


def _print_empty(place: Place) -> None:
    print_line(f'No checkpoints in {place.shown}')
    hints = _directories_with_checkpoints(place.files.url)
    if hints:
        more = ', ...' if len(hints) > _SHOWN_HINTS else ''
        paths = [place.path(name) for name in hints[:_SHOWN_HINTS]]
        print_line(f'There are some in {", ".join(paths)}{more}')


def _directories_with_checkpoints(path: str) -> List[str]:
    found = []
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                if entry.is_dir() and any(
                        name.endswith('.pth')
                        for name in os.listdir(entry.path)):
                    found.append(entry.name)
            except OSError:
                continue  # only a hint: what may not be read is left out
    return sorted(found)


def _print_listing(listing: Listing) -> None:
    place, infos = listing.place, listing.place.checkpoints
    first = list(place.best_scores())
    rows = [[
        info.name,
        str(info.iter),
        str(info.epoch),
        size_text(info.bytes),
        _metrics_text(info.metrics, first),
        _time_text(info.created_at), ', '.join(listing.flags[info.name])
    ] for info in infos]
    styles = [
        'red' if info.name in listing.problems else
        'green' if info.name == listing.resume else '' for info in infos
    ]
    print_table(_COLUMNS, rows, styles)
    own = [info for info in infos if not _is_second_name(place, info)]
    seconds = len(infos) - len(own)
    also = f' and {count_text(seconds, "second name")}' if seconds else ''
    print_line('')
    print_line(f'{count_text(len(own), "checkpoint")}{also}, '
               f'{size_text(sum(info.bytes for info in own))}')
    for problem in listing.problems.values():
        print_line(f'damaged: {problem}')
    print_line(_resume_text(listing))


def _resume_text(listing: Listing) -> str:
    if listing.resume is None:
        without = ' without trust_checkpoint=True' if listing.untrusted else ''
        return ("resume='auto' would stop with an error: nothing here can be "
                f'continued from{without}')
    newest = listing.place.newest()
    why = 'the newest of its run' if listing.place.lineage else 'the newest'
    if newest is not None and newest.name in listing.problems:
        why = 'the newest that is not damaged'
    elif newest is not None and newest.name in listing.untrusted:
        why = 'the newest that can be verified'
    return (f"resume='auto' would take {listing.resume}, {why}. Its structure "
            'was checked; "mmcv-ckpt verify" checks every byte')


def _metrics_text(metrics: Mapping[str, Any], first: List[str]) -> str:
    # mmseg's scores of single classes have a dot: 'IoU.road'
    keys = [key for key in metrics if '.' not in key] or list(metrics)
    keys.sort(key=lambda key: key not in first)
    shown = [
        f'{key} {_value_text(metrics[key])}' for key in keys[:_SHOWN_METRICS]
    ]
    rest = len(metrics) - len(shown)
    return ', '.join(shown + [f'+{rest}'] * (rest > 0))


def _value_text(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, (int, float)) else str(value)


def _time_text(created_at: str) -> str:
    # always UTC: '2030-01-31T12:00:00+00:00'
    return created_at[:19].replace('T', ' ') or '-'
