"""What ``.metadata`` says of a folder, every claim of it checked.

Where a tensor lies, in which chunks, of which type and shape: all is held
against the rest before any of it is used. Standard library only.
"""
from dataclasses import dataclass, field
from typing import (Any, Dict, Iterator, List, Mapping, Optional, Sequence,
                    Tuple)

from ..errors import CorruptError, UnsafeCheckpointError
from ..instructions import Malformed, Refused, shortened
from ..outline import Dtype
from ..storage.names import is_plain
from ..wording import counted
from .chunks import Chunk, Lengths, PairCounter, TooManyPairs, cover_defect
from .layout import METADATA_NAME
from .parts import (TRUST_FOLDER, Index, Part, checked_name, checked_size,
                    read_parts)

#: Largest ``.metadata`` that is read (bytes): 190,000 chunks take 25 MB.
METADATA_LIMIT_BYTES = 128 << 20

#: A tensor, or a part of one by where it begins; None of what is no tensor.
Key = Tuple[str, Optional[Lengths]]


@dataclass(frozen=True)
class SavedTensor:
    """A tensor as it was saved.

    Args:
        dtype (Dtype): Its type.
        size (tuple[int]): Of all of it.
        chunks (tuple[Chunk]): What it was saved in; they cover it.
    """
    dtype: Dtype
    size: Lengths
    chunks: Tuple[Chunk, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return Chunk(self.size, self.size).numel * self.dtype.itemsize


@dataclass(frozen=True)
class Item:
    """Where in the folder something lies.

    Args:
        file (str): Name of the file.
        offset (int): Its first byte there.
        length (int): Its bytes.
    """
    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class FolderMetadata:
    """What a folder holds.

    Args:
        tensors (dict): By name.
        blobs (tuple[str]): Names of what is no tensor; only other programs
            write such.
        items (dict): By name and, of tensors, where the chunk begins.
        paths (dict): Where in the saved tree it was, by name: of what torch
            has flattened.
    """
    tensors: Mapping[str, SavedTensor]
    blobs: Tuple[str, ...]
    items: Mapping[Key, Item]
    paths: Mapping[str, Tuple[Any, ...]] = field(default_factory=dict)

    def items_of(self, name: str) -> Iterator[Tuple[Chunk, Item]]:
        """Yield the chunks of a tensor with where they lie."""
        for chunk in self.tensors[name].chunks:
            yield chunk, self.items[name, chunk.offsets]

    @property
    def files(self) -> List[str]:
        """Names of the files in which items lie."""
        return sorted({item.file for item in self.items.values()})


def parse_metadata(data: bytes, path: str) -> FolderMetadata:
    """Read and check ``.metadata``.

    Args:
        data (bytes): Its content.
        path (str): Of the file, for the messages.

    Raises:
        CorruptError: If what it says contradicts itself.
        UnsafeCheckpointError: If it names what could run code.
    """
    parts = read_parts(data, path)
    try:
        return _metadata(parts)
    except Malformed as error:
        raise CorruptError(f'{path} is malformed: {error}') from error
    except Refused as error:
        raise UnsafeCheckpointError(
            f'{path} cannot be used: {error}. {TRUST_FOLDER}') from error
    except TooManyPairs:
        raise CorruptError(f'{path} is malformed: its chunks overlap in more '
                           'ways than can be looked at') from None


def check_places(metadata: FolderMetadata, sizes: Mapping[str, int],
                 path: str) -> None:
    """Check that what the metadata names is in the files that are there.

    Args:
        metadata (FolderMetadata): Of the folder.
        sizes (dict[str, int]): Bytes of its files, by name.
        path (str): The folder, for the messages.

    Raises:
        CorruptError: If something is not, or lies across something else.
    """
    by_file: Dict[str, List[Tuple[int, int, str]]] = {}
    for (name, _), item in metadata.items.items():
        by_file.setdefault(item.file, []).append(
            (item.offset, item.length, name))
    for file, items in sorted(by_file.items()):
        if file not in sizes:
            raise CorruptError(
                f'{path}: {file} is missing, which {METADATA_NAME} names '
                f'({counted(len(items), "items")}). Where the folder is on '
                'several disks, this machine must see all of them')
        free = 0
        for offset, length, name in sorted(items):
            if offset + length > sizes[file]:
                raise CorruptError(
                    f'{path}: {file} has {counted(sizes[file], "bytes")}, and '
                    f'{shortened(name)} lies at {offset} to '
                    f'{offset + length}: it was cut off')
            if offset < free:
                raise CorruptError(f'{path}: {shortened(name)} lies across '
                                   f'another item in {file}')
            free = offset + length


def _metadata(root: Any) -> FolderMetadata:
    fields = _fields(root, 'Metadata')
    saved = fields.get('state_dict_metadata')
    stored = fields.get('storage_data')
    if type(saved) is not dict or type(stored) is not dict:
        raise Malformed('it says not what there is, or not where')
    items = {key: item for key, item in map(_item, stored.items())}
    tensors: Dict[str, SavedTensor] = {}
    blobs, pairs = [], PairCounter()
    for name, value in saved.items():
        checked_name(name)
        if type(value) is Part and value.kind == 'BytesStorageMetadata':
            blobs.append(name)
            _check_items(name, [None], items)
            continue
        tensor = tensors[name] = _tensor(name, value, pairs)
        _check_items(name, [chunk.offsets for chunk in tensor.chunks], items)
        for chunk in tensor.chunks:
            item = items[name, chunk.offsets]
            # so nothing claims more than what there are bytes for
            if chunk.numel * tensor.dtype.itemsize > item.length:
                raise Malformed(
                    f'{shortened(name)} has a chunk of size {chunk.sizes} in '
                    f'{counted(item.length, "bytes")}')
    unknown = {name for name, _ in items} - set(saved)
    if unknown:
        raise Malformed(f'it says where {shortened(min(unknown))} is, and not '
                        'what')
    return FolderMetadata(tensors, tuple(blobs), items,
                          _paths(fields.get('planner_data'), saved))


def _fields(part: Any, kind: str) -> Dict[str, Any]:
    if type(part) is not Part or part.kind != kind:
        raise Malformed(f'expected a {kind}, found {shortened(part)}')
    return part.fields


def _item(stored: Tuple[Any, Any]) -> Tuple[Key, Item]:
    index, fields = stored[0], _fields(stored[1], '_StorageInfo')
    if type(index) is not Index:
        raise Malformed(f'an item is that of {shortened(index)}')
    file = fields.get('relative_path')
    place: Any = fields.get('offset'), fields.get('length')
    # INVARIANT: nothing outside the folder is read
    if type(file) is not str or not is_plain(file):
        raise Malformed(f'{shortened(index.name)} lies in {shortened(file)}, '
                        'which is not the name of a file in the folder')
    checked_size(place, 'the place of an item')
    if fields.get('transform_descriptors'):
        raise Refused(
            f'{shortened(index.name)} is packed by an extension '
            f'({shortened(fields["transform_descriptors"])}), which torch '
            'loads with that extension alone')
    return (index.name, index.offsets), Item(file, *place)


def _tensor(name: str, part: Any, pairs: PairCounter) -> SavedTensor:
    fields = _fields(part, 'TensorStorageMetadata')
    properties: Any = fields.get('properties')
    _fields(properties, 'TensorProperties')
    dtype = properties.values[0] if properties.values else None
    if type(dtype) is not Dtype or len(properties.values) < 2 or \
            properties.values[1] != 'torch.strided':
        raise Malformed(f'{shortened(name)} has the properties '
                        f'{shortened(properties.values)}')
    size = checked_size(fields.get('size'), "a tensor's size")
    chunks = fields.get('chunks')
    if type(chunks) is not list:
        raise Malformed(f'{shortened(name)} has the chunks '
                        f'{shortened(chunks)}')
    # what was replicated may be told once a rank: it lies in one place
    found = tuple(dict.fromkeys(map(_chunk, chunks)))
    if len({chunk.offsets for chunk in found}) != len(found):
        raise Malformed(f'{shortened(name)}: two chunks begin in one place')
    defect = cover_defect(size, found, pairs)
    if defect:
        raise Malformed(f'{shortened(name)}: {defect}')
    return SavedTensor(dtype, size, found)


def _chunk(part: Any) -> Chunk:
    fields = _fields(part, 'ChunkStorageMetadata')
    return Chunk(
        checked_size(fields.get('offsets'), "a chunk's place"),
        checked_size(fields.get('sizes'), "a chunk's size"))


def _check_items(name: str, keys: Sequence[Optional[Lengths]],
                 items: Mapping[Key, Item]) -> None:
    for key in keys:
        if (name, key) not in items:
            raise Malformed(f'it does not say where {shortened(name)} is'
                            f'{"" if key is None else f", from {key} on"}')


def _paths(planned: Any, saved: Mapping[str, Any]) -> Dict[str, Any]:
    """Take what torch's planner says of how it has flattened a tree."""
    if type(planned) is not dict:
        return {}
    found = {}
    for name, keys in planned.items():
        if name not in saved or type(keys) is not tuple or \
                len(keys) > _MAX_DEPTH or \
                any(type(key) not in (str, int) for key in keys):
            return {}  # of another planner
        found[name] = keys
    return found


#: Levels of a saved tree.
_MAX_DEPTH = 100
