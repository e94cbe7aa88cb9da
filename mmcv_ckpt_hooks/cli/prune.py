"""``mmcv-ckpt prune``: what a run would keep stays, and the rest goes."""
import argparse
import datetime
import os
from contextlib import suppress
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Sequence

from ..catalog import CATALOG_NAME
from ..errors import ConfigError, StorageError
from ..folders.folder import remove
from ..folders.place import leads_to_folder
from ..guarded import guarded, lock_of, taken
from ..history import open_history
from ..wording import counted, size_text
from .cells import count_text
from .elsewhere import those_below
from .keeping import add_keep, keep_options
from .listing import Listing, look
from .output import (Column, add_json, print_json, print_line, print_table,
                     status, warn)
from .place import Place, Places, is_directory, path_of
from .proving import proven
from .remote import Access, add_access
from .verdicts import Verdict, judge

EXIT_FAILED = 2

_COLUMNS = (
    Column('name'),
    Column('iter', right=True),
    Column('epoch', right=True),
    Column('size', right=True),
    Column(''),
    Column('why', wraps=True),
)
#: What --json has of a directory that could not be looked at.
_NOTHING: Dict[str, Any] = {
    'directory': '',
    'done': False,
    'bytes': 0,
    'checkpoints': [],
}


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'prune',
        help='delete the checkpoints that need not be kept',
        description='Says which checkpoints of a directory would be deleted, '
        'by the policies of a run (keep=dict(...)), and with --yes deletes '
        'them. What another run or another program has written, what is '
        'damaged, and links that somebody made stay where they are. Before '
        'anything is deleted every byte of what is kept is verified: what '
        'is damaged neither counts nor goes.',
        epilog='Exit code: 0; 1 the checkpoint that a resume would take is '
        'damaged, and nothing was deleted; 2 wrong usage, a run is writing '
        'there, or something could not be deleted.')
    parser.add_argument(
        'directory', metavar='DIR', help='directory of checkpoints, or a URL')
    add_keep(parser)
    parser.add_argument(
        '--superseded',
        action='store_true',
        help='delete also what the run gave up when it went on from an '
        'earlier checkpoint')
    parser.add_argument(
        '--adopt-existing',
        action='store_true',
        help='count, and delete, also what other runs and other programs '
        '(stock mmcv) have written there, but not their best_*.pth')
    parser.add_argument(
        '--yes',
        action='store_true',
        help='delete; without it nothing is changed')
    add_json(parser)
    add_access(parser)
    parser.set_defaults(
        run=run, nothing=lambda given: {
            'path': given.directory,
            **_NOTHING
        })


def run(arguments: argparse.Namespace) -> int:
    """Say what would be deleted, or delete it.

    Returns:
        int: The exit code.

    Raises:
        ConfigError: If the arguments do not fit each other, or the place.
        LockedError: If a run is writing there.
        StorageError: If the place cannot be read.
    """
    keep_options(arguments)  # wrong ones before anything is read
    path = path_of(arguments.directory)
    if not is_directory(path) or leads_to_folder(path):
        raise ConfigError(f'{path} is a checkpoint, expected a directory of '
                          'checkpoints')
    places = Places(Access(arguments), warn)
    files = places.files(path)
    if not files.capabilities.delete:
        raise ConfigError(f'{files.url} cannot delete files')
    if not arguments.yes:
        listing = look(places.open(path))
        place = listing.place
        _print(listing, judge(listing, arguments), _contents(place), arguments,
               places)
        return 0
    lock = lock_of(files, CATALOG_NAME, warn)
    with taken(lock):
        # INVARIANT: looked at when no run can change it any more
        listing = look(places.open(path))
        place = listing.place
        verdicts = proven(listing, arguments, places)
        backend, place.catalog.home = guarded(lock, place.files, place.files)
        contents = _contents(place)
        verdicts = _delete(replace(place, files=backend), verdicts)
    _print(listing, verdicts, contents, arguments, places)
    return EXIT_FAILED if any(one.problem for one in verdicts) else 0


