"""``mmcv-ckpt ls``: what is in a directory, and what a resume would take."""
import argparse
import os
import zipfile
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from ..catalog import BestScore
from ..errors import (ConfigError, IntegrityError, MissingCheckpointError,
                      UnverifiableError)
from ..types import CheckpointInfo
from ..verification import open_archive, zip_digest
from .output import (Column, count_text, print_json, print_line, print_table,
                     size_text, warn)
from .place import Place, Places, is_directory, latest_target, local_path

_COLUMNS = (Column('name'), Column('iter', True), Column('epoch', True),
            Column('size', True), Column('metrics'), Column('time (UTC)'),
            Column('flags'))
#: Metrics shown in the table; --json has all.
_SHOWN_METRICS = 3
#: Directories named where the one asked for has no checkpoint.
_SHOWN_HINTS = 5


@dataclass(frozen=True)
class Resume:
    """What ``resume='auto'`` would take.

    Args:
        name (str, optional): The checkpoint; None if there is none.
        passed_over (dict): Newer ones, by name, and why they are not taken.
    """
    name: Optional[str]
    passed_over: Dict[str, str] = field(default_factory=dict)


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'ls',
        help='list the checkpoints of a directory',
        description='Lists the checkpoints of a directory by finished '
        'iterations, with their scores, and which one a run with '
        "resume='auto' would continue from. Contents are not checked: see "
        '"mmcv-ckpt verify".',
        epilog='Flags: "resume" a run would continue from it; "latest" '
        'latest.pth points to it; "best KEY" it has the best score so far; '
        '"same as" a second name of that file; "superseded" the run went on '
        'from an earlier one; "other run", "other program" they belong to no '
        'or another run of the plugin; "damaged" it cannot be read. Exit '
        'code: 0, also for a directory without checkpoints; 2 if it is '
        'missing or may not be read.')
    parser.add_argument(
        'directory',
        metavar='DIR',
        nargs='?',
        default='.',
        help='directory of checkpoints (default: the current one)')
    parser.add_argument(
        '--json', action='store_true', help='print one JSON object')
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
            f'{path} is a file, expected a directory of checkpoints. To '
            f'check that one file: mmcv-ckpt verify {path}')
    place = Places(warn).open(path)
    latest = latest_target(place, warn)
    resume = _resume_choice(place)
    problems = _problems(place, resume)
    flags = {
        info.name: _flags(place, info, latest, resume, problems)
        for info in place.catalog.checkpoints()
    }
    if arguments.json:
        print_json(_content(place, latest, resume, problems, flags))
    elif not flags:
        _print_empty(place)
    else:
        _print_listing(place, resume, problems, flags)
    return 0


# -- what is there ---------------------------------------------------------


def _resume_choice(place: Place) -> Resume:
    """Go through the candidates as a resume does, without reading content."""
    passed_over = {}
    for info in place.catalog.resumable():
        try:
            problem = _structure_problem(place, info)
        except UnverifiableError:
            problem = ''  # a resume takes it: no checksum speaks against it
        if not problem:
            return Resume(info.name, passed_over)
        passed_over[info.name] = problem
    return Resume(None, passed_over)


def _structure_problem(place: Place, info: CheckpointInfo) -> str:
    """Return what is wrong with a file's zip directory; empty if nothing.

    Raises:
        UnverifiableError: For the format of torch < 1.6.
    """
    try:
        with place.files.open(info.name) as file, \
                open_archive(file, info.name) as archive:
            found = zip_digest(archive.infolist())
    except UnverifiableError:
        raise
    except (IntegrityError, MissingCheckpointError,
            zipfile.BadZipFile) as error:
        return str(error)
    if info.digest and info.digest != found:
        return (f'{info.name} is not the checkpoint that the catalog lists; '
                f'see "mmcv-ckpt verify {place.path(info.name)}"')
    return ''


def _problems(place: Place, resume: Resume) -> Dict[str, str]:
    """Return what is known to be damaged, by name, and how."""
    problems = dict(resume.passed_over)
    for info in place.catalog.checkpoints():
        # the catalog found no digest: there is no readable zip directory
        if info.digest or info.name in problems:
            continue
        try:
            problem = _structure_problem(place, info)
        except UnverifiableError:
            continue
        if problem:
            problems[info.name] = problem
    return problems


