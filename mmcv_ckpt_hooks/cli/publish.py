"""``mmcv-ckpt publish``: the weights of a checkpoint, for others to use."""
import argparse
import os
import re
from dataclasses import asdict
from typing import Any, Dict, Optional, Tuple

from ..card import steps_in_name
from ..catalog import CATALOG_NAME
from ..errors import ConfigError, DependencyError, MissingCheckpointError
from ..folders.folder import is_there
from ..folders.place import leads_to_folder
from ..given_path import refuse_part
from ..monitors import unknown_metric
from ..storage.mapped_errors import mapped_errors
from ..types import StorageBackend
from ..wording import counted, size_text
from .output import add_json, print_json, print_line, status, warn
from .place import Places, is_directory, path_of, split_path
from .remote import Access, add_access

#: The end of a published name.
_PUBLISHED = re.compile(r'-[0-9a-f]{8}\.\w+$')
_NOTHING: Dict[str, Any] = {
    'path': '',
    'checkpoint': '',
    'bytes': 0,
    'sha256': '',
    'tensors': 0,
    'left_out': [],
    'is_new': False,
}


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'publish',
        help='write the weights of a checkpoint alone, with a hash in the '
        'name',
        description='Writes the weights of a checkpoint, with classes, '
        'palette, steps and versions of its meta, and nothing else of the '
        'run: no optimizer, no config, no path, no name of a machine. '
        'DST.pth becomes DST-1a2b3c4d.pth by the SHA-256 of the file, as '
        "OpenMMLab's model zoos have it. The source is verified meanwhile, "
        'and nothing in it is executed. Needs torch.',
        epilog='Exit code: 0; 1 the source is damaged; 2 wrong usage, or '
        'something is missing, may not be read or not be written; 3 loading '
        'the source could run code.')
    parser.add_argument(
        'source',
        metavar='SRC',
        help='a checkpoint, or with --best a directory; also a URL')
    parser.add_argument(
        'target',
        metavar='DST',
        help='a file that ends in .pth or .safetensors, not in the directory '
        'of a run; the hash is put into its name')
    parser.add_argument(
        '--best',
        metavar='KEY',
        help='of the directory SRC, the checkpoint with the best score of '
        'that metric')
    ema = parser.add_mutually_exclusive_group()
    ema.add_argument(
        '--ema',
        action='store_true',
        default=None,
        help="publish the averages of mmcv's EMAHook (ema_*) in place of "
        "the model's own weights")
    ema.add_argument(
        '--no-ema',
        dest='ema',
        action='store_false',
        help="publish the model's own weights; if EMAHook has swapped the two "
        'before they were saved, these are the averages')
    parser.add_argument(
        '--keep-meta',
        action='append',
        default=[],
        metavar='KEY',
        help='an entry of meta to publish, too, such as config; may be given '
        'several times')
    add_json(parser)
    add_access(parser)
    parser.set_defaults(
        run=run,
        nothing=lambda given: {
            'source': given.source,
            'target': given.target,
            **_NOTHING
        })


def run(arguments: argparse.Namespace) -> int:
    """Publish one checkpoint.

    Returns:
        int: 0.

    Raises:
        IntegrityError: If the source is damaged.
        UnsafeCheckpointError: If loading it could run code.
        StorageError: If it cannot be read, or the target not be written.
        ConfigError: If the arguments do not say what to publish where.
    """
    try:
        from .. import any_format, publishing
    except ImportError as error:
        raise DependencyError(f'publish needs torch: {error}') from error
    places = Places(Access(arguments), warn)
    wanted = path_of(arguments.target)
    if wanted.endswith('/') or os.path.isdir(wanted):
        raise ConfigError(f'{wanted} is a directory: give DST the name of a '
                          f'file, such as {os.path.join(wanted, "NAME.pth")}')
    files, name, path = _source(places, path_of(arguments.source),
                                arguments.best)
    where, new_name = split_path(wanted)
    target = places.files(where)
    _refuse_run(target)
    with mapped_errors('cannot publish', path):
        content = any_format.load(files, name, path)
        found = publishing.publish(content, path, target, new_name,
                                   arguments.ema, arguments.keep_meta)
    shown = f'{where.rstrip("/")}/{found.name}' if where != '.' else found.name
    told = asdict(found)
    del told['name']
    if arguments.json:
        print_json({
            'source': arguments.source,
            'target': arguments.target,
            **told, 'path': shown,
            'checkpoint': path,
            **status(0)
        })
        return 0
    was_there = '' if found.is_new else ', which was there already'
    print_line(f'{shown}: {counted(found.tensors, "tensors")} of {name}, '
               f'{size_text(found.bytes)}{was_there}')
    print_line(f'SHA-256 {found.sha256}')
    if found.left_out:
        print_line(f'left out: {", ".join(found.left_out)}')
    return 0


def _source(places: Places, path: str,
            best: Optional[str]) -> Tuple[StorageBackend, str, str]:
    """Return where a checkpoint is (a folder: it), its name and its path."""
    refuse_part(path)
    is_checkpoint = leads_to_folder(path) or not is_directory(path)
    if not is_checkpoint and best is None:
        raise ConfigError(f'{path} is a directory: name a checkpoint in it, '
                          'or give --best with a metric, such as mIoU')
    if is_checkpoint and best is not None:
        raise ConfigError(f'--best={best} is for a directory, and {path} is '
                          'a checkpoint')
    if best is not None:
        place = places.open(path)
        scores = place.best_scores()
        if best not in scores:
            raise unknown_metric(best, [*scores], '--best')
        path = place.path(scores[best].name)
    if leads_to_folder(path):
        path = path.rstrip('/')
        return places.files(path), split_path(path)[1], path
    directory, name = split_path(path)
    return places.files(directory), name, path


def _refuse_run(files: StorageBackend) -> None:
    """Refuse to write where checkpoints of a run are.

    A resume would take it, and mmseg's and mmdet's ``find_latest_checkpoint``
    raise for a name that ends in a hash.
    """
    if not files.capabilities.listing:
        return
    try:
        names = [
            file.name for file in files.list()
            if steps_in_name(file.name) and not _PUBLISHED.search(file.name)
        ]
    except MissingCheckpointError:
        return  # it is made
    if is_there(files, CATALOG_NAME):
        names.append(CATALOG_NAME)
    if names:
        raise ConfigError(
            f'{files.url} has the checkpoints of a run ({names[0]}): a file '
            'published there would be taken for one. Give DST another '
            'directory')
