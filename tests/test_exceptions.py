"""A run that raises: what the last finished step was is not lost."""
import logging
import random
import types
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmcv.runner import EMAHook, Hook, OptimizerHook
from stock import ABOVE_NORMAL, CUMULATIVE, scales_on_a_cpu
from toy import ToyModel, make_loader, make_runner, names, train

from mmcv_ckpt_hooks import compat, hook_states, verify_checkpoint
from mmcv_ckpt_hooks.boundary import Boundary, BoundaryKeeper
from mmcv_ckpt_hooks.hook_states import HookStates

OURS = dict(type='DurableCheckpointHook')
ITERS = dict(type='IterBasedRunnerAmp', max_iters=8)


class Fails(Hook):
    """Raises once, in one event of one iteration."""

    def __init__(self, event, at=5, error=ValueError('a broken image')):
        self.at, self.error = at, error
        self.events = [event]
        setattr(self, event, self.fail)

    def fail(self, runner):
        if runner.iter == self.at:
            raise self.error

    def get_triggered_stages(self):
        return self.events


class Draws(Hook):
    """Every generator moves on before the iteration fails."""

    def before_run(self, runner):
        random.seed(0)
        np.random.seed(0)

    def before_train_iter(self, runner):
        random.random()
        np.random.rand()
        torch.rand(1)