def _delete(place: Place, verdicts: List[Verdict]) -> List[Verdict]:
    """Delete what goes, the oldest first; return what became of it."""
    done, deleted = [], []
    for one in verdicts:
        if one.goes:
            try:
                # INVARIANT: as after a save: the file, then its entry
                remove(place.files, one.info.name)
                deleted.append(one.info.name)
            except StorageError as error:
                warn(f'could not delete {one.info.name}: {error}')
                one = replace(one, problem=str(error))
            else:
                _forget(place, one.info.name)
        done.append(one)
    if deleted:
        now = datetime.datetime.now(datetime.timezone.utc)
        try:
            open_history(place.catalog.home).append(
                'prune',
                deleted=deleted,
                time=now.isoformat(timespec='seconds'))
        except OSError as error:
            # it tells what happened; nothing depends on it
            warn(f'could not write the history: {error}')
    return done


def _forget(place: Place, name: str) -> None:
    try:
        place.catalog.forget(name)
    except StorageError as error:
        # who reads the catalog looks at what is there
        warn(f'{name} is deleted, but still listed: {error}')


def _contents(place: Place) -> Dict[str, Any]:
    """Return by name what tells a file from a second name of it."""
    found: Dict[str, Any] = {
        info.name: info.name
        for info in place.checkpoints
    }
    for name in found if place.is_local else ():
        with suppress(OSError):  # a link to nothing
            there = os.stat(os.path.join(place.files.url, name))
            found[name] = there.st_dev, there.st_ino
    return found


def _freed(verdicts: List[Verdict], contents: Mapping[str, Any]) -> int:
    """Return the bytes that deletions free; a second name frees none.

    Where the storage does not tell a size it counts nothing.
    """
    stays = {
        contents[one.info.name]
        for one in verdicts if not one.goes or one.problem
    }
    sizes = {
        contents[one.info.name]: max(one.info.bytes, 0)
        for one in verdicts
    }
    return sum(size for one, size in sizes.items() if one not in stays)


def _print(listing: Listing, verdicts: List[Verdict], contents: Mapping[str,
                                                                        Any],
           given: argparse.Namespace, places: Places) -> None:
    place = listing.place
    goes = [one for one in verdicts if one.goes]
    if not verdicts and not given.json:
        print_line(f'No checkpoints in {place.shown}')
        below = those_below(place, places.access)
        if below:
            print_line(f'But {below}')
        return
    failed = [one for one in goes if one.problem]
    freed, done = _freed(verdicts, contents), bool(given.yes)
    if given.json:
        print_json({
            'path':
            given.directory,
            **status(EXIT_FAILED if failed else 0), 'error':
            'StorageError' if failed else '',
            'problem':
            failed[0].problem if failed else '',
            'directory':
            place.files.url,
            'done':
            done,
            'bytes':
            freed,
            'checkpoints': [_content(listing, one) for one in verdicts]
        })
        return
    stays = {
        contents[one.info.name]: one.info.name
        for one in verdicts if not one.goes
    }
    print_table(
        _COLUMNS,
        [[*_row(listing, one, done),
          _why(one, contents, stays)] for one in verdicts],
        ['red' if one.goes else '' for one in verdicts],
    )
    number, total = len(goes) - len(failed), len(verdicts)
    print_line('')
    of = f'{number} of {counted(total, "checkpoints")}'
    if done:
        print_line(f'{of} deleted, {size_text(freed)} freed')
    elif goes:
        print_line(f'{of} would be deleted, {size_text(freed)} freed. Nothing '
                   'has been changed, and the structure alone was looked at: '
                   '--yes reads every byte of what stays, and deletes')
    else:
        print_line(f'Nothing to delete: {counted(total, "checkpoints")}')


def _content(listing: Listing, one: Verdict) -> Dict[str, Any]:
    unknown = listing.uncounted.get(one.info.name, ())
    return {
        'name': one.info.name,
        'iter': None if 'iter' in unknown else one.info.iter,
        'epoch': None if 'epoch' in unknown else one.info.epoch,
        'bytes': one.info.bytes,
        'goes': one.goes,
        'why': one.why,
        'problem': one.problem
    }


def _row(listing: Listing, one: Verdict, done: bool) -> Sequence[str]:
    info = one.info
    what = 'keep' if not one.goes else 'failed' if one.problem else \
        'deleted' if done else 'delete'
    return (info.name, count_text(listing, info, 'iter'),
            count_text(listing, info, 'epoch'), size_text(info.bytes), what)


def _why(one: Verdict, contents: Mapping[str, Any],
         stays: Mapping[Any, str]) -> str:
    """Return why it stays, or why nothing is freed by its deletion."""
    other = stays.get(contents[one.info.name])
    if one.goes and other is not None:
        return f'a second name of {other}: frees nothing'
    return ', '.join(one.why)
