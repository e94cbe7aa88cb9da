"""The clock that tests move by hand."""
import pytest

from mmcv_ckpt_hooks.testing import ManualClock


def test_stands_still_until_it_is_moved():
    clock = ManualClock(5.)
    assert clock() == clock() == 5.
    clock.advance(0.5)
    clock.advance(0)
    assert clock() == 5.5


def test_does_not_run_backwards():
    clock = ManualClock()
    with pytest.raises(ValueError, match='-1'):
        clock.advance(-1)
    assert clock() == 0.
