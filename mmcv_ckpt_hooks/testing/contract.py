"""What every storage backend promises, as tests.

Needs pytest. To have its assertions explained, call
``pytest.register_assert_rewrite('mmcv_ckpt_hooks.testing.contract')`` in a
``conftest.py``.
"""
import io
import os
import zipfile
from typing import Any, Callable, List

import pytest

from ..errors import MissingCheckpointError, StorageError, UnsupportedError
from ..types import POINTER_FILE, UNKNOWN_BYTES, Capabilities, StorageBackend
from .folder_contract import FolderContract, get, names_in, put
from .shared_contract import SharedFileContract

#: Names that lead out of a directory.
OUTSIDE = ('', '.', '..', '../a.pth', 'a/b.pth', '/a.pth', 'a\0.pth') + \
    (('a\\b.pth', ) if os.name == 'nt' else ())


class StorageBackendContract(FolderContract, SharedFileContract):
    """Subclass it as ``Test...`` and give the fixture ``backend``.

    Declared capabilities are tested, and that the verbs of the others raise
    ``UnsupportedError``.
    """

    #: Whether ``list`` tells sizes; ``UNKNOWN_BYTES`` otherwise.
    knows_sizes = True

    @pytest.fixture
    def backend(self) -> StorageBackend:
        """An empty backend, ``prepare`` called."""
        raise NotImplementedError('the subclass gives the backend')

    # -- put and open ------------------------------------------------------

    def test_says_what_it_is(self, backend: StorageBackend) -> None:
        assert isinstance(backend.url, str) and backend.url
        assert isinstance(backend.capabilities, Capabilities)

    def test_prepare_again_changes_nothing(self,
                                           backend: StorageBackend) -> None:
        put(backend, 'a.pth', b'a')
        backend.prepare()
        assert get(backend, 'a.pth') == b'a'
        if backend.capabilities.listing:
            assert names_in(backend) == ['a.pth']

    @pytest.mark.parametrize('parts', [
        (),
        (b'', ),
        (b'one', b'', b'two'),
        (bytearray(b'array'), memoryview(b'view')),
        (b'\0' * 3_000_000, b'small', bytes(range(256)) * 9000),
    ])
    def test_gives_back_what_was_put(self, backend: StorageBackend,
                                     parts: Any) -> None:
        written: List[int] = []

        def write(stream: Any) -> None:
            for part in parts:
                written.append(stream.write(part))
            stream.flush()

        content = b''.join(bytes(part) for part in parts)
        assert backend.put('a.pth', write) == len(content)
        assert written == [len(part) for part in parts]
        assert get(backend, 'a.pth') == content

    def test_writer_is_called_once_and_cannot_seek(
            self, backend: StorageBackend) -> None:
        streams: List[Any] = []
        backend.put('a.pth', streams.append)
        assert len(streams) == 1
        assert not hasattr(streams[0], 'seek')
        assert not hasattr(streams[0], 'tell')

    def test_takes_a_zip_archive(self, backend: StorageBackend) -> None:

        def write(stream: Any) -> None:
            with zipfile.ZipFile(stream, 'w') as archive:
                archive.writestr('record', b'content')

        backend.put('a.pth', write)
        with backend.open('a.pth') as file, zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            assert archive.read('record') == b'content'

    def test_put_replaces(self, backend: StorageBackend) -> None:
        put(backend, 'a.pth', b'a long content')
        put(backend, 'a.pth', b'short')
        assert get(backend, 'a.pth') == b'short'

    @pytest.mark.parametrize('error', [
        ValueError('in the writer'),
        OSError(5, 'in the writer'),
        FileNotFoundError(2, 'in the writer'),
        KeyboardInterrupt(),
    ])
    @pytest.mark.parametrize('size_bytes', [0, 3, 2_000_000])
    def test_failing_writer_changes_nothing(self, backend: StorageBackend,
                                            error: BaseException,
                                            size_bytes: int) -> None:
        put(backend, 'old.pth', b'old')

        def write(stream: Any) -> None:
            stream.write(bytes(size_bytes))
            raise error

        for name in ('old.pth', 'new.pth'):
            with pytest.raises(type(error)) as caught:
                backend.put(name, write)
            # untouched: the caller can tell its own error from the storage's
            assert caught.value is error
        assert get(backend, 'old.pth') == b'old'
        with pytest.raises(MissingCheckpointError):
            backend.open('new.pth')
        if backend.capabilities.listing:
            assert names_in(backend) == ['old.pth']
        put(backend, 'new.pth', b'new')
        assert get(backend, 'new.pth') == b'new'

    def test_unfinished_file_is_not_to_be_seen(
            self, backend: StorageBackend) -> None:
        put(backend, 'old.pth', b'old')

        def write(stream: Any) -> None:
            stream.write(b'half')
            stream.flush()
            if backend.capabilities.listing:
                assert names_in(backend) == ['old.pth']
            assert get(backend, 'old.pth') == b'old'

        backend.put('old.pth', write)
        assert get(backend, 'old.pth') == b'half'

    def test_unfinished_name_does_not_exist(self,
                                            backend: StorageBackend) -> None:

        def write(stream: Any) -> None:
            stream.write(b'half')
            stream.flush()
            with pytest.raises(MissingCheckpointError):
                backend.open('new.pth')
            if backend.capabilities.listing:
                assert names_in(backend) == []

        backend.put('new.pth', write)
        assert get(backend, 'new.pth') == b'half'

    def test_open_gives_a_seekable_file(self, backend: StorageBackend) -> None:
        put(backend, 'a.pth', b'0123456789')
        with backend.open('a.pth') as file, backend.open('a.pth') as other:
            assert file.seek(-3, io.SEEK_END) == 7
            assert file.read(2) == b'78'
            assert file.tell() == 9
            file.seek(0)
            assert file.read(1) == b'0'
            assert other.read() == b'0123456789'
        assert file.closed

    def test_missing_file_is_an_error_of_its_own(
            self, backend: StorageBackend) -> None:
        with pytest.raises(MissingCheckpointError, match='a.pth') as caught:
            backend.open('a.pth')
        assert isinstance(caught.value, FileNotFoundError)

    @pytest.mark.parametrize('name', OUTSIDE)
    def test_name_that_leads_outside_is_refused(self, backend: StorageBackend,
                                                name: str) -> None:
        put(backend, 'a.pth', b'a')
        called: List[Any] = []
        able = backend.capabilities
        refused: List[Callable[[], Any]] = [
            lambda: backend.put(name, called.append),
            lambda: backend.open(name)
        ]
        if able.delete:
            refused.append(lambda: backend.delete(name))
        if able.link or able.server_copy:
            refused.append(lambda: backend.link('a.pth', name))
            refused.append(lambda: backend.link(name, 'b.pth'))
        if backend.capabilities.point:
            refused.append(lambda: backend.point(name, 'a.pth'))
            refused.append(lambda: backend.point('latest.pth', name))
        for call in refused:
            with pytest.raises(StorageError, match='plain file name'):
                call()
        assert not called

    # -- list and delete ---------------------------------------------------

    def test_lists_names_and_sizes(self, backend: StorageBackend) -> None:
        if not backend.capabilities.listing:
            with pytest.raises(UnsupportedError, match="'listing'"):
                backend.list()
            return
        assert backend.list() == []
        put(backend, 'b.pth', b'12')
        put(backend, 'a.pth', b'123')
        listed = [file.name for file in backend.list()]
        assert listed == ['a.pth', 'b.pth']  # by name
        sizes = [3, 2] if self.knows_sizes else [UNKNOWN_BYTES] * 2
        assert [file.bytes for file in backend.list()] == sizes

    def test_deletes(self, backend: StorageBackend) -> None:
        put(backend, 'a.pth', b'a')
        put(backend, 'b.pth', b'b')
        if not backend.capabilities.delete:
            with pytest.raises(UnsupportedError, match="'delete'"):
                backend.delete('a.pth')
            assert get(backend, 'a.pth') == b'a'
            return
        backend.delete('a.pth')
        with pytest.raises(MissingCheckpointError):
            backend.open('a.pth')
        assert get(backend, 'b.pth') == b'b'
        backend.delete('a.pth')  # no error: it is not there, as asked

    def test_sweep_takes_nothing_committed(self,
                                           backend: StorageBackend) -> None:
        put(backend, 'a.pth', b'content')
        assert backend.sweep() == []
        assert get(backend, 'a.pth') == b'content'

    # -- link and point ----------------------------------------------------

    def test_links(self, backend: StorageBackend) -> None:
        able = backend.capabilities
        put(backend, 'a.pth', b'a')
        put(backend, 'b.pth', b'b')
        if not (able.link or able.server_copy):
            with pytest.raises(UnsupportedError, match="'link'"):
                backend.link('a.pth', 'b.pth')
            assert get(backend, 'b.pth') == b'b'
            return
        for name in ('b.pth', 'c.pth', 'a.pth', 'b.pth'):
            backend.link('a.pth', name)
            assert get(backend, name) == b'a'
        if able.listing:
            assert names_in(backend) == ['a.pth', 'b.pth', 'c.pth']
        put(backend, 'a.pth', b'new')
        assert get(backend, 'b.pth') == b'a'
        if able.delete:
            backend.delete('b.pth')
            assert get(backend, 'c.pth') == b'a'

    def test_link_to_nothing_changes_nothing(self,
                                             backend: StorageBackend) -> None:
        put(backend, 'a.pth', b'a')
        with pytest.raises((MissingCheckpointError, UnsupportedError)):
            backend.link('gone.pth', 'a.pth')
        assert get(backend, 'a.pth') == b'a'
        if backend.capabilities.listing:
            assert names_in(backend) == ['a.pth']

    def test_points(self, backend: StorageBackend) -> None:
        put(backend, 'a.pth', b'a')
        put(backend, 'b.pth', b'b')
        if not backend.capabilities.point:
            with pytest.raises(UnsupportedError, match="'point'"):
                backend.point('latest.pth', 'a.pth')
            return
        for target in ('a.pth', 'b.pth', 'b.pth', 'a.pth'):
            backend.point('latest.pth', target)
            assert self.pointed_at(backend) == get(backend, target)
        assert get(backend, 'b.pth') == b'b'

    def test_pointer_never_dangles(self, backend: StorageBackend) -> None:
        if not backend.capabilities.link:
            return
        put(backend, 'a.pth', b'a')
        backend.point('latest.pth', 'a.pth')
        with pytest.raises(MissingCheckpointError):
            backend.point('latest.pth', 'gone.pth')
        assert self.pointed_at(backend) == b'a'

    def pointed_at(self, backend: StorageBackend) -> bytes:
        """Follow ``latest.pth``, or the pointer file."""
        try:
            return get(backend, 'latest.pth')
        except MissingCheckpointError:
            return get(backend, get(backend, POINTER_FILE).decode().strip())
