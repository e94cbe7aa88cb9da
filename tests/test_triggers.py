"""When a run saves: a table, a clock that is moved by hand, no sleeps."""
import pytest

from mmcv_ckpt_hooks.config import TriggerOptions
from mmcv_ckpt_hooks.triggers import FILE_CHECK_SECS, Progress, Schedule


class Hand:
    """A clock and a trigger file that the test moves."""

    def __init__(self):
        self.now = 1000.
        self.there = False
        self.looks = 0

    def clock(self):
        return self.now

    def take(self, name):
        assert name == 'SAVE'
        self.looks += 1
        there, self.there = self.there, False
        return there


def make(hand=None, interval=-1, save_last=False, **options):
    hand = hand or Hand()
    return Schedule(interval, save_last, TriggerOptions(**options), hand.clock,
                    hand.take)


def asked(schedule, steps, last):
    """What is asked for, step by step."""
    found = {}
    for step in range(1, steps + 1):
        trigger = schedule.due(Progress(step, step == last))
        if trigger is not None:
            found[step] = trigger
    return found


TABLE = [
    # interval, save_last, options -> trigger by step, of 10 steps
    (4, True, {}, {
        4: 'interval',
        8: 'interval',
        10: 'last'
    }),
    (4, False, {}, {
        4: 'interval',
        8: 'interval'
    }),
    (5, True, {}, {
        5: 'interval',
        10: 'interval'
    }),
    (20, True, {}, {
        10: 'last'
    }),
    (20, False, {}, {}),
    (-1, True, {}, {
        10: 'last'
    }),
    (-1, False, {}, {}),
    (1, False, dict(begin=8), {
        8: 'interval',
        9: 'interval',
        10: 'interval'
    }),
    (4, False, dict(begin=5), {
        8: 'interval'
    }),
    (4, False, dict(begin=4), {
        4: 'interval',
        8: 'interval'
    }),
    # begin holds back the interval alone: the end is still saved
    (4, True, dict(begin=100), {
        10: 'last'
    }),
    (-1, False, dict(at=(3, 7)), {
        3: 'at',
        7: 'at'
    }),
    (4, False, dict(at=(4, 5)), {
        4: 'interval',
        5: 'at',
        8: 'interval'
    }),
    (-1, False, dict(at=(3, ), begin=9), {
        3: 'at'
    }),
    (-1, True, dict(at=(10, )), {
        10: 'at'
    }),
]


@pytest.mark.parametrize('interval, save_last, options, expected', TABLE)
def test_no_step_is_left_out_and_none_is_added(interval, save_last, options,
                                               expected):
    schedule = make(interval=interval, save_last=save_last, **options)
    assert asked(schedule, 10, last=10) == expected


def test_a_step_on_another_scale_never_matches_the_interval():
    """Iterations of a run that counts epochs."""
    schedule = make(interval=1, save_last=True, at=(1, ))
    assert schedule.due(Progress(None, False)) is None
    assert schedule.due(Progress(None, True)) is None


def test_a_slow_run_saves_by_the_clock():
    hand = Hand()
    schedule = make(hand, secs=60, file=None)
    hand.now += 59
    assert schedule.due(Progress(1, False)) is None
    hand.now += 1
    assert schedule.due(Progress(2, False)) == 'time'
    schedule.saved()
    assert schedule.due(Progress(3, False)) is None
    hand.now += 60
    assert schedule.due(Progress(None, False)) == 'time'


def test_the_clock_starts_anew_at_every_save():
    """A save by interval makes one by the clock superfluous."""
    hand = Hand()
    schedule = make(hand, interval=2, secs=60, file=None)
    hand.now += 50
    assert schedule.due(Progress(2, False)) == 'interval'
    schedule.saved()
    hand.now += 50
    assert schedule.due(Progress(3, False)) is None


def test_a_save_that_was_not_made_stays_due():
    hand = Hand()
    schedule = make(hand, secs=60, file=None)
    hand.now += 60
    assert schedule.due(Progress(1, False)) == 'time'
    assert schedule.due(Progress(2, False)) == 'time'


def test_a_save_that_came_to_nothing_is_asked_for_until_it_is_made():
    hand = Hand()
    schedule = make(hand, interval=4, secs=60, file=None)
    hand.now += 60
    schedule.lost()
    assert schedule.due(Progress(1, False)) == 'retry'
    assert schedule.due(Progress(2, False)) == 'retry'
    assert schedule.due(Progress(4, False)) == 'interval'
    schedule.saved()
    assert schedule.due(Progress(5, False)) is None


def test_a_request_by_file_is_answered_once():
    hand = Hand()
    schedule = make(hand)
    hand.there = True
    hand.now += FILE_CHECK_SECS
    assert schedule.due(Progress(1, False)) == 'file'
    hand.now += FILE_CHECK_SECS
    assert schedule.due(Progress(2, False)) is None


def test_the_trigger_file_is_looked_at_once_a_second():
    """A look is a round trip on a network file system."""
    hand = Hand()
    schedule = make(hand)
    # at the first step: a short run may have no other second
    for _ in range(1000):
        schedule.due(Progress(1, False))
    assert hand.looks == 1
    hand.now += FILE_CHECK_SECS
    for _ in range(1000):
        schedule.due(Progress(1, False))
    assert hand.looks == 2


def test_no_trigger_file_is_looked_for_where_it_is_switched_off():
    hand = Hand()
    schedule = make(hand, file=None)
    hand.there = True
    hand.now += 10
    assert schedule.due(Progress(1, False)) is None
    assert hand.looks == 0


def test_a_request_by_file_survives_a_save_on_the_grid():
    """Else whoever asked for it waits for ever."""
    hand = Hand()
    schedule = make(hand, interval=1)
    hand.there = True
    hand.now += FILE_CHECK_SECS
    assert schedule.due(Progress(1, False)) == 'interval'
    assert hand.there
    assert schedule.due(Progress(None, False)) == 'file'
