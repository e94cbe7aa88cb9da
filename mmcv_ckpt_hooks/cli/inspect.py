"""``mmcv-ckpt inspect``: what is in a checkpoint, without loading it."""
import argparse
from typing import Any, Dict

from ..errors import ConfigError
from ..folders.place import leads_to_folder
from ..given_path import refuse_part
from ..wording import counted, size_text
from .contents import sizes_by_module, states_text
from .inside import NOTHING, look, look_folder
from .output import (Column, add_json, print_json, print_line, print_table,
                     status, warn)
from .place import Places, is_directory, path_of
from .plain_values import KEY_TEXT, shape_text
from .remote import Access, add_access

_COLUMNS = (
    Column('name', wraps=True),
    Column('type'),
    Column('shape', right=True),
    Column('size', right=True),
)
_MODULES = (
    Column('module', wraps=True),
    Column('tensors', right=True),
    Column('size', right=True),
)
#: Longest value and name of a tensor in the listing (characters); --json
#: has all of it.
_SHOWN_TEXT, _NAME_TEXT = 60, 400


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'inspect',
        help='show what is in a checkpoint',
        description='Shows the fields of a checkpoint, its meta, what the '
        'optimizer, AMP and the run had, sizes by module, and name, type, '
        'shape and size of every tensor. Only the directory of the file '
        'and its pickle are read, of a folder its small files, of a '
        '.safetensors its header, and nothing in it is executed; whether the '
        'tensors are undamaged is what "mmcv-ckpt verify" checks.',
        epilog='Exit code: 0; 1 the file is damaged in what was read, or has '
        'a format without checksums (torch < 1.6); 2 wrong usage, or it is '
        'missing or may not be read; 3 loading it could run code.')
    parser.add_argument(
        'file',
        metavar='FILE',
        help='a checkpoint, also a sharded one (a folder) or a .safetensors; '
        'or its URL')
    parser.add_argument(
        '--depth',
        type=int,
        default=1,
        metavar='N',
        help='levels of the names of weights that make a module '
        '(default: %(default)s)')
    add_json(parser)
    add_access(parser)
    parser.set_defaults(
        run=run, nothing=lambda given: {
            'path': given.file,
            **NOTHING
        })


def run(arguments: argparse.Namespace) -> int:
    """Show one file.

    Returns:
        int: 0.

    Raises:
        IntegrityError: If it is damaged.
        UnsafeCheckpointError: If loading it could run code.
        StorageError: If it cannot be read.
        ConfigError: If it is a directory, or --depth is no number of levels.
    """
    if arguments.depth < 1:
        raise ConfigError(f'--depth={arguments.depth}: it must be at least 1')
    path = path_of(arguments.file)
    refuse_part(path)
    if leads_to_folder(path):
        places = Places(Access(arguments), warn)
        found = {
            'path': arguments.file,
            **look_folder(places, path.rstrip('/'))
        }
        _tell(arguments, found)
        return 0
    if is_directory(path):
        raise ConfigError(
            f'{path} is a directory, expected a checkpoint. "mmcv-ckpt ls '
            f'{path}" lists those in it')
    places = Places(Access(arguments), warn)
    _tell(arguments, {'path': arguments.file, **look(places, path)})
    return 0


def _tell(arguments: argparse.Namespace, found: Dict[str, Any]) -> None:
    found['modules'] = sizes_by_module(found['tensors'], arguments.depth)
    if arguments.json:
        print_json({**found, **status(0)})
    else:
        _print(found)


def _print(found: Dict[str, Any]) -> None:
    digest = f', {found["digest"]}' if found['digest'] else ''
    print_line(f'{found["path"]}: {size_text(found["bytes"])}{digest}')
    folder = [f'a folder of {counted(len(found["files"]), "files")}'] \
        if found['files'] else []
    about = [*folder, *filter(None, [found['note']])]
    if about:
        print_line('; '.join(about))
    for key, text in found['fields'].items():
        print_line(f'{key[:KEY_TEXT]}: {_short(text)}')
    if isinstance(found['meta'], dict):
        print_line('')
        for key, value in found['meta'].items():
            print_line(f'meta.{key[:KEY_TEXT]}: {_short(value)}')
    if found['metadata']:
        print_line('')
        for key, value in found['metadata'].items():
            print_line(f'metadata.{key[:KEY_TEXT]}: {_short(value)}')
    if found['states']:
        print_line('')
        for key, value in states_text(found['states']).items():
            # of the optimizer a line that was made to be read
            most = _NAME_TEXT if isinstance(value, str) else _SHOWN_TEXT
            print_line(f'{key[:KEY_TEXT]}: {_short(value, most)}')
    tensors = found['tensors']
    if tensors:
        print_line('')
        print_table(_MODULES, [[
            one['name'][-_NAME_TEXT:],
            str(one['tensors']),
            size_text(one['bytes'])
        ] for one in found['modules']], [''] * len(found['modules']))
        print_line('')
        rows = [[
            one['name'][-_NAME_TEXT:], one['dtype'],
            shape_text(one['shape']),
            size_text(one['bytes'])
        ] for one in tensors]
        print_table(_COLUMNS, rows, [''] * len(rows))
    total = sum(one['bytes'] for one in tensors)
    print_line('')
    more = ' and more' if found['has_more_tensors'] else ''
    print_line(f'{counted(len(tensors), "tensors")}{more}, '
               f'{size_text(total)}')


def _short(value: Any, most: int = _SHOWN_TEXT) -> str:
    text = str(value).replace('\n', ' ')
    if len(text) <= most:
        return text
    return f'{text[:most]}... ({counted(len(text), "characters")})'
