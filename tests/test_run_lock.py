"""One run a directory: real processes; other machines by their lock file."""
import errno
import gc
import os
import signal
import subprocess
import sys
import threading

import pytest
from lock_holder import NAME, another, beat, sign, signed

from mmcv_ckpt_hooks import run_lock
from mmcv_ckpt_hooks.errors import LockedError, StorageError
from mmcv_ckpt_hooks.executor import Repeater
from mmcv_ckpt_hooks.holding import BEAT_SECS
from mmcv_ckpt_hooks.run_lock import WATCH_SECS, RunLock
from mmcv_ckpt_hooks.testing import ManualClock

fcntl = pytest.importorskip('fcntl')


class Waiting:
    """Waits by moving the clock; between, others do something.

    Args:
        clock (ManualClock): The lock's.
        *meanwhile (callable): The first is called in the first wait, and so
            on; the last one in all that follow.
    """

    def __init__(self, clock, *meanwhile):
        self.clock = clock
        self.meanwhile = list(meanwhile)
        self.secs = 0.

    def __call__(self, secs):
        self.clock.advance(secs)
        self.secs += secs
        if self.meanwhile:
            self.meanwhile[0]()
            del self.meanwhile[:len(self.meanwhile) > 1]


@pytest.fixture
def make(tmp_path):
    """Make locks of the directory, with a clock and a wait of their own."""
    made = []

    def lock(*meanwhile):
        lines, clock = [], ManualClock()
        wait = Waiting(clock, *meanwhile)
        one = RunLock(str(tmp_path), NAME, lines.append, clock, wait)
        one.lines, one.clock, one.wait = lines, clock, wait
        made.append(one)
        return one

    yield lock
    for one in made:
        one.release()


def without_kernel_locks(monkeypatch):

    def refuse(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, 'lockf', refuse)


# -- on one machine --------------------------------------------------------


def test_a_second_run_is_refused_and_told_of_the_first(tmp_path, make):
    with another(tmp_path, 'acquire') as first:
        before = (tmp_path / NAME).read_bytes()
        lock = make()
        with pytest.raises(LockedError) as refused:
            lock.acquire()
        owner = signed(tmp_path)
        for told in (str(tmp_path), owner.host, f'pid {first.pid}',
                     f'since {owner.since} (UTC)', 'another last level'):
            assert told in str(refused.value)
        assert (tmp_path / NAME).read_bytes() == before
        assert first.ask('check') is None
        assert lock.wait.secs == 0


def test_a_run_that_ended_leaves_the_directory_at_once(tmp_path, make):
    with another(tmp_path, 'acquire', 'release'):
        assert signed(tmp_path).beat is None
        lock = make()
        lock.acquire()
        assert lock.lines == [] and lock.dead is None and lock.wait.secs == 0


def test_a_killed_run_is_taken_over_at_once_with_one_line(tmp_path, make):
    with another(tmp_path, 'acquire') as first:
        owner = signed(tmp_path)
        first.signal(signal.SIGKILL)
        first.join()
        lock = make()
        lock.acquire()
        assert lock.dead == owner and lock.wait.secs == 0
        line, = lock.lines
        assert f'pid {first.pid}' in line and 'no kernel lock' in line
        assert signed(tmp_path).pid == os.getpid()


def test_workers_that_outlive_a_killed_run_do_not_keep_its_lock(
        tmp_path, make):
    """An immediate requeue would fail with flock."""
    with another(tmp_path, 'acquire') as first:
        worker = first.ask('fork')
        first.signal(signal.SIGKILL)
        first.join()
        try:
            os.kill(worker, 0)  # it lives
            make().acquire()
            os.kill(worker, 0)
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_stopped_run_keeps_the_directory(tmp_path, make):
    with another(tmp_path, 'acquire') as first:
        first.signal(signal.SIGSTOP)
        with pytest.raises(LockedError, match=f'pid {first.pid}'):
            make().acquire()
        first.signal(signal.SIGCONT)
        assert first.ask('check') is None


def test_a_live_pid_proves_nothing(tmp_path, make):
    """Containers repeat pids: this one is alive, and not the run."""
    sign(tmp_path, pid=os.getppid(), **this_machine(tmp_path))
    lock = make()
    lock.acquire()
    assert lock.dead.pid == os.getppid() and lock.wait.secs == 0


