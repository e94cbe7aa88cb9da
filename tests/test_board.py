"""What ranks tell each other: with a store that may go, and a clock."""
import types

import pytest
import torch

from mmcv_ckpt_hooks import board as module
from mmcv_ckpt_hooks import parting
from mmcv_ckpt_hooks.agreement import COMMIT_SECS, LEAVE_SECS
from mmcv_ckpt_hooks.board import LOOK_SECS, Board
from mmcv_ckpt_hooks.boundary import Boundary
from mmcv_ckpt_hooks.parting import Parting


class Store:
    """As torch's, in one process."""

    def __init__(self):
        self.kept = {}
        self.calls = 0
        self.is_gone = False

    def add(self, key, number):
        self.answer()
        self.kept[key] = self.kept.get(key, 0) + number
        return self.kept[key]

    def set(self, key, value):
        self.answer()
        self.kept[key] = value.encode()

    def get(self, key):
        self.answer()
        return self.kept[key]

    def answer(self):
        self.calls += 1
        if self.is_gone:
            raise RuntimeError('Connection reset by peer')


class Clock:

    now = 0.

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, 'time',
                        types.SimpleNamespace(sleep=clock.sleep))
    return clock


@pytest.fixture
def said():
    return []


@pytest.fixture
def boards(clock, said):
    store = Store()
    return [
        Board(store, 'run', rank, 2, said.append, clock) for rank in (0, 1)
    ]


def test_a_signal_goes_from_any_rank_to_rank_0_and_back(boards, clock):
    first, second = boards
    assert first.asked() == 0
    second.ask(15)
    # not a message for every batch
    assert first.asked() == 0
    clock.now += LOOK_SECS
    assert first.asked() == 15
    assert second.taken() == 0
    first.take(15)
    first.take(15)
    assert second.taken() == 0
    assert second.taken(at_once=True) == 15


def test_the_first_signal_counts(boards):
    for board, number in zip(boards, (2, 15)):
        board.ask(number)
        board.ask(number)
    assert boards[0].asked() == 2


def test_between_two_looks_nothing_is_sent(boards):
    first, _ = boards
    for _ in range(9):
        first.asked()
    assert first._store.calls == 1


def test_boards_do_not_see_each_other(boards, said, clock):
    other = Board(boards[0]._store, 'next run', 0, 2, said.append, clock)
    boards[1].ask(15)
    assert other.asked() == 0


def test_states_are_those_of_one_boundary(boards, clock):
    first, second = boards
    states = [dict(rng=dict(torch=torch.rand(3)), data={}) for _ in range(3)]
    second.post(4, states[1])
    first.post(4, states[0])
    found = first.states(4, 0)
    for rank in range(2):
        assert torch.equal(found[rank]['rng']['torch'],
                           states[rank]['rng']['torch'])
    calls = first._store.calls
    first.post(4, states[0])
    assert first._store.calls == calls
    first.post(8, states[2])
    # the other one is behind
    assert first.states(8, LEAVE_SECS) is None
    assert clock.now == pytest.approx(LEAVE_SECS, abs=0.1)
    assert first.states(8, 0) is None
    second.post(8, states[1])
    assert torch.equal(
        first.states(8, 0)[0]['rng']['torch'], states[2]['rng']['torch'])


def test_a_commit_is_waited_for_but_not_for_ever(boards, clock):
    first, second = boards
    second.wait_for_commit()
    assert clock.now == pytest.approx(COMMIT_SECS, abs=0.1)
    first.commit()
    before = clock.now
    second.wait_for_commit()
    assert clock.now == before


@pytest.mark.parametrize('first', [
    lambda board: board.post(4, dict(rng={})),
    lambda board: board.ask(15),
    lambda board: board.taken(at_once=True),
])
def test_a_store_that_has_gone_is_said_once_and_waited_for_never(
        boards, clock, said, first):
    second = boards[1]
    second._store.is_gone = True
    first(second)
    second.post(4, dict(rng={}))
    second.ask(15)
    assert second.taken() == 0
    assert second.states(4, LEAVE_SECS) is None
    second.wait_for_commit()
    assert clock.now == 0
    assert second.is_lost
    assert len(said) == 1
    assert 'Connection reset by peer' in said[0]


def test_without_a_store_nothing_is_told(clock, said):
    board = Board(None, 'run', 0, 2, said.append, clock)
    board.post(4, dict(rng={}))
    board.ask(15)
    assert board.asked() == 0
    assert board.states(4, LEAVE_SECS) is None
    board.wait_for_commit()
    assert (clock.now, said, board.is_lost) == (0, [], False)


# -- who leaves when ---------------------------------------------------------


class Met:
    """An agreement of two ranks that evaluate alike, or not."""

    is_alone = False

    def __init__(self, other):
        self.other = other

    def gather(self, value):
        return [('run', value[1]), ('else', self.other)]


@pytest.fixture
def make(monkeypatch, clock):
    store = Store()
    monkeypatch.setattr(parting, 'default_store', lambda: store)
    runner = types.SimpleNamespace(
        hooks=[], logger=types.SimpleNamespace(warning=print))

    def make(rank, other=()):
        monkeypatch.setattr(parting.distributed, 'rank', lambda: rank)
        one = Parting(runner, Met(list(other)), rank == 0)
        one._board._clock = clock
        return one

    return make


def keeper(step, state='own'):
    return types.SimpleNamespace(last=Boundary(0, step), rank_state=state)


def test_a_rank_goes_on_until_rank_0_leaves(make, clock):
    first, second = make(0), make(1)
    at = keeper(4)
    # rank 0's evaluation may be over: whoever waits here, waits for ever
    assert second.heard(at, 15, True) == 0
    assert first.heard(at, 0, True) == 15
    first.take(15)
    clock.now += LOOK_SECS
    assert second.heard(at, 15, True) == 15
    first.end(4)
    second.end(4)
    assert clock.now == LOOK_SECS


def test_in_training_no_rank_leaves_alone(make):
    first, second = make(0), make(1)
    assert first.heard(keeper(4), 15, False) is None
    assert second.heard(keeper(4), 15, False) is None
    # behind an evaluation which rank 0 has left
    second.begin(keeper(4))
    first.begin(keeper(4))
    assert second.heard(keeper(4), 0, True) == 0
    first.take(15)
    assert second.heard(keeper(4), 0, False) == 15
    assert second.heard(keeper(5), 0, False) is None


def test_without_rank_0_a_rank_leaves_when_it_has_to(make):
    second = make(1)
    second.begin(keeper(4))
    second._board._store.is_gone = True
    assert second.heard(keeper(4), 0, True) == 0
    assert second.heard(keeper(4), 15, True) == 15
    second.end(4)


@pytest.mark.parametrize('other, secs', [([], LEAVE_SECS), (['EvalHook'], 0)])
def test_ranks_that_evaluate_are_waited_for(make, clock, other, secs):
    first = make(0, other)
    at = keeper(4)
    assert first.known(at, waits=True) == ['own']
    first.begin(at)
    assert first.known(at, waits=True) == ['own']
    assert clock.now == pytest.approx(secs, abs=0.1)
    make(1).begin(keeper(4, 'other'))
    assert first.known(at, waits=False) == ['own', 'other']


def test_nobody_ends_before_rank_0_has_committed(make, clock):
    first, second = make(0), make(1)
    for one in (first, second):
        one.begin(keeper(4))
    second.end(4)
    assert clock.now == 0
    first.take(15)
    second.end(4)
    assert clock.now == pytest.approx(COMMIT_SECS, abs=0.1)
    assert second.followed(4) == 15
    assert first.followed(4) == second.followed(5) == 0