@pytest.fixture
def info(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def fail(work_dir, *hooks, error=ValueError, **kwargs):
    runner = make_runner(
        work_dir,
        hooks=[dict(OURS, **kwargs.pop('ours', {})), *hooks],
        **kwargs)
    with pytest.raises(error):
        runner.run([make_loader()], [('train', 1)])
    return runner


def load(path):
    verify_checkpoint(str(path))
    return torch.load(str(path), map_location='cpu', weights_only=False)


def files(directory):
    return [name for name in names(directory) if name != 'latest.pth']


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_a_broken_image_costs_nothing_that_was_trained(tmp_path, info):
    runner = fail(tmp_path / 'a', Draws(), Fails('before_train_iter'))
    assert files(tmp_path / 'a') == ['iter_5.pth']
    assert 'the state after 5 iterations is in iter_5.pth' in info.text
    # bitwise what a save in time would have been
    train(
        tmp_path / 'b',
        runner=dict(ITERS, max_iters=5),
        hooks=[dict(OURS), Draws()])
    late, timely = load(tmp_path / 'a' / 'iter_5.pth'), load(tmp_path / 'b' /
                                                             'iter_5.pth')
    for name in ('state_dict', 'optimizer'):
        assert equal(late[name], timely[name])
    assert equal(late['resume_state']['rng'], timely['resume_state']['rng'])
    assert late['meta']['iter'] == 5
    # nothing is left behind
    assert not runner.optimizer._optimizer_step_pre_hooks
    history = (tmp_path / 'a' / 'checkpoints.log.jsonl').read_text()
    assert '"trigger": "exception"' in history


def test_the_learning_rate_of_the_next_step_is_not_saved(tmp_path):

    class Rises(Hook):

        def before_train_iter(self, runner):
            for group in runner.optimizer.param_groups:
                group['lr'] = 0.001 * (runner.iter + 1)

    runner = fail(tmp_path, Rises(), Fails('before_train_iter'))
    saved = load(tmp_path / 'iter_5.pth')
    assert saved['optimizer']['param_groups'][0]['lr'] == 0.001 * 5
    assert runner.optimizer.param_groups[0]['lr'] == 0.001 * 6


class Counts(Hook):
    """Has a state, which moves on at the beginning of an iteration."""

    def __init__(self, **more):
        self.state = dict(more, count=0, seen=[])

    def before_train_iter(self, runner):
        self.state['count'] += 1
        self.state['seen'].append(runner.iter)

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_the_state_of_hooks_is_that_of_the_step(tmp_path):
    large = Counts(large=torch.zeros(2))
    fail(tmp_path, Counts(), large, Fails('before_train_iter'))
    state = load(tmp_path / 'iter_5.pth')['resume_state']['hooks']
    assert state['Counts'] == dict(count=5, seen=[0, 1, 2, 3, 4])
    # as it is now: nobody copies tensors at each step
    assert state['Counts.1']['count'] == 6


def test_only_small_states_of_hooks_are_copied():
    states, small, large = HookStates(), Counts(), Counts()
    assert list(states.copy([small, large])) == ['Counts', 'Counts.1']
    large.state['seen'] = list(range(2000))
    assert list(states.copy([small, large])) == ['Counts']
    large.state['seen'] = []
    assert list(states.copy([small, large])) == ['Counts']
    small.state = property()
    assert list(states.copy([small, large])) == []


def test_a_state_that_contains_itself_is_left_out():
    endless = Counts()
    endless.state['seen'].append(endless.state)
    assert HookStates().copy([endless]) == {}


def test_an_error_of_ours_in_a_copy_is_not_taken_for_a_large_state(
        monkeypatch):
    monkeypatch.setattr(hook_states, '_MOST_VALUES', None)
    with pytest.raises(TypeError):
        HookStates().copy([Counts()])


def test_a_copied_state_has_the_types_of_the_state():
    hook = Counts()
    hook.state = OrderedDict(rng=random.Random(3).getstate(), seen=[1])
    copied = HookStates().copy([hook])['Counts']
    assert copied == hook.state and type(copied) is OrderedDict
    random.Random().setstate(copied['rng'])


def test_a_hook_whose_state_cannot_be_had_stops_no_run(tmp_path):
    broken = Counts()
    broken.state_dict = lambda: 1 / 0
    runner = train(tmp_path, hooks=[dict(OURS), broken])
    assert runner.iter == 8


class Scales(OptimizerHook):
    """Its fifth gradients are infinite: no step is made."""

    def __init__(self):
        super().__init__()
        self.loss_scaler = torch.amp.GradScaler('cpu')

    def after_train_iter(self, runner):
        runner.optimizer.zero_grad()
        loss = runner.outputs['loss']
        if runner.iter == 4:
            loss = loss * float('inf')
        self.loss_scaler.scale(loss).backward()
        self.loss_scaler.step(runner.optimizer)
        self.loss_scaler.update()


@scales_on_a_cpu
def test_a_loss_scale_that_has_changed_is_no_state_of_a_step(tmp_path, info):
    model = ToyModel()
    # without buffers only the scale tells
    model.norm = torch.nn.Identity()
    runner = make_runner(
        tmp_path,
        model=model,
        optimizer_config=Scales(),
        hooks=[dict(OURS, interval=3)])
    runner.register_hook(Fails('after_train_iter', 4))
    with pytest.raises(ValueError):
        runner.run([make_loader()], [('train', 1)])
    assert files(tmp_path) == ['iter_3.pth']
    assert 'the loss scale has changed since' in info.text


class FailsInForward(ToyModel):
    """Fails after or before its BatchNorm has moved."""

    after_norm = False
    calls = 0

    def forward(self, x, **kwargs):
        self.calls += 1
        if self.calls == 6 and not self.after_norm:
            raise ValueError('before')
        out = super().forward(x)
        if self.calls == 6:
            raise ValueError('after')
        return out


@pytest.mark.parametrize('after_norm', [False, True])
def test_moved_statistics_are_no_state_of_a_step(tmp_path, info, after_norm):
    model = FailsInForward()
    model.after_norm = after_norm
    fail(tmp_path, model=model, ours=dict(interval=4))
    if after_norm:
        assert files(tmp_path) == ['iter_4.pth']
        assert 'tensors of the model have changed since' in info.text
        assert 'iter_4.pth, the last one committed, stands' in info.text
    else:
        assert files(tmp_path) == ['iter_4.pth', 'iter_5.pth']


@pytest.mark.parametrize('optimizer_config', [
    CUMULATIVE,
    dict(type='DistOptimizerHook', update_interval=4),
])
def test_gradients_of_a_failed_iteration_are_no_state_of_a_step(
        tmp_path, info, optimizer_config):
    model = ToyModel()
    # without buffers only the gradients tell
    model.norm = torch.nn.Identity()
    runner = make_runner(
        tmp_path,
        model=model,
        optimizer_config=optimizer_config,
        hooks=[dict(OURS, interval=4)])
    # behind the backward of the sixth iteration, before its save
    runner.register_hook(Fails('after_train_iter'))
    with pytest.raises(ValueError):
        runner.run([make_loader()], [('train', 1)])
    assert files(tmp_path) == ['iter_4.pth']
    assert 'tensors of the model have changed since' in info.text


class FailsInStep(torch.optim.SGD):

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps == 6:
            raise ValueError('half a step')
        return super().step(closure)


@pytest.mark.parametrize('old_torch', [False, True])
def test_half_a_step_is_never_saved(tmp_path, info, monkeypatch, old_torch):
    model = ToyModel()
    # without buffers only the step tells
    model.norm = torch.nn.Identity()
    optimizer = FailsInStep(model.parameters(), lr=0.1)
    if old_torch:
        monkeypatch.delattr(torch.optim.Optimizer, 'register_step_pre_hook')
    fail(tmp_path, model=model, optimizer=optimizer, ours=dict(interval=4))
    assert files(tmp_path) == ['iter_4.pth']
    assert 'the optimizer has begun a step since' in info.text
    assert 'step' not in vars(optimizer) or not old_torch


def test_a_step_that_is_committed_is_not_written_again(tmp_path, info):
    fail(tmp_path, Fails('before_train_iter', at=4), ours=dict(interval=4))
    assert files(tmp_path) == ['iter_4.pth']
    assert info.text.count('Saved checkpoint') == 1
    assert 'after 4 iterations is in iter_4.pth' in info.text


def test_an_evaluation_that_fails_after_the_step(tmp_path):
    """The counters are those of the step, not of the event."""
    runner = make_runner(tmp_path, hooks=[dict(OURS)])
    runner.register_hook(Fails('after_train_iter'), priority='LOW')
    with pytest.raises(ValueError):
        runner.run([make_loader()], [('train', 1)])
    assert files(tmp_path) == ['iter_6.pth']
    assert load(tmp_path / 'iter_6.pth')['meta']['iter'] == 6


@pytest.mark.parametrize('event, at, expected', [
    ('before_train_iter', 5, 'epoch_1_iter_5.pth'),
    ('before_train_epoch', 4, 'epoch_1_iter_4.pth'),
    ('before_train_iter', 4, 'epoch_1_iter_4.pth'),
])
def test_epochs(tmp_path, event, at, expected):
    fail(
        tmp_path,
        Fails(event, at),
        runner=dict(type='EpochBasedRunnerAmp', max_epochs=2))
    assert files(tmp_path) == [expected]
    meta = load(tmp_path / expected)['meta']
    assert (meta['epoch'], meta['iter']) == (1, at)


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('kind', ['EpochBasedRunnerAmp', 'EpochBasedRunner'])
def test_a_hook_that_fails_in_the_last_iteration_of_an_epoch(
        tmp_path, kind, by_epoch):
    """The save of that iteration comes in the event that follows."""
    given = dict(runner=dict(type=kind, max_epochs=2))
    runner = make_runner(
        tmp_path / 'a', hooks=[dict(OURS, by_epoch=by_epoch)], **given)
    # a logger whose service is gone
    runner.register_hook(Fails('after_train_iter', 3), priority='VERY_LOW')
    with pytest.raises(ValueError):
        runner.run([make_loader()], [('train', 1)])
    assert files(tmp_path / 'a') == ['epoch_1_iter_4.pth']
    meta = load(tmp_path / 'a' / 'epoch_1_iter_4.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 4)
    again = train(tmp_path / 'a', hooks=[dict(OURS, resume='auto')], **given)
    assert (again.restored.iter, again.iter) == (4, 8)
    whole = train(tmp_path / 'b', hooks=[dict(OURS)], **given)
    assert equal(again.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize('event, at, priority, expected', [
    ('after_train_iter', 3, 'VERY_LOW', ['epoch_0_iter_4.pth']),
    ('after_train_epoch', 4, 'NORMAL', []),
])
def test_in_the_last_iteration_of_an_epoch_weights_are_not_swapped_yet(
        tmp_path, info, event, at, priority, expected):
    """They are between EMAHook and the save of the epoch."""
    given = dict(runner=dict(type='EpochBasedRunnerAmp', max_epochs=2))

    def build(place):
        runner = make_runner(
            tmp_path / place, hooks=[dict(OURS, resume='auto')], **given)
        runner.register_hook(EMAHook(momentum=0.5), priority=ABOVE_NORMAL)
        return runner

    def end(runner):
        runner.run([make_loader()], [('train', 1)])
        return runner.model.state_dict()

    runner = build('a')
    runner.register_hook(Fails(event, at), priority=priority)
    with pytest.raises(ValueError):
        end(runner)
    assert files(tmp_path / 'a') == expected
    assert ('averaged weights have been swapped' in info.text) != \
        bool(expected)
    assert equal(end(build('a')), end(build('b')))


def test_averaged_weights_that_were_swapped_since_are_not_saved(
        tmp_path, info):
    """The start of an epoch puts the trained weights back."""
    runner = make_runner(
        tmp_path,
        runner=dict(type='EpochBasedRunnerAmp', max_epochs=2),
        hooks=[dict(OURS)])
    runner.register_hook(EMAHook(momentum=0.5), priority=ABOVE_NORMAL)
    runner.register_hook(Fails('before_train_iter', 4))
    with pytest.raises(ValueError):
        runner.run([make_loader()], [('train', 1)])
    assert files(tmp_path) == []
    assert 'averaged weights have been swapped' in info.text


@pytest.mark.parametrize('error', [KeyboardInterrupt(), SystemExit(3)])
def test_an_exit_is_no_exception(tmp_path, error):
    fail(tmp_path, Fails('before_train_iter', error=error), error=type(error))
    assert files(tmp_path) == []


def test_it_can_be_switched_off(tmp_path, info):
    fail(
        tmp_path,
        Fails('before_train_iter'),
        ours=dict(triggers=dict(exception=False)))
    assert files(tmp_path) == []
    assert 'Training stopped' not in info.text


def test_before_the_first_step_there_is_nothing_to_save(tmp_path, info):
    fail(tmp_path, Fails('before_train_iter', at=0))
    assert files(tmp_path) == []
    assert 'Training stopped' not in info.text


def test_what_stopped_the_run_is_raised_whatever_a_save_says(
        tmp_path, info, monkeypatch):
    from mmcv_ckpt_hooks.storage.local import LocalBackend

    def full(self, name, write):
        raise OSError('no space')

    monkeypatch.setattr(LocalBackend, 'put', full)
    fail(
        tmp_path,
        Fails('before_train_iter'),
        ours=dict(on_error='raise', triggers=dict(signals=None)))
    assert 'could not be saved; no checkpoint of this run stands' in info.text


def test_the_run_goes_on_where_it_stopped(tmp_path):
    fail(tmp_path, Fails('before_train_iter'))
    runner = train(tmp_path, hooks=[dict(OURS, resume='auto')])
    assert runner.restored.iter == 5
    whole = train(tmp_path / 'whole', hooks=[dict(OURS)])
    assert equal(runner.model.state_dict(), whole.model.state_dict())


# -- the keeper --------------------------------------------------------------


def keeper(partial_gradients=False):
    model = ToyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runner = types.SimpleNamespace(model=model, optimizer=optimizer, hooks=[])
    return model, optimizer, BoundaryKeeper(runner, partial_gradients,
                                            Boundary(0, 0))


def test_each_change_is_seen():
    model, optimizer, kept = keeper()
    assert kept.defect() is None
    model.norm.running_mean.add_(1)
    assert 'tensors' in kept.defect()
    kept.record(Boundary(0, 1))
    assert kept.defect() is None
    # replaced, not changed in place
    model.norm.running_mean = torch.zeros(4)
    assert 'tensors' in kept.defect()
    kept.record(Boundary(0, 2))
    optimizer.step()
    assert 'begun a step' in kept.defect()
    kept.record(Boundary(0, 3))
    assert kept.defect() is None
    kept.close()
    optimizer.step()
    assert 'begun' not in (kept.defect() or '')


@pytest.mark.parametrize('partial', [False, True])
def test_gradients_count_where_they_are_carried_on(partial):
    model, _, kept = keeper(partial)
    model.norm.eval()
    model(torch.rand(2, 4)).sum().backward()
    assert (kept.defect() is not None) == partial
    kept.record(Boundary(0, 1))
    assert kept.defect() is None
    model(torch.rand(2, 4)).sum().backward()
    assert (kept.defect() is not None) == partial


def test_a_wrapped_step_can_be_unwrapped_in_any_order(monkeypatch):
    """Before torch 2.0 the step itself is wrapped."""
    monkeypatch.delattr(torch.optim.Optimizer, 'register_step_pre_hook')
    optimizer = torch.optim.SGD(ToyModel().parameters(), lr=0.1)
    seen = []
    first = compat.watch_steps(optimizer, lambda: seen.append(1))
    second = compat.watch_steps(optimizer, lambda: seen.append(2))
    optimizer.step()
    assert seen == [2, 1]
    second()
    optimizer.step()
    assert seen == [2, 1, 1]
    first()
    optimizer.step()
    assert seen == [2, 1, 1]
    assert 'step' not in vars(optimizer)
