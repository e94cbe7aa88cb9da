"""What a backend promises of files that several processes write to."""
import threading
from typing import List

import pytest

from ..errors import StorageError, UnsupportedError
from ..storage.shared_file import share
from ..types import SharedFile, StorageBackend

_NAME = 'a.lock'
_WRITERS = 8


class SharedFileContract:
    """Part of :class:`~.contract.StorageBackendContract`."""

    def test_shares_what_it_declares(self, backend: StorageBackend) -> None:
        if not backend.capabilities.share:
            assert not backend.capabilities.exclusive
            with pytest.raises(UnsupportedError, match="'share'"):
                share(backend, _NAME)
            return
        shared = share(backend, _NAME)
        assert shared.look() == b''
        assert shared.place == share(backend, _NAME).place
        assert shared.place != share(backend, 'b.lock').place
        if backend.capabilities.listing:
            assert backend.list() == []  # to look creates nothing
        assert shared.replace(b'first') is True
        assert shared.is_exclusive is backend.capabilities.exclusive
        with backend.open(_NAME) as file:
            assert file.read() == b'first'

    @pytest.mark.parametrize('name', ['', '..', 'a/b.lock', '/a.lock'])
    def test_shares_nothing_outside(self, backend: StorageBackend,
                                    name: str) -> None:
        if backend.capabilities.share:
            with pytest.raises(StorageError, match='plain file name'):
                share(backend, name)

    def test_a_shared_file_is_replaced_only_as_it_was_seen(
            self, backend: StorageBackend) -> None:
        if not backend.capabilities.share:
            return
        one, other = share(backend, _NAME), share(backend, _NAME)
        assert one.look() == other.look() == b''
        assert one.replace(b'one') is True
        assert other.replace(b'other') is False
        assert other.look() == b'one'
        assert one.replace(b'one again') is True
        assert other.replace(b'other') is False
        assert other.look() == b'one again'
        assert other.replace(b'other') is True
        assert other.replace(b'other again') is True
        assert one.replace(b'one') is False
        assert one.look() == b'other again'

    def test_who_has_not_looked_only_creates(self,
                                             backend: StorageBackend) -> None:
        if not backend.capabilities.share:
            return
        assert share(backend, _NAME).replace(b'one') is True
        assert share(backend, _NAME).replace(b'other') is False
        assert share(backend, _NAME).look() == b'one'

    def test_a_shared_file_that_was_deleted_is_seen_anew(
            self, backend: StorageBackend) -> None:
        if not (backend.capabilities.share and backend.capabilities.delete):
            return
        shared = share(backend, _NAME)
        assert shared.replace(b'one') is True
        backend.delete(_NAME)
        assert shared.replace(b'two') is False
        assert shared.look() == b''
        assert shared.replace(b'two') is True
        assert shared.look() == b'two'

    def test_of_several_that_replace_at_once_one_succeeds(
            self, backend: StorageBackend) -> None:
        if not backend.capabilities.exclusive:
            return
        for found in (b'', b'found'):
            if found:
                backend.put('b.lock', lambda stream: stream.write(found))
            name = 'b.lock' if found else _NAME
            files = [share(backend, name) for _ in range(_WRITERS)]
            assert {file.look() for file in files} == {found}
            winner, = _race(files)
            assert share(backend, name).look() == winner


def _race(files: List[SharedFile]) -> List[bytes]:
    """Replace all at once; return what was written by who succeeded."""
    start, written = threading.Barrier(len(files)), []

    def write(number: int) -> None:
        content = f'writer {number}'.encode()
        start.wait()
        if files[number].replace(content):
            written.append(content)

    threads = [
        threading.Thread(target=write, args=(number, ))
        for number in range(len(files))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return written
