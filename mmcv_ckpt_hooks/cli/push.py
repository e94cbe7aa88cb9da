"""``mmcv-ckpt push``: the checkpoints of a run, copied to its mirror."""
import argparse
import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

from ..catalog import CATALOG_NAME
from ..errors import AccessError, ConfigError
from ..folders.place import leads_to_folder
from ..guarded import lock_of
from ..lease import Owner
from ..storage.local import LocalBackend
from .copies import content, copy_all, exit_code, summary
from .destination import destination
from .output import add_json, print_json, print_line, warn
from .place import Places, is_directory, path_of
from .remote import Access, add_access, is_url

#: What --json has of a directory that could not be pushed.
_NOTHING: Dict[str, Any] = {'url': '', 'endpoint': '', 'checkpoints': []}


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
            outcomes = copy_all(place, mirror, arguments.json)
        finally:
            mirror.release()
    code = exit_code(outcomes)
    if arguments.json:
        print_json({
            'path': arguments.directory,
            **content(outcomes), 'url': mirror.url,
            'endpoint': endpoint
        })
    else:
        print_line(summary(outcomes, mirror.url))
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
