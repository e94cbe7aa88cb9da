"""Reading a remote object as a file."""
import io
import random
import threading
import zipfile

import pytest

from mmcv_ckpt_hooks.errors import StorageError
from mmcv_ckpt_hooks.storage import ranged_file
from mmcv_ckpt_hooks.storage.ranged_file import SMALL_BYTES, RangedFile

RANGE = 1 << 20


class Remote:
    """Counts what is fetched."""

    def __init__(self, content):
        self.content = content
        self.calls = []
        self.lock = threading.Lock()

    def fetch(self, start, stop):
        assert 0 <= start < stop <= len(self.content)
        with self.lock:
            self.calls.append((start, stop))
        return self.content[start:stop]

    def open(self):
        return RangedFile(self.fetch, len(self.content),
                          self.content[:SMALL_BYTES])


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch):
    monkeypatch.setattr(ranged_file, 'RANGE_BYTES', RANGE)


@pytest.fixture
def remote():
    return Remote(random.Random(0).randbytes(8 * RANGE + 12345))


@pytest.mark.parametrize('size', [1, 1000, 1 << 20, 1 << 24])
def test_in_order_each_byte_is_fetched_once(size):
    remote = Remote(
        random.Random(0).randbytes(400_000 if size == 1 else 8 * RANGE +
                                   12345))
    with remote.open() as file:
        parts = []
        while not parts or parts[-1]:
            parts.append(file.read(size))
    assert b''.join(parts) == remote.content
    fetched = sorted(remote.calls)
    # behind the beginning, which came with the opening
    assert fetched[0][0] == SMALL_BYTES
    assert fetched[-1][1] == len(remote.content)
    assert all(one[1] == other[0] for one, other in zip(fetched, fetched[1:]))
    assert len(fetched) <= 10


def test_reads_as_a_file_in_memory_does(remote):
    memory, drawn = io.BytesIO(remote.content), random.Random(1)
    with remote.open() as file:
        for _ in range(300):
            step = drawn.choice(('set', 'cur', 'end', 'stay'))
            if step == 'set':
                to = drawn.randrange(len(remote.content) + 10)
                assert file.seek(to) == memory.seek(to)
            elif step == 'cur':
                to = drawn.randrange(5000)
                assert file.seek(to, 1) == memory.seek(to, 1)
            elif step == 'end':
                to = -drawn.randrange(100_000)
                assert file.seek(to, 2) == memory.seek(to, 2)
            size = drawn.choice((0, 1, 100, 70_000, 2_000_000))
            assert file.read(size) == memory.read(size)
            assert file.tell() == memory.tell()
        file.seek(-10, 2)
        assert file.read() == remote.content[-10:]
        assert file.read() == b''


def test_a_look_at_the_directory_fetches_little():
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as archive:
        for index in range(40):
            archive.writestr(f'record{index}', bytes(RANGE))
    remote = Remote(content.getvalue())
    with remote.open() as file, zipfile.ZipFile(file) as archive:
        assert len(archive.infolist()) == 40
    assert sum(stop - start for start, stop in remote.calls) <= SMALL_BYTES * 2


def test_an_error_of_a_range_is_raised_where_it_is_read(remote):
    fetch = remote.fetch

    def broken(start, stop):
        if start >= 4 * RANGE:
            raise StorageError('broken line')
        return fetch(start, stop)

    remote.fetch = broken
    with remote.open() as file:
        assert file.read(3 * RANGE) == remote.content[:3 * RANGE]
        with pytest.raises(StorageError, match='broken line'):
            file.read(3 * RANGE)


def test_a_closed_file_fetches_no_more(remote):
    file = remote.open()
    file.read(2 * RANGE)
    file.close()
    calls = len(remote.calls)
    with pytest.raises(ValueError, match='closed'):
        file.read(1)
    assert len(remote.calls) == calls


def test_where_no_thread_can_be_started_it_reads_all_the_same(
        remote, monkeypatch):

    def ending(self, *args):
        raise RuntimeError('cannot schedule new futures')

    monkeypatch.setattr(ranged_file.ThreadPoolExecutor, 'submit', ending)
    with remote.open() as file:
        assert file.read() == remote.content
