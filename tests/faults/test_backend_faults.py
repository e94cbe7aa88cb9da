"""One fault at each verb of a storage: training goes on or stops as asked,
what was committed stays, and the error is told once.
"""
import pytest
from faulty_runs import (END, FAILING, assert_whole, contents, errors_told,
                         faulty_run)

from mmcv_ckpt_hooks import opening
from mmcv_ckpt_hooks.errors import (AccessError, MissingCheckpointError,
                                    OutOfSpaceError, StorageError)
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.testing.faulty import Fault, FaultyBackend

NAME = f'iter_{FAILING}.pth'
ERRORS = [
    OutOfSpaceError('no space left on device'),
    OutOfSpaceError('disk quota exceeded'),
    AccessError('read-only file system'),
    AccessError('permission denied'),
    StorageError('input/output error'),
    StorageError('stale file handle'),
]
IDS = ['space', 'quota', 'readonly', 'permission', 'io', 'stale']


class OneFault(FaultyBackend):
    """Fails at one call of the save at step 4, or at the start.

    Args:
        call (str): Begins as the call in ``calls`` does.
        nth (int): Which of those in this save. Default: 1.
        after_bytes (int, optional): As in ``Fault``.
    """

    def __init__(self, inner, error, call, nth=1, after_bytes=None):
        super().__init__(inner)
        self.fault = Fault(call.split()[0], error, after_bytes=after_bytes)
        self.call, self.nth = call, nth
        self.is_failing = not call.startswith(
            ('put', 'point', 'delete', 'link'))
        self.met = 0

    def _enter(self, verb, *names):
        call = ' '.join((verb, *names))
        self.calls.append(call)
        if call.startswith('put iter_'):
            self.is_failing = call == f'put {NAME}'
        if not self.is_failing or not call.startswith(self.call):
            return None
        self.nth -= 1
        if self.nth:
            return None
        self.met += 1
        if self.fault.after_bytes is None:
            raise self.fault.error
        return self.fault


@pytest.fixture
def backends():
    """Puts a backend with one fault in the place of the run's."""
    made, patch = [], pytest.MonkeyPatch()

    def fail(*args, **kwargs):

        def open_backend(place, *_, **__):
            made.append(OneFault(LocalBackend(place), *args, **kwargs))
            return made[-1]

        patch.setattr(opening, 'open_backend', open_backend)
        return made

    fail.mend = patch.undo
    yield fail
    patch.undo()


#: Call, which of that save's, bytes taken; is the checkpoint committed; is it
#: an error of the save.
POINTS = {
    'file': (f'put {NAME}', 1, None, False, True),
    'file, 0 bytes': (f'put {NAME}', 1, 0, False, True),
    'file, 3000 bytes': (f'put {NAME}', 1, 3000, False, True),
    'catalog': ('put checkpoints.json', 1, None, True, True),
    'catalog, 0 bytes': ('put checkpoints.json', 1, 0, True, True),
    'catalog, 100 bytes': ('put checkpoints.json', 1, 100, True, True),
    'latest': (f'point latest.pth {NAME}', 1, None, True, True),
    'delete': ('delete iter_2.pth', 1, None, True, False),
    'catalog after delete': ('put checkpoints.json', 2, None, True, True),
    'best': (f'link {NAME}', 1, None, True, True),
    'delete best': ('delete best_mIoU_iter_2', 1, None, True, False),
}


@pytest.mark.parametrize('point', POINTS)
@pytest.mark.parametrize('number', range(len(ERRORS)), ids=IDS)
def test_training_goes_on(tmp_path, caplog, backends, point, number):
    call, nth, after_bytes, committed, is_error = POINTS[point]
    error = ERRORS[number]
    made = backends(error, call, nth, after_bytes)
    runner, watch, raised = faulty_run(
        tmp_path, 'warn', background=bool(number % 2))
    assert raised is None and runner.iter == 8
    assert made[0].met == 1
    # what was committed before the fault is there, byte for byte
    if not committed:
        assert watch.after['iter_2.pth'] == watch.before['iter_2.pth']
    assert (NAME in watch.after) == committed
    told = errors_told(caplog)
    assert len(told) == is_error, [one.getMessage() for one in told]
    if told:
        assert str(error) in told[0].getMessage()
        assert told[0].exc_info is None  # one line says it
        assert ('was not saved'
                in told[0].getMessage()) == (not committed or point == 'best')
    else:
        assert str(error) in caplog.text
    # the next save works, and retention catches up
    assert_whole(tmp_path, END)


@pytest.mark.parametrize(
    'point',
    [point for point, (_, _, _, _, is_error) in POINTS.items() if is_error])
@pytest.mark.parametrize('number', range(len(ERRORS)), ids=IDS)
def test_training_stops_where_it_is_asked_to(tmp_path, caplog, backends, point,
                                             number):
    call, nth, after_bytes, committed, _ = POINTS[point]
    error = ERRORS[number]
    backends(error, call, nth, after_bytes)
    runner, watch, raised = faulty_run(
        tmp_path, 'raise', background=bool(number % 2))
    assert raised is error
    assert FAILING - 1 <= runner.iter < 8
    assert len(errors_told(caplog)) == 1
    there = contents(tmp_path)
    if not committed:
        assert there['iter_2.pth'] == watch.before['iter_2.pth']
    # the fault is gone: the same command goes on
    backends.mend()
    again, _, raised = faulty_run(tmp_path, 'raise', resume='auto', better=1.)
    assert raised is None
    assert f'iter_{again.restored.iter}.pth' == max(
        name.replace('best_mIoU_', '') for name in there)
    assert_whole(tmp_path, END)


# -- the start ---------------------------------------------------------------


@pytest.mark.parametrize(
    'call',
    ['prepare', 'sweep', 'open checkpoints.json', 'list', 'open iter_8.pth'])
@pytest.mark.parametrize('number', range(len(ERRORS)), ids=IDS)
def test_no_run_starts_in_a_place_that_fails(tmp_path, backends, call, number):
    """A refusal is never taken for an empty directory."""
    faulty_run(tmp_path)
    before = contents(tmp_path)
    made = backends(ERRORS[number], call)
    on_error = 'raise' if number % 2 else 'warn'  # it makes no difference
    runner, _, raised = faulty_run(tmp_path, on_error, steps=12, resume='auto')
    assert raised is ERRORS[number]
    assert runner.iter == 0 and runner.restored is None
    assert made[0].met == 1
    assert contents(tmp_path) == before


def test_a_file_that_went_away_meanwhile_is_passed_over(tmp_path, backends):
    faulty_run(tmp_path)
    backends(MissingCheckpointError('gone'), 'open iter_8.pth')
    runner, _, raised = faulty_run(tmp_path, 'raise', steps=12, resume='auto')
    assert raised is None
    assert runner.restored.name == 'best_mIoU_iter_8.pth'


def test_a_fresh_start_is_said_loudly(tmp_path, caplog):
    _, _, raised = faulty_run(tmp_path / 'new', resume='auto')
    assert raised is None
    told = [
        one for one in caplog.records
        if one.levelname == 'WARNING' and 'starts anew' in one.getMessage()
    ]
    assert len(told) == 1 and str(tmp_path / 'new') in told[0].getMessage()
