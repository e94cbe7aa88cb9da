"""The local backend: what a file system may do to a checkpoint."""
import errno
import io
import multiprocessing
import os
import signal
import stat
import sys
import time

import pytest

from mmcv_ckpt_hooks.errors import (AccessError, MissingCheckpointError,
                                    OutOfSpaceError, StorageError)
from mmcv_ckpt_hooks.storage import local, streams
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.storage.names import TEMPORARY_MARK
from mmcv_ckpt_hooks.testing.contract import StorageBackendContract
from mmcv_ckpt_hooks.types import POINTER_FILE

posix_only = pytest.mark.skipif(os.name != 'posix', reason='POSIX')


class TestLocalBackend(StorageBackendContract):

    @pytest.fixture(params=[True, False])
    def backend(self, tmp_path, request):
        return prepared(tmp_path / 'a' / 'b', request.param)


class TestLocalBackendWithoutLinks(StorageBackendContract):
    """FAT, exFAT, some network and FUSE file systems."""

    @pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
    def backend(self, tmp_path, monkeypatch, request):
        refuse(monkeypatch, 'symlink', request.param)
        refuse(monkeypatch, 'link', request.param)
        return prepared(tmp_path)


class TestLocalBackendWithoutSymlinks(StorageBackendContract):
    """Windows without the privilege."""

    @pytest.fixture
    def backend(self, tmp_path, monkeypatch):
        refuse(monkeypatch, 'symlink', errno.EPERM)
        return prepared(tmp_path)


@pytest.fixture
def backend(tmp_path):
    return LocalBackend(str(tmp_path))


def prepared(path, durable=True):
    backend = LocalBackend(str(path), durable)
    backend.prepare()
    return backend


def refuse(monkeypatch, call, number):

    def refused(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refused)


def put(backend, name, content=b'content'):
    return backend.put(name, lambda stream: stream.write(content))


def get(backend, name):
    with backend.open(name) as file:
        return file.read()


def names(path):
    return sorted(os.listdir(path))


# -- the order of a commit -------------------------------------------------


@pytest.fixture
def recorded(monkeypatch):
    """What reaches the file system, in order."""
    events = []
    sync, replace = os.fsync, os.replace

    def fsync(descriptor):
        mode = os.fstat(descriptor).st_mode
        size_bytes = os.fstat(descriptor).st_size
        events.append('sync directory' if stat.
                      S_ISDIR(mode) else f'sync file of {size_bytes}')
        sync(descriptor)

    def rename(source, target):
        events.append(f'rename to {os.path.basename(target)}')
        replace(source, target)

    monkeypatch.setattr(os, 'fsync', fsync)
    monkeypatch.setattr(os, 'replace', rename)
    return events


@posix_only
def test_power_cut_after_the_name_appeared_loses_no_bytes(backend, recorded):
    put(backend, 'a.pth')
    assert recorded == ['sync file of 7', 'rename to a.pth', 'sync directory']


@posix_only
def test_links_and_deletions_are_durable(backend, recorded):
    put(backend, 'a.pth')
    for change in (lambda: backend.link('a.pth', 'b.pth'),
                   lambda: backend.point('latest.pth', 'a.pth'),
                   lambda: backend.delete('b.pth')):
        del recorded[:]
        change()
        assert recorded[-1] == 'sync directory'


@posix_only
def test_new_directories_are_durable(tmp_path, recorded):
    (tmp_path / 'a').mkdir()  # mmcv's runner was there first
    LocalBackend(str(tmp_path / 'a' / 'b')).prepare()
    # of a, of the one above, and on to the mount point
    assert set(recorded) == {'sync directory'} and len(recorded) >= 2


def test_nothing_waits_for_the_disk_if_not_wanted(tmp_path, recorded):
    backend = LocalBackend(str(tmp_path / 'new'), durable=False)
    backend.prepare()
    put(backend, 'a.pth')
    backend.link('a.pth', 'b.pth')
    assert [event for event in recorded if 'sync' in event] == []