def _flags(place: Place, info: CheckpointInfo, latest: Optional[str],
           resume: Resume, problems: Mapping[str, str]) -> List[str]:
    catalog, run = place.catalog, place.current_lineage()
    flags = []
    if info.name in problems:
        flags.append('damaged')
    if info.name == resume.name:
        flags.append('resume')
    if info.name == latest:
        flags.append('latest')
    keys = [
        key for key, best in _best_scores(place).items()
        if best.name == info.name
    ]
    flags += [f'best {key}' for key in keys]
    if not keys and info.trigger == 'best':
        flags.append('best')
    if info.same_as and catalog.find(info.same_as) is not None:
        flags.append(f'same as {info.same_as}')
    if run and info.lineage != run:
        flags.append('other run' if info.lineage else 'other program')
    elif run and info not in catalog.resumable():
        flags.append('superseded')
    return flags


def _best_scores(place: Place) -> Dict[str, BestScore]:
    keys = {
        key
        for info in place.catalog.checkpoints() for key in info.metrics
    }
    found = {key: place.catalog.best(key) for key in sorted(keys)}
    return {key: best for key, best in found.items() if best is not None}


# -- how it is shown -------------------------------------------------------


def _content(place: Place, latest: Optional[str], resume: Resume,
             problems: Mapping[str, str],
             flags: Mapping[str, List[str]]) -> Dict[str, Any]:
    return {
        'directory':
        place.files.url,
        'lineage':
        place.current_lineage(),
        'latest':
        latest,
        'resume':
        resume.name,
        'best':
        {key: asdict(best)
         for key, best in _best_scores(place).items()},
        'checkpoints': [{
            **asdict(info), 'flags': flags[info.name],
            'problem': problems.get(info.name)
        } for info in place.catalog.checkpoints()],
    }


def _print_empty(place: Place) -> None:
    print_line(f'No checkpoints in {place.shown}.')
    hints = _directories_with_checkpoints(place.files.url)
    if hints:
        more = ', ...' if len(hints) > _SHOWN_HINTS else ''
        paths = [place.path(name) for name in hints[:_SHOWN_HINTS]]
        print_line(f'Directories in it that have some: {", ".join(paths)}'
                   f'{more}')


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


def _print_listing(place: Place, resume: Resume, problems: Mapping[str, str],
                   flags: Mapping[str, List[str]]) -> None:
    infos = place.catalog.checkpoints()
    first = list(_best_scores(place))
    print_table(_COLUMNS, [[
        info.name,
        str(info.iter),
        str(info.epoch),
        size_text(info.bytes),
        _metrics_text(info.metrics, first),
        _time_text(info.created_at), ', '.join(flags[info.name])
    ] for info in infos])
    own = [info for info in infos if not _is_second_name(place, info)]
    names = count_text(len(infos) - len(own), 'second name')
    print_line('')
    print_line(f'{count_text(len(own), "checkpoint")}'
               f'{f" and {names}" if len(infos) > len(own) else ""}, '
               f'{size_text(sum(info.bytes for info in own))}')
    for problem in problems.values():
        print_line(f'damaged: {problem}')
    print_line(_resume_text(resume))


def _is_second_name(place: Place, info: CheckpointInfo) -> bool:
    return bool(info.same_as) and place.catalog.find(info.same_as) is not None


def _resume_text(resume: Resume) -> str:
    if resume.name is None:
        return "resume='auto' would find nothing that it can continue from"
    why = 'the newest that is not damaged' if resume.passed_over else \
        'the newest of this run'
    return (f"resume='auto' would take {resume.name}: {why}. Its structure "
            'was checked; "mmcv-ckpt verify" checks every byte')


def _metrics_text(metrics: Mapping[str, Any], first: List[str]) -> str:
    # mmseg's scores of single classes have a dot: 'IoU.road'
    keys = sorted(metrics, key=lambda key: (key not in first, '.' in key))
    shown = [f'{key} {_value_text(metrics[key])}' for key in keys]
    rest = len(shown) - _SHOWN_METRICS
    return ', '.join(shown[:_SHOWN_METRICS]) + (f', +{rest}'
                                                if rest > 0 else '')


def _value_text(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, (int, float)) else str(value)


def _time_text(created_at: str) -> str:
    # always UTC: '2030-01-31T12:00:00+00:00'
    return created_at[:19].replace('T', ' ') or '-'
