"""The failing backend fails where it was told to, and only there."""
import pytest

from mmcv_ckpt_hooks.errors import OutOfSpaceError, StorageError
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.testing import Fault, FaultyBackend, MemoryBackend
from mmcv_ckpt_hooks.testing.contract import StorageBackendContract

FULL = OutOfSpaceError('full')


class TestFaultyBackendWithoutFaults(StorageBackendContract):

    @pytest.fixture
    def backend(self):
        backend = FaultyBackend(MemoryBackend())
        backend.prepare()
        return backend


def write(stream):
    stream.write(b'01234')
    stream.write(b'56789')
    stream.flush()


VERBS = {
    'prepare': lambda backend: backend.prepare(),
    'put': lambda backend: backend.put('b.pth', write),
    'open': lambda backend: backend.open('a.pth').close(),
    'list': lambda backend: backend.list(),
    'delete': lambda backend: backend.delete('b.pth'),
    'link': lambda backend: backend.link('a.pth', 'c.pth'),
    'point': lambda backend: backend.point('latest.pth', 'a.pth'),
}


@pytest.mark.parametrize('verb', VERBS)
@pytest.mark.parametrize('nth, times, failing', [
    (1, 1, [1]),
    (2, 2, [2, 3]),
    (3, None, [3, 4, 5]),
])
def test_fails_at_the_nth_call(verb, nth, times, failing):
    inner = MemoryBackend()
    inner.put('a.pth', write)
    backend = FaultyBackend(inner, [Fault(verb, FULL, nth, times)])
    failed = []
    for call in range(1, 6):
        try:
            VERBS[verb](backend)
        except OutOfSpaceError as error:
            assert error is FULL
            failed.append(call)
    assert failed == failing
    assert len(backend.calls) == 5
    assert all(call.split()[0] == verb for call in backend.calls)


def test_a_shared_file_fails_as_it_was_told():
    backend = FaultyBackend(
        MemoryBackend(),
        [Fault('share', FULL),
         Fault('look', FULL),
         Fault('replace', FULL)])
    with pytest.raises(OutOfSpaceError):
        backend.share('a.lock')
    shared = backend.share('a.lock')
    for call in (shared.look, lambda: shared.replace(b'content')):
        with pytest.raises(OutOfSpaceError):
            call()
    assert backend.inner.files == {}
    assert shared.look() == b'' and shared.replace(b'content')
    assert backend.calls == [
        f'{verb} a.lock'
        for verb in ('share', 'share', 'look', 'replace', 'look', 'replace')
    ]


@pytest.mark.parametrize('after_bytes', [0, 3, 5, 7, 10, 99])
def test_fails_after_some_bytes(tmp_path, after_bytes):
    backend = FaultyBackend(
        LocalBackend(str(tmp_path), durable=False),
        [Fault('put', FULL, nth=2, after_bytes=after_bytes)])
    assert backend.put('a.pth', write) == 10
    with pytest.raises(OutOfSpaceError):
        backend.put('a.pth', lambda stream: stream.write(b'x' * 10))
    with backend.open('a.pth') as file:
        assert file.read() == b'0123456789'
    assert backend.put('b.pth', write) == 10


@pytest.mark.parametrize('arguments, message', [
    (('save', FULL), 'verb must be one of'),
    (('open', FULL, 1, 1, 5), "only for 'put'"),
])
def test_impossible_fault_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Fault(*arguments)


def test_failing_stream_counts_bytes_of_any_buffer():
    taken = []
    fault = Fault('put', StorageError('now'), after_bytes=6)
    inner = MemoryBackend()

    def write_views(stream):
        taken.append(stream.write(memoryview(bytearray(4)).cast('I')))
        taken.append(stream.write(memoryview(bytearray(4)).cast('I')))

    with pytest.raises(StorageError, match='now'):
        FaultyBackend(inner, [fault]).put('a.pth', write_views)
    assert taken == [4]
    assert inner.files == {}
