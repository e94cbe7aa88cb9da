"""What ranks tell each other about a save, over a real store."""
import threading
from contextlib import contextmanager

import pytest
from torch.distributed import HashStore

from mmcv_ckpt_hooks.errors import OutOfSpaceError, StorageError
from mmcv_ckpt_hooks.sharded import board
from mmcv_ckpt_hooks.sharded.board import ShardBoard


@pytest.fixture
def boards():
    store = HashStore()
    return [ShardBoard(store, 'test', rank, 3) for rank in range(3)]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(board, 'LOST_SECS', 0.2)
    monkeypatch.setattr(board, 'BEAT_SECS', 0.05)


@contextmanager
def beating(board):
    beat = board.start_beating()
    try:
        yield
    finally:
        beat.stop()


def test_a_call_is_heard_once_and_then_how_it_ended(boards):
    first, other = boards[:2]
    first.call(1, 1, name='iter_2.dcp')
    assert other.heard(1, 0)['name'] == 'iter_2.dcp'
    first.call(1, 2, name='again.dcp')
    assert other.heard(1, 1)['name'] == 'again.dcp'
    first.conclude(1)
    assert other.heard(1, 2) is None


def test_a_rank_that_looks_late_still_hears_how_a_save_ended(boards):
    first, other = boards[:2]
    first.call(1, 1)
    first.conclude(1)
    first.conclude(2, 'no space')
    first.call(3, 1)
    assert other.heard(1, 1) is None
    with pytest.raises(StorageError, match='no space'):
        other.heard(2, 0)


def test_what_nobody_knows_any_more_has_been_given_up(boards):
    for save in range(1, 20):
        boards[0].conclude(save)
    boards[0].call(20, 1)
    with pytest.raises(StorageError, match='given this save up'):
        boards[1].heard(1, 1)
    assert len(boards[0]._ends) < 10


def test_saves_that_were_left_out_have_no_end_and_make_none_forgotten(boards):
    first, other = boards[:2]
    for save in range(1, 1000, 8):
        first.conclude(save)
        first.call(save + 8, 1)
        if save > 8:
            assert other.heard(save - 8, 1) is None
        assert len(first._ends) <= 8


def test_results_come_from_every_other_rank(boards):
    for rank in (1, 2):
        boards[rank].report(4, 1, bytes=rank)
    assert {
        rank: result['bytes']
        for rank, result in boards[0].results(4, 1).items()
    } == {
        1: 1,
        2: 2
    }


@pytest.mark.parametrize('no_space, kind', [(True, OutOfSpaceError),
                                            (False, StorageError)])
def test_a_rank_that_failed_is_named(boards, no_space, kind):
    boards[1].report(1, 1, bytes=1)
    boards[2].report(1, 1, why='TornError: x', no_space=no_space)
    with pytest.raises(kind, match='rank 2 could not .*TornError: x') as told:
        boards[0].results(1, 1)
    assert type(told.value) is kind


def test_an_answer_to_an_earlier_call_is_none(boards, impatient):
    for rank in (1, 2):
        boards[rank].report(1, 1, bytes=1)
    with pytest.raises(StorageError, match='rank 1 does not answer'):
        boards[0].results(1, 2)


def test_a_silent_rank_is_named(boards, impatient):
    boards[1].report(1, 1, bytes=1)
    with pytest.raises(StorageError, match='rank 2 does not answer'):
        boards[0].results(1, 1)
    with pytest.raises(StorageError, match='rank 0 does not answer'):
        boards[1].heard(1, 1)


def test_a_rank_that_beats_is_waited_for(boards, impatient, monkeypatch):
    # it comes when others have been given up for long
    monkeypatch.setattr(board, 'LOST_SECS', 0.5)
    with beating(boards[2]):
        boards[1].report(1, 1, bytes=1)
        late = threading.Timer(1.5, boards[2].report, (1, 1), dict(bytes=2))
        late.start()
        assert boards[0].results(1, 1)[2]['bytes'] == 2
        late.join()


def test_a_rank_that_lives_but_does_not_come_on_is_given_up(
        boards, impatient, monkeypatch):
    monkeypatch.setattr(board, 'STUCK_SECS', 0.2)
    with beating(boards[1]):
        with pytest.raises(StorageError, match='rank 1 does not answer'):
            boards[0].results(1, 1)


class GoneStore(HashStore):

    def set(self, *arguments):
        raise RuntimeError('Connection reset by peer')


def test_a_store_that_is_gone_is_a_storage_error(boards):
    boards[1]._store = GoneStore()
    with pytest.raises(StorageError, match='or rank 0, is gone'):
        boards[1].report(1, 1, bytes=1)


class Paced(HashStore):
    """Whoever looks for beats waits for one beat of all ranks meanwhile."""

    def __init__(self):
        super().__init__()
        self.beats = []

    def add(self, key, value):
        if not value:
            for beat in self.beats:
                beat()
        return super().add(key, value)


class Slow:
    """A rank that writes for long, and then reports or concludes."""

    def __init__(self, board, beats, end):
        self.board, self.left, self.end = board, beats, end

    def __call__(self):
        self.left -= 1
        self.board.advance(1)
        self.board._beat()
        if not self.left:
            self.end()


@pytest.mark.parametrize('waiting', [0, 1])
def test_a_rank_that_waits_for_one_that_comes_on_stays_alive(
        monkeypatch, waiting):
    monkeypatch.setattr(board, '_POLL_SECS', 0.001)
    monkeypatch.setattr(board, 'BEAT_SECS', 0.001)
    # of 40 beats that it waits
    monkeypatch.setattr(board, 'STUCK_SECS', 0.01)
    store = Paced()
    boards = [ShardBoard(store, 'test', rank, 2) for rank in range(2)]
    own, other = boards[waiting], boards[1 - waiting]
    own_beat = board._Beat(own._beat, lambda: own._progress)
    lives = []

    def end():
        if waiting == 0:
            other.report(3, 1, bytes=1)
        else:
            other.conclude(3)

    store.beats += [lambda: lives.append(own_beat()), Slow(other, 40, end)]
    if waiting == 0:
        assert own.results(3, 1) == {1: dict(bytes=1)}
    else:
        assert own.heard(3, 1) is None
    assert lives == [True] * 40


def test_a_rank_that_has_gone_on_to_the_next_save_is_not_waited_for(boards):
    boards[0].conclude(2)
    assert boards[1].heard(2, 0) is None
    with pytest.raises(StorageError, match='rank 1 has given this save up'):
        boards[0].results(1, 1)
