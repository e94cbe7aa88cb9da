"""One run a place in a store: what the lease tells, without a server."""
import gc
import json
import os
import threading
from dataclasses import replace

import pytest

from mmcv_ckpt_hooks import held_places, run_lock
from mmcv_ckpt_hooks.errors import (AccessError, ConfigError, LockedError,
                                    MissingCheckpointError, StorageError)
from mmcv_ckpt_hooks.executor import Repeater
from mmcv_ckpt_hooks.guarded import GuardedBackend, lock_of
from mmcv_ckpt_hooks.holding import BEAT_SECS
from mmcv_ckpt_hooks.lease import decode, encode, this_run
from mmcv_ckpt_hooks.run_lock import WATCH_SECS
from mmcv_ckpt_hooks.stored_lock import StoredLock
from mmcv_ckpt_hooks.testing import (Fault, FaultyBackend, ManualClock,
                                     MemoryBackend)
from mmcv_ckpt_hooks.types import Capabilities

NAME = 'checkpoints.lock'
AWAY = StorageError('the network is away')


@pytest.fixture(params=[True, False], ids=['conditional', 'plain'])
def store(request):
    """A store that knows conditional writes, and one that does not."""
    able = Capabilities(
        listing=True, delete=True, atomic_replace=True, share=True)
    return FaultyBackend(
        MemoryBackend(
            replace(able, exclusive=request.param), 's3://bucket/run'))


@pytest.fixture
def make(store):
    """Make locks of the store, with a clock and a wait of their own."""
    made = []

    def lock(*meanwhile):
        clock, lines, left = ManualClock(), [], list(meanwhile)

        def wait(secs):
            clock.advance(secs)
            lock.waited += secs
            if left:
                left[0]()
                del left[:len(left) > 1]

        lock = StoredLock(store, NAME, lines.append, clock, wait)
        lock.lines, lock.clock, lock.waited = lines, clock, 0.
        made.append(lock)
        return lock

    yield lock
    store.faults.clear()
    for one in made:
        one.release()


def signed(store):
    return decode(store.inner.files[NAME])


def sign(store, **fields):
    """Have the lease name a run that is on another machine."""
    run = replace(this_run(0, False), host='node7', pid=41, writer='41-ab12')
    run = replace(run, **fields)
    store.inner.files[NAME] = encode(run)
    return run


def beat(store):
    run = signed(store)
    store.inner.files[NAME] = encode(replace(run, beat=run.beat + 1))


def asked(store, since=0):
    return [call.split()[0] for call in store.calls[since:]]


def told(lock):
    """What it logs besides that the store knows no conditions."""
    return [line for line in lock.lines if 'conditional writes' not in line]


# -- at the start ----------------------------------------------------------


def test_an_empty_place_is_taken(store, make):
    lock = make()
    lock.acquire()
    assert signed(store).pid == os.getpid() and signed(store).beat == 0
    assert told(lock) == [] and lock.dead is None
    if store.capabilities.exclusive:
        assert lock.waited == 0 and lock.lines == []
        assert asked(store) == ['share', 'look', 'replace']


def test_where_there_are_no_conditions_that_is_told_once(store, make):
    lock = make()
    lock.acquire()
    for _ in range(3):
        lock._holding.beat()
    lock.release()
    said = [line for line in lock.lines if 'conditional writes' in line]
    assert len(said) == (not store.capabilities.exclusive)
    assert all(f's3://bucket/run/{NAME}' in line for line in said)


def test_a_second_run_is_refused_and_told_of_the_first(store, make):
    first = sign(store)
    lock = make(lambda: beat(store))
    with pytest.raises(LockedError) as refused:
        lock.acquire()
    for text in ('s3://bucket/run is in use', 'host node7, pid 41',
                 f'since {first.since} (UTC)', 'renews its lease',
                 'another last level'):
        assert text in str(refused.value)
    assert signed(store).token == first.token
    assert lock.waited <= BEAT_SECS


def test_a_run_may_be_slow_to_beat(store, make):
    sign(store)
    lock = make(lambda: lock.waited < BEAT_SECS * 5 or beat(store))
    with pytest.raises(LockedError, match='node7'):
        lock.acquire()