@posix_only
@pytest.mark.parametrize('number', [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_directory_that_cannot_be_synced_is_no_error(backend, monkeypatch,
                                                     number):
    sync = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, 'fsync', fsync)
    assert put(backend, 'a.pth') == 7


@posix_only
def test_directory_that_cannot_be_read_can_be_saved_to(backend, monkeypatch):
    opened = os.open

    def refuse_directories(path, *args, **kwargs):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, 'Permission denied')
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(os, 'open', refuse_directories)
    assert put(backend, 'a.pth') == 7


@posix_only
def test_failed_sync_commits_nothing(backend, tmp_path, monkeypatch):
    put(backend, 'a.pth', b'old')
    refuse(monkeypatch, 'fsync', errno.EIO)
    with pytest.raises(StorageError, match='cannot write checkpoint'):
        put(backend, 'a.pth', b'new')
    assert names(tmp_path) == ['a.pth']
    assert get(backend, 'a.pth') == b'old'


def test_drive_cache_is_flushed_on_macos(backend, monkeypatch):
    fcntl = pytest.importorskip('fcntl')
    calls = []
    monkeypatch.setattr(sys, 'platform', 'darwin')
    monkeypatch.setattr(fcntl, 'F_FULLFSYNC', 51, raising=False)
    monkeypatch.setattr(fcntl, 'fcntl', lambda *args: calls.append(args[1]))
    put(backend, 'a.pth')
    assert calls == [51]


@pytest.mark.parametrize('number, works', [(errno.ENOTSUP, True),
                                           (errno.ENOTTY, True),
                                           (errno.EIO, False)])
def test_macos_network_drives_have_no_cache_to_flush(backend, monkeypatch,
                                                     number, works):
    fcntl = pytest.importorskip('fcntl')

    def refused(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sys, 'platform', 'darwin')
    monkeypatch.setattr(fcntl, 'F_FULLFSYNC', 51, raising=False)
    monkeypatch.setattr(fcntl, 'fcntl', refused)
    if works:
        assert put(backend, 'a.pth') == 7
    else:
        with pytest.raises(StorageError):
            put(backend, 'a.pth')


# -- killed ----------------------------------------------------------------


def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)


def save_and_die(directory, moment):
    """In a process of its own: killed when it comes to ``moment``."""

    def write(stream):
        stream.write(b'n' * 3_000_000)
        if moment == 'write':
            kill()
        stream.write(b'ew')

    if moment in ('replace', 'fsync'):
        setattr(os, moment, kill)
    if moment == 'renamed':
        LocalBackend._sync_directory = kill
    LocalBackend(directory).put('iter_2.pth', write)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks')