def this_machine(tmp_path):
    run = run_lock.this_run(os.stat(tmp_path).st_dev, True)
    return dict(host=run.host, boot=run.boot)


def test_a_run_that_is_just_starting_is_named(tmp_path, make):
    """It has the lock, but has not signed yet."""
    sign(tmp_path, beat=None)
    with another(tmp_path, 'acquire') as first:
        content = (tmp_path / NAME).read_bytes()
        (tmp_path / NAME).write_bytes(b'')
        lock = make(lambda: (tmp_path / NAME).write_bytes(content))
        with pytest.raises(LockedError, match=f'pid {first.pid}'):
            lock.acquire()


def test_a_run_that_is_just_ending_is_waited_for(tmp_path, make):
    with another(tmp_path, 'acquire') as first:
        content = (tmp_path / NAME).read_bytes()
        (tmp_path / NAME).write_bytes(b'')  # as if it had not signed yet

        def end():
            (tmp_path / NAME).write_bytes(content)
            first.ask('release')

        lock = make(end)
        lock.acquire()
        assert signed(tmp_path).pid == os.getpid()


def test_who_never_signs_is_not_waited_for_without_end(tmp_path, make):
    with another(tmp_path, 'acquire'):
        (tmp_path / NAME).write_bytes(b'')
        lock = make()
        with pytest.raises(LockedError, match='come and go'):
            lock.acquire()
        assert lock.wait.secs < 60


def test_the_end_of_the_process_leaves_the_directory(tmp_path):
    """A run that raises under a stock runner releases nothing."""
    script = ('import sys; from mmcv_ckpt_hooks.run_lock import RunLock; '
              f'RunLock(sys.argv[1], {NAME!r}, print).acquire()')
    keeps = script.replace('RunLock(sys', 'lock = RunLock(sys').replace(
        '.acquire()', '; lock.acquire()')
    for code in (script, keeps):
        subprocess.run([sys.executable, '-c', code, tmp_path],
                       check=True,
                       timeout=120)
        assert signed(tmp_path).beat is None
        (tmp_path / NAME).unlink()


# -- on another machine ----------------------------------------------------


def test_a_run_elsewhere_that_beats_is_not_taken_over(tmp_path, make):
    """There the kernel lock proves nothing: NFS without lockd, FUSE."""
    sign(tmp_path)
    lock = make(lambda: beat(tmp_path))
    with pytest.raises(LockedError, match='node7, pid 41.*renews its lease'):
        lock.acquire()
    assert signed(tmp_path).host == 'node7'


def test_a_run_elsewhere_may_be_slow_to_beat(tmp_path, make):
    sign(tmp_path)
    lock = make(lambda: lock.wait.secs < BEAT_SECS * 5 or beat(tmp_path))
    with pytest.raises(LockedError, match='node7'):
        lock.acquire()


def test_a_run_elsewhere_that_does_not_beat_is_taken_over(tmp_path, make):
    owner = sign(tmp_path)
    lock = make()
    lock.acquire()
    assert WATCH_SECS <= lock.wait.secs <= WATCH_SECS + 5
    assert lock.dead == owner
    waiting, taken = lock.lines
    assert 'waiting up to 30 s' in waiting and 'node7, pid 41' in waiting
    assert 'node7, pid 41' in taken and 'not renewed for 30 s' in taken
    assert signed(tmp_path).pid == os.getpid()
    lock.check()


def test_a_run_elsewhere_that_ended_is_not_watched(tmp_path, make):
    sign(tmp_path, beat=None)
    lock = make()
    lock.acquire()
    assert lock.wait.secs == 0 and lock.lines == []


def test_a_run_elsewhere_that_ends_is_not_watched_any_longer(tmp_path, make):
    sign(tmp_path)
    lock = make(lambda: sign(tmp_path, beat=None))
    lock.acquire()
    assert lock.wait.secs < WATCH_SECS and lock.dead is None


def test_two_mounts_on_one_machine_are_two_machines(tmp_path, make):
    """Each pod may have a FUSE mount of its own."""
    sign(tmp_path, **this_machine(tmp_path), device=-1)
    lock = make(lambda: beat(tmp_path))
    with pytest.raises(LockedError):
        lock.acquire()


