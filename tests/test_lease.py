"""The lock file: what it says, and to whom it proves something."""
import errno
import json
import os
from dataclasses import replace

import pytest

from mmcv_ckpt_hooks import lease
from mmcv_ckpt_hooks.errors import AccessError, StorageError
from mmcv_ckpt_hooks.lease import (KernelLock, LockFile, Owner, decode, encode,
                                   share_locks, this_run)

OWNER = Owner('node7', 41, '2026-11-24 10:00:00', 'token', '41-abc', 'boot', 5,
              True)


@pytest.fixture
def file(tmp_path):
    opened = LockFile(str(tmp_path / 'checkpoints.lock'))
    yield opened
    opened.close()


def test_an_owner_is_read_as_it_was_written():
    for owner in (OWNER, replace(OWNER, beat=None), replace(OWNER, beat=7)):
        assert decode(encode(owner)) == owner


@pytest.mark.parametrize('content', [
    b'', b'{', b'[]', b'{}', b'null', b'\xff\xfe', b'held by me',
    encode(OWNER)[:40],
    encode(OWNER)[:-900],
    encode(OWNER).replace(b'"pid": 41', b'"pid": "x"')
])
def test_what_names_nobody_is_said_to(content):
    assert decode(content) is None


def test_a_beat_changes_nothing_but_the_count(file, tmp_path):
    file.write(OWNER)
    file.write_beat(12)
    assert decode(file.read()) == replace(OWNER, beat=12)
    file.write_beat(None)
    assert decode(file.read()) == replace(OWNER, beat=None)
    assert json.loads((tmp_path / 'checkpoints.lock').read_text())['pid'] == 41


def test_the_beat_of_a_run_that_was_taken_over_spoils_no_name(file):
    """It does not know yet, and the names are not equally long."""
    file.write(OWNER)
    taker = LockFile(file.path)
    taker.write(replace(OWNER, host='a-much-longer-name', pid=123456))
    file.write_beat(3)
    assert decode(taker.read()) == replace(
        OWNER, host='a-much-longer-name', pid=123456, beat=3)
    taker.close()


@pytest.mark.parametrize('before', [
    encode(replace(OWNER, host='a-much-longer-name')), b'not ours' * 200, b''
])
def test_a_kill_leaves_one_name_or_the_other(file, tmp_path, monkeypatch,
                                             before):
    """Killed after the write itself; a half name would be watched."""
    path = tmp_path / 'checkpoints.lock'
    path.write_bytes(before)

    def kill(*args):
        raise KeyboardInterrupt

    if before[:1] == b'{':
        monkeypatch.setattr(os, 'ftruncate', kill)
        with pytest.raises(KeyboardInterrupt):
            file.write(OWNER)
    else:
        file.write(OWNER)
    assert path.read_bytes() == encode(OWNER)


def test_other_machines_see_every_beat(file, monkeypatch):
    """NFS and FUSE clients keep back what is not synced."""
    synced = []
    name = 'fdatasync' if hasattr(os, 'fdatasync') else 'fsync'
    monkeypatch.setattr(os, name, synced.append)
    file.write(OWNER)
    file.write_beat(1)
    assert len(synced) == 2


@pytest.mark.parametrize('field, value', [('boot', 'later'), ('boot', ''),
                                          ('device', 6),
                                          ('kernel_lock', False)])
def test_a_kernel_lock_proves_nothing_to(field, value):
    """Another machine, another mount, a file system without locks."""
    assert share_locks(OWNER, OWNER)
    other = replace(OWNER, **{field: value})
    assert not share_locks(OWNER, other)
    assert not share_locks(other, OWNER)


def test_two_machines_that_do_not_know_their_boot_are_not_one():
    unknown = replace(OWNER, boot='')
    assert not share_locks(unknown, unknown)


def test_this_run_says_where_it_is():
    run, other = this_run(5, True), this_run(5, True)
    assert run.pid == os.getpid() and run.beat == 0
    assert run.token != other.token and run.writer == other.writer
    if os.path.exists('/proc/sys/kernel/random/boot_id'):
        assert share_locks(run, other)


@pytest.mark.parametrize('number', [
    errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL
])
def test_a_file_system_without_locks_is_no_error(file, monkeypatch, number):
    fcntl = pytest.importorskip('fcntl')

    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, 'lockf', refuse)
    assert file.lock() is KernelLock.NONE


def test_a_broken_disk_is_not_taken_for_one_without_locks(file, monkeypatch):
    fcntl = pytest.importorskip('fcntl')

    def refuse(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, 'lockf', refuse)
    with pytest.raises(StorageError, match='cannot lock.*checkpoints.lock'):
        file.lock()


def test_without_fcntl_there_is_the_lease_alone(file, monkeypatch):
    monkeypatch.setattr(lease, '_HAS_LOCKS', False)
    assert file.lock() is KernelLock.NONE


def test_a_file_of_another_user_is_a_refusal(tmp_path, monkeypatch):

    def refuse(*args):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, 'open', refuse)
    with pytest.raises(AccessError, match='lock file .*checkpoints.lock'):
        LockFile(str(tmp_path / 'checkpoints.lock'))


def test_the_file_has_the_mode_of_every_other(tmp_path, file):
    (tmp_path / 'other').write_text('')
    assert os.stat(file.path).st_mode == os.stat(tmp_path / 'other').st_mode
