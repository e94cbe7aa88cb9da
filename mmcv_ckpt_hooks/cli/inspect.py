"""``mmcv-ckpt inspect``: what is in a checkpoint, without loading it."""
import argparse
import os
from itertools import islice
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from ..errors import ConfigError
from ..flat_files.header import SUFFIX as FLAT
from ..flat_files.header import read_header
from ..flat_files.metadata import NO_SUMS, OWN_KEY, own_of
from ..flat_files.outlining import outlined
from ..folders.layout import MANIFEST_NAME, METADATA_NAME, MODEL
from ..folders.opening import open_folder
from ..folders.place import leads_to_folder
from ..folders.verification import PLAIN_NOTE, read_rest
from ..given_path import refuse_part
from ..outline import Tensor
from ..records import data_starts, descriptor
from ..scanning import read_outline
from ..storage.mapped_errors import mapped_errors
from ..verification import open_archive, zip_digest
from ..wording import counted, size_text
from .output import (Column, add_json, print_json, print_line, print_table,
                     status, warn)
from .place import Places, is_directory, path_of, split_path
from .plain_values import KEY_TEXT, PlainValues, shape_text, size_of
from .remote import Access, add_access

#: Names and values.
_Parts = Iterator[Tuple[str, Any]]

_COLUMNS = (
    Column('name', wraps=True),
    Column('type'),
    Column('shape', right=True),
    Column('size', right=True),
)
#: Longest value and name of a tensor in the listing (characters); --json
#: has all of it.
_SHOWN_TEXT, _NAME_TEXT = 60, 400
#: How many tensors there may be in all.
_MAX_TENSORS = 200000
#: What --json has of a file that cannot be shown.
_NOTHING: Dict[str, Any] = {
    'bytes': 0,
    'digest': '',
    'fields': {},
    'meta': None,
    'tensors': [],
    'has_more_tensors': False,
    'files': {},
    'metadata': {},
    'note': '',
}


