"""A folder, opened: what is there, held against manifest and metadata.

Only the small files are read. Standard library only.
"""
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from ..errors import CorruptError, MissingCheckpointError, TruncatedError
from ..records import reading
from ..short_listing import with_file
from ..types import UNKNOWN_BYTES, StorageBackend, StoredFile
from ..wording import counted
from ..zip_layout import ADVICE
from .chunks import Chunk
from .folder import bytes_digest, manifest_digest
from .layout import MANIFEST_NAME, METADATA_NAME, REST_NAME
from .manifest import MANIFEST_LIMIT_BYTES, ListedFile, parse_manifest
from .metadata import (METADATA_LIMIT_BYTES, FolderMetadata, Item, Key,
                       check_places, parse_metadata)


@dataclass(frozen=True)
class Folder:
    """A folder whose small files are as they should be.

    Args:
        files (StorageBackend): The folder itself.
        path (str): Of it, for the messages.
        sizes (dict[str, int]): Bytes of its files, by name.
        manifest (dict): Files by name; empty if torch alone has written it.
        digest (str): Of the manifest; empty if there is none.
        metadata (FolderMetadata): Where the tensors are.
    """
    files: StorageBackend
    path: str
    sizes: Mapping[str, int]
    manifest: Mapping[str, ListedFile]
    digest: str
    metadata: FolderMetadata

    @property
    def is_plain(self) -> bool:
        """Whether it is one of torch.distributed.checkpoint alone."""
        return not self.manifest

    @property
    def no_counters(self) -> str:
        """Why no run resumes from one of torch alone, and what to do."""
        return (
            f'{self.path} cannot be resumed from: it is one of '
            f'torch.distributed.checkpoint alone, without {REST_NAME}, which '
            'has the counters of a run. load_from takes its weights. If '
            "'meta', with 'epoch' and 'iter', was saved in it, too, make a "
            f'file of it ("mmcv-ckpt convert {self.path} iter_N.pth", where N '
            'is its finished iterations) and resume from that')

    @property
    def bytes(self) -> int:
        """Bytes of all that belongs to it."""
        if self.is_plain:
            names = [*self.metadata.files, METADATA_NAME]
            return sum(self.sizes[name] for name in names)
        return self.sizes[MANIFEST_NAME] + sum(
            file.bytes for file in self.manifest.values())

    def items(self, file: str) -> Iterator[Tuple[str, Optional[Chunk], Item]]:
        """Yield what lies in a file: name, chunk (None: no tensor), place."""
        for key, item in self._items.get(file, ()):
            yield key[0], self._chunks.get(key), item

    @cached_property
    def _items(self) -> Mapping[str, List[Tuple[Key, Item]]]:
        """By file, in their order there."""
        found: Dict[str, List[Tuple[Key, Item]]] = {}
        for key, item in self.metadata.items.items():
            found.setdefault(item.file, []).append((key, item))
        for items in found.values():
            items.sort(key=lambda one: one[1].offset)
        return found

    @cached_property
    def _chunks(self) -> Mapping[Key, Chunk]:
        return {
            (name, chunk.offsets): chunk
            for name, tensor in self.metadata.tensors.items()
            for chunk in tensor.chunks
        }

    def file_path(self, name: str) -> str:
        """Return the path of a file, for the messages."""
        return os.path.join(self.path, name)


