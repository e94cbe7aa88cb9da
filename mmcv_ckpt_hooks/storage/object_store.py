"""Objects under a prefix: S3 and what speaks it, GCS, Azure."""
import uuid
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import IO, Any, Callable, Iterator, List, Mapping, Optional, cast

from ..errors import AccessError, MissingCheckpointError, StorageError
from ..folders.layout import METADATA_NAME, is_folder
from ..types import POINTER_FILE, Capabilities, StoredFile
from .names import TEMPORARY_MARK, is_temporary
from .object_errors import is_gone_upload, is_spoilt, is_unreadable
from .object_folders import folder_names, found_folder, move_folder
from .object_range import EmptyObject
from .object_requests import ObjectRequests
from .object_url import import_client, parse_place
from .ranged_file import SMALL_BYTES, RangedFile
from .s3_leftovers import S3Leftovers
from .shared_object import SharedObject
from .uploads import PARALLEL_PARTS, PART_BYTES, Abandoned, Block, MappedStream

_WRITE, _READ = 'cannot write checkpoint', 'cannot read checkpoint'
#: Largest object that S3 copies in one request (bytes).
_COPY_BYTES = 5 << 30
_BLOCK_BYTES = 8 << 20
#: Written and removed to see whether that works; `list` leaves it out.
_PROBE = f'.probe{TEMPORARY_MARK}mmcv_ckpt_hooks'
#: Metadata of an object in parts: by which upload it came. Letters only, as
#: Azure wants it.
_MARK = 'mmcvckptupload'


