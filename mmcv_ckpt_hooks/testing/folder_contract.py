"""What a backend promises of checkpoints that are folders."""
from typing import Any, Iterator, List, cast

import pytest

from ..errors import MissingCheckpointError, StorageError
from ..folders.folder import (FolderedBackend, folder_of, is_there, make_way,
                              remove, unfinished)
from ..folders.layout import METADATA_NAME, WRITING_NAME, part_name
from ..types import POINTER_FILE, StorageBackend

_NAME = 'iter_4.dcp'
_PART = part_name(0)


class FolderContract:
    """Part of :class:`~.contract.StorageBackendContract`."""

    @pytest.fixture
    def place(self, backend: StorageBackend) -> Iterator[FolderedBackend]:
        """The backend, if it has folders."""
        if not backend.capabilities.folders:
            pytest.skip(f'{backend.url} declares no folders')
        yield cast(FolderedBackend, backend)

    def test_a_folder_is_a_place(self, place: FolderedBackend) -> None:
        folder = place.folder(_NAME)
        folder.prepare()
        put(folder, _PART, b'part')
        put(folder, METADATA_NAME, b'metadata')
        assert get(folder, _PART) == get(place.folder(_NAME), _PART) == b'part'
        assert names_in(folder) == [METADATA_NAME, _PART]
        put(folder, _PART, b'another')
        assert get(folder, _PART) == b'another'
        folder.delete(_PART)
        folder.delete(_PART)
        with pytest.raises(MissingCheckpointError, match=_PART):
            folder.open(_PART)
        assert names_in(folder) == [METADATA_NAME]
        # of equal names those of the place are others
        put(place, _PART, b'beside')
        with pytest.raises(MissingCheckpointError):
            folder.open(_PART)
        assert folder.url == f'{place.url}/{_NAME}'

    def test_a_folder_is_listed_as_one_entry_when_it_is_complete(
            self, place: FolderedBackend) -> None:
        assert place.folders() == []
        assert not is_there(place, _NAME)
        folder = begun(place)
        put(place, 'iter_2.pth', b'file')
        assert place.folders() == [_NAME]
        assert names_in(place) == ['iter_2.pth']
        assert not is_there(place, _NAME)
        put(folder, METADATA_NAME, b'metadata')
        assert is_there(place, _NAME)
        folder.delete(WRITING_NAME)
        assert [(file.name, file.bytes) for file in place.list()
                ] == [('iter_2.pth', 4), (_NAME, len(b'part' + b'metadata'))]
        assert place.folders() == [_NAME]
        assert not place.is_link(_NAME)

    def test_a_folder_of_another_name_is_no_checkpoint(
            self, place: FolderedBackend) -> None:
        folder = place.folder('below')
        folder.prepare()
        put(folder, METADATA_NAME, b'metadata')
        assert place.folders() == [] and place.list() == []

    def test_a_file_with_the_name_of_a_folder_is_nobodys(
            self, place: FolderedBackend) -> None:
        put(place, _NAME, b'file')
        assert place.folders() == [] and place.list() == []
        place.delete(_NAME)
        complete(place)
        assert names_in(place) == [_NAME]

    def test_a_folder_is_removed_with_all_that_is_in_it(
            self, place: FolderedBackend) -> None:
        complete(place)
        complete(place, 'iter_6.dcp')
        remove(place, _NAME)
        assert names_in(place) == ['iter_6.dcp']
        assert unfinished(place) == []
        with pytest.raises(MissingCheckpointError):
            place.folder(_NAME).open(_PART)
        assert get(place.folder('iter_6.dcp'), _PART) == b'part'
        remove(place, _NAME)  # no error: it is not there, as asked

    def test_what_is_unfinished_has_a_mark(self,
                                           place: FolderedBackend) -> None:
        begun(place)
        complete(place, 'iter_6.dcp')
        other = place.folder('iter_8.dcp')
        other.prepare()
        put(other, _PART, b'of another program')
        assert unfinished(place) == [_NAME]
        make_way(place, _NAME, 'lineage')
        make_way(place, 'iter_8.dcp', 'lineage')
        assert unfinished(place) == []
        assert get(other, _PART) == b'of another program'

    def test_a_folder_moves(self, place: FolderedBackend) -> None:
        complete(place)
        place.move(_NAME, f'{_NAME}.1a2b')
        assert place.list() == [] and place.folders() == []
        aside = place.folder(f'{_NAME}.1a2b')
        assert names_in(aside) == [METADATA_NAME, _PART]
        assert get(aside, _PART) == b'part'
        assert not is_there(place, _NAME)

    def test_leads_to_a_folder(self, place: FolderedBackend) -> None:
        if not place.capabilities.point:
            return
        complete(place)
        place.point('latest.dcp', _NAME)
        try:
            found = get(place.folder('latest.dcp'), METADATA_NAME)
        except MissingCheckpointError:
            assert get(place, POINTER_FILE).decode().strip() == _NAME
        else:
            assert found == b'metadata'
        assert names_in(place) in ([_NAME], [_NAME, POINTER_FILE])
        with pytest.raises(MissingCheckpointError):
            place.point('latest.dcp', 'iter_9.dcp')

    @pytest.mark.parametrize('name', ['', '..', 'a/b.dcp', '/a.dcp'])
    def test_a_folder_is_nowhere_outside(self, place: FolderedBackend,
                                         name: str) -> None:
        calls: List[Any] = [
            lambda: folder_of(place, name).prepare(),
            lambda: place.move(name, 'a.dcp'),
            lambda: place.move('a.dcp', name),
            lambda: place.folder('a.dcp').open(name)
        ]
        for call in calls:
            with pytest.raises(StorageError, match='plain file name'):
                call()


def put(backend: StorageBackend, name: str, content: bytes) -> None:
    """Commit a file."""
    assert backend.put(name,
                       lambda stream: stream.write(content)) == len(content)


def get(backend: StorageBackend, name: str) -> bytes:
    """Return the content of a file."""
    with backend.open(name) as file:
        return file.read()


def names_in(backend: StorageBackend) -> List[str]:
    """Return what is listed."""
    return sorted(file.name for file in backend.list())


def begun(place: FolderedBackend, name: str = _NAME) -> StorageBackend:
    """Return a folder that is being written."""
    folder = place.folder(name)
    folder.prepare()
    put(folder, WRITING_NAME, b'token')
    put(folder, _PART, b'part')
    return folder


def complete(place: FolderedBackend, name: str = _NAME) -> None:
    """Write a folder that is a checkpoint."""
    folder = begun(place, name)
    put(folder, METADATA_NAME, b'metadata')
    folder.delete(WRITING_NAME)