def open_folder(files: StorageBackend,
                path: str,
                digest: Optional[str] = None) -> Folder:
    """Open a folder; nothing of a tensor is read.

    Args:
        files (StorageBackend): The folder itself.
        path (str): Of it, for the messages.
        digest (str, optional): What the catalog has for it. Default: None.

    Raises:
        IntegrityError: It names what is wrong, and with which file.
        UnsafeCheckpointError: If its metadata names what could run code.
        MissingCheckpointError: If there is no such folder.
    """
    listing = _Listing(files)
    sizes = listing.sizes_with([METADATA_NAME])
    if not sizes:
        # an object store has no empty folders
        raise MissingCheckpointError(f'{path} is not there, or empty')
    if METADATA_NAME not in sizes:
        raise TruncatedError(
            f'{path} is no complete checkpoint: it has no {METADATA_NAME}, '
            f'which is written last. {ADVICE}')
    sizes = listing.sizes_with([MANIFEST_NAME])
    manifest: Dict[str, ListedFile] = {}
    found = ''
    if MANIFEST_NAME in sizes:
        data = _read(files, MANIFEST_NAME, sizes, MANIFEST_LIMIT_BYTES, path)
        found, manifest = manifest_digest(data), parse_manifest(data, path)
    elif REST_NAME in sizes or digest:
        raise CorruptError(f'{path}: {MANIFEST_NAME} is missing, which has '
                           f'the digests of its files. {ADVICE}')
    if digest and digest != found:
        raise CorruptError(
            f'{path} is not the checkpoint that the catalog lists: expected '
            f'digest {digest}, found {found}. Restore the folder, or run '
            '"mmcv-ckpt verify --repair-catalog" if it was replaced on '
            'purpose')
    if manifest:
        sizes = listing.sizes_with(manifest)
        _check_listed(manifest, sizes, path)
    data = _read(files, METADATA_NAME, sizes, METADATA_LIMIT_BYTES, path)
    if manifest:
        check_digest(path, METADATA_NAME, manifest[METADATA_NAME],
                     bytes_digest(data))
    metadata = parse_metadata(data, os.path.join(path, METADATA_NAME))
    sizes = listing.sizes_with(metadata.files)
    check_places(metadata, {name: sizes[name]
                            for name in manifest} if manifest else sizes, path)
    return Folder(files, path, sizes, manifest, found, metadata)


def check_digest(path: str, name: str, listed: ListedFile, found: str) -> None:
    """Check the digest of a file.

    Raises:
        CorruptError: If it is not that of the manifest.
    """
    if listed.digest != found:
        raise CorruptError(
            f'{path}: {name} is damaged, or is that of another checkpoint '
            f'(its digest is {found}, {MANIFEST_NAME} has '
            f'{listed.digest}). {ADVICE}')


class _Listing:
    """What a folder has, by a listing that may lack what is there.

    Args:
        files (StorageBackend): The folder.
    """

    def __init__(self, files: StorageBackend) -> None:
        self._files = files
        self._take(files.list())

    def sizes_with(self, names: Iterable[str]) -> Dict[str, int]:
        """Return the bytes of all files, by name.

        INVARIANT: none of these is missing that is there: the run would go on
        from an older checkpoint, and write over this one.

        Raises:
            StorageError: If one of them is in no listing.
        """
        missing = {*names} - {*self._sizes}
        if missing:
            # a page that was none has ended it: the last one tells
            self._take(with_file(self._files, self._found, max(missing)))
        return self._sizes

    def _take(self, found: List[StoredFile]) -> None:
        self._found = found
        self._sizes = {file.name: file.bytes for file in found}
        for name, size in self._sizes.items():
            if size == UNKNOWN_BYTES:
                with self._files.open(name) as file:
                    self._sizes[name] = file.seek(0, os.SEEK_END)


def _check_listed(manifest: Mapping[str, ListedFile], sizes: Mapping[str, int],
                  path: str) -> None:
    for name in (METADATA_NAME, REST_NAME):
        if name not in manifest:
            raise CorruptError(f'{path}: {MANIFEST_NAME} is damaged: it does '
                               f'not list {name}')
    for name, file in sorted(manifest.items()):
        if name not in sizes:
            raise TruncatedError(
                f'{path}: {name} is missing ({counted(file.bytes, "bytes")}). '
                'Where the ranks have written to disks of their own, this '
                f'machine must see all of them. {ADVICE}')
        if sizes[name] != file.bytes:
            raise TruncatedError(
                f'{path}: {name} has {counted(sizes[name], "bytes")}, '
                f'expected {file.bytes}. {ADVICE}')


def _read(files: StorageBackend, name: str, sizes: Mapping[str, int],
          limit: int, path: str) -> bytes:
    if sizes[name] > limit:
        raise CorruptError(f'{path}: {name} has {sizes[name]} bytes, expected '
                           f'at most {limit}')
    with files.open(name) as file, reading(os.path.join(path, name), 'it'):
        data = file.read()
    if len(data) != sizes[name]:
        raise TruncatedError(
            f'{path}: {name} has {counted(len(data), "bytes")}, expected '
            f'{sizes[name]}. {ADVICE}')
    return data
