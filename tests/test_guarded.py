"""Nothing is changed in a directory that another run has."""
import pytest
from lock_holder import sign

from mmcv_ckpt_hooks.errors import LockedError
from mmcv_ckpt_hooks.guarded import GuardedBackend, guarded, lock_of, take
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.storage.names import TEMPORARY_MARK
from mmcv_ckpt_hooks.testing import ManualClock, MemoryBackend
from mmcv_ckpt_hooks.testing.contract import StorageBackendContract
from mmcv_ckpt_hooks.types import Capabilities


class TestGuardedBackend(StorageBackendContract):

    @pytest.fixture
    def backend(self, tmp_path):
        backend = GuardedBackend(LocalBackend(str(tmp_path)), lambda: None)
        backend.prepare()
        return backend


class TestGuardedStore(StorageBackendContract):

    @pytest.fixture
    def backend(self):
        backend = GuardedBackend(MemoryBackend(), lambda: None)
        backend.prepare()
        return backend


class Ownership:
    """Says for how many more looks the directory is this run's."""

    def __init__(self):
        self.looks = None

    def check(self):
        if self.looks is not None:
            self.looks -= 1
            if self.looks < 0:
                raise LockedError('lost')


@pytest.fixture
def ownership():
    return Ownership()


@pytest.fixture
def backend(tmp_path, ownership):
    backend = GuardedBackend(LocalBackend(str(tmp_path)), ownership.check)
    backend.put('a.pth', lambda stream: stream.write(b'first'))
    return backend


@pytest.mark.parametrize('change', [
    lambda backend: backend.put('b.pth', lambda stream: stream.write(b'b')),
    lambda backend: backend.put('a.pth', lambda stream: stream.write(b'b')),
    lambda backend: backend.delete('a.pth'),
    lambda backend: backend.link('a.pth', 'b.pth'),
    lambda backend: backend.point('latest.pth', 'a.pth'),
    lambda backend: backend.sweep()
])
def test_who_lost_the_directory_changes_nothing(tmp_path, backend, ownership,
                                                change):
    ownership.looks = 0
    with pytest.raises(LockedError):
        change(backend)
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']
    assert (tmp_path / 'a.pth').read_bytes() == b'first'


def test_who_lost_it_still_reads(backend, ownership):
    ownership.looks = 0
    with backend.open('a.pth') as file:
        assert file.read() == b'first'
    assert [file.name for file in backend.list()] == ['a.pth']


def test_who_loses_it_in_the_middle_of_a_write_replaces_nothing(
        tmp_path, backend, ownership):
    """Stopped among gigabytes, and woken when another run is under way."""

    def write(stream):
        stream.write(b'second')
        ownership.looks = 0

    with pytest.raises(LockedError):
        backend.put('a.pth', write)
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']
    assert (tmp_path / 'a.pth').read_bytes() == b'first'


def test_a_place_that_can_share_no_file_has_no_lock():
    backend = MemoryBackend(Capabilities(listing=True, atomic_replace=True))
    assert lock_of(backend, 'checkpoints.json', print) is None
    assert guarded(None, backend, backend) == (backend, backend)


def test_the_lock_lies_beside_the_catalog_under_its_name(tmp_path):
    home = LocalBackend(str(tmp_path))
    for name, lock in (('checkpoints.json', 'checkpoints.lock'),
                       ('checkpoints.best.json', 'checkpoints.best.lock')):
        assert lock_of(home, name, print).path == str(tmp_path / lock)


def test_what_a_dead_run_left_is_removed_at_once(tmp_path):
    """However young: an immediate requeue would keep gigabytes."""
    dead = sign(tmp_path)
    left = tmp_path / f'.iter_8.pth{TEMPORARY_MARK}{dead.writer}-ab12'
    others = tmp_path / f'.iter_8.pth{TEMPORARY_MARK}{dead.writer}0-ab12'
    for path in (left, others):
        path.write_bytes(b'half a checkpoint')
    home = LocalBackend(str(tmp_path))
    lock = lock_of(home, 'checkpoints.json', lambda line: None)
    lock._clock = clock = ManualClock()
    lock._wait = clock.advance
    assert take(lock, home, home) == [left.name]
    assert not left.exists() and others.exists()
    lock.release()
    assert take(lock, home, home) == []