def test_a_run_that_does_not_beat_is_taken_over(store, make):
    dead = sign(store)
    lock = make()
    lock.acquire()
    assert lock.dead == dead
    assert WATCH_SECS <= lock.waited <= WATCH_SECS + 5
    waiting, taken = told(lock)
    assert 'waiting up to 30 s' in waiting and 'node7, pid 41' in waiting
    assert 'may have been killed' in waiting
    assert 'node7, pid 41' in taken and 'not renewed for 30 s' in taken
    lock.check()


def test_to_watch_is_one_request_each_time(store, make):
    sign(store)
    lock = make()
    lock.acquire()
    if store.capabilities.exclusive:
        # and what a start asks twice
        looks = WATCH_SECS / run_lock._LOOK_SECS
        assert asked(store).count('look') == looks + 2


def test_clocks_of_two_machines_are_not_compared(store, make):
    sign(store, since='2099-01-01 00:00:00')
    lock = make()
    lock.acquire()
    assert lock.waited <= WATCH_SECS + 5


def test_a_run_that_ended_leaves_the_place_at_once(store, make):
    sign(store, beat=None)
    lock = make()
    lock.acquire()
    assert told(lock) == [] and lock.dead is None
    assert lock.waited <= run_lock._CONFIRM_SECS


def test_a_run_that_ends_is_not_watched_any_longer(store, make):
    sign(store)
    lock = make(lambda: sign(store, beat=None), lambda: None)
    lock.acquire()
    assert lock.waited < WATCH_SECS and lock.dead is None


def test_a_lease_that_is_removed_while_it_is_watched(store, make):
    sign(store)
    lock = make(lambda: store.inner.files.pop(NAME, None)
                if lock.waited <= run_lock._LOOK_SECS else None)
    lock.acquire()
    assert lock.waited < WATCH_SECS


def test_nonsense_is_watched(store, make):
    store.inner.files[NAME] = b'not ours'
    lock = make()
    lock.acquire()
    assert lock.waited >= WATCH_SECS


def other_first(store):
    """Another run signs between the look of this one and its write."""
    share = store.share

    def late(name):
        shared = share(name)
        replaced = shared.replace

        def replace_late(content):
            if decode(content).beat == 0:
                store.share = share
                shared.replace = replaced
                sign(store)
            return replaced(content)

        shared.replace = replace_late
        return shared

    store.share = late


@pytest.mark.parametrize('found', ['nothing', 'ended', 'dead'])
def test_of_two_that_start_at_once_one_is_refused(store, make, found):
    """Also of two that have watched the same dead run."""
    if found != 'nothing':
        sign(store, beat=None if found == 'ended' else 3)
    other_first(store)
    lock = make(lambda: signed(store).host == 'node7' and signed(store).beat ==
                0 and beat(store))
    with pytest.raises(LockedError, match='node7'):
        lock.acquire()
    assert signed(store).host == 'node7'
    assert not any('Took over' in line for line in lock.lines)


def test_without_conditions_the_last_to_sign_has_it():
    store = FaultyBackend(MemoryBackend(Capabilities(share=True)))
    lock = StoredLock(store, NAME, lambda line: None, ManualClock(),
                      lambda secs: sign(store))
    with pytest.raises(LockedError, match='node7.*at the same time'):
        lock.acquire()
    assert signed(store).host == 'node7' and signed(store).beat == 0