def test_a_machine_that_was_booted_again_is_watched(tmp_path, make):
    sign(tmp_path, host=this_machine(tmp_path)['host'], boot='before')
    lock = make()
    lock.acquire()
    assert lock.wait.secs >= WATCH_SECS


def test_an_unreadable_file_is_watched(tmp_path, make):
    (tmp_path / NAME).write_bytes(b'not ours')
    lock = make()
    lock.acquire()
    assert lock.wait.secs >= WATCH_SECS
    assert signed(tmp_path).pid == os.getpid()


def test_a_file_that_changes_into_nonsense_is_somebodys(tmp_path, make):
    owner = sign(tmp_path)
    lock = make(lambda: (tmp_path / NAME).write_bytes(b'half a li'))
    with pytest.raises(LockedError, match=owner.host):
        lock.acquire()


def test_a_file_that_is_removed_while_it_is_watched(tmp_path, make):
    sign(tmp_path)
    lock = make(lambda: (tmp_path / NAME).unlink())
    lock.acquire()
    assert lock.wait.secs < WATCH_SECS


def test_of_two_that_watched_the_last_to_sign_has_it(tmp_path, make):
    """Neither sees the other's kernel lock."""
    sign(tmp_path)

    def other_signs_too():
        if signed(tmp_path).pid == os.getpid():
            sign(tmp_path, host='node8')

    lock = make(other_signs_too)
    with pytest.raises(LockedError, match='node8.*at the same time'):
        lock.acquire()
    assert signed(tmp_path).host == 'node8'


def test_who_watched_has_the_kernel_lock_afterwards(tmp_path, make):
    """To read the file anew takes the lock away."""
    sign(tmp_path)
    make().acquire()
    with another(tmp_path) as other:
        assert f'pid {os.getpid()}' in other.ask('acquire')


# -- a file system without locks -------------------------------------------


def test_without_kernel_locks_the_lease_counts(tmp_path, make, monkeypatch):
    without_kernel_locks(monkeypatch)
    first = make()
    first.acquire()
    assert signed(tmp_path).kernel_lock is False
    first.check()
    first.release()
    sign(tmp_path, **this_machine(tmp_path), kernel_lock=False)
    with pytest.raises(LockedError, match='renews its lease'):
        make(lambda: beat(tmp_path)).acquire()
    last = make()
    last.acquire()
    assert last.wait.secs >= WATCH_SECS


def test_a_lock_that_the_owner_did_not_have_proves_nothing(tmp_path, make):
    """The lock daemon came back since."""
    sign(tmp_path, **this_machine(tmp_path), kernel_lock=False)
    with pytest.raises(LockedError, match='renews its lease'):
        make(lambda: beat(tmp_path)).acquire()


def test_without_kernel_locks_of_two_that_start_one_goes_on(
        tmp_path, make, monkeypatch):
    without_kernel_locks(monkeypatch)
    with pytest.raises(LockedError, match='node7'):
        make(lambda: sign(tmp_path)).acquire()


# -- while it runs ---------------------------------------------------------


def test_the_lease_is_renewed(tmp_path, make):
    lock = make()
    lock.acquire()
    for count in (1, 2):
        assert lock._holding.beat() is True
        assert signed(tmp_path).beat == count


def test_a_run_that_was_taken_over_writes_no_more(tmp_path, make):
    """It was stopped, and another machine took it for dead."""
    lock = make()
    lock.acquire()
    sign(tmp_path)
    after = (tmp_path / NAME).read_bytes()
    for _ in range(2):
        with pytest.raises(LockedError, match='lost.*node7, pid 41.*stop'):
            lock.check()
    assert lock._holding.beat() is False
    lock.release()
    assert (tmp_path / NAME).read_bytes() == after


def test_a_beat_notices_that_the_run_was_taken_over(tmp_path, make):
    lock = make()
    lock.acquire()
    sign(tmp_path)
    after = (tmp_path / NAME).read_bytes()
    assert lock._holding.beat() is False
    line, = lock.lines
    assert 'Nothing is saved any more' in line and 'node7' in line
    assert (tmp_path / NAME).read_bytes() == after
    with pytest.raises(LockedError, match='node7'):
        lock.check()


