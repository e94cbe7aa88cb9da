"""What stops a stock runner, whose ``run`` tells no hook."""
import os
import signal

import pytest
from mmcv.runner import RUNNERS, Hook, IterBasedRunner
from toy import make_loader, make_runner, names

from mmcv_ckpt_hooks.phases import Phases
from mmcv_ckpt_hooks.storage.local import LocalBackend

OURS = dict(type='DurableCheckpointHook')
ITERS = dict(type='IterBasedRunner', max_iters=8)
EPOCHS = dict(type='EpochBasedRunner', max_epochs=2)
KINDS = [
    ITERS, EPOCHS,
    dict(ITERS, type='IterBasedRunnerAmp'),
    dict(EPOCHS, type='EpochBasedRunnerAmp')
]


class Raises(Hook):
    """Raises before the sixth iteration; a signal may have come before."""

    def __init__(self, signals=False, event='before_train_iter'):
        self._signals = signals
        self.events = [event]
        setattr(self, event, self.fail)

    def fail(self, runner):
        if runner.iter == 5:
            if self._signals:
                os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError('DataLoader worker is killed by signal')

    def get_triggered_stages(self):
        return self.events


def fail(work_dir, error, *hooks, ours=None, workflow=None, **kwargs):
    workflow = workflow or [('train', 1)]
    runner = make_runner(
        work_dir, hooks=[dict(OURS, **(ours or {}))], **kwargs)
    for hook in hooks:
        runner.register_hook(hook, priority='VERY_LOW')
    with pytest.raises(error) as caught:
        runner.run([make_loader() for _ in workflow], workflow)
    return runner, caught.value


def files(directory):
    return [name for name in names(directory) if name != 'latest.pth']


def name_at_5(runner):
    by_epoch = 'Epoch' in runner['type']
    return 'epoch_1_iter_5.pth' if by_epoch else 'iter_5.pth'


@pytest.mark.parametrize('kind', [ITERS, EPOCHS])
def test_an_exception_costs_a_stock_run_no_finished_step(tmp_path, kind):
    fail(tmp_path, RuntimeError, Raises(), runner=kind)
    assert files(tmp_path) == [name_at_5(kind)]
    history = (tmp_path / 'checkpoints.log.jsonl').read_text()
    assert '"trigger": "exception"' in history


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('exception', [True, False])
def test_an_exception_behind_a_signal_ends_as_the_signal_asks(
        tmp_path, kind, exception):
    ours = dict(triggers=dict(exception=exception))
    _, error = fail(
        tmp_path, SystemExit, Raises(signals=True), runner=kind, ours=ours)
    assert error.code == 143
    assert files(tmp_path) == [name_at_5(kind)]


@pytest.mark.parametrize('kind', KINDS)
def test_a_signal_may_come_behind_the_exception_that_it_causes(
        tmp_path, kind, monkeypatch):
    put = LocalBackend.put

    def signalled(self, name, write):
        if name.endswith('.pth'):
            os.kill(os.getpid(), signal.SIGTERM)
        return put(self, name, write)

    monkeypatch.setattr(LocalBackend, 'put', signalled)
    _, error = fail(tmp_path, SystemExit, Raises(), runner=kind)
    assert error.code == 143
    assert files(tmp_path) == [name_at_5(kind)]


def test_an_exception_in_the_validation_of_a_stock_run(tmp_path):
    fail(
        tmp_path,
        RuntimeError,
        Raises(event='before_val_iter'),
        runner=ITERS,
        workflow=[('train', 5), ('val', 1)])
    assert files(tmp_path) == ['iter_5.pth']


def test_all_of_our_hooks_save_before_the_last_one_leaves(tmp_path):
    runner = make_runner(
        tmp_path / 'run',
        runner=ITERS,
        hooks=[dict(OURS),
               dict(OURS, out_dir=str(tmp_path / 'second'))])
    runner.register_hook(Raises(signals=True), priority='VERY_LOW')
    with pytest.raises(SystemExit):
        runner.run([make_loader()], [('train', 1)])
    for place in ('run', 'second/run'):
        assert files(tmp_path / place) == ['iter_5.pth']
    assert not {'train', 'val'} & set(vars(runner))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('signals, error', [(False, RuntimeError),
                                            (True, SystemExit)])
def test_a_runner_that_runs_again_is_watched_again(tmp_path, kind, signals,
                                                   error):
    limit = 'max_iters' if 'max_iters' in kind else 'max_epochs'
    runner = make_runner(
        tmp_path, runner=dict(kind, **{limit: kind[limit] // 2}), hooks=[OURS])
    runner.register_hook(Raises(signals), priority='VERY_LOW')
    before = signal.getsignal(signal.SIGTERM)
    runner.run([make_loader()], [('train', 1)])
    assert runner.iter == 4
    assert signal.getsignal(signal.SIGTERM) is before
    setattr(runner, f'_{limit}', kind[limit])
    with pytest.raises(error):
        runner.run([make_loader()], [('train', 1)])
    assert name_at_5(kind) in files(tmp_path)
    if signals:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not runner.optimizer._optimizer_step_pre_hooks


@RUNNERS.register_module(force=True)
class OwnTrain(IterBasedRunner):
    """Overrides ``train``, as runners of research repos do."""

    trained = 0

    def train(self, data_loader, **kwargs):
        super().train(data_loader, **kwargs)
        self.trained += 1


def test_a_train_of_its_own_is_called_and_put_back(tmp_path):
    kind = dict(type='OwnTrain', max_iters=8)
    runner = make_runner(tmp_path / 'a', runner=kind, hooks=[dict(OURS)])
    runner.run([make_loader()], [('train', 1)])
    assert runner.trained == 8
    assert not {'train', 'val'} & set(vars(runner))
    runner, _ = fail(tmp_path / 'b', RuntimeError, Raises(), runner=kind)
    assert runner.trained == 5
    assert files(tmp_path / 'b') == ['iter_5.pth']


class Nested:
    """One phase may call the other."""

    def train(self):
        self.val()

    def val(self):
        raise ValueError


def test_an_exception_is_told_once_whoever_watches():
    told, runner = [], Nested()
    both = [Phases(runner, told.append), Phases(runner, told.append)]
    for one in both:
        one.watch()
    with pytest.raises(ValueError):
        runner.train()
    assert len(told) == 1
    for one in both:
        one.restore()
    assert not vars(runner)


def test_what_was_on_the_instance_comes_back_and_what_is_on_top_stays():
    told, runner = [], Nested()
    before = runner.val = Nested().val
    phases = Phases(runner, told.append)
    phases.watch()
    inner = runner.train
    on_top = runner.train = lambda: inner()
    phases.restore()
    assert runner.val is before
    assert runner.train is on_top
