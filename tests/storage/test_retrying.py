"""What is done again, when, and when not any more."""
import random

import pytest

from mmcv_ckpt_hooks.storage.retrying import Retries
from mmcv_ckpt_hooks.testing.clock import ManualClock


class Passing(Exception):
    pass


class Lasting(Exception):
    pass


class Work:
    """Fails so often; each attempt takes so many seconds."""

    def __init__(self, clock, failures, takes=0.):
        self.clock = clock
        self.left = list(failures)
        self.takes = takes
        self.begun = []

    def __call__(self):
        self.begun.append(self.clock())
        self.clock.advance(self.takes)
        if self.left:
            raise self.left.pop(0)
        return 'done'


def retries(clock, secs=60., **kwargs):
    kwargs.setdefault('draw', lambda low, high: high)
    return Retries(secs, clock=clock, wait=clock.advance, **kwargs)


def passes(error):
    return isinstance(error, Passing)


def test_pauses_grow():
    clock = ManualClock()
    work = Work(clock, [Passing()] * 4)
    assert retries(clock).run(work, passes) == 'done'
    assert [round(at - work.begun[0], 6)
            for at in work.begun] == [0., 0.1, 0.3, 0.7, 1.5]


def test_pauses_are_drawn_and_bounded():
    clock = ManualClock()
    drawn = []

    def draw(low, high):
        drawn.append((low, high))
        return low

    work = Work(clock, [Passing()] * 11)
    assert retries(clock, attempts=12, draw=draw).run(work, passes) == 'done'
    assert {low for low, _ in drawn} == {0.}
    assert [high for _, high in drawn][-3:] == [15.] * 3
    assert len(drawn) == 11


def test_the_generators_of_a_training_are_not_drawn_from():
    clock = ManualClock()
    before = random.getstate()
    Retries(
        60., clock=clock,
        wait=clock.advance).run(Work(clock, [Passing()]), passes)
    assert random.getstate() == before


def test_what_lasts_is_raised_at_once():
    clock = ManualClock()
    error = Lasting()
    work = Work(clock, [Passing(), error, Passing()])
    with pytest.raises(Lasting) as caught:
        retries(clock).run(work, passes)
    assert caught.value is error
    assert len(work.begun) == 2


def test_the_number_of_attempts_is_bounded():
    clock = ManualClock()
    errors = [Passing() for _ in range(9)]
    work = Work(clock, errors)
    with pytest.raises(Passing) as caught:
        retries(clock, attempts=3).run(work, passes)
    assert caught.value is errors[2]
    assert len(work.begun) == 3


@pytest.mark.parametrize('takes, attempts', [(0., 5), (25., 3), (61., 1)])
def test_nothing_begins_behind_the_deadline(takes, attempts):
    clock = ManualClock()
    work = Work(clock, [Passing()] * 9, takes)
    with pytest.raises(Passing):
        retries(clock).run(work, passes)
    assert len(work.begun) == attempts
    assert work.begun[-1] - work.begun[0] < 60.


def test_what_takes_long_has_its_time_from_the_first_failure():
    clock = ManualClock()
    work = Work(clock, [Passing()] * 9, 40.)
    with pytest.raises(Passing):
        retries(clock).run(work, passes, is_long=True)
    # the second failure is 40 s behind the first, the third 80 s
    assert len(work.begun) == 3


def test_an_interrupt_is_none_of_its_business():
    clock = ManualClock()
    work = Work(clock, [KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        retries(clock).run(work, lambda error: True)
    assert len(work.begun) == 1
