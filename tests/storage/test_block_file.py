"""Large aligned blocks, past the page cache where that is allowed."""
import errno
import fcntl
import io
import mmap
import os
import threading

import pytest

from mmcv_ckpt_hooks.storage import block_file
from mmcv_ckpt_hooks.storage.block_file import BLOCK_BYTES, BlockFile

MB = 1 << 20
PAGE = 4096


def pattern(nbytes, seed=0):
    """Bytes in which no two pages are the same, in whole pages of memory."""
    memory = mmap.mmap(-1, max(nbytes, 1))
    for at in range(0, nbytes, PAGE):
        part = (b'%08d' % (seed + at)) * (PAGE // 8)
        memory[at:at + PAGE] = part[:min(PAGE, nbytes - at)]
    return memoryview(memory)[:nbytes]


class Raw(io.FileIO):
    """Tells of its writes; takes at most ``limit`` bytes at once."""

    def __init__(self, path, limit=None, refuse=None):
        super().__init__(path, 'x')
        self.writes = []
        self.limit, self.refuse = limit, refuse

    def write(self, data):
        flags = fcntl.fcntl(self.fileno(), fcntl.F_GETFL)
        direct = bool(flags & os.O_DIRECT)
        if direct and self.refuse:
            raise OSError(self.refuse, os.strerror(self.refuse))
        self.writes.append((len(data), direct, data.obj))
        return super().write(data[:self.limit])


def filled(path, parts, direct=True, **kwargs):
    """Have parts, ``(verb, bytes)``, written; return the raw file."""
    with Raw(path, **kwargs) as raw:
        file = BlockFile(raw, direct)
        try:
            for verb, data in parts:
                assert getattr(file, verb)(data) == len(data)
            file.finish()
        finally:
            file.close()
    return raw


def threads():
    """Those that write blocks; other tests have others."""
    return [
        one for one in threading.enumerate() if one.name == 'mmcv-ckpt-blocks'
    ]


@pytest.fixture
def direct(tmp_path):
    with open(tmp_path / 'probe', 'wb') as probe:
        if not block_file._set_direct(probe.fileno(), True):
            pytest.skip('this file system has no O_DIRECT')


PARTS = {
    'nothing': [],
    'a_header': [('write', b'abc')],
    'a_block': [('write', pattern(BLOCK_BYTES))],
    'a_block_and_a_byte': [('write', pattern(BLOCK_BYTES + 1))],
    'blocks_of_many_parts':
    [('write', pattern(3 * MB + 17, seed)) for seed in range(20)],
    'lent': [('lend', pattern(BLOCK_BYTES, seed)) for seed in range(5)],
    'lent_then_a_tail': [('lend', pattern(BLOCK_BYTES)),
                         ('lend', pattern(MB + 5, 1)),
                         ('write', b'directory')],
    'lent_behind_a_header': [('write', b'abc'), ('lend', pattern(BLOCK_BYTES)),
                             ('lend', pattern(PAGE, 1))],
    'lent_small': [('lend', pattern(PAGE, seed)) for seed in range(9)],
    'lent_empty': [('lend', pattern(0)), ('write', b'')],
}


@pytest.mark.parametrize('is_direct', [True, False])
@pytest.mark.parametrize('limit', [None, 3 * MB + 512, 3 * MB + 700])
@pytest.mark.parametrize('name', PARTS)
def test_what_is_written_is_in_the_file(tmp_path, name, limit, is_direct):
    filled(tmp_path / 'a', PARTS[name], is_direct, limit=limit)
    assert (tmp_path / 'a').read_bytes() == b''.join(
        bytes(data) for _, data in PARTS[name])
    assert not threads()


def test_whole_blocks_go_past_the_page_cache_and_the_tail_through_it(
        tmp_path, direct):
    raw = filled(tmp_path / 'a', PARTS['lent_then_a_tail'])
    assert [(size, past)
            for size, past, _ in raw.writes] == [(BLOCK_BYTES, True),
                                                 (MB + 5 + 9, False)]


def test_without_a_sync_the_page_cache_is_where_it_goes(tmp_path):
    raw = filled(tmp_path / 'a', PARTS['lent'], direct=False)
    assert not any(past for _, past, _ in raw.writes)


def test_a_small_file_asks_for_no_special_treatment(tmp_path, monkeypatch):
    monkeypatch.setattr(block_file, '_set_direct', None)
    filled(tmp_path / 'a', PARTS['a_header'])


def test_what_is_lent_is_not_copied(tmp_path):
    data = pattern(BLOCK_BYTES)
    raw = filled(tmp_path / 'a', [('lend', data)])
    assert raw.writes[0][2] is data.obj


class Gated(Raw):
    """Writes when it may."""

    def __init__(self, path):
        super().__init__(path)
        self.gate = threading.Event()

    def write(self, data):
        assert self.gate.wait(60)
        return super().write(data)


def test_what_is_not_lent_may_change_at_once(tmp_path):
    data = bytearray(pattern(BLOCK_BYTES))
    expected = bytes(data)
    with Gated(tmp_path / 'a') as raw:
        file = BlockFile(raw, True)
        file.write(data)
        data[:] = bytes(len(data))
        raw.gate.set()
        file.finish()
        file.close()
    assert (tmp_path / 'a').read_bytes() == expected


def test_blocks_are_few_however_large_the_file(tmp_path, monkeypatch):
    made = []
    real = mmap.mmap

    def counted(*args, **kwargs):
        made.append(kwargs)
        return real(*args, **kwargs)

    monkeypatch.setattr(block_file.mmap, 'mmap', counted)
    part = bytes(5 * MB + 3)
    filled(tmp_path / 'a', [('write', part)] * 20)
    assert os.path.getsize(tmp_path / 'a') == 20 * len(part)
    assert len(made) * BLOCK_BYTES <= 24 * MB
    # private ones may be written wrongly while the process forks
    assert all(one['flags'] & mmap.MAP_SHARED for one in made)


REFUSALS = pytest.mark.parametrize(
    'code', [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP])


@REFUSALS
def test_a_file_system_without_the_flag_is_written_through_the_cache(
        tmp_path, monkeypatch, code):
    real = fcntl.fcntl
    asked = []

    def refused(descriptor, command, *args):
        if command == fcntl.F_SETFL:
            asked.append(args)
            raise OSError(code, os.strerror(code))
        return real(descriptor, command, *args)

    monkeypatch.setattr(block_file.fcntl, 'fcntl', refused)
    filled(tmp_path / 'a', PARTS['lent'])
    assert (tmp_path / 'a').read_bytes() == b''.join(
        data for _, data in PARTS['lent'])
    assert len(asked) == 1


@REFUSALS
def test_a_file_system_that_refuses_the_writes_is_written_through_the_cache(
        tmp_path, code):
    raw = filled(tmp_path / 'a', PARTS['lent'], refuse=code)
    assert not any(past for _, past, _ in raw.writes)
    assert (tmp_path / 'a').read_bytes() == b''.join(
        data for _, data in PARTS['lent'])


def test_a_system_without_it_does_without(tmp_path, monkeypatch):
    monkeypatch.setattr(block_file, 'fcntl', None)
    raw = filled(tmp_path / 'a', PARTS['lent'])
    assert not any(past for _, past, _ in raw.writes)


@pytest.mark.parametrize('code', [errno.EIO, errno.ENOSPC])
def test_an_error_of_a_block_ends_the_file(tmp_path, direct, code):
    parts = [('lend', pattern(BLOCK_BYTES))] * 50
    with pytest.raises(OSError) as caught:
        filled(tmp_path / 'a', parts, refuse=code)
    assert caught.value.errno == code
    assert not threads()


class Stopping(Raw):
    """Takes a number of bytes, and then none, without an error."""

    def write(self, data):
        return super().write(data) if not self.writes else 0


@pytest.mark.timeout(60, method='thread')
@pytest.mark.parametrize('parts', ['lent', 'blocks_of_many_parts'])
def test_a_file_that_takes_no_more_is_full(tmp_path, parts):
    with Stopping(tmp_path / 'a') as raw:
        file = BlockFile(raw, True)
        with pytest.raises(OSError) as caught:
            for verb, data in PARTS[parts]:
                getattr(file, verb)(data)
            file.finish()
        file.close()
    assert caught.value.errno == errno.ENOSPC


def test_a_closed_file_writes_nothing_more(tmp_path):
    with Raw(tmp_path / 'a') as raw:
        file = BlockFile(raw, True)
        file.write(b'abc')
        file.close()
    assert not raw.writes


def test_it_is_written_when_the_interpreter_is_ending(tmp_path, monkeypatch):
    """Python 3.12 starts no thread then."""

    def refused(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, 'start', refused)
    parts = PARTS['blocks_of_many_parts']
    filled(tmp_path / 'a', parts)
    assert (tmp_path / 'a').read_bytes() == b''.join(
        bytes(data) for _, data in parts)