@pytest.mark.parametrize('moment', ['write', 'fsync', 'replace', 'renamed'])
@pytest.mark.parametrize('replaces', [False, True])
def test_killed_save_leaves_no_broken_checkpoint(backend, tmp_path, moment,
                                                 replaces):
    put(backend, 'iter_2.pth' if replaces else 'iter_1.pth', b'old')
    there = backend.list()
    process = multiprocessing.get_context('fork').Process(
        target=save_and_die, args=(str(tmp_path), moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    if moment == 'renamed':
        assert get(backend, 'iter_2.pth') == b'n' * 3_000_000 + b'ew'
        return
    assert backend.list() == there
    assert get(backend, there[0].name) == b'old'
    left = [name for name in names(tmp_path) if name != there[0].name]
    assert len(left) == 1
    # tools that glob for checkpoints must not meet it
    assert not left[0].endswith('.pth') and left[0].startswith('.')
    put(backend, 'iter_2.pth', b'again')
    assert get(backend, 'iter_2.pth') == b'again'


# -- names and modes -------------------------------------------------------


@posix_only
@pytest.mark.parametrize('umask, mode', [(0o027, 0o640), (0o022, 0o644),
                                         (0o002, 0o664), (0o077, 0o600)])
def test_group_can_read_as_with_stock(backend, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        put(backend, 'a.pth')
        with open(str(tmp_path / 'stock.pth'), 'wb'):
            pass
    finally:
        os.umask(before)
    for name in ('a.pth', 'stock.pth'):
        assert stat.S_IMODE(os.stat(str(tmp_path / name)).st_mode) == mode


@posix_only
def test_group_of_a_setgid_directory_is_kept(backend, tmp_path):
    group = 12345 if os.geteuid() == 0 else os.getgroups()[-1]
    os.chown(str(tmp_path), -1, group)
    os.chmod(str(tmp_path), 0o2770)
    put(backend, 'a.pth')
    assert os.stat(str(tmp_path / 'a.pth')).st_gid == group


def test_longest_name_that_a_file_system_allows(backend):
    name = 'b' * 251 + '.pth'
    put(backend, name)
    backend.link(name, 'a.pth')
    assert [file.name for file in backend.list()] == ['a.pth', name]


def test_name_that_contains_the_mark_is_listed(backend):
    name = f'best_a{TEMPORARY_MARK}b.pth'
    put(backend, name)
    assert [file.name for file in backend.list()] == [name]


def test_directory_is_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert LocalBackend('work_dirs/').url == str(tmp_path / 'work_dirs')
    assert LocalBackend('~/work_dirs').url == str(tmp_path / 'work_dirs')


def test_only_files_are_listed(backend, tmp_path):
    put(backend, 'a.pth')
    (tmp_path / 'directory').mkdir()
    backend.point('latest.pth', 'a.pth')
    (tmp_path / f'.b.pth{TEMPORARY_MARK}1-2').write_bytes(b'left behind')
    assert [file.name for file in backend.list()] == ['a.pth']


def test_file_that_vanishes_while_listed_is_no_error(backend, monkeypatch):
    put(backend, 'a.pth')
    put(backend, 'b.pth')

    class Entry:

        def __init__(self, entry):
            self.name = entry.name
            self.is_symlink = entry.is_symlink
            self._entry = entry

        def stat(self):
            if self.name == 'a.pth':
                raise FileNotFoundError(errno.ENOENT, 'gone')
            return self._entry.stat()

    class Directory:

        def __init__(self, path):
            self._entries = scandir(path)

        def __enter__(self):
            return map(Entry, self._entries)

        def __exit__(self, *args):
            self._entries.close()

    scandir = os.scandir
    monkeypatch.setattr(os, 'scandir', Directory)
    assert [file.name for file in backend.list()] == ['b.pth']


# -- links -----------------------------------------------------------------


def test_link_shares_the_inode(backend, tmp_path):
    put(backend, 'a.pth')
    backend.link('a.pth', 'b.pth')
    assert os.path.samefile(str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))


def test_second_link_to_the_same_file_leaves_no_temporary(backend, tmp_path):
    put(backend, 'a.pth')
    for _ in range(2):
        backend.link('a.pth', 'b.pth')
        backend.link('b.pth', 'a.pth')
        backend.link('a.pth', 'a.pth')
        assert names(tmp_path) == ['a.pth', 'b.pth']
    assert get(backend, 'b.pth') == b'content'


@posix_only
def test_link_to_a_symlink_gives_a_file(backend, tmp_path):
    put(backend, 'a.pth')
    backend.point('latest.pth', 'a.pth')
    backend.link('latest.pth', 'b.pth')
    backend.delete('a.pth')
    assert get(backend, 'b.pth') == b'content'
    assert not os.path.islink(str(tmp_path / 'b.pth'))


def test_copy_where_links_are_not_allowed_is_another_file(
        backend, tmp_path, monkeypatch):
    put(backend, 'a.pth')
    refuse(monkeypatch, 'link', errno.EMLINK)
    backend.link('a.pth', 'b.pth')
    assert get(backend, 'b.pth') == b'content'
    assert not os.path.samefile(
        str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth'))
    assert names(tmp_path) == ['a.pth', 'b.pth']


def test_full_disk_is_no_reason_to_copy(backend, tmp_path, monkeypatch):
    put(backend, 'a.pth')
    refuse(monkeypatch, 'link', errno.ENOSPC)
    with pytest.raises(OutOfSpaceError, match='cannot link a.pth'):
        backend.link('a.pth', 'b.pth')
    assert names(tmp_path) == ['a.pth']


@posix_only
def test_latest_is_a_relative_symlink(backend, tmp_path):
    put(backend, 'a.pth')
    backend.point('latest.pth', 'a.pth')
    assert os.readlink(str(tmp_path / 'latest.pth')) == 'a.pth'
    moved = tmp_path.parent / f'{tmp_path.name}-moved'
    tmp_path.rename(moved)
    assert get(LocalBackend(str(moved)), 'latest.pth') == b'content'


@posix_only
@pytest.mark.parametrize('symlinks', [True, False])
def test_latest_is_there_at_every_moment(backend, tmp_path, monkeypatch,
                                         symlinks):
    put(backend, 'a.pth', b'a')
    put(backend, 'b.pth', b'b')
    if not symlinks:
        refuse(monkeypatch, 'symlink', errno.EPERM)
    backend.point('latest.pth', 'a.pth')
    seen = []
    for call in ('symlink', 'link', 'replace', 'unlink', 'fsync'):
        monkeypatch.setattr(os, call, watched(backend, seen, getattr(os,
                                                                     call)))
    backend.point('latest.pth', 'b.pth')
    assert seen[0] == b'a' and seen[-1] == b'b'
    assert set(seen) == {b'a', b'b'}
    assert names(tmp_path) == ['a.pth', 'b.pth', 'latest.pth']


def watched(backend, seen, call):

    def look_around(*args, **kwargs):
        seen.append(get(backend, 'latest.pth'))
        try:
            return call(*args, **kwargs)
        finally:
            seen.append(get(backend, 'latest.pth'))

    return look_around


def test_latest_is_a_hard_link_where_symlinks_are_not_allowed(
        backend, tmp_path, monkeypatch):
    refuse(monkeypatch, 'symlink', errno.EPERM)
    put(backend, 'a.pth')
    for _ in range(2):
        backend.point('latest.pth', 'a.pth')
        assert names(tmp_path) == ['a.pth', 'latest.pth']
    assert os.path.samefile(
        str(tmp_path / 'a.pth'), str(tmp_path / 'latest.pth'))


def test_a_link_is_taken_back_and_nothing_else(backend, tmp_path):
    put(backend, 'a.pth', b'a')
    backend.point('latest.pth', None)  # no error: there is none
    backend.point('latest.pth', 'a.pth')
    backend.point('latest.pth', None)
    assert not os.path.lexists(tmp_path / 'latest.pth')
    put(backend, 'latest.pth', b'a')
    backend.point('latest.pth', None)
    assert (tmp_path / 'latest.pth').read_bytes() == b'a'


@pytest.mark.parametrize('error', [
    OSError(errno.EPERM, 'no'),
    OSError(errno.EOPNOTSUPP, 'no'),
    NotImplementedError('no'),
])
def test_latest_is_a_pointer_file_where_no_links_are_allowed(
        backend, tmp_path, monkeypatch, error):
    put(backend, 'a.pth')
    (tmp_path / 'latest.pth').write_bytes(b'stale')

    def refused(*args, **kwargs):
        raise error

    monkeypatch.setattr(os, 'symlink', refused)
    monkeypatch.setattr(os, 'link', refused)
    backend.point('latest.pth', 'a.pth')
    # a stale latest.pth would be taken for the newest
    assert names(tmp_path) == ['a.pth', POINTER_FILE]
    assert get(backend, POINTER_FILE) == b'a.pth\n'


@pytest.mark.parametrize('call', ['symlink', 'link'])
def test_full_disk_leaves_the_pointer_as_it_was(backend, tmp_path, monkeypatch,
                                                call):
    put(backend, 'a.pth', b'a')
    put(backend, 'b.pth', b'b')
    backend.point('latest.pth', 'a.pth')
    refuse(monkeypatch, 'symlink', errno.EPERM)
    refuse(monkeypatch, call, errno.ENOSPC)
    with pytest.raises(OutOfSpaceError, match='cannot point latest.pth'):
        backend.point('latest.pth', 'b.pth')
    assert get(backend, 'latest.pth') == b'a'
    assert names(tmp_path) == ['a.pth', 'b.pth', 'latest.pth']


# -- errors ----------------------------------------------------------------

TABLE = [
    (errno.ENOSPC, OutOfSpaceError),
    (errno.EDQUOT, OutOfSpaceError),
    (errno.EFBIG, OutOfSpaceError),
    (errno.EACCES, AccessError),
    (errno.EPERM, AccessError),
    (errno.EROFS, AccessError),
    (errno.EIO, StorageError),
    (errno.ESTALE, StorageError),
]

PUT = ('cannot write checkpoint', lambda backend: put(backend, 'a.pth'))
VERBS = {
    'os.replace': PUT,
    'os.fsync': PUT,
    'os.scandir': ('cannot list', lambda backend: backend.list()),
    'os.unlink': ('cannot delete', lambda backend: backend.delete('a.pth')),
    'os.makedirs': ('cannot create', lambda backend: backend.prepare()),
}


@pytest.mark.parametrize('number, expected', TABLE)
@pytest.mark.parametrize('call', VERBS)
def test_error_is_mapped_and_names_the_file(backend, monkeypatch, call, number,
                                            expected):
    put(backend, 'a.pth', b'old')
    what, verb = VERBS[call]
    with monkeypatch.context() as patch:
        refuse(patch, call[3:], number)
        with pytest.raises(StorageError, match=what) as caught:
            verb(backend)
    assert type(caught.value) is expected
    assert caught.value.__cause__.errno == number
    assert backend.url in str(caught.value)
    assert get(backend, 'a.pth') == b'old'


@pytest.mark.parametrize('number, expected', TABLE)
def test_refused_read_is_never_a_missing_file(backend, monkeypatch, number,
                                              expected):

    def refused(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(local, 'open', refused, raising=False)
    for verb in (backend.prepare, lambda: backend.open('a.pth')):
        with pytest.raises(StorageError) as caught:
            verb()
        assert type(caught.value) is expected
    monkeypatch.setattr(streams, 'open', refused, raising=False)
    with pytest.raises(StorageError) as caught:
        put(backend, 'a.pth')
    assert type(caught.value) is expected


class FullDisk(io.RawIOBase):
    """A file that is made, but takes nothing."""
    attempts = 0

    def __init__(self, path, mode, buffering):
        self._file = io.FileIO(path, 'x')

    def fileno(self):
        return self._file.fileno()

    def writable(self):
        return True

    def write(self, data):
        self.attempts += 1
        raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('size_bytes', [10, 5_000_000])
def test_full_disk_leaves_the_old_checkpoint(backend, tmp_path, monkeypatch,
                                             size_bytes):
    put(backend, 'a.pth', b'old')
    monkeypatch.setattr(streams, 'open', FullDisk, raising=False)
    with pytest.raises(OutOfSpaceError, match='Free space'):
        put(backend, 'a.pth', bytes(size_bytes))
    assert names(tmp_path) == ['a.pth']
    assert get(backend, 'a.pth') == b'old'


@pytest.mark.parametrize('first', [ValueError, KeyboardInterrupt])
def test_interrupted_save_writes_nothing_more(backend, tmp_path, monkeypatch,
                                              first):
    opened = []

    def open_full(*args, **kwargs):
        opened.append(FullDisk(*args, **kwargs))
        return opened[-1]

    def write(stream):
        stream.write(b'buffered')
        raise first

    monkeypatch.setattr(streams, 'open', open_full, raising=False)
    with pytest.raises(first):
        backend.put('a.pth', write)
    assert opened[0].closed and opened[0].attempts == 0
    assert names(tmp_path) == []


def test_error_while_closing_commits_nothing(backend, tmp_path, monkeypatch):
    """NFS tells that the quota is used up when a file is closed."""

    class Quota(io.FileIO):

        def __init__(self, path, mode, buffering):
            super().__init__(path, 'x')

        def close(self):
            if not self.closed:
                super().close()
                raise OSError(errno.EDQUOT, 'Disk quota exceeded')

    put(backend, 'a.pth', b'old')
    monkeypatch.setattr(streams, 'open', Quota, raising=False)
    with pytest.raises(OutOfSpaceError):
        put(backend, 'a.pth', b'new')
    assert names(tmp_path) == ['a.pth']
    assert get(backend, 'a.pth') == b'old'


def test_save_into_a_vanished_directory_is_no_missing_checkpoint(tmp_path):
    backend = LocalBackend(str(tmp_path / 'gone'))
    with pytest.raises(StorageError, match='cannot write') as caught:
        put(backend, 'a.pth')
    assert not isinstance(caught.value, MissingCheckpointError)


def test_file_in_the_place_of_the_directory_is_an_error(tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    for place in ('file', 'file/below'):
        with pytest.raises(StorageError, match='cannot create'):
            LocalBackend(str(tmp_path / place)).prepare()


@posix_only
@pytest.mark.skipif(
    os.name == 'posix' and os.geteuid() == 0, reason='root may do everything')
def test_prepare_finds_out_that_nothing_can_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(AccessError, match='owner and mode'):
        LocalBackend(str(tmp_path)).prepare()


# -- Windows ---------------------------------------------------------------


def sharing_violation(number):
    error = PermissionError(errno.EACCES, 'used by another process')
    error.winerror = number
    return error


@pytest.fixture
def pauses(monkeypatch):
    waited = []
    monkeypatch.setattr(local.time, 'sleep', waited.append)
    return waited


@pytest.mark.parametrize('number', [5, 32])
def test_file_held_by_a_reader_is_replaced_later(backend, monkeypatch, pauses,
                                                 number):
    replace, failures = os.replace, [sharing_violation(number)] * 3

    def busy(source, target):
        if failures:
            raise failures.pop()
        replace(source, target)

    monkeypatch.setattr(os, 'replace', busy)
    put(backend, 'a.pth')
    assert get(backend, 'a.pth') == b'content'
    assert len(pauses) == 3 and pauses == sorted(pauses)


def test_file_held_for_ever_is_an_error(backend, tmp_path, monkeypatch,
                                        pauses):

    def busy(source, target):
        raise sharing_violation(32)

    monkeypatch.setattr(os, 'replace', busy)
    with pytest.raises(AccessError, match='used by another process'):
        put(backend, 'a.pth')
    assert len(pauses) == 4
    assert names(tmp_path) == []


def test_other_refusals_are_not_repeated(backend, monkeypatch, pauses):
    refuse(monkeypatch, 'replace', errno.EACCES)
    with pytest.raises(AccessError):
        put(backend, 'a.pth')
    assert pauses == []


# -- leftovers of dead writers ---------------------------------------------


def leftover(tmp_path, age_secs):
    path = tmp_path / '.iter_8.pth.tmp-123-abc'
    path.write_bytes(b'half a checkpoint')
    os.utime(path, (time.time() - age_secs, ) * 2)
    return path


def test_gigabytes_of_a_killed_save_are_removed_at_the_next_start(
        backend, tmp_path):
    path = leftover(tmp_path, 3600)
    assert backend.sweep() == [path.name]
    assert not path.exists()


def test_a_file_that_a_live_writer_holds_is_not_swept(backend, tmp_path):
    """Another process, or another machine, may be saving right now."""
    seen = []

    def write(stream):
        stream.write(b'content')
        name = next(path for path in os.listdir(tmp_path) if '.tmp-' in path)
        os.utime(tmp_path / name, (0, 0))
        seen.append(LocalBackend(str(tmp_path)).sweep())

    backend.put('iter_8.pth', write)
    assert seen == [[]]
    assert (tmp_path / 'iter_8.pth').read_bytes() == b'content'


def test_a_young_file_is_not_swept(backend, tmp_path):
    """Its writer may not have come to the lock yet."""
    path = leftover(tmp_path, 5)
    assert backend.sweep() == []
    assert path.exists()


def test_a_pointer_that_was_not_moved_is_swept(backend, tmp_path):
    path = tmp_path / '.latest.pth.tmp-123-abc'
    path.symlink_to('iter_8.pth')
    os.utime(path, (0, 0), follow_symlinks=False)
    assert backend.sweep() == [path.name]
