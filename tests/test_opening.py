"""The start of a run, and what may fail behind the resume."""
import pytest
from stock import best_has_a_place
from toy import names, train

from mmcv_ckpt_hooks import opening
from mmcv_ckpt_hooks.errors import LockedError, OutOfSpaceError
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.testing.faulty import Fault, FaultyBackend

OURS = dict(type='DurableCheckpointHook', interval=2)
ITER = ['IterBasedRunner', 'IterBasedRunnerAmp']


def run(directory, steps, name='IterBasedRunnerAmp', **ours):
    return train(
        directory,
        runner=dict(type=name, max_iters=steps),
        hooks=[dict(OURS, **ours)])


@pytest.fixture
def faulty(monkeypatch):
    """Let the next run's place fail once, as told."""

    def arrange(verb, error):

        def open_backend(url, *args, **kwargs):
            return FaultyBackend(LocalBackend(url), [Fault(verb, error)])

        monkeypatch.setattr(opening, 'open_backend', open_backend)

    yield arrange


#: What fails at the start, the options that lead there, what is said.
CASES = {
    'latest.pth': ('point', dict(resume='auto'), 'Moving latest.pth'),
    'adopted': ('put', dict(adopt_existing=True), 'what is adopted'),
}


def said(caplog, words):
    return [
        one.levelname for one in caplog.records
        if words in one.getMessage() and 'failed' in one.getMessage()
    ]


@pytest.mark.parametrize('case', sorted(CASES))
@pytest.mark.parametrize('name', ITER)
def test_what_the_next_save_does_again_stops_no_start(tmp_path, caplog, faulty,
                                                      case, name):
    verb, options, words = CASES[case]
    run(tmp_path, 4, name)
    faulty(verb, OutOfSpaceError('the disk is full'))
    runner = run(tmp_path, 8, name, max_keep_ckpts=1, **options)
    assert runner.iter == 8
    assert said(caplog, words) == ['WARNING']
    # those of before are owned, and latest.pth leads to the newest
    assert names(tmp_path) == ['iter_8.pth', 'latest.pth']
    assert (tmp_path / 'latest.pth').resolve().name == 'iter_8.pth'


@pytest.mark.parametrize('case', sorted(CASES))
@pytest.mark.parametrize('on_error, error', [
    ('raise', OutOfSpaceError('the disk is full')),
    ('warn', LockedError('another run has taken over')),
])
def test_a_start_that_fails_leaves_the_directory(tmp_path, monkeypatch, faulty,
                                                 case, on_error, error):
    verb, options, _ = CASES[case]
    run(tmp_path, 4)
    faulty(verb, error)
    with pytest.raises(type(error)):
        run(tmp_path, 8, on_error=on_error, **options)
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']
    monkeypatch.undo()
    assert run(tmp_path, 8, **options).iter == 8


@best_has_a_place
@pytest.mark.parametrize('has_lock', [True, False])
def test_every_place_is_prepared_once(tmp_path, monkeypatch, has_lock):
    """Of an object store that is three requests."""
    prepared = []

    class Place(LocalBackend):

        def prepare(self):
            prepared.append(self.url)
            super().prepare()

    def open_backend(url, *args, **kwargs):
        return Place(url) if has_lock else FaultyBackend(Place(url))

    monkeypatch.setattr(opening, 'open_backend', open_backend)
    train(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        evaluation=dict(
            scores=[.5],
            interval=2,
            by_epoch=False,
            save_best='mIoU',
            out_dir=str(tmp_path / 'best')),
        hooks=[OURS])
    assert len(prepared) == len(set(prepared)) == 2
