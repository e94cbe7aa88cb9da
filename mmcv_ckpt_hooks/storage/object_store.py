"""Objects under a prefix: S3 and what speaks it, GCS, Azure."""
import uuid
from contextlib import suppress
from typing import IO, Any, Callable, Iterator, List, Mapping, Optional, cast

from ..errors import AccessError, MissingCheckpointError, StorageError
from ..types import POINTER_FILE, Capabilities, StoredFile
from ..wording import counted
from .names import TEMPORARY_MARK, is_temporary, plain_name
from .object_errors import (is_gone_upload, is_spoilt, is_unreadable,
                            object_errors)
from .object_line import ObjectLine
from .object_range import EmptyObject, read_range
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


class ObjectStoreBackend:
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
        exclusive=True)

    def __init__(self,
                 url: str,
                 options: Optional[Mapping[str, Any]] = None) -> None:
        self._place = parse_place(url, options)
        self.url = self._place.url
        self._client = import_client(self.url)
        self._line = ObjectLine(self._place)
        self._leftovers = S3Leftovers(self._place) \
            if self._place.scheme == 's3' else None

    def prepare(self) -> None:
        """List, write and delete, to see whether that is allowed.

        It gives up early: who has mistyped an endpoint waits for it.
        """
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
        plain_name(name, self.url)
        stream = self._stream(name)

        def attempt() -> None:
            nonlocal stream
            stream = self._stream(name)
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

    def open(self, name: str) -> IO[bytes]:
        plain_name(name, self.url)
        try:
            # says the size, and has the beginning of a zip file
            meta, head = self._ask(
                _READ, lambda store: self._read(store, name, 0, SMALL_BYTES),
                name)
        except EmptyObject:
            meta, head = self._head(name), b''
        options = {} if not meta['e_tag'] else dict(if_match=meta['e_tag'])

        def fetch(start: int, stop: int) -> Any:
            return self._ask(
                _READ, lambda store: self._read(store, name, start, stop, **
                                                options)[1], name)

        return cast(IO[bytes], RangedFile(fetch, meta['size'], head))

    def sweep(self) -> List[str]:
        """Abort uploads that nobody goes on with.

        On S3 alone: Azure forgets parts after a week, GCS needs a lifecycle
        rule. What may still live is looked at again behind later saves.
        """
        if self._leftovers is None:
            return []
        with self._errors('cannot sweep', missing=StorageError):
            return self._leftovers.sweep()

    def list(self) -> List[StoredFile]:
        found = self._ask(
            'cannot list',
            self._client.list_with_delimiter,
            missing=StorageError)['objects']
        # some stores list the prefix itself, as a folder
        files = [
            StoredFile(one['path'], one['size']) for one in found
            if one['path'] and not is_temporary(one['path'])
        ]
        return sorted(files, key=lambda file: file.name)

    def delete(self, name: str) -> None:
        plain_name(name, self.url)
        # S3 does not tell, the others do
        with suppress(MissingCheckpointError):
            self._ask('cannot delete checkpoint',
                      lambda store: self._client.delete(store, name), name)

    def link(self, source: str, name: str) -> None:
        """Copy on the server; where it cannot, through this machine."""
        plain_name(name, self.url)
        size = self._head(plain_name(source, self.url))['size']
        if source == name:
            return  # S3 refuses it
        if size > _COPY_BYTES:
            self._copy(source, name)
            return
        self._ask(f'cannot copy {source} to',
                  lambda store: self._client.copy(store, source, name), name)
        self._check_size(name, size)

    def point(self, name: str, target: Optional[str]) -> None:
        """Store the target's name in a pointer file."""
        plain_name(name, self.url)
        if target is None:
            self.delete(POINTER_FILE)
            return
        self._head(plain_name(target, self.url))  # a pointer never dangles
        line = target.encode() + b'\n'
        self.put(POINTER_FILE, lambda stream: stream.write(line))

    def share(self, name: str) -> SharedObject:
        return SharedObject(self._place, name)

    def _stream(self, name: str) -> MappedStream:
        return MappedStream(lambda: self._errors(_WRITE, name, StorageError),
                            lambda blocks: self._put_whole(name, blocks),
                            lambda blocks: self._put_parts(name, blocks))

    def _put_whole(self, name: str, blocks: List[Block]) -> None:
        content = blocks[0] if len(blocks) == 1 else b''.join(blocks)
        self._line.reach(lambda store: self._client.put(
            store, name, content, use_multipart=False))

    def _put_parts(self, name: str, blocks: Iterator[Block]) -> None:
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
                        name,
                        counted(),
                        attributes=mark,
                        chunk_size=PART_BYTES,
                        max_concurrency=PARALLEL_PARTS)
            except (self._client.exceptions.BaseError,
                    FileNotFoundError) as error:
                # completed, but the answer was lost: asked again, the store
                # knows no upload any more
                may_be_done = is_gone_upload(error) or is_unreadable(error)
                if not may_be_done or not self._has(name, mark):
                    raise
            self._check_size(name, size)

    def _copy(self, source: str, name: str) -> None:

        def write(stream: IO[bytes]) -> None:
            with self.open(source) as original:
                while True:
                    block = original.read(_BLOCK_BYTES)
                    if not block:
                        return
                    stream.write(block)

        self.put(name, write)

    def _check_size(self, name: str, expected: int) -> None:
        found = self._head(name)['size']
        if found != expected:
            raise StorageError(
                f'{self._at(name)} has {counted(found, "bytes")}, expected '
                f'{expected}: does another program write there?')

    def _has(self, name: str, mark: Mapping[str, str]) -> bool:
        """Whether an object is there that was sent with these attributes."""
        with suppress(MissingCheckpointError):
            there = self._ask(
                'cannot look for', lambda store: self._client.get(
                    store, name, options=dict(head=True)), name)
            return mark.items() <= dict(there.attributes).items()
        return False

    def _head(self, name: str) -> Any:
        return self._ask('cannot look for',
                         lambda store: self._client.head(store, name), name)

    def _read(self, store: Any, name: str, start: int, stop: int,
              **options: Any) -> Any:
        return read_range(self._client, store, name, start, stop, **options)

    def _ask(self,
             what: str,
             call: Callable[[Any], Any],
             name: str = '',
             missing: Any = MissingCheckpointError) -> Any:
        """Return what a request gives; it is made again if it may pass."""
        with self._errors(what, name, missing):
            return self._line.reach(call)

    def _errors(self,
                what: str,
                name: str = '',
                missing: Any = MissingCheckpointError) -> Any:
        return object_errors(what,
                             self._at(name) if name else self.url, missing,
                             self._place.secrets)

    def _at(self, name: str) -> str:
        return f'{self.url}/{name}'
