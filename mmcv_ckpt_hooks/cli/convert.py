"""``mmcv-ckpt convert``: a sharded checkpoint to a file, and back."""
import argparse
import os
from dataclasses import asdict
from typing import Any, Dict

from ..errors import ConfigError, DependencyError
from ..folders.layout import SUFFIX, is_folder
from ..folders.place import leads_to_folder
from ..given_path import refuse_part
from ..storage.mapped_errors import mapped_errors
from ..wording import counted
from .output import add_json, print_json, print_line, size_text, status, warn
from .place import Places, is_directory, path_of, split_path
from .remote import Access, add_access, is_url

_NOTHING: Dict[str, Any] = {
    'bytes': 0,
    'tensors': 0,
    'digest': '',
    'note': '',
}


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'convert',
        help='write a sharded checkpoint as a plain file, or a file as a '
        'sharded one',
        description='Writes a sharded checkpoint (a folder: iter_N.dcp, or '
        'one of torch.distributed.checkpoint alone) as a plain .pth file, or '
        'a .pth file as a folder. The source is verified first, and nothing '
        'in it is executed. Needs torch, but neither a GPU nor several '
        'processes; of a folder one tensor at a time is in memory.',
        epilog='Exit code: 0; 1 the source is damaged; 2 wrong usage, or '
        'something is missing, may not be read or is there already; 3 '
        'loading the source could run code.')
    parser.add_argument(
        'source', metavar='SRC', help='a folder, a .pth file, or its URL')
    parser.add_argument(
        'target',
        metavar='DST',
        help='the new file, such as iter_N.pth, or the new folder, whose name '
        'ends in .dcp; its name, not only the directory')
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
    """Convert one checkpoint.

    Returns:
        int: 0.

    Raises:
        IntegrityError: If the source is damaged.
        UnsafeCheckpointError: If loading it could run code.
        StorageError: If it cannot be read, or the target not be written.
        ConfigError: If the names do not say what to do.
    """
    places = Places(Access(arguments), warn)
    source, target = path_of(arguments.source), path_of(arguments.target)
    refuse_part(source)
    with mapped_errors('cannot convert', source):
        found = _convert(places, source, target)
    told = asdict(found)
    if arguments.json:
        print_json({
            'source': arguments.source,
            'target': arguments.target,
            **told,
            **status(0)
        })
    else:
        note = f'; the source was {found.note}' if found.note else ''
        print_line(f'{arguments.target}: {size_text(found.bytes)}, '
                   f'{counted(found.tensors, "tensors")}{note}')
    return 0


def _convert(places: Places, source: str, target: str) -> Any:
    try:
        from ..folders import converting
    except ImportError as error:
        raise DependencyError(f'convert needs torch: {error}') from error
    if leads_to_folder(source):
        if is_folder(target):
            raise ConfigError(f'{source} is a sharded checkpoint, and '
                              f'{target} would be one: give DST a name that '
                              'ends in .pth')
        _refuse_directory(source, target, '.pth')
        where, new_name = split_path(target)
        return converting.folder_to_file(
            places.files(source.rstrip('/')), source, places.files(where),
            new_name)
    if is_directory(source):
        raise ConfigError(f'{source} is a directory, and no sharded '
                          'checkpoint: expected one of the checkpoints in it')
    if not is_folder(target):
        _refuse_directory(source, target, SUFFIX)
        raise ConfigError(f'{source} is a file: expected a DST that ends in '
                          f'{SUFFIX}, got {target}')
    directory, name = split_path(source)
    return converting.file_to_folder(
        places.files(directory), name, places.files(target.rstrip('/')))


def _refuse_directory(source: str, target: str, end: str) -> None:
    """Refuse a DST that says where to, and not under which name.

    Args:
        source (str): SRC.
        target (str): DST.
        end (str): Of the name of what is to be written.

    Raises:
        ConfigError: It has a name.
    """
    is_there = not is_url(target) and os.path.isdir(target)
    if target and not target.endswith('/') and not is_there:
        return
    name = os.path.basename(source.rstrip('/'))
    for known in ('.pth', SUFFIX):
        name = name[:-len(known)] if name.endswith(known) else name
    what = f'DST {target!r} is a directory' if target else 'DST is empty'
    raise ConfigError(f'{what}: give the name of what is to be written, too, '
                      f'such as {os.path.join(target, name + end)}')
