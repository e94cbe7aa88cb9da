"""``mmcv-ckpt convert``: a checkpoint in another format."""
import argparse
import os
from dataclasses import asdict
from typing import Any, Dict

from ..errors import ConfigError, DependencyError
from ..flat_files.header import SUFFIX as FLAT
from ..folders.layout import SUFFIX
from ..folders.place import leads_to_folder
from ..given_path import refuse_part
from ..new_file import refuse_existing
from ..storage.mapped_errors import mapped_errors
from ..wording import counted, size_text
from .output import add_json, print_json, print_line, status, warn
from .place import Places, is_directory, path_of, split_path
from .remote import Access, add_access, is_url

#: By suffix what it is.
_FORMATS = {
    '.pth': 'a .pth file',
    SUFFIX: 'a sharded checkpoint',
    FLAT: 'a safetensors file',
}
_NOTHING: Dict[str, Any] = {
    'bytes': 0,
    'tensors': 0,
    'digest': '',
    'note': '',
    'left_out': [],
}


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'convert',
        help='write a checkpoint in another format: .pth, .safetensors, .dcp',
        description='Writes a checkpoint in another format, as the names '
        'say: a .pth file, a .safetensors file (weights under their own '
        'names; optimizer and state of the run are kept beside them) or a '
        'sharded one (a folder: iter_N.dcp; as SRC also one of '
        'torch.distributed.checkpoint alone). The source is verified first, '
        'what was written is read again, and nothing in them is executed. '
        'Needs torch, but neither a GPU nor several processes.',
        epilog='Exit code: 0; 1 the source is damaged; 2 wrong usage, or '
        'something is missing, may not be read or is there already, or a run '
        'is writing there; 3 '
        'loading the source could run code.')
    parser.add_argument(
        'source', metavar='SRC', help='a file or a folder, or its URL')
    parser.add_argument(
        'target',
        metavar='DST',
        help='the new file or folder, also a URL: a name that ends in .pth, '
        '.safetensors or .dcp')
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
        what = f', {counted(found.tensors, "tensors")}' if found.tensors \
            else ''
        print_line(f'{arguments.target}: {size_text(found.bytes)}{what}{note}')
        if found.left_out:
            print_line(f'left out: {", ".join(found.left_out)}')
    return 0


def _convert(places: Places, source: str, target: str) -> Any:
    try:
        from .. import converting
    except ImportError as error:
        raise DependencyError(f'convert needs torch: {error}') from error
    is_whole = leads_to_folder(source)
    if not is_whole and is_directory(source):
        raise ConfigError(f'{source} is a directory, and no sharded '
                          'checkpoint: expected one of the checkpoints in it')
    written = _format_of(source, target, is_whole)
    if is_whole:
        files, name = places.files(source.rstrip('/')), ''
    else:
        directory, name = split_path(source)
        files = places.files(directory)
    if written == SUFFIX:
        whole = places.files(target.rstrip('/'))
        refuse_existing(whole, '')
        return converting.write_folder(
            converting.read_source(files, name, source), whole,
            places.files(split_path(target.rstrip('/'))[0]))
    directory, new_name = split_path(target)
    there = places.files(directory)
    refuse_existing(there, new_name)
    return converting.write_file(
        converting.read_source(files, name, source), there, new_name)


def _format_of(source: str, target: str, is_whole: bool) -> str:
    """Return the suffix of what is to be written.

    Args:
        source (str): SRC.
        target (str): DST.
        is_whole (bool): Whether SRC is a sharded checkpoint.

    Raises:
        ConfigError: If DST is none, or the same as SRC.
    """
    given = FLAT if source.endswith(FLAT) else '.pth'
    given = SUFFIX if is_whole else given
    others = [one for one in _FORMATS if one != given]
    wanted = [one for one in _FORMATS if target.rstrip('/').endswith(one)]
    if wanted != [SUFFIX]:
        _refuse_directory(source, target, others[0])
    if wanted == [given]:
        raise ConfigError(f'{source} is {_FORMATS[given]}, and {target} would '
                          f'be one: give DST a name that ends in '
                          f'{" or ".join(others)}')
    if not wanted:
        raise ConfigError(f'{source} is {_FORMATS[given]}: expected a DST '
                          f'that ends in {" or ".join(others)}, got {target}')
    return wanted[0]


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
    for known in _FORMATS:
        name = name[:-len(known)] if name.endswith(known) else name
    what = f'DST {target!r} is a directory' if target else 'DST is empty'
    raise ConfigError(f'{what}: give the name of what is to be written, too, '
                      f'such as {os.path.join(target, name + end)}')