def test_the_end_of_a_run_that_was_taken_over_leaves_the_other_alone(
        tmp_path, make):
    lock = make()
    lock.acquire()
    sign(tmp_path)
    lock.release()
    assert signed(tmp_path).host == 'node7' and signed(tmp_path).beat == 0


def test_who_was_stopped_renews_before_it_believes_its_cache(tmp_path, make):
    """A NFS client sees a foreign write when it writes itself."""
    lock = make()
    lock.acquire()
    lock.check()
    assert signed(tmp_path).beat == 0
    lock.clock.advance(BEAT_SECS * 2 + 1)
    lock.check()
    assert signed(tmp_path).beat == 1


def test_a_deleted_file_is_put_back(tmp_path, make):
    lock = make()
    lock.acquire()
    (tmp_path / NAME).unlink()
    lock.check()
    with another(tmp_path) as other:
        assert f'pid {os.getpid()}' in other.ask('acquire')


def test_who_deletes_the_file_to_start_anew_has_the_directory(tmp_path, make):
    lock = make()
    lock.acquire()
    (tmp_path / NAME).unlink()
    with another(tmp_path, 'acquire') as other:
        with pytest.raises(LockedError, match=f'pid {other.pid}'):
            lock.check()
        assert other.ask('check') is None


def test_inode_numbers_may_change(tmp_path, make, monkeypatch):
    """CIFS and FUSE; the file is still this run's."""
    lock = make()
    lock.acquire()
    monkeypatch.setattr(os.path, 'samestat', lambda one, other: False)
    lock.check()
    monkeypatch.undo()
    lock.check()
    with another(tmp_path) as other:
        assert f'pid {os.getpid()}' in other.ask('acquire')


def test_a_copy_of_the_directory_does_not_end_the_lock_for_long(
        tmp_path, make):
    """POSIX: closing any descriptor of a file ends a process's locks."""
    lock = make()
    lock.acquire()
    (tmp_path / NAME).read_bytes()
    lock._holding.beat()
    with another(tmp_path) as other:
        assert f'pid {os.getpid()}' in other.ask('acquire')


def test_who_came_between_two_beats_is_noticed(tmp_path, make):
    lock = make()
    lock.acquire()
    (tmp_path / NAME).read_bytes()  # that ended the kernel lock
    with another(tmp_path, 'acquire') as other:
        assert lock._holding.beat() is False
        with pytest.raises(LockedError, match=f'pid {other.pid}'):
            lock.check()


def test_a_beat_that_fails_is_told_once_and_tried_again(
        tmp_path, make, monkeypatch):
    lock = make()
    lock.acquire()

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'write', full)
    assert lock._holding.beat() is True
    assert lock._holding.beat() is True
    line, = lock.lines
    assert 'lease' in line and os.strerror(errno.ENOSPC) in line
    lock.check()
    monkeypatch.undo()
    assert lock._holding.beat() is True
    assert signed(tmp_path).beat > 0 and len(lock.lines) == 1


def test_a_directory_that_is_gone_is_no_other_run(tmp_path, make):
    lock = make()
    lock.acquire()
    away = tmp_path.with_name('away')
    tmp_path.rename(away)
    with pytest.raises(StorageError) as failed:
        lock.check()
    assert not isinstance(failed.value, LockedError)
    away.rename(tmp_path)
    lock.check()


# -- after the end ---------------------------------------------------------


def test_a_write_after_the_end_takes_the_directory_again(tmp_path, make):
    """``runner.run`` may be called twice."""
    lock = make()
    lock.acquire()
    lock.release()
    lock.check()
    assert signed(tmp_path).beat == 0
    lock.release()
    assert signed(tmp_path).beat is None


def test_a_write_after_the_end_is_refused_if_another_was_here(tmp_path, make):
    lock = make()
    lock.acquire()
    lock.release()
    with another(tmp_path, 'acquire') as other:
        with pytest.raises(LockedError, match=f'pid {other.pid}'):
            lock.check()
        other.ask('release')
        # its catalog is not this run's
        with pytest.raises(LockedError, match='been here since'):
            lock.check()


# -- in one process --------------------------------------------------------


