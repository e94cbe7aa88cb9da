"""``mmcv-ckpt pull``: the checkpoints of a run, copied from where they are."""
import argparse
from typing import Any, Dict, List, Optional

from ..errors import ConfigError, MissingCheckpointError
from ..folders.place import leads_to_folder
from ..given_path import refuse_part
from ..mirroring import MirrorPlace
from ..retention import KeepNames
from ..storage.names import same_place
from .copies import content, copy_all, exit_code, summary
from .output import add_json, print_json, print_line, warn
from .place import Place, Places, is_directory, path_of, split_path
from .remote import Access, add_access, is_url

#: What --json has of a place that could not be pulled from.
_NOTHING: Dict[str, Any] = {'checkpoints': []}


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'pull',
        help='copy the checkpoints of a run from a URL',
        description='Copies what a directory does not have yet of the run at '
        'a URL, or of another directory, the newest first, each checked '
        'against its checksums on the way. The directory gets a catalog, so '
        "that a run goes on there with resume='auto'. What is there already "
        'is not copied again, and nothing is deleted.',
        epilog='Credentials come from the environment or the profile. Exit '
        'code: 0 everything is there; 1 something at the URL is damaged, and '
        'not copied; 2 wrong usage, a run is writing in DIR, or nothing is '
        'damaged, but something could not be copied.')
    parser.add_argument(
        'url',
        metavar='URL',
        help='where a run has its checkpoints, files or folders, such as '
        's3://bucket/prefix/name; or the URL of one of them')
    parser.add_argument(
        'directory', metavar='DIR', help='a local directory, also a new one')
    parser.add_argument(
        '--newest',
        action='store_true',
        help='copy only what a resume would take')
    add_access(parser)
    add_json(parser)
    parser.set_defaults(
        run=run,
        nothing=lambda given: {
            'url': given.url,
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
    source, target = path_of(arguments.url), path_of(arguments.directory)
    if is_url(target):
        raise ConfigError(f'{target} is no local path: a pull goes to a local '
                          'directory, and "mmcv-ckpt push" to a URL')
    refuse_part(source)
    places = Places(Access(arguments), warn)
    name: Optional[str] = None
    if leads_to_folder(source) or not is_directory(source):
        source, name = split_path(source.rstrip('/'))
    if same_place(source, target):
        raise ConfigError(f'{source} and {target} are the same place')
    place = places.open(source)
    place.catalog.lineage = place.lineage or place.catalog.lineage
    only = _wanted(place, name, arguments.newest)
    owned = frozenset(info.name for info in place.catalog.owned())
    mirror = MirrorPlace(target, KeepNames(owned), warn, warn)
    try:
        mirror.open()
        outcomes = copy_all(place, mirror, arguments.json, only)
    finally:
        mirror.release()
    code = exit_code(outcomes)
    if arguments.json:
        print_json({
            'url': arguments.url,
            **content(outcomes), 'path': arguments.directory
        })
    else:
        print_line(summary(outcomes, target))
    return code


def _wanted(place: Place, name: Optional[str],
            newest: bool) -> Optional[List[str]]:
    """Return the names of what to copy; None for all of the run.

    Raises:
        MissingCheckpointError: If there is none.
        ConfigError: If it is not of the run.
    """
    if name is None and newest:
        found = place.newest()
        name = None if found is None else found.name
    owned = [info.name for info in place.catalog.owned()]
    if name is None and newest or not owned:
        raise MissingCheckpointError(f'{place.shown} holds no checkpoints')
    if name is None:
        return None
    if name not in owned:
        raise ConfigError(
            f'{place.path(name)} is not of the run there, which has '
            f'{", ".join(owned)}: copy it by hand')
    return [name]
