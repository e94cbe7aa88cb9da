"""The one owner of the background thread; a blocked job, no sleeps."""
import gc
import subprocess
import sys
import threading

import pytest

from mmcv_ckpt_hooks.errors import OutOfSpaceError
from mmcv_ckpt_hooks.executor import (BackgroundExecutor, Follower,
                                      InlineExecutor, Repeater)

KINDS = [BackgroundExecutor, InlineExecutor]


@pytest.fixture(params=KINDS)
def executor(request):
    made = request.param()
    yield made
    made.close()


def raising(error):

    def job():
        raise error

    return job


def test_jobs_run_in_the_order_they_were_given(executor):
    done = []
    for number in range(20):
        executor.submit(lambda number=number: done.append(number))
    executor.run(lambda: done.append('run'))
    assert done == list(range(20)) + ['run']


def test_an_error_is_handed_back_once_as_it_was_raised(executor):
    error = OutOfSpaceError('no space')
    executor.submit(raising(error))
    executor.wait()
    assert executor.take_error() is error
    assert executor.take_error() is None
    executor.submit(lambda: None)
    executor.wait()
    assert executor.take_error() is None


def test_the_errors_of_two_jobs_are_both_handed_back(executor):
    first, second = ValueError('first'), KeyError('second')
    executor.submit(raising(first))
    assert executor.run(raising(second)) is False
    assert executor.take_error() is first
    assert executor.take_error() is second
    assert executor.take_error() is None


def test_a_failed_job_does_not_stop_the_next(executor):
    done = []
    executor.submit(raising(OSError('disk')))
    executor.submit(lambda: done.append(1))
    executor.wait()
    assert done == [1]


def test_run_says_whether_it_worked(executor):
    assert executor.run(lambda: None) is True
    assert executor.run(raising(OSError())) is False


def test_a_job_may_follow_after_close(executor):
    """``runner.run`` may be called twice."""
    done = []
    executor.submit(lambda: done.append(1))
    executor.close()
    executor.submit(lambda: done.append(2))
    executor.close()
    executor.close()
    assert done == [1, 2]


def test_close_waits_for_the_last_job_and_keeps_its_error():
    executor = BackgroundExecutor()
    error = OutOfSpaceError('no space')
    executor.submit(raising(error))
    executor.close()
    assert executor.take_error() is error


def test_a_new_job_waits_for_the_one_under_way():
    executor = BackgroundExecutor()
    started, go, second = (threading.Event() for _ in range(3))
    order = []

    def slow():
        started.set()
        assert go.wait(60)
        order.append('slow')

    executor.submit(slow)
    assert started.wait(60)
    assert executor.busy()
    caller = threading.Thread(target=lambda: (executor.submit(
        lambda: order.append('next')), second.set()))
    caller.start()
    assert not second.is_set()
    go.set()
    caller.join(60)
    executor.close()
    assert order == ['slow', 'next']
    assert not executor.busy()


def test_looking_for_an_error_does_not_wait_for_the_job_under_way():
    executor = BackgroundExecutor()
    go = threading.Event()
    executor.submit(lambda: go.wait(60))
    assert executor.take_error() is None
    assert executor.busy()
    go.set()
    executor.close()


def test_the_job_runs_on_another_thread_only_in_the_background():
    for kind, same in ((BackgroundExecutor, False), (InlineExecutor, True)):
        executor, threads = kind(), []
        executor.submit(lambda: threads.append(threading.get_ident()))
        executor.close()
        assert (threads == [threading.get_ident()]) is same


def test_a_finished_job_does_not_hold_the_staged_copy():
    """Else one more copy of the state stays in memory."""

    class Copy:
        pass

    executor = BackgroundExecutor()
    gone = threading.Event()

    def start():
        copy = Copy()
        import weakref
        weakref.finalize(copy, gone.set)
        executor.submit(lambda: copy)

    start()
    executor.wait()
    gc.collect()
    assert gone.is_set()
    executor.close()


def test_a_keyboard_interrupt_is_not_taken_for_a_failed_save():
    with pytest.raises(KeyboardInterrupt):
        BackgroundExecutor().run(raising(KeyboardInterrupt()))


ENDS = '''
import os
from mmcv_ckpt_hooks.executor import BackgroundExecutor
executor = BackgroundExecutor()
def job():
    os.read(0, 1)
    print('written', flush=True)
executor.submit(job)
if {abandons}:
    assert executor.abandon()
print('ends', flush=True)
'''


