"""Who has come to a collective, and what if nobody tells."""
import threading

import pytest

from mmcv_ckpt_hooks import roll_call
from mmcv_ckpt_hooks.roll_call import RollCall


class Store:
    """Answers with the counts of the ranks, one row after the other."""

    def __init__(self, *rows):
        self._rows = list(rows)
        self.own = 0

    def add(self, key, amount):
        rank = int(key.split()[-1])
        self.own += amount
        row = self._rows[0]
        if rank == len(row) - 1 and not amount and len(self._rows) > 1:
            self._rows.pop(0)
        return row[rank]


def test_who_is_only_late_is_not_named(monkeypatch):
    monkeypatch.setattr(roll_call, '_AGAIN_SECS', 0)
    roll = RollCall(Store([1, 0, 0], [1, 0, 0], [1, 1, 1]), 'roll', 0, 3)
    roll.come()
    assert roll.missing() == []


def test_who_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(roll_call, '_AGAIN_SECS', 0)
    monkeypatch.setattr(roll_call, 'LATE_SECS', .05)
    store = Store([1, 0, 0], [1, 0, 1])
    roll = RollCall(store, 'roll', 0, 3)
    roll.come()
    assert roll.missing() == [1]
    assert store.own == 1


@pytest.mark.timeout(30)
def test_a_store_that_answers_nobody_is_not_waited_for(monkeypatch):
    """Its process may be stopped."""
    monkeypatch.setattr(roll_call, 'STORE_SECS', .05)
    never = threading.Event()

    class Silent:

        def add(self, key, amount):
            never.wait()

    roll = RollCall(Silent(), 'roll', 0, 2)
    try:
        roll.come()
        assert roll.missing() is None
    finally:
        never.set()


def test_a_store_that_is_gone_names_nobody():

    class Gone:

        def add(self, key, amount):
            raise RuntimeError('Connection reset by peer')

    roll = RollCall(Gone(), 'roll', 0, 2)
    roll.come()
    assert roll.missing() is None


def test_without_a_store_nobody_is_named():
    roll = RollCall(None, 'roll', 0, 2)
    roll.come()
    assert roll.missing() is None