def add_parser(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        'inspect',
        help='show what is in a checkpoint',
        description='Shows the fields of a checkpoint, its meta, and name, '
        'type, shape and size of every tensor. Only the directory of the file '
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
    add_json(parser)
    add_access(parser)
    parser.set_defaults(
        run=run, nothing=lambda given: {
            'path': given.file,
            **_NOTHING
        })


def run(arguments: argparse.Namespace) -> int:
    """Show one file.

    Returns:
        int: 0.

    Raises:
        IntegrityError: If it is damaged.
        UnsafeCheckpointError: If loading it could run code.
        StorageError: If it cannot be read.
        ConfigError: If it is a directory.
    """
    path = path_of(arguments.file)
    refuse_part(path)
    if leads_to_folder(path):
        places = Places(Access(arguments), warn)
        found = {
            'path': arguments.file,
            **_look_folder(places, path.rstrip('/'))
        }
        _tell(arguments, found)
        return 0
    if is_directory(path):
        raise ConfigError(
            f'{path} is a directory, expected a checkpoint. "mmcv-ckpt ls '
            f'{path}" lists those in it')
    places = Places(Access(arguments), warn)
    _tell(arguments, {'path': arguments.file, **_look(places, path)})
    return 0


def _tell(arguments: argparse.Namespace, found: Dict[str, Any]) -> None:
    if arguments.json:
        print_json({**found, **status(0)})
    else:
        _print(found)


# -- what is there ---------------------------------------------------------


def _look(places: Places, path: str) -> Dict[str, Any]:
    directory, name = split_path(path)
    if name.endswith(FLAT):
        return _look_flat(places, path)
    with places.files(directory).open(name) as file, \
            mapped_errors('cannot read', path), \
            open_archive(file, path) as archive:
        if descriptor(file) is not None:
            # the records do not overlap; elsewhere each is a request
            data_starts(archive, path)
        content = read_outline(archive, path)
        digest = zip_digest(archive.infolist())
        size = file.seek(0, os.SEEK_END)
    return {
        **_NOTHING,
        **_told(size, digest, content, _tensors(content, PlainValues())),
    }


def _look_flat(places: Places, path: str) -> Dict[str, Any]:
    """Look at a safetensors file: at its header alone."""
    directory, name = split_path(path)
    with places.files(directory).open(name) as file, \
            mapped_errors('cannot read', path):
        header = read_header(file, path)
        own = own_of(header, path)
        content = outlined(header, own, path)
        size = file.seek(0, os.SEEK_END)
    digest = '' if own is None else header.digest
    return {
        **_NOTHING,
        **_told(size, digest, content, _tensors(content, PlainValues())),
        'metadata':
        PlainValues().value({
            key: text
            for key, text in header.texts.items() if key != OWN_KEY
        }),
        'note':
        NO_SUMS if own is None else '',
    }


def _look_folder(places: Places, path: str) -> Dict[str, Any]:
    """Look at a sharded checkpoint: at its metadata, and at the rest."""
    with mapped_errors('cannot read', path):
        folder = open_folder(places.files(path), path)
        content = {} if folder.is_plain else read_rest(folder)
    tensors = ((name, Tensor(saved.dtype, saved.size, ''))
               for name, saved in folder.metadata.tensors.items())
    files = folder.manifest or [*folder.metadata.files, METADATA_NAME]
    told = _told(folder.bytes, folder.digest, content, tensors)
    rest = content.get('state_dict') if isinstance(content, dict) else None
    if isinstance(rest, dict):
        # what the ranks have written of it is not in rest.zip
        count = sum(name.startswith(MODEL) for name in folder.metadata.tensors)
        told['fields']['state_dict'] = \
            f'{type(rest).__name__} of {len(rest) + count}'
    return {
        **_NOTHING,
        **told,
        'files': {
            name: folder.sizes[name]
            for name in sorted({*files, MANIFEST_NAME} & {*folder.sizes})
        },
        'note': PLAIN_NOTE if folder.is_plain else '',
    }


def _told(size: int, digest: str, content: Any,
          found: Iterator[Tuple[str, Tensor]]) -> Dict[str, Any]:
    fields = content if isinstance(content, dict) else {'': content}
    tensors = list(islice(found, _MAX_TENSORS + 1))
    plain = PlainValues()
    return {
        'bytes':
        size,
        'digest':
        digest,
        'fields':
        plain.keyed(fields, _summary),
        'meta':
        plain.value(fields.get('meta')),
        'tensors': [{
            'name': name,
            'dtype': tensor.dtype.name,
            'shape': list(tensor.shape),
            'bytes': tensor.nbytes,
        } for name, tensor in tensors[:_MAX_TENSORS]],
        'has_more_tensors':
        len(tensors) > _MAX_TENSORS,
    }


def _tensors(content: Any, plain: PlainValues) -> Iterator[Tuple[str, Tensor]]:
    """Yield the tensors with their names: ``'state_dict.conv.weight'``.

    A tensor that stands in two places is told in both.
    """
    left: List[_Parts] = [iter([('', content)])]
    while left:
        for name, value in left[-1]:
            if isinstance(value, Tensor):
                yield name, value
            elif isinstance(value, dict):
                left.append(_named(name, value.items(), plain))
                break
            elif isinstance(value, (list, tuple)):
                left.append(_named(name, enumerate(value), plain))
                break
        else:
            left.pop()


def _named(name: str, pairs: Iterable[Tuple[Any, Any]],
           plain: PlainValues) -> _Parts:
    for key, value in pairs:
        text = plain.key(key, len(name))
        inner = f'{name}.{text}' if name else text
        yield inner if plain.has_room else inner[-_NAME_TEXT:], value


def _summary(value: Any) -> str:
    """Say what a field is; a plain value as it is."""
    if isinstance(value, (dict, list, tuple)):
        return size_of(value)
    return str(PlainValues().value(value))


# -- how it is shown -------------------------------------------------------


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
    tensors = found['tensors']
    if tensors:
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


def _short(value: Any) -> str:
    text = str(value).replace('\n', ' ')
    if len(text) <= _SHOWN_TEXT:
        return text
    return f'{text[:_SHOWN_TEXT]}... ({counted(len(text), "characters")})'