@pytest.mark.parametrize('abandons', [True, False])
def test_the_process_waits_for_a_job_unless_it_is_abandoned(abandons):
    process = subprocess.Popen(
        [sys.executable, '-c',
         ENDS.format(abandons=abandons)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True)
    assert process.stdout.readline() == 'ends\n'
    if abandons:
        assert process.wait(timeout=60) == 0
    out, _ = process.communicate('.', timeout=60)
    assert out == ('' if abandons else 'written\n')
    assert process.returncode == 0


def test_nothing_is_abandoned_where_nothing_is_under_way(executor):
    assert executor.abandon() is False
    executor.submit(lambda: None)
    executor.wait()
    assert executor.abandon() is False


def test_a_job_that_is_interrupted_while_it_is_given_is_not_run(monkeypatch):
    ran = []
    executor = BackgroundExecutor()
    executor.submit(lambda: None)
    executor.wait()

    class Interrupted:

        def put(self, job):
            raise KeyboardInterrupt

    jobs = executor._thread._jobs
    monkeypatch.setattr(executor._thread, '_jobs', Interrupted())
    with pytest.raises(KeyboardInterrupt):
        executor.submit(lambda: ran.append(1))
    monkeypatch.setattr(executor._thread, '_jobs', jobs)
    executor.wait()
    executor.close()
    assert not ran and executor.take_error() is None


def test_the_thread_of_one_that_is_dropped_ends_behind_its_job():
    executor, go, ran = BackgroundExecutor(), threading.Event(), []
    executor.submit(lambda: go.wait(60) and ran.append(1))
    thread = executor._thread._thread
    del executor
    gc.collect()
    go.set()
    thread.join(60)
    assert ran and not thread.is_alive()


def test_one_thread_runs_all_jobs():
    executor, threads = BackgroundExecutor(), set()
    for _ in range(3):
        executor.submit(lambda: threads.add(threading.current_thread()))
        executor.wait()
    executor.close()
    thread, = threads
    assert not thread.is_alive()


# -- again and again -------------------------------------------------------


def test_a_repeater_goes_on_until_it_is_stopped():
    runs, thrice = [], threading.Event()

    def job():
        runs.append(threading.current_thread())
        if len(runs) == 3:
            thrice.set()
        return True

    repeater = Repeater(job, 0.)
    repeater.start()
    assert thrice.wait(60)
    repeater.stop()
    count = len(runs)
    assert not runs[0].is_alive() and runs[0] is not threading.current_thread()
    repeater.stop()
    assert len(runs) == count


def test_a_repeater_ends_when_its_job_says_so():
    runs, ended = [], threading.Event()

    def job():
        runs.append(threading.current_thread())
        ended.set()
        return False

    Repeater(job, 0.).start()
    assert ended.wait(60)
    runs[0].join(60)
    assert len(runs) == 1


def test_a_repeater_never_keeps_the_process():
    threads = []
    started = threading.Event()

    def job():
        threads.append(threading.current_thread())
        started.set()
        return True

    repeater = Repeater(job, 0.)
    repeater.start()
    assert started.wait(60)
    assert threads[0].daemon
    repeater.stop()


def test_a_repeater_may_be_stopped_by_its_own_thread():
    """The garbage collector runs anywhere."""
    stopped = threading.Event()

    def job():
        repeater.stop(wait=False)
        stopped.set()
        return True

    repeater = Repeater(job, 0.)
    repeater.start()
    assert stopped.wait(60)
    repeater.stop()


def test_a_repeater_that_never_started_may_be_stopped():
    Repeater(lambda: True, 0.).stop()


# -- Follower ---------------------------------------------------------------


@pytest.fixture
def follower():
    made = Follower(2)
    yield made
    made.close()


def test_a_follower_runs_jobs_in_order_on_one_other_thread(follower):
    done = []
    for number in range(50):
        follower.submit(lambda number=number: done.append(
            (number, threading.get_ident())))
    follower.finish()
    assert [number for number, _ in done] == list(range(50))
    assert len({thread for _, thread in done}) == 1
    assert done[0][1] != threading.get_ident()


def test_a_follower_is_given_no_more_than_it_may_have(follower, monkeypatch):
    begun, gate, halted = (threading.Event() for _ in range(3))
    given = []
    wait_for = follower._changed.wait_for

    def blocked():
        begun.set()
        assert gate.wait(60)

    def seen(predicate, timeout=None):
        if threading.current_thread() is giver and not predicate():
            halted.set()
        return wait_for(predicate, timeout)

    def give():
        for number in range(4):
            follower.submit(lambda: None)
            given.append(number)
        halted.set()

    follower.submit(blocked)
    assert begun.wait(60)
    for _ in range(2):
        follower.submit(lambda: None)
    giver = threading.Thread(target=give)
    monkeypatch.setattr(follower._changed, 'wait_for', seen)
    giver.start()
    assert halted.wait(60)
    before = list(given)
    gate.set()
    giver.join(60)
    follower.finish()
    assert before == []
    assert given == [0, 1, 2, 3]


@pytest.mark.parametrize('verb', ['submit', 'finish', 'wait_for_one'])
def test_an_error_ends_a_follower_and_is_raised_by_every_call(follower, verb):
    error = OutOfSpaceError('no space')
    done = []
    follower.submit(raising(error))
    with pytest.raises(OutOfSpaceError):
        follower.finish()
    arguments = [lambda: done.append(1)] if verb == 'submit' else []
    for _ in range(2):
        with pytest.raises(OutOfSpaceError) as caught:
            getattr(follower, verb)(*arguments)
        assert caught.value is error
    follower.close()
    assert not done


def test_a_closed_follower_leaves_out_what_is_not_begun(follower):
    begun, gate, done = threading.Event(), threading.Event(), []

    def blocked():
        begun.set()
        assert gate.wait(60)
        done.append('first')

    follower.submit(blocked)
    assert begun.wait(60)
    follower.submit(lambda: done.append('second'))
    closer = threading.Thread(target=follower.close)
    closer.start()
    with follower._changed:
        assert follower._changed.wait_for(lambda: not follower._jobs, 60)
    gate.set()
    closer.join(60)
    assert done == ['first']