class ObjectStoreBackend(ObjectRequests):
    """A prefix in a bucket; an object appears complete or not at all.

    ``put`` streams in parallel parts of :data:`~.uploads.PART_BYTES`; the
    store compares each with the SHA-256 that comes with it (S3), and the size
    is looked at when all are there. A request that fails in
    passing is repeated by the client, with growing pauses. A second name is
    a copy on the server, up to 5 GiB, beyond that one through this machine.

    Args:
        url (str): ``s3://bucket/prefix``, ``gs://`` or ``az://``.
        options (dict, optional): See :func:`~.object_url.parse_place`.
            Default: None.

    Raises:
        ConfigError: If URL or options are wrong.
        DependencyError: If the client is not installed.

    Source: the consistency model of Amazon S3: strong read-after-write, and
    a PUT or CompleteMultipartUpload replaces an object at once.
    """
    capabilities = Capabilities(
        stream_in=True,
        ranged_read=True,
        atomic_replace=True,
        listing=True,
        delete=True,
        server_copy=True,
        point=True,
        share=True,
        exclusive=True,
        folders=True)

    def __init__(self,
                 url: str,
                 options: Optional[Mapping[str, Any]] = None) -> None:
        place = parse_place(url, options)
        super().__init__(place, import_client(place.url))
        self._leftovers = S3Leftovers(self._place) \
            if self._place.scheme == 's3' else None

    def prepare(self) -> None:
        """List, write and delete, to see whether that is allowed.

        It gives up early: who has mistyped an endpoint waits for it. Of a
        folder nothing is to be seen: it is there with its first object.
        """
        if self._within:
            return
        with self._errors('cannot list', missing=StorageError):
            self._line.reach(self._client.list_with_delimiter, quick=True)
        with self._errors('cannot write to', missing=StorageError):
            self._line.reach(
                lambda store: self._client.put(
                    store, _PROBE, b'', use_multipart=False),
                quick=True)
        # one that keeps everything can be saved to
        with suppress(AccessError):
            with self._errors('cannot delete from', missing=StorageError):
                self._line.reach(
                    lambda store: self._client.delete(store, _PROBE),
                    quick=True)

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        return self._commit(self._key(name), write)

    def open(self, name: str) -> IO[bytes]:
        return self._opened(self._key(name))

    def sweep(self) -> List[str]:
        """Abort uploads that nobody goes on with.

        On S3 alone: Azure forgets parts after a week, GCS needs a lifecycle
        rule. What may still live is looked at again after later saves.
        """
        if self._leftovers is None:
            return []
        with self._errors('cannot sweep', missing=StorageError):
            return self._leftovers.sweep()

    def list(self) -> List[StoredFile]:
        found = self._list()
        names = [(one['path'][len(self._within):], one['size'])
                 for one in found['objects']]
        # some stores list the prefix itself, as a folder; an object with the
        # name of one is nobody's
        files = [
            StoredFile(name, size) for name, size in names
            if name and not is_temporary(name) and not is_folder(name)
        ]
        for name in [] if self._within else folder_names(found):
            folder = found_folder(self.folder(name), name)
            files += [] if folder is None else [folder]
        return sorted(files, key=lambda file: file.name)

    def delete(self, name: str) -> None:
        key = self._key(name)
        # S3 does not tell, the others do
        with suppress(MissingCheckpointError):
            self._ask('cannot delete checkpoint',
                      lambda store: self._client.delete(store, key), key)

    def folder(self, name: str) -> 'ObjectStoreBackend':
        # what is known of the line, and of uploads, is known of all of it
        inside = copy(self)
        inside._within = f'{self._key(name)}/'
        inside.url = self._at(self._key(name))
        inside.capabilities = replace(self.capabilities, folders=False)
        return inside

    def folders(self) -> List[str]:
        return folder_names(self._list())

    def is_link(self, name: str) -> bool:
        return False

    def move(self, name: str, other: str) -> None:
        one, aside = self.folder(name), self.folder(other)
        move_folder(
            one,
            lambda file: self._duplicate(one._key(file), aside._key(file)))
        self.delete(name)  # some stores keep an empty directory

    def link(self, source: str, name: str) -> None:
        """Copy on the server; where it cannot, through this machine."""
        self._duplicate(self._key(source), self._key(name))

    def point(self, name: str, target: Optional[str]) -> None:
        """Store the target's name in a pointer file."""
        self._key(name)
        if target is None:
            self.delete(POINTER_FILE)
            return
        key = self._key(target)
        # a pointer never dangles
        self._head(f'{key}/{METADATA_NAME}' if is_folder(target) else key)
        line = target.encode() + b'\n'
        self.put(POINTER_FILE, lambda stream: stream.write(line))

    def share(self, name: str) -> SharedObject:
        return SharedObject(self._place, self._key(name))

    def _commit(self, key: str, write: Callable[[IO[bytes]], Any]) -> int:
        stream = self._stream(key)

        def attempt() -> None:
            nonlocal stream
            stream = self._stream(key)
            try:
                write(cast(IO[bytes], stream))
            except BaseException:
                stream.abandon()
                raise
            stream.finish()

        def spoilt(error: Exception) -> bool:
            return stream.failure is not None and is_spoilt(stream.failure)

        self._line.again(attempt, spoilt)
        if self._leftovers is not None:
            self._leftovers.sweep_later()
        return stream.size_bytes

    def _opened(self, key: str) -> IO[bytes]:
        try:
            # says the size, and has the beginning of a zip file
            meta, head = self._ask(
                _READ, lambda store: self._read(store, key, 0, SMALL_BYTES),
                key)
        except EmptyObject:
            meta, head = self._head(key), b''
        options = {} if not meta['e_tag'] else dict(if_match=meta['e_tag'])

        def fetch(start: int, stop: int) -> Any:
            return self._ask(
                _READ, lambda store: self._read(store, key, start, stop, **
                                                options)[1], key)

        return cast(IO[bytes], RangedFile(fetch, meta['size'], head))

    def _stream(self, key: str) -> MappedStream:
        return MappedStream(lambda: self._errors(_WRITE, key, StorageError),
                            lambda blocks: self._put_whole(key, blocks),
                            lambda blocks: self._put_parts(key, blocks))

    def _put_whole(self, key: str, blocks: List[Block]) -> None:
        content = blocks[0] if len(blocks) == 1 else b''.join(blocks)
        self._line.reach(lambda store: self._client.put(
            store, key, content, use_multipart=False))

    def _put_parts(self, key: str, blocks: Iterator[Block]) -> None:
        size, mark = 0, {_MARK: uuid.uuid4().hex}

        def counted() -> Iterator[Block]:
            nonlocal size
            for block in blocks:
                size += len(block)
                yield block

        with suppress(Abandoned):
            try:
                with self._line.watched():
                    self._client.put(
                        self._line.store,
                        key,
                        counted(),
                        attributes=mark,
                        chunk_size=PART_BYTES,
                        max_concurrency=PARALLEL_PARTS)
            except (self._client.exceptions.BaseError,
                    FileNotFoundError) as error:
                # completed, but the answer was lost: asked again, the store
                # knows no upload any more
                may_be_done = is_gone_upload(error) or is_unreadable(error)
                if not may_be_done or not self._has(key, mark):
                    raise
            self._check_size(key, size)

    def _duplicate(self, source: str, key: str) -> None:
        size = self._head(source)['size']
        if source == key:
            return  # S3 refuses it
        if size > _COPY_BYTES:
            self._copy(source, key)
            return
        self._ask(f'cannot copy {source} to',
                  lambda store: self._client.copy(store, source, key), key)
        self._check_size(key, size)

    def _copy(self, source: str, key: str) -> None:

        def write(stream: IO[bytes]) -> None:
            with self._opened(source) as original:
                while True:
                    block = original.read(_BLOCK_BYTES)
                    if not block:
                        return
                    stream.write(block)

        self._commit(key, write)