@pytest.mark.parametrize('at', ['write', 'confirm', 'start'])
def test_a_start_that_fails_when_it_has_signed_takes_that_back(
        store, make, monkeypatch, at):
    """Or who comes next would watch a lease that nobody renews."""
    lock = make()
    replaced = lock._shared.replace

    def interrupt(*args):
        lock._shared.replace = replaced
        if at == 'write':
            replaced(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if at == 'write':
            lock._shared.replace = interrupt
        elif at == 'confirm':
            patch.setattr(lock, '_confirm', interrupt)
        else:
            patch.setattr(Repeater, 'start', interrupt)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
    assert signed(store).beat is None
    again = make()
    again.acquire()
    assert told(again) == []
    again.check()


@pytest.mark.parametrize('is_away', [True, False])
def test_a_start_that_fails_before_it_has_signed_leaves_nothing(
        store, make, is_away):
    store.faults.append(Fault('replace', AWAY))
    if is_away:
        store.faults.append(Fault('look', AWAY, nth=2, times=None))
    with pytest.raises(StorageError, match='is away'):
        make().acquire()
    assert NAME not in store.inner.files


@pytest.mark.parametrize('verb', ['look', 'replace'])
def test_a_start_that_cannot_know_stops(store, make, verb):
    store.faults.append(Fault(verb, AccessError('403')))
    with pytest.raises(AccessError):
        make().acquire()
    make().acquire()


def test_a_process_that_died_elsewhere_is_not_watched(store, make):
    """Its run had a mirror here."""
    dead = sign(store)
    lock = make()
    lock.known_dead = replace(dead, token='of the other place')
    lock.acquire()
    assert lock.waited <= run_lock._CONFIRM_SECS and lock.dead == dead
    assert 'its process is dead' in told(lock)[0]


# -- while it runs ---------------------------------------------------------


def test_a_beat_is_one_request(store, make):
    lock = make()
    lock.acquire()
    before = len(store.calls)
    assert lock._holding.beat() is True
    assert asked(store, before) == ['replace']
    assert signed(store).beat == 1


def test_a_save_asks_once_a_second(store, make):
    lock = make()
    lock.acquire()
    for advance, expected in ((0, []), (2, ['look']), (0.5, []),
                              (0.6, ['look']), (BEAT_SECS * 3,
                                                ['look', 'replace'])):
        before = len(store.calls)
        lock.clock.advance(advance)
        lock.check()
        assert asked(store, before) == expected


def test_a_run_that_was_taken_over_changes_nothing(store, make):
    """It was suspended; what it does first when it wakes is a save."""
    lock = make()
    lock.acquire()
    place = GuardedBackend(store, lock.check)
    place.put('iter_1.pth', lambda stream: stream.write(b'ours'))
    sign(store)
    store.inner.files['iter_1.pth'] = b'theirs'
    before = dict(store.inner.files)
    lock.clock.advance(3600)
    changes = [
        lambda: place.put('iter_1.pth', lambda stream: stream.write(b'ours')),
        lambda: place.delete('iter_1.pth'),
    ]
    for change in changes * 2:
        with pytest.raises(LockedError, match='lost.*node7, pid 41.*stop'):
            change()
    assert lock._holding.beat() is False
    lock.release()
    assert store.inner.files == before


def test_who_wakes_in_the_middle_of_a_write_replaces_nothing(store, make):
    lock = make()
    lock.acquire()

    def write(stream):
        stream.write(b'ours')
        sign(store)
        lock.clock.advance(2)

    with pytest.raises(LockedError, match='node7'):
        GuardedBackend(store, lock.check).put('iter_1.pth', write)
    assert 'iter_1.pth' not in store.inner.files


def test_a_beat_notices_that_the_run_was_taken_over(store, make):
    lock = make()
    lock.acquire()
    other = sign(store)
    assert lock._holding.beat() is False
    line, = told(lock)
    assert 'Nothing is saved any more' in line and 'node7' in line
    assert signed(store) == other
    with pytest.raises(LockedError, match='node7'):
        lock.check()


def test_an_hour_without_a_network_costs_nothing(store, make):
    lock = make()
    lock.acquire()
    fault = [Fault(verb, AWAY, times=None) for verb in ('look', 'replace')]
    store.faults += fault
    for _ in range(720):
        lock.clock.advance(BEAT_SECS)
        assert lock._holding.beat() is True
    with pytest.raises(StorageError, match='is away') as failed:
        lock.check()
    assert not isinstance(failed.value, LockedError)
    line, = told(lock)
    assert 'not renewed' in line and 'is away' in line
    assert 'keeps other runs out' in line and 'every 5 s' in line
    store.faults.clear()
    lock.check()
    assert lock._holding.beat() is True and signed(store).beat > 0
    assert len(told(lock)) == 1


def test_who_took_over_in_that_hour_has_it(store, make):
    lock = make()
    lock.acquire()
    store.faults.append(Fault('replace', AWAY, times=None))
    assert lock._holding.beat() is True
    other = sign(store, beat=None)  # and has even ended since
    store.faults.clear()
    with pytest.raises(LockedError, match='node7'):
        lock.clock.advance(2)
        lock.check()
    assert signed(store) == other


@pytest.mark.parametrize('is_end', [False, True])
def test_an_answer_that_was_lost_loses_nothing(store, make, is_end):
    """The beat was written, and nobody said so."""
    lock = make()
    lock.acquire()
    replaced = store.inner.share(NAME)
    replaced.look()
    assert replaced.replace(encode(replace(lock._holding.owner, beat=1)))
    if is_end:
        lock.release()
        assert signed(store).beat is None
    else:
        assert lock._holding.beat() is True
        assert signed(store).beat == 1 and told(lock) == []
        lock.check()


@pytest.mark.parametrize('what', ['look', 'beat'])
def test_a_bit_that_changes_on_the_way_is_no_other_run(store, make, what):
    lock = make()
    lock.acquire()
    shared, look = lock._shared, lock._shared.look

    def flipped():
        shared.look = look
        return look().replace(b'"token": "', b'"tokeN": "')

    shared.look = flipped
    lock.clock.advance(2)
    if what == 'beat':  # its answer is lost, too
        store.inner.files[NAME] = encode(replace(signed(store), beat=1))
        assert lock._holding.beat() is True
    lock.check()
    assert shared.look is not flipped and told(lock) == []


def test_a_deleted_lease_is_put_back(store, make):
    lock = make()
    lock.acquire()
    for renew in (lock._holding.beat, lock.check):
        store.delete(NAME)
        lock.clock.advance(2)
        renew()
        assert signed(store).token == lock._holding.owner.token


def test_who_deletes_the_lease_to_start_anew_has_the_place(store, make):
    lock = make()
    lock.acquire()
    store.delete(NAME)
    other = sign(store)
    lock.clock.advance(2)
    with pytest.raises(LockedError, match='node7'):
        lock.check()
    assert signed(store) == other


def test_who_comes_while_the_lease_is_put_back_has_the_place(store, make):
    lock = make()
    lock.acquire()
    store.delete(NAME)
    replaced = lock._shared.replace

    def late(content):
        lock._shared.replace = replaced
        sign(store)
        return replaced(content)

    lock._shared.replace = late
    lock.clock.advance(2)
    with pytest.raises(LockedError, match='node7'):
        lock.check()
    assert signed(store).host == 'node7'


# -- at the end ------------------------------------------------------------


def test_the_lease_stays_and_names_nobody(store, make):
    lock = make()
    lock.acquire()
    lock.release()
    assert json.loads(store.inner.files[NAME])['beat'] is None
    with pytest.raises(MissingCheckpointError):
        StoredLock(store, 'other.lock', print)._read_anew()


def test_an_end_without_a_network_ends(store, make):
    lock = make()
    lock.acquire()
    store.faults.append(Fault('replace', AWAY, times=None))
    lock.release()
    store.faults.clear()
    again = make()
    again.acquire()  # this process knows that it is over
    assert again.waited <= run_lock._CONFIRM_SECS


def test_a_write_after_the_end_is_refused_if_another_was_here(store, make):
    lock = make()
    lock.acquire()
    lock.release()
    lock.check()
    assert signed(store).beat == 0
    lock.release()
    sign(store, beat=None)
    with pytest.raises(LockedError, match='been here since'):
        lock.check()


def test_an_earlier_run_of_this_thread_is_over(store, make):
    first, second = make(), make()
    first.acquire()
    second.acquire()
    assert first._holding.ended and second.dead is None
    with pytest.raises(LockedError, match='it is this process'):
        first.check()


def test_two_runs_on_two_threads_are_two_runs(store, make):
    started, go = threading.Event(), threading.Event()

    def train():
        make().acquire()
        started.set()
        go.wait(60)

    thread = threading.Thread(target=train, name='first')
    thread.start()
    assert started.wait(60)
    with pytest.raises(LockedError, match='thread first of this process'):
        make().acquire()
    go.set()
    thread.join(60)


def test_one_place_under_two_urls_is_refused(store, make):
    """Not waited for: it is this process that would renew the lease."""
    first = make()
    first.acquire()
    other = MemoryBackend(store.capabilities, 's3a://bucket/run')
    other.files, other.mutex = store.inner.files, store.inner.mutex
    lock = StoredLock(other, NAME, print, ManualClock(), lambda secs: None)
    with pytest.raises(
            ConfigError, match='s3a://bucket/run is s3://bucket/run itself'):
        lock.acquire()
    first.check()


def test_a_run_that_nobody_refers_to_is_over(store):
    lock = StoredLock(store, NAME, lambda line: None, wait=lambda secs: None)
    lock.acquire()
    holding = lock._holding
    del lock
    gc.collect()
    assert holding._left.wait(60) and signed(store).beat is None


def test_the_collector_asks_nothing_of_the_store(store):
    """It runs on any thread, which may be in the client already."""
    lock = StoredLock(store, NAME, lambda line: None, wait=lambda secs: None)
    lock.acquire()
    holding, asked, replaced = lock._holding, [], lock._shared.replace
    is_collected = threading.Event()

    def replace_noted(content):
        # nobody waits for it
        asked.append((threading.current_thread().name, is_collected.wait(20)))
        return replaced(content)

    lock._shared.replace = replace_noted
    del lock
    gc.collect()
    is_collected.set()
    assert holding._left.wait(60)
    assert asked == [('mmcv-ckpt-beat', True)]


@pytest.fixture
def ends(monkeypatch):
    """The end of this process, as it is seen from here."""
    monkeypatch.setattr(held_places, '_is_over', False)
    monkeypatch.setattr(held_places, '_EXIT_SECS', 60.)
    return held_places._end_process


def test_the_end_of_a_process_leaves_its_places(store, make, ends):
    lock = make()
    lock.acquire()
    held_places.die_holding()  # it ends while it writes
    ends()
    assert signed(store).beat is None


def test_the_end_of_a_process_does_not_wait_long(store, make, ends,
                                                 monkeypatch):
    """The network is away; and a thread is still about to write."""
    monkeypatch.setattr(held_places, '_EXIT_SECS', 0.)
    lock = make()
    lock.acquire()
    holding, goes_on = lock._holding, threading.Event()
    write = holding._file.write_beat

    def write_beat(beat):
        assert goes_on.wait(60)
        write(beat)

    holding._file.write_beat = write_beat
    ends()
    assert signed(store).beat == 0
    goes_on.set()
    assert holding._left.wait(60) and signed(store).beat is None
    with pytest.raises(LockedError, match='this process ends'):
        lock.check()
    assert signed(store).beat is None


def test_a_place_that_was_lost_is_not_waited_for(store, make, ends):
    lock = make()
    lock.acquire()
    other = sign(store)
    assert lock._holding.beat() is False
    ends()
    assert signed(store) == other


def test_a_beat_of_a_run_that_nobody_refers_to_refuses_nobody(
        store, make, monkeypatch):
    lock = StoredLock(store, NAME, lambda line: None, wait=lambda secs: None)
    lock.acquire()
    earlier, has_begun, goes_on = (lock._holding, threading.Event(),
                                   threading.Event())
    write, stop = earlier._file.write_beat, Repeater.stop

    def write_beat(beat):
        has_begun.set()
        assert goes_on.wait(60)
        write(beat)

    def stop_and_wait(self, wait=True):
        if wait:
            goes_on.set()
        stop(self, wait)

    monkeypatch.setattr(earlier._file, 'write_beat', write_beat)
    monkeypatch.setattr(Repeater, 'stop', stop_and_wait)
    beat = threading.Thread(target=earlier.beat)
    beat.start()
    assert has_begun.wait(60)
    del lock
    gc.collect()
    assert not earlier.ended
    try:
        make().acquire()
    finally:
        goes_on.set()
        beat.join(60)
    assert earlier.ended and signed(store).beat == 0


# -- which places ----------------------------------------------------------


def test_the_lock_lies_beside_the_catalog_under_its_name(store):
    for name, lock in (('checkpoints.json', 'checkpoints.lock'),
                       ('checkpoints.best.json', 'checkpoints.best.lock')):
        assert lock_of(store, name, print).path == f's3://bucket/run/{lock}'
