"""What is in one checkpoint, for ``mmcv-ckpt inspect``: nothing is loaded."""
import os
from itertools import islice
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from ..flat_files.header import SUFFIX as FLAT
from ..flat_files.header import read_header
from ..flat_files.metadata import NO_SUMS, OWN_KEY, own_of
from ..flat_files.outlining import outlined
from ..folders.layout import MANIFEST_NAME, METADATA_NAME, MODEL
from ..folders.opening import open_folder
from ..folders.verification import PLAIN_NOTE, read_rest
from ..outline import Tensor
from ..records import data_starts, descriptor
from ..scanning import read_outline
from ..storage.mapped_errors import mapped_errors
from ..verification import open_archive, zip_digest
from .contents import states_of
from .place import Places, split_path
from .plain_values import PlainValues, size_of

#: Names and values.
_Parts = Iterator[Tuple[str, Any]]
#: Longest name of a tensor once there is no room for whole ones (characters).
_NAME_TEXT = 400
#: How many tensors there may be in all.
_MAX_TENSORS = 200000
#: What --json has of a file that cannot be shown.
NOTHING: Dict[str, Any] = {
    'bytes': 0,
    'digest': '',
    'fields': {},
    'meta': None,
    'states': {},
    'modules': [],
    'tensors': [],
    'has_more_tensors': False,
    'files': {},
    'metadata': {},
    'note': '',
}


def look(places: Places, path: str) -> Dict[str, Any]:
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
        **NOTHING,
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
        **NOTHING,
        **_told(size, digest, content, _tensors(content, PlainValues())),
        'metadata':
        PlainValues().value({
            key: text
            for key, text in header.texts.items() if key != OWN_KEY
        }),
        'note':
        NO_SUMS if own is None else '',
    }


def look_folder(places: Places, path: str) -> Dict[str, Any]:
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
        **NOTHING,
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
        'states':
        states_of(fields, plain),
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