def test_an_earlier_run_of_this_thread_is_over(tmp_path, make):
    """A stock runner that raised told nobody."""
    first, second, order = make(), make(), []
    first.acquire()

    def finish():
        first.check()  # what was staged is still written
        order.append('finished')
        first.release()

    first.finish = finish
    second.acquire()
    assert order == ['finished']
    assert 'earlier run of this process' in second.lines[0]
    assert second.dead is None
    second.check()
    with pytest.raises(LockedError, match='it is this process'):
        first.check()


def test_two_runs_on_two_threads_are_two_runs(tmp_path, make):
    outcomes, started, go = [], threading.Event(), threading.Event()

    def train():
        lock = make()
        lock.acquire()
        started.set()
        go.wait(60)
        outcomes.append(lock.check())

    thread = threading.Thread(target=train, name='first')
    thread.start()
    assert started.wait(60)
    with pytest.raises(LockedError, match='thread first of this process'):
        make().acquire()
    go.set()
    thread.join(60)
    assert outcomes == [None]
    make().acquire()  # that thread is gone


def test_a_run_that_nobody_refers_to_is_over(tmp_path, make):
    lock = RunLock(str(tmp_path), NAME, lambda line: None)
    lock.acquire()
    holding = lock._holding
    del lock
    gc.collect()
    assert holding._left.wait(60) and signed(tmp_path).beat is None
    lock = make()
    lock.acquire()
    assert lock.lines == []


def test_the_collector_may_run_in_a_beat(tmp_path):
    """On the very thread that has the mutex."""
    lock = RunLock(str(tmp_path), NAME, lambda line: None)
    lock.acquire()
    holding, look = lock._holding, lock._holding._look

    def collected():
        holding._look = look
        holding.abandon()
        look()

    holding._look = collected
    assert holding.beat() is True
    assert holding._left.wait(60)
    assert holding.ended and signed(tmp_path).beat is None


@pytest.mark.parametrize('link', ['..', 'symlink', 'file'])
def test_one_directory_has_many_names(tmp_path, make, link):
    other = tmp_path / '..' / tmp_path.name
    lock = make()
    lock.acquire()
    if link == 'symlink':
        other = tmp_path / 'link'
        other.symlink_to(tmp_path)
    if link == 'file':  # as by a bind mount
        other = tmp_path / 'mounted'
        other.mkdir()
        os.link(tmp_path / NAME, other / NAME)
    second = RunLock(str(other), NAME, lambda line: None)
    second.acquire()
    assert lock._holding.ended
    second.release()


def test_two_directories_are_two_places(tmp_path):
    places = [tmp_path / 'one', tmp_path / 'two']
    locks = []
    for place in places:
        place.mkdir()
        locks.append(RunLock(str(place), NAME, lambda line: None))
        locks[-1].acquire()
    for lock in locks:
        lock.check()
        lock.release()


def in_child(action):
    """Run something in a forked child; return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except LockedError:
            code = 7
        finally:
            os._exit(code)
    return os.WEXITSTATUS(os.waitpid(pid, 0)[1])


def test_a_forked_child_neither_has_nor_ends_the_lock(tmp_path, make):
    lock = make()
    lock.acquire()
    lock._holding.beat()
    assert in_child(lock.check) == 7
    assert in_child(lock.release) == 0
    assert in_child(lock._holding.abandon) == 0
    assert in_child(make().acquire) == 7
    assert signed(tmp_path).beat == 1
    lock.check()


def test_a_child_that_was_forked_in_a_beat_does_not_hang(tmp_path, make):
    lock = make()
    lock.acquire()
    with lock._holding._mutex, run_lock._starting:
        assert in_child(lock.check) == 7
        assert in_child(make().acquire) == 7


@pytest.mark.parametrize('error', [KeyboardInterrupt, RuntimeError])
def test_a_start_that_fails_when_it_has_signed_takes_that_back(
        tmp_path, make, monkeypatch, error):
    """Where no kernel lock tells that nobody renews the lease."""
    without_kernel_locks(monkeypatch)

    def fail(repeater):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Repeater, 'start', fail)
        with pytest.raises(error):
            make().acquire()
    assert signed(tmp_path).beat is None
    lock = make()
    lock.acquire()
    assert lock.lines == []
    lock.check()


def test_a_refused_start_is_not_in_the_way(tmp_path, make):
    with another(tmp_path, 'acquire') as first:
        for _ in range(2):
            with pytest.raises(LockedError):
                make().acquire()
        first.ask('release')
    make().acquire()
