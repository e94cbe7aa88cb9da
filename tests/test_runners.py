"""What a run continues with, on every runner and from every file."""
import os
import shutil
from collections import OrderedDict

import mmcv
import numpy as np
import pytest
import torch
from foreign_files import BeitRunner, UniFormerRunner, stock_file
from mmcv.runner import (RUNNERS, BaseRunner, EpochBasedRunner, Hook,
                         IterBasedRunner, build_runner, save_checkpoint)
from stock import WEIGHTS_ONLY, builds_runners
from toy import ToyModel, make_loader, make_runner, names, train

from mmcv_ckpt_hooks.errors import (CheckpointError, ConfigError,
                                    IntegrityError, MissingCheckpointError,
                                    ResumeError)
from mmcv_ckpt_hooks.version import version_tuple

OURS = dict(type='DurableCheckpointHook')
ITER = ['IterBasedRunner', 'IterBasedRunnerAmp']
EPOCH = ['EpochBasedRunner', 'EpochBasedRunnerAmp']
AMP = ['IterBasedRunnerAmp', 'EpochBasedRunnerAmp']


def runner_config(name, steps=8, **kwargs):
    if 'Iter' in str(name):
        return dict(type=name, max_iters=steps, **kwargs)
    return dict(type=name, max_epochs=steps, **kwargs)


#: In ``iter_6.pth``.
STOCK_ITER = 6 if version_tuple(mmcv.__version__) < (1, 3, 9) else 5


def load(path):
    return torch.load(path, map_location='cpu')


class Recorder(Hook):
    """Counts optimizer steps and notes counters and batches."""

    def __init__(self):
        self.steps, self.counters, self.batches = 0, [], []

    def before_run(self, runner):
        inner_step = runner.model.train_step

        def train_step(data, *args, **kwargs):
            # mmcv < 1.5.2 keeps no batch in the runner
            self.batch = round(float(data['x'].sum()), 5)
            return inner_step(data, *args, **kwargs)

        runner.model.train_step = train_step
        optimizers = runner.optimizer
        if not isinstance(optimizers, dict):
            optimizers = dict(one=optimizers)
        for optimizer in optimizers.values():
            inner = optimizer.step

            def step(*args, inner=inner, **kwargs):
                self.steps += 1
                return inner(*args, **kwargs)

            optimizer.step = step

    def after_train_iter(self, runner):
        self.counters.append((runner.epoch, runner.iter, runner.inner_iter))
        self.batches.append(self.batch)


def weights(runner):
    return {
        name: value.clone()
        for name, value in runner.model.state_dict().items()
    }


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one)


def run_recorded(work_dir, resume_from=None, loader=None, hooks=(), **kwargs):
    recorder = Recorder()
    runner = make_runner(work_dir, hooks=[recorder, *hooks], **kwargs)
    if resume_from is not None:
        runner.resume(str(resume_from))
    runner.run([make_loader() if loader is None else loader], [('train', 1)])
    return runner, recorder


# -- no step is lost and none is repeated -----------------------------------


@pytest.mark.parametrize('by_hook', [True, False])
def test_a_resumed_iteration_run_makes_exactly_the_missing_steps(
        tmp_path, by_hook):
    """Trap 1: stock repeats one."""
    ours = dict(interval=4, **OURS)
    train(
        tmp_path, runner=runner_config('IterBasedRunnerAmp', 4), hooks=[ours])
    if by_hook:
        ours['resume'] = 'auto'
    runner, recorder = run_recorded(
        tmp_path,
        None if by_hook else tmp_path / 'iter_4.pth',
        runner=runner_config('IterBasedRunnerAmp', 10),
        hooks=[ours])
    assert recorder.steps == 6
    assert [one for _, one, _ in recorder.counters] == list(range(4, 10))
    assert runner.iter == 10
    assert load(tmp_path / 'iter_8.pth')['meta']['iter'] == 8


@pytest.mark.parametrize('by_hook', [True, False])
def test_a_resumed_epoch_run_makes_exactly_the_missing_steps(
        tmp_path, by_hook):
    ours = dict(interval=1, **OURS)
    train(
        tmp_path, runner=runner_config('EpochBasedRunnerAmp', 2), hooks=[ours])
    if by_hook:
        ours['resume'] = 'auto'
    runner, recorder = run_recorded(
        tmp_path,
        None if by_hook else tmp_path / 'epoch_2.pth',
        runner=runner_config('EpochBasedRunnerAmp', 3),
        hooks=[ours])
    assert recorder.steps == 4
    assert [one for _, one, _ in recorder.counters] == list(range(8, 12))
    meta = load(tmp_path / 'epoch_3.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (3, 12)


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_on_stock_runners_the_hook_resumes_as_exactly(tmp_path, name):
    ours = dict(interval=1, resume='auto', **OURS)
    train(tmp_path, runner=runner_config(name, 2), hooks=[ours])
    runner, recorder = run_recorded(
        tmp_path, runner=runner_config(name, 3), hooks=[ours])
    assert recorder.steps == (1 if 'Iter' in name else 4)
    unit = 'iter' if 'Iter' in name else 'epoch'
    assert load(tmp_path / f'{unit}_3.pth')['meta'][unit] == 3


@pytest.mark.parametrize('name, stop, end', [
    ('IterBasedRunner', 4, 8),
    ('IterBasedRunnerAmp', 4, 8),
    ('EpochBasedRunner', 1, 3),
    ('EpochBasedRunnerAmp', 1, 3),
])
def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(
        tmp_path, name, stop, end):
    """INVARIANT 7, at the end of a pass over the data."""
    ours = dict(interval=1, resume='auto', **OURS)
    whole = train(
        tmp_path / 'whole', runner=runner_config(name, end), hooks=[ours])
    train(tmp_path / 'part', runner=runner_config(name, stop), hooks=[ours])
    # another seed: everything must come from the file
    part = train(
        tmp_path / 'part',
        runner=runner_config(name, end),
        hooks=[ours],
        seed=99)
    assert same(weights(whole), weights(part))
    one = whole.optimizer.state_dict()['state']
    other = part.optimizer.state_dict()['state']
    assert all(
        torch.equal(one[key]['exp_avg'], other[key]['exp_avg'])
        and one[key]['step'] == other[key]['step'] for key in one)


@pytest.mark.parametrize('by_hook, workers', [(True, 0), (False, 0),
                                              (True, 2)])
def test_a_run_stopped_inside_an_epoch_goes_on_behind_its_last_batch(
        tmp_path, by_hook, workers):
    """Trap 4: stock counts the unfinished epoch as finished."""
    config = runner_config('EpochBasedRunnerAmp', 3)
    ours = dict(interval=3, by_epoch=False, **OURS)

    def loader():
        return make_loader(num_workers=workers)

    whole, recorded = run_recorded(
        tmp_path / 'whole', runner=config, hooks=[ours], loader=loader())
    part = tmp_path / 'part'
    shutil.copytree(tmp_path / 'whole', part)
    for name in names(part):
        if name not in ('epoch_0_iter_3.pth', 'epoch_1_iter_6.pth'):
            os.unlink(part / name)
    if by_hook:
        ours['resume'] = 'auto'
    again, recorder = run_recorded(
        part,
        None if by_hook else part / 'epoch_1_iter_6.pth',
        runner=config,
        hooks=[ours],
        loader=loader(),
        seed=99)
    assert recorder.steps == 6
    assert recorder.counters == recorded.counters[6:]
    assert recorder.batches == recorded.batches[6:]
    assert same(weights(whole), weights(again))
    assert names(part) == [
        'epoch_0_iter_3.pth', 'epoch_1_iter_6.pth', 'epoch_2_iter_9.pth',
        'epoch_3_iter_12.pth', 'latest.pth'
    ]


@pytest.mark.parametrize('stop', [4, 6, 8])
def test_an_iteration_run_goes_on_behind_its_last_batch(tmp_path, stop):
    """Inside and at the end of a pass over the data."""
    ours = dict(interval=2, **OURS)
    config = runner_config('IterBasedRunnerAmp', 14)
    whole, recorded = run_recorded(
        tmp_path / 'whole', runner=config, hooks=[ours])
    part, recorder = run_recorded(
        tmp_path / 'part',
        tmp_path / 'whole' / f'iter_{stop}.pth',
        runner=config,
        hooks=[ours],
        seed=99)
    assert recorder.batches == recorded.batches[stop:]
    assert same(weights(whole), weights(part))


@pytest.mark.parametrize('name', AMP)
def test_a_second_run_of_a_resumed_runner_skips_no_batch(tmp_path, name):
    ours = dict(interval=3, by_epoch=False, **OURS)
    end = 8 if 'Iter' in name else 2
    train(tmp_path, runner=runner_config(name, end), hooks=[ours])
    file = 'iter_6.pth' if 'Iter' in name else 'epoch_1_iter_6.pth'
    runner, recorder = run_recorded(
        tmp_path, tmp_path / file, runner=runner_config(name, end))
    assert (recorder.steps, runner.iter) == (2, 8)
    if 'Iter' in name:
        runner._max_iters = 12
    else:
        runner._max_epochs = 3
    runner.run([make_loader()], [('train', 1)])
    assert (recorder.counters[-1][1], runner.iter) == (11, 12)
    assert len(set(recorder.batches[-4:])) == 4


@pytest.mark.parametrize('name', EPOCH)
def test_a_save_inside_an_epoch_never_ends_with_too_many_iterations(
        tmp_path, name):
    """Stock runners repeat the epoch: then the counter goes back, too."""
    ours = dict(interval=1, triggers=dict(secs=1e-9), resume='auto', **OURS)

    class Stop(Hook):

        def after_train_iter(self, runner):
            if runner.iter == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, runner=runner_config(name, 3), hooks=[ours, Stop()])
    runner, _ = run_recorded(
        tmp_path, runner=runner_config(name, 3), hooks=[ours])
    assert (runner.epoch, runner.iter) == (3, 12)
    meta = load(tmp_path / 'epoch_3.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (3, 12)


def test_data_that_cannot_be_advanced_is_told(tmp_path, caplog):
    """No batch sampler: the epoch starts anew, and says so."""
    config = runner_config('EpochBasedRunnerAmp', 2)
    ours = dict(interval=3, by_epoch=False, **OURS)

    class Batches(torch.utils.data.Dataset):

        def __len__(self):
            return 4

        def __getitem__(self, index):
            generator = torch.Generator().manual_seed(index)
            return dict(
                x=torch.randn(4, 4, generator=generator),
                y=torch.tensor([0, 1, 0, 1]))

    def loader():
        return torch.utils.data.DataLoader(Batches(), batch_size=None)

    train(tmp_path, runner=config, hooks=[ours], loader=loader())
    caplog.clear()
    runner, recorder = run_recorded(
        tmp_path,
        tmp_path / 'epoch_1_iter_6.pth',
        runner=config,
        hooks=[ours],
        loader=loader())
    assert (runner.epoch, runner.iter) == (2, 8)
    assert recorder.steps == 2 or 'first batch' in caplog.text


@pytest.mark.parametrize('name', AMP)
def test_a_workflow_with_val_counts_training_alone(tmp_path, name):
    ours = dict(interval=2, resume='auto', **OURS)
    workflow = [('train', 2), ('val', 1)]

    def run(steps):
        recorder = Recorder()
        runner = make_runner(
            tmp_path,
            runner=runner_config(name, steps),
            hooks=[recorder, ours])
        runner.run([make_loader(), make_loader(8)], workflow)
        return runner, recorder

    run(4)
    runner, recorder = run(8)
    assert recorder.steps == (4 if 'Iter' in name else 16)
    unit = 'iter' if 'Iter' in name else 'epoch'
    assert [
        load(tmp_path / f'{unit}_{step}.pth')['meta'][unit]
        for step in (2, 4, 6, 8)
    ] == [2, 4, 6, 8]


def test_the_pass_over_the_data_goes_on_after_a_resume(tmp_path):
    """Trap 34: stock replays the order of the first pass."""

    class Sampler(torch.utils.data.Sampler):

        def __init__(self):
            self.epochs = []
            self.epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            self.epochs.append(self.epoch)
            return iter(range(16))

        def __len__(self):
            return 16

    ours = dict(interval=4, **OURS)
    train(tmp_path, hooks=[ours])
    sampler = Sampler()
    run_recorded(
        tmp_path,
        tmp_path / 'iter_8.pth',
        runner=runner_config('IterBasedRunnerAmp', 16),
        hooks=[ours],
        loader=make_loader(sampler=sampler))
    # after iteration 8 the second pass is used up: it is gone over once more
    assert sampler.epochs == [1, 2, 3]


# -- counters inside events -------------------------------------------------


@pytest.mark.parametrize('name', AMP)
def test_a_hook_that_calls_hooks_does_not_confuse_the_counters(tmp_path, name):

    class Saves(Hook):

        def after_train_iter(self, runner):
            runner.call_hook('before_val_iter')
            if runner.iter == 1:
                runner.save_checkpoint(
                    str(tmp_path), 'own_{}.pth', create_symlink=False)

    train(tmp_path, runner=runner_config(name, 2), hooks=[Saves()])
    assert load(tmp_path / 'own_2.pth')['meta']['iter'] == 2


@pytest.mark.parametrize('name', AMP)
def test_a_tools_own_save_counts_finished_steps(tmp_path, name):
    runner = train(tmp_path, runner=runner_config(name, 2))
    runner.save_checkpoint(str(tmp_path))
    unit = 'iter' if 'Iter' in name else 'epoch'
    meta = load(tmp_path / f'{unit}_2.pth')['meta']
    assert meta[unit] == 2
    assert os.readlink(tmp_path / 'latest.pth') == f'{unit}_2.pth'


@pytest.mark.parametrize('name', AMP)
def test_save_checkpoint_refuses_a_meta_that_is_no_dict(tmp_path, name):
    runner = make_runner(tmp_path, runner=runner_config(name))
    with pytest.raises(TypeError, match='meta'):
        runner.save_checkpoint(str(tmp_path), meta=['a'])


# -- what is restored, and what stays ---------------------------------------


@pytest.mark.parametrize('name', AMP)
def test_this_runs_own_meta_is_kept(tmp_path, name):
    """Trap 3: stock logs and saves the old run's config and seed."""
    ours = dict(interval=1, **OURS)
    unit = 'iter' if 'Iter' in name else 'epoch'
    train(
        tmp_path,
        runner=runner_config(name, 1),
        hooks=[ours],
        meta=dict(
            config='old = 1',
            seed=1,
            exp_name='old.py',
            env_info='old',
            extra='of the old run'))
    meta = dict(config='new = 1', seed=2, exp_name='new.py', env_info='new')
    runner, _ = run_recorded(
        tmp_path,
        tmp_path / f'{unit}_1.pth',
        runner=runner_config(name, 2),
        hooks=[ours],
        meta=meta)
    saved = load(tmp_path / f'{unit}_2.pth')['meta']
    for key in ('config', 'seed', 'exp_name', 'env_info'):
        assert runner.meta[key] == saved[key] == meta[key]
    assert 'extra' not in saved


@pytest.mark.parametrize('name', AMP)
def test_hook_messages_are_kept(tmp_path, name):
    """Trap 3: the iteration runner of stock forgets them."""
    runner = make_runner(
        tmp_path,
        runner=runner_config(name),
        meta=dict(hook_msgs=dict(best_score=.5, own=[1, 2])))
    runner.save_checkpoint(str(tmp_path), 'a_{}.pth')
    other = make_runner(tmp_path, runner=runner_config(name))
    other.resume(str(tmp_path / 'a_0.pth'))
    assert other.meta['hook_msgs']['best_score'] == .5
    assert other.meta['hook_msgs']['own'] == [1, 2]


@pytest.mark.parametrize('name', AMP)
def test_paths_in_messages_lead_into_the_directory_of_the_file(tmp_path, name):
    """Trap 10: a moved work dir must not lead back to the original."""
    first = tmp_path / 'first'
    ours = dict(interval=1, **OURS)
    unit = 'iter' if 'Iter' in name else 'epoch'
    train(
        first,
        runner=runner_config(name, 2),
        hooks=[ours],
        evaluation=dict(
            scores=[.5],
            interval=1,
            by_epoch='Iter' not in name,
            save_best='mIoU'))
    messages = load(first / f'{unit}_2.pth')['meta']['hook_msgs']
    assert str(tmp_path) not in str(messages)
    shutil.move(str(first), str(tmp_path / 'second'))
    runner = make_runner(tmp_path / 'second', runner=runner_config(name))
    runner.resume(str(tmp_path / 'second' / f'{unit}_2.pth'))
    best = runner.meta['hook_msgs']['best_ckpt']
    assert os.path.dirname(best) == str(tmp_path / 'second')
    assert os.path.exists(best)


def test_a_path_in_a_file_of_stock_never_leads_to_the_original(tmp_path):
    """Trap 10: stock writes absolute paths, and deletes what they name."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    train(
        first,
        runner=runner_config('IterBasedRunner', 4),
        checkpoint_config=dict(interval=2),
        evaluation=dict(
            scores=[.5], interval=2, by_epoch=False, save_best='mIoU'))
    messages = load(first / 'iter_4.pth')['meta']['hook_msgs']
    assert str(first) in messages['best_ckpt']
    second.mkdir()
    shutil.copy(first / 'iter_4.pth', second)
    runner = resumed(second / 'iter_4.pth')
    assert str(first) not in str(runner.meta['hook_msgs'])


@pytest.mark.parametrize('name', AMP)
@pytest.mark.parametrize('wanted', [True, False])
def test_the_optimizer_is_restored_where_it_is_wanted(tmp_path, name, wanted):
    ours = dict(interval=1, **OURS)
    unit = 'iter' if 'Iter' in name else 'epoch'
    train(tmp_path, runner=runner_config(name, 2), hooks=[ours])
    runner = make_runner(tmp_path, runner=runner_config(name, 4))
    runner.resume(str(tmp_path / f'{unit}_2.pth'), resume_optimizer=wanted)
    assert bool(runner.optimizer.state_dict()['state']) is wanted


@pytest.mark.parametrize('name', AMP)
def test_a_file_without_optimizer_state_is_told(tmp_path, caplog, name):
    """Trap 3: stock says nothing."""
    ours = dict(interval=1, save_optimizer=False, **OURS)
    unit = 'iter' if 'Iter' in name else 'epoch'
    train(tmp_path, runner=runner_config(name, 1), hooks=[ours])
    runner = make_runner(tmp_path, runner=runner_config(name, 2))
    caplog.clear()
    runner.resume(str(tmp_path / f'{unit}_1.pth'))
    assert 'optimizer' in caplog.text
    assert any(one.levelname == 'WARNING' for one in caplog.records)


class TwoOptimizers(ToyModel):

    def train_step(self, data, optimizer, **kwargs):
        outputs = super().train_step(data, optimizer, **kwargs)
        for one in optimizer.values():
            one.zero_grad()
        outputs['loss'].backward()
        for one in optimizer.values():
            one.step()
        return outputs


def two_optimizers(model):
    return dict(
        first=torch.optim.Adam(model.first.parameters(), lr=.01),
        rest=torch.optim.SGD(
            list(model.norm.parameters()) + list(model.last.parameters()),
            lr=.01,
            momentum=.9))


class NoStep(Hook):
    """The model of a GAN steps its optimizers itself."""


@pytest.mark.parametrize('name', AMP)
def test_a_dict_of_optimizers_is_saved_and_restored_by_name(tmp_path, name):
    ours = dict(interval=1, resume='auto', **OURS)

    def run(where, steps):
        torch.manual_seed(0)
        model = TwoOptimizers()
        return train(
            tmp_path / where,
            runner=runner_config(name, steps),
            model=model,
            optimizer=two_optimizers(model),
            optimizer_config=NoStep(),
            hooks=[ours])

    stop, end = (4, 8) if 'Iter' in name else (1, 2)
    whole = run('whole', end)
    run('part', stop)
    part = run('part', end)
    assert same(weights(whole), weights(part))
    unit = 'iter' if 'Iter' in name else 'epoch'
    saved = load(tmp_path / 'part' / f'{unit}_{stop}.pth')['optimizer']
    assert set(saved) == {'first', 'rest'}


@pytest.mark.parametrize('name', AMP)
def test_an_optimizer_that_does_not_fit_stops_the_run(tmp_path, name):
    """Training on with a fresh one would look like a good resume."""
    ours = dict(interval=1, **OURS)
    unit = 'iter' if 'Iter' in name else 'epoch'
    train(tmp_path, runner=runner_config(name, 1), hooks=[ours])
    path = str(tmp_path / f'{unit}_1.pth')
    model = TwoOptimizers()
    runner = make_runner(
        tmp_path,
        runner=runner_config(name),
        model=model,
        optimizer=two_optimizers(model))
    with pytest.raises(ResumeError, match='optimizer'):
        runner.resume(path)
    model = ToyModel()
    runner = make_runner(
        tmp_path,
        runner=runner_config(name),
        model=model,
        optimizer=torch.optim.AdamW(model.first.parameters(), lr=.01))
    with pytest.raises(ResumeError, match='load_from'):
        runner.resume(path)


@pytest.mark.parametrize('name', AMP)
def test_a_runner_without_meta_saves_and_resumes(tmp_path, name):
    ours = dict(interval=1, **OURS)
    unit = 'iter' if 'Iter' in name else 'epoch'
    for steps in (1, 2):
        runner = make_runner(
            tmp_path,
            runner=runner_config(name, steps),
            hooks=[ours],
            evaluation=dict(
                scores=[.5],
                interval=1,
                by_epoch='Iter' not in name,
                save_best='mIoU'))
        runner.meta = None
        if steps == 2:
            runner.resume(str(tmp_path / f'{unit}_1.pth'))
        runner.run([make_loader()], [('train', 1)])
    assert load(tmp_path / f'{unit}_2.pth')['meta'][unit] == 2
    assert f'best_mIoU_{unit}_1.pth' in names(tmp_path)


@pytest.mark.parametrize('name', AMP)
def test_a_work_dir_with_a_trailing_slash(tmp_path, name):
    work = str(tmp_path / 'work') + os.sep
    ours = dict(interval=1, resume='auto', **OURS)
    evaluation = dict(
        scores=[.5], interval=1, by_epoch='Iter' not in name, save_best='mIoU')
    for steps in (1, 2):
        train(
            work,
            runner=runner_config(name, steps),
            hooks=[ours],
            evaluation=dict(evaluation))
    unit = 'iter' if 'Iter' in name else 'epoch'
    assert names(tmp_path / 'work') == [
        f'best_mIoU_{unit}_1.pth', f'{unit}_1.pth', f'{unit}_2.pth',
        'latest.pth'
    ]
    assert names(tmp_path) == []


def test_the_loss_scale_of_mmcvs_fp16_hook_is_kept(tmp_path):
    """Trap 23; it reads it from ``runner.meta`` in its ``before_run``."""
    scaler = dict(
        scale=1024.,
        growth_factor=2.,
        backoff_factor=.5,
        growth_interval=2000,
        _growth_tracker=7)
    runner = make_runner(tmp_path, meta=dict(fp16=dict(loss_scaler=scaler)))
    runner.save_checkpoint(str(tmp_path))
    other = make_runner(tmp_path, meta=dict(seed=1))
    other.resume(str(tmp_path / 'iter_0.pth'))
    assert other.meta['fp16']['loss_scaler'] == scaler


def test_the_state_of_a_disabled_scaler_is_not_given_to_an_enabled_one(
        tmp_path):
    """Trap 23: a CPU run saves ``{}``, which raises when it is loaded."""
    runner = make_runner(tmp_path, meta=dict(fp16=dict(loss_scaler={})))
    runner.save_checkpoint(str(tmp_path))
    other = make_runner(tmp_path)
    other.resume(str(tmp_path / 'iter_0.pth'))
    assert 'loss_scaler' not in other.meta.get('fp16', {})


# -- files of others --------------------------------------------------------


def resumed(path, name='IterBasedRunnerAmp', steps=100, **kwargs):
    runner = make_runner(
        os.path.dirname(str(path)),
        runner=runner_config(name, steps),
        **kwargs)
    runner.resume(str(path))
    return runner


def test_stock_iteration_files_repeat_nothing(tmp_path):
    """Trap 1: ``iter_6.pth`` of stock has ``meta['iter'] == 5``."""
    path = stock_file(tmp_path, 6)
    assert load(path)['meta']['iter'] == STOCK_ITER
    runner = resumed(path)
    assert (runner.epoch, runner.iter) == (1, 6)
    runner, recorder = run_recorded(
        tmp_path, path, runner=runner_config('IterBasedRunnerAmp', 10))
    assert recorder.steps == 4


def test_stock_epoch_files_repeat_nothing(tmp_path):
    path = stock_file(tmp_path, 2, EpochBasedRunner)
    runner = resumed(path, 'EpochBasedRunnerAmp')
    assert (runner.epoch, runner.iter) == (2, 8)


def test_stocks_latest_pointer_leads_to_the_file_whose_name_counts(tmp_path):
    stock_file(tmp_path, 6)
    assert resumed(tmp_path / 'latest.pth').iter == 6


@pytest.mark.parametrize('optimizer', ['AdamW', 'SGD'])
def test_a_copied_latest_pointer_of_windows_repeats_nothing(
        tmp_path, optimizer):
    model = ToyModel()
    path = stock_file(
        tmp_path,
        6,
        model=model,
        optimizer=getattr(torch.optim, optimizer)(model.parameters(), lr=.01))
    copied = tmp_path / 'copied'
    copied.mkdir()
    shutil.copy(path, copied / 'latest.pth')
    model = ToyModel()
    runner = resumed(
        copied / 'latest.pth',
        model=model,
        optimizer=getattr(torch.optim, optimizer)(model.parameters(), lr=.01))
    assert runner.iter == 6


@pytest.mark.parametrize('version, counted, expected', [('1.3.0', 6, 6),
                                                        ('1.3.8', 6, 6),
                                                        ('1.3.9', 5, 6),
                                                        ('1.7.2', 5, 6),
                                                        (None, 5, 6)])
def test_a_copied_pointer_of_any_mmcv_counts_the_finished_iterations(
        tmp_path, version, counted, expected):
    """Without a name that tells, and without an Adam."""
    checkpoint = load(stock_file(tmp_path, 6))
    checkpoint['meta'].update(mmcv_version=version, iter=counted)
    del checkpoint['optimizer']
    torch.save(checkpoint, tmp_path / 'renamed.pth')
    assert resumed(tmp_path / 'renamed.pth').iter == expected


def test_a_copied_beit_pointer_without_amp_skips_nothing(tmp_path):
    """ConvNeXt's files have no ``amp``: the steps of Adam tell."""
    BeitRunner.amp = None
    path = stock_file(tmp_path, 6, BeitRunner)
    copied = tmp_path / 'copied'
    copied.mkdir()
    shutil.copy(path, copied / 'latest.pth')
    assert resumed(copied / 'latest.pth').iter == 6


def test_stocks_best_file_repeats_nothing(tmp_path):
    """With a numpy score in its messages, which torch >= 2.6 refuses."""
    train(
        tmp_path,
        runner=runner_config('IterBasedRunner', 8),
        checkpoint_config=dict(interval=4),
        evaluation=dict(
            scores=[np.float64(.5), np.float64(.6)],
            interval=4,
            by_epoch=False,
            save_best='mIoU'))
    path = tmp_path / 'best_mIoU_iter_8.pth'
    if WEIGHTS_ONLY:
        with pytest.raises(Exception):
            load(path)
    runner = resumed(path)
    assert runner.iter == 8
    assert runner.meta['hook_msgs']['best_score'] == .6


BEIT_AMP = dict(loss_scaler0=dict(loss_scale=65536., unskipped=3))


@pytest.mark.parametrize('amp', [None, BEIT_AMP])
def test_beit_files_skip_nothing(tmp_path, amp):
    """The same name and number as stock's file, but one iteration on."""
    BeitRunner.amp = amp
    path = stock_file(tmp_path, 6, BeitRunner)
    assert load(path)['meta']['iter'] == 6
    runner = resumed(path)
    assert (runner.epoch, runner.iter) == (1, 6)


def test_beit_files_of_a_resumed_run_count_by_their_name(tmp_path):
    """Trap 2: their meta holds the counters of the file before."""
    BeitRunner.amp = BEIT_AMP
    path = stock_file(tmp_path, 6, BeitRunner, meta=dict(epoch=1, iter=2))
    assert load(path)['meta']['iter'] == 2
    assert resumed(path).iter == 6


def test_uniformer_files_count_by_their_name(tmp_path, caplog):
    """Trap 2."""
    UniFormerRunner.amp = BEIT_AMP
    path = stock_file(tmp_path, 3, UniFormerRunner, meta=dict(epoch=1, iter=4))
    assert load(path)['meta']['epoch'] == 1
    runner = resumed(path, 'EpochBasedRunnerAmp')
    assert (runner.epoch, runner.iter) == (3, 12)
    assert 'the name counts' in caplog.text


def test_amp_state_of_apex_that_this_run_does_not_use_is_told(
        tmp_path, caplog):
    BeitRunner.amp = BEIT_AMP
    path = stock_file(tmp_path, 6, BeitRunner)
    caplog.clear()
    resumed(path)
    assert 'AMP state' in caplog.text


@pytest.mark.parametrize('name', ITER)
def test_auto_goes_on_from_a_stock_run_in_the_same_directory(tmp_path, name):
    """Adding the two lines to a run that is under way."""
    stock_file(tmp_path, 6)
    runner, recorder = run_recorded(
        tmp_path,
        runner=runner_config(name, 10),
        hooks=[dict(interval=4, resume='auto', **OURS)])
    assert recorder.steps == 4
    assert names(tmp_path) == [
        'iter_10.pth', 'iter_6.pth', 'iter_8.pth', 'latest.pth'
    ]


# -- weights only -----------------------------------------------------------


@pytest.mark.parametrize('name', AMP)
def test_load_from_takes_the_weights_and_nothing_else(tmp_path, name):
    path = stock_file(tmp_path / 'old', 6)
    runner = make_runner(tmp_path / 'new', runner=runner_config(name))
    before = weights(runner)
    content = runner.load_checkpoint(path)
    assert not same(before, weights(runner))
    assert (runner.epoch, runner.iter) == (0, 0)
    assert content['meta']['iter'] == STOCK_ITER


@pytest.mark.parametrize('resume', ['auto', 'path', None])
@pytest.mark.parametrize('name', AMP)
def test_weights_that_a_resume_passes_over_are_told(tmp_path, caplog, name,
                                                    resume):
    """Own newest goes before ``load_from``."""
    first = run_recorded(
        tmp_path / 'work',
        runner=runner_config(name, 2),
        hooks=[dict(interval=1, **OURS)])[0]
    path = stock_file(tmp_path / 'old', 6)
    caplog.clear()
    newest = os.path.realpath(tmp_path / 'work' / 'latest.pth')
    given = newest if resume == 'path' else resume
    runner = make_runner(
        tmp_path / ('other' if resume == 'path' else 'work'),
        runner=runner_config(name, 2),
        hooks=[dict(interval=1, resume=given, **OURS)])
    runner.load_checkpoint(path)
    runner.run([make_loader()], [('train', 1)])
    told = [one for one in caplog.messages if 'is passed over' in one]
    if resume is None:
        assert told == []
    else:
        assert same(weights(first), weights(runner))
        assert told == [
            f'load_from={path!r} is passed over: {os.path.basename(newest)} '
            'has the weights that this run goes on with'
        ]


@pytest.mark.parametrize('name', AMP)
def test_load_from_renames_keys(tmp_path, name):
    runner = make_runner(tmp_path, runner=runner_config(name))
    wanted = {
        f'backbone.{key}': torch.full_like(value, 2)
        for key, value in runner.model.state_dict().items()
    }
    torch.save(dict(state_dict=wanted), tmp_path / 'weights.pth')
    runner.load_checkpoint(
        str(tmp_path / 'weights.pth'), revise_keys=[(r'^backbone\.', '')])
    assert all(
        (value == 2).all() for value in runner.model.state_dict().values())


@pytest.mark.parametrize('name', AMP)
@pytest.mark.parametrize('wrap', [
    lambda state: state, lambda state: dict(state_dict=state),
    lambda state: OrderedDict(state)
])
def test_load_from_reads_what_mmcv_reads(tmp_path, name, wrap):
    """A bare state dict, one with the prefix of DataParallel."""
    runner = make_runner(tmp_path, runner=runner_config(name))
    wanted = {
        f'module.{key}': torch.full_like(value, 3)
        for key, value in runner.model.state_dict().items()
    }
    torch.save(wrap(wanted), tmp_path / 'weights.pth')
    runner.load_checkpoint(str(tmp_path / 'weights.pth'))
    assert all(
        (value == 3).all() for value in runner.model.state_dict().values())


@pytest.mark.parametrize('name', AMP)
def test_load_from_is_strict_where_it_is_asked_to_be(tmp_path, name):
    runner = make_runner(tmp_path, runner=runner_config(name))
    torch.save(
        dict(state_dict=dict(other=torch.zeros(1))), tmp_path / 'weights.pth')
    with pytest.raises(RuntimeError):
        runner.load_checkpoint(str(tmp_path / 'weights.pth'), strict=True)
    runner.load_checkpoint(str(tmp_path / 'weights.pth'))


@pytest.mark.parametrize('name', AMP)
def test_load_from_reads_weights_of_the_old_format_on_request(tmp_path, name):
    """Many ImageNet weights on disk are older than torch 1.6."""
    runner = make_runner(tmp_path, runner=runner_config(name))
    wanted = {
        key: torch.full_like(value, 3)
        for key, value in runner.model.state_dict().items()
    }
    torch.save(
        dict(state_dict=wanted),
        tmp_path / 'weights.pth',
        _use_new_zipfile_serialization=False)
    with pytest.raises(IntegrityError, match='trust_checkpoint'):
        runner.load_checkpoint(str(tmp_path / 'weights.pth'))
    runner.register_hook_from_cfg(dict(trust_checkpoint=True, **OURS))
    runner.load_checkpoint(str(tmp_path / 'weights.pth'))
    assert all(
        (value == 3).all() for value in runner.model.state_dict().values())


@pytest.mark.parametrize('name', AMP)
def test_a_missing_file_is_told_as_such(tmp_path, name):
    runner = make_runner(tmp_path, runner=runner_config(name))
    for method in (runner.load_checkpoint, runner.resume):
        with pytest.raises(MissingCheckpointError, match='none.pth'):
            method(str(tmp_path / 'none.pth'))


@pytest.mark.parametrize('name', AMP)
def test_weights_alone_cannot_be_resumed_from(tmp_path, name):
    runner = make_runner(tmp_path, runner=runner_config(name))
    torch.save(runner.model.state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(ResumeError, match='load_from'):
        runner.resume(str(tmp_path / 'weights.pth'))


@pytest.mark.parametrize('name', AMP)
def test_a_damaged_file_is_refused_by_load_from_too(tmp_path, name):
    path = stock_file(tmp_path / 'old', 6)
    with open(path, 'r+b') as file:
        file.truncate(os.path.getsize(path) // 2)
    runner = make_runner(tmp_path / 'new', runner=runner_config(name))
    with pytest.raises(IntegrityError):
        runner.load_checkpoint(path)


# -- our files on stock runners ---------------------------------------------


@pytest.mark.parametrize('writer', ITER)
def test_stock_resumes_our_iteration_files_without_repeating_one(
        tmp_path, writer):
    """INVARIANT 9."""
    train(
        tmp_path,
        runner=runner_config(writer, 6),
        hooks=[dict(interval=6, **OURS)])
    recorder = Recorder()
    runner = make_runner(
        tmp_path / 'stock',
        runner=runner_config('IterBasedRunner', 10),
        hooks=[recorder])
    runner.resume(str(tmp_path / 'iter_6.pth'), map_location='cpu')
    runner.run([make_loader()], [('train', 1)])
    assert [one for _, one, _ in recorder.counters] == [6, 7, 8, 9]


@pytest.mark.parametrize('writer', EPOCH)
def test_stock_resumes_our_epoch_files_without_repeating_one(tmp_path, writer):
    train(
        tmp_path,
        runner=runner_config(writer, 2),
        hooks=[dict(interval=1, **OURS)])
    recorder = Recorder()
    runner = make_runner(
        tmp_path / 'stock',
        runner=runner_config('EpochBasedRunner', 3),
        hooks=[recorder])
    runner.resume(str(tmp_path / 'epoch_2.pth'), map_location='cpu')
    runner.run([make_loader()], [('train', 1)])
    assert [one for _, one, _ in recorder.counters] == list(range(8, 12))


@pytest.mark.parametrize('name', ITER)
def test_after_a_stock_resume_our_hook_goes_on_with_its_run(tmp_path, name):
    """The tool's ``--resume-from`` on a stock runner, our hook beside it."""
    ours = dict(interval=4, max_keep_ckpts=2, **OURS)
    train(tmp_path, runner=runner_config(name, 8), hooks=[ours])
    runner = make_runner(
        tmp_path, runner=runner_config(name, 16), hooks=[ours])
    if name == 'IterBasedRunner':
        runner.resume(str(tmp_path / 'iter_8.pth'), map_location='cpu')
    else:
        runner.resume(str(tmp_path / 'iter_8.pth'))
    runner.run([make_loader()], [('train', 1)])
    assert names(tmp_path) == ['iter_12.pth', 'iter_16.pth', 'latest.pth']


# -- any runner -------------------------------------------------------------


@builds_runners
@pytest.mark.parametrize('name, expected', [
    ('IterBasedRunner', 'iter'),
    ('EpochBasedRunner', 'epoch'),
    ('IterBasedRunnerAmp', 'iter'),
])
def test_the_constructor_gives_a_runner_what_ours_have(tmp_path, name,
                                                       expected):
    """Trap 37: the type's name stays what tools compare."""
    config = runner_config(name, 2, constructor='DurableRunnerConstructor')
    ours = dict(interval=1, **OURS)
    runner = train(tmp_path, runner=dict(config), hooks=[ours])
    assert type(runner).__name__ == name
    assert isinstance(runner, RUNNERS.get(name))
    config.update({key: 3 for key in config if key.startswith('max')})
    runner, recorder = run_recorded(
        tmp_path, tmp_path / f'{expected}_2.pth', runner=config, hooks=[ours])
    assert recorder.steps == (1 if expected == 'iter' else 4)
    assert runner.restored.name == f'{expected}_2.pth'


@builds_runners
def test_the_constructor_says_what_it_cannot_serve(tmp_path):
    from mmcv.runner import BaseRunner

    @RUNNERS.register_module(force=True)
    class NeitherRunner(BaseRunner):

        def train(self):
            pass

        def val(self):
            pass

        def run(self):
            pass

        def save_checkpoint(self):
            pass

    for wrong in ('NeitherRunner', 'NoSuchRunner'):
        with pytest.raises((CheckpointError, KeyError), match=wrong):
            build_runner(
                dict(type=wrong, constructor='DurableRunnerConstructor'),
                default_args=dict(
                    model=ToyModel(),
                    work_dir=str(tmp_path),
                    logger=__import__('logging').getLogger('toy'),
                    max_iters=1))


@RUNNERS.register_module(force=True)
class ExtraIterRunner(IterBasedRunner):
    """A repo's runner that saves a field of its own, and resumes it."""
    extra = 0

    def save_checkpoint(self,
                        out_dir,
                        filename_tmpl='iter_{}.pth',
                        meta=None,
                        save_optimizer=True,
                        create_symlink=True):
        checkpoint = dict(
            meta=dict(self.meta, iter=self.iter + 1),
            state_dict=self.model.state_dict(),
            ema=dict(count=self.extra + self.iter, w=torch.ones(3)))
        torch.save(checkpoint,
                   os.path.join(out_dir, filename_tmpl.format(self.iter + 1)))

    def resume(self, checkpoint, resume_optimizer=True, map_location='cpu'):
        content = torch.load(checkpoint, map_location=map_location)
        self._iter = content['meta']['iter']
        self.extra = content['ema']['count']
        self.model.load_state_dict(content['state_dict'])


@RUNNERS.register_module(force=True)
class ExtraMetaRunner(IterBasedRunner):
    """One that puts its own field into ``meta`` and calls stock for the rest.
    """

    def save_checkpoint(self, out_dir, meta=None, **kwargs):
        meta = dict(meta or {}, teacher='resnet', step_of_teacher=self.iter)
        super().save_checkpoint(out_dir, meta=meta, **kwargs)


def test_a_repos_own_runner_keeps_its_extra_field(tmp_path):
    ours = dict(interval=4, resume='auto', **OURS)
    train(tmp_path, runner=runner_config(ExtraIterRunner, 8), hooks=[ours])
    checkpoint = load(tmp_path / 'iter_8.pth')
    assert checkpoint['ema']['count'] == 7
    assert torch.equal(checkpoint['ema']['w'], torch.ones(3))
    assert checkpoint['meta']['iter'] == 8
    assert 'optimizer' in checkpoint
    runner = train(
        tmp_path, runner=runner_config(ExtraIterRunner, 12), hooks=[ours])
    assert runner.extra == 7
    assert runner.iter == 12
    assert names(tmp_path) == [
        'iter_12.pth', 'iter_4.pth', 'iter_8.pth', 'latest.pth'
    ]


def test_a_repos_own_runner_keeps_its_extra_meta(tmp_path):
    train(
        tmp_path,
        runner=dict(type='ExtraMetaRunner', max_iters=4),
        hooks=[dict(interval=4, **OURS)])
    meta = load(tmp_path / 'iter_4.pth')['meta']
    assert (meta['teacher'], meta['step_of_teacher']) == ('resnet', 3)
    assert meta['iter'] == 4


@builds_runners
def test_the_constructor_keeps_the_extra_field_of_a_repos_runner(tmp_path):
    """Or refuses at start; silently losing it is the one wrong answer."""
    config = runner_config(
        ExtraIterRunner, 4, constructor='DurableRunnerConstructor')
    try:
        train(tmp_path, runner=config, hooks=[dict(interval=4, **OURS)])
    except (CheckpointError, ConfigError):
        return
    assert load(tmp_path / 'iter_4.pth')['ema']['count'] == 3


EVIL = "open({!r}, 'w').close()\ngpu_ids = [0, 1]\n"


def with_own_resume(base):
    """A repo's runner, whose ``resume`` calls mmcv's and does no more."""

    class Own(RUNNERS.get(base)):

        def resume(self, checkpoint):
            super().resume(checkpoint)
            self.resumed = getattr(self, 'resumed', 0) + 1

    Own.__name__ = Own.__qualname__ = 'Own' + base
    return Own


@builds_runners
@pytest.mark.parametrize('by', ['tool', 'hook'])
@pytest.mark.parametrize('name', ['IterBasedRunner', 'EpochBasedRunner'])
def test_the_constructor_serves_a_runner_that_has_its_own_resume(
        tmp_path, name, by, caplog):
    """Verified, continued exactly and without a GPU (trap 3)."""
    mark = tmp_path / 'executed'
    work = tmp_path / 'work'
    own = with_own_resume(name)
    config = runner_config(own, 2, constructor='DurableRunnerConstructor')
    ours = dict(interval=1, **OURS)
    train(
        work,
        runner=dict(config),
        hooks=[ours],
        meta=dict(config=EVIL.format(str(mark))))
    last = f'{"iter" if "Iter" in name else "epoch"}_2.pth'
    config.update({key: 3 for key in config if key.startswith('max')})
    caplog.clear()
    if by == 'hook':
        ours['resume'] = 'auto'
    runner, recorder = run_recorded(
        work,
        work / last if by == 'tool' else None,
        runner=config,
        hooks=[ours])
    assert runner.restored.name == last
    assert recorder.steps == (1 if 'Iter' in name else 4)
    assert runner.resumed == 1
    assert caplog.text.count('Resumed from') == 1
    assert runner.optimizer.state_dict()['state'][0]['step'] == runner.iter
    assert not mark.exists()


@builds_runners
def test_the_constructor_refuses_a_damaged_file_before_a_repos_resume(
        tmp_path):
    config = runner_config(
        with_own_resume('IterBasedRunner'),
        2,
        constructor='DurableRunnerConstructor')
    train(tmp_path, runner=dict(config), hooks=[dict(interval=2, **OURS)])
    path = tmp_path / 'iter_2.pth'
    os.truncate(path, path.stat().st_size // 2)
    runner = make_runner(tmp_path, runner=dict(config))
    with pytest.raises(IntegrityError, match='iter_2.pth'):
        runner.resume(str(path))
    assert not hasattr(runner, 'resumed')


@builds_runners
def test_a_repos_resume_leaves_out_the_optimizer_if_told(tmp_path):
    config = runner_config(
        with_own_resume('IterBasedRunner'),
        2,
        constructor='DurableRunnerConstructor')
    train(tmp_path, runner=dict(config), hooks=[dict(interval=2, **OURS)])
    runner = make_runner(tmp_path, runner=dict(config))
    runner.resume(str(tmp_path / 'iter_2.pth'), resume_optimizer=False)
    assert runner.iter == 2
    assert runner.optimizer.state_dict()['state'] == {}


@pytest.mark.parametrize('base', AMP)
def test_a_subclass_of_our_runner_may_add_to_save_checkpoint(tmp_path, base):
    """Or is refused at start, in words."""

    class Own(RUNNERS.get(base)):

        def save_checkpoint(self, out_dir, meta=None, **kwargs):
            meta = dict(meta or {}, own=1)
            super().save_checkpoint(out_dir, meta=meta, **kwargs)

    Own.__name__ = 'Own' + base
    unit = 'iter' if 'Iter' in base else 'epoch'
    config = {'type': Own, f'max_{unit}s': 2}
    try:
        train(tmp_path, runner=config, hooks=[dict(interval=1, **OURS)])
    except ConfigError:
        return
    assert load(tmp_path / f'{unit}_2.pth')['meta']['own'] == 1


class OwnBaseRunner(BaseRunner):
    """Neither of mmcv's two: a loop of its own over iterations."""

    def train(self, data_loader):
        self.mode = 'train'
        for data in data_loader:
            if self.iter >= self.max_iters:
                return
            self.data_batch = data
            self.call_hook('before_train_iter')
            self.outputs = self.model.train_step(data, self.optimizer)
            self.call_hook('after_train_iter')
            self._inner_iter += 1
            self._iter += 1

    def val(self, data_loader):
        pass

    def run(self, data_loaders, workflow):
        self.call_hook('before_run')
        self.call_hook('before_epoch')
        while self.iter < self.max_iters:
            self.train(data_loaders[0])
        self.call_hook('after_run')

    def save_checkpoint(self,
                        out_dir,
                        filename_tmpl,
                        save_optimizer=True,
                        meta=None,
                        create_symlink=True):
        meta = dict(meta or {}, loop='own')
        save_checkpoint(
            self.model,
            os.path.join(out_dir, filename_tmpl.format(self.iter + 1)),
            meta=meta)


RUNNERS.register_module(force=True)(OwnBaseRunner)


def test_any_runner_of_mmcvs_base_saves_and_resumes(tmp_path):
    hook = dict(interval=4, resume='auto', **OURS)
    config = dict(type='OwnBaseRunner', max_iters=6)
    train(tmp_path, runner=dict(config), hooks=[hook])
    assert names(tmp_path) == ['iter_4.pth', 'iter_6.pth', 'latest.pth']
    checkpoint = load(tmp_path / 'iter_4.pth')
    assert (checkpoint['meta']['iter'], checkpoint['meta']['loop']) == (4,
                                                                        'own')
    assert 'optimizer' in checkpoint
    config['max_iters'] = 10
    runner, recorder = run_recorded(tmp_path, runner=config, hooks=[hook])
    assert (recorder.steps, runner.iter) == (4, 10)


def test_a_runner_whose_fields_cannot_be_kept_is_refused_at_start(tmp_path):

    @RUNNERS.register_module(force=True)
    class OddRunner(IterBasedRunner):

        def save_checkpoint(self, out_dir, **kwargs):
            with open(os.path.join(out_dir, 'own.bin'), 'wb') as file:
                file.write(b'x')

    runner = make_runner(
        tmp_path,
        runner=dict(type='OddRunner', max_iters=4),
        hooks=[dict(interval=4, **OURS)])
    with pytest.raises(ConfigError, match='OddRunner'):
        runner.run([make_loader()], [('train', 1)])
    assert runner.iter == 0


def test_a_runner_with_other_parameters_is_refused_at_start(tmp_path):

    @RUNNERS.register_module(force=True)
    class ShortRunner(IterBasedRunner):

        def save_checkpoint(self, directory):
            torch.save({}, os.path.join(directory, 'a.pth'))

    runner = make_runner(
        tmp_path,
        runner=dict(type='ShortRunner', max_iters=4),
        hooks=[dict(interval=4, **OURS)])
    with pytest.raises(ConfigError, match='out_dir'):
        runner.run([make_loader()], [('train', 1)])


@RUNNERS.register_module(force=True)
class OwnResumeRunner(EpochBasedRunner):
    """Overrides ``resume`` and calls mmcv's, which executes meta['config'].
    """

    def resume(self, checkpoint, **kwargs):
        super().resume(checkpoint, **kwargs)
        self.own_resume = True


@pytest.mark.parametrize(
    'name', ['EpochBasedRunnerAmp', 'EpochBasedRunner', 'OwnResumeRunner'])
def test_config_text_in_a_checkpoint_is_never_executed(tmp_path, name):
    """INVARIANT 12; trap 36."""
    mark = tmp_path / 'executed'
    work = tmp_path / 'work'
    ours = dict(interval=1, resume='auto', **OURS)
    train(
        work,
        runner=runner_config(name, 1),
        hooks=[ours],
        meta=dict(config=EVIL.format(str(mark))))
    runner = train(
        work,
        runner=runner_config(name, 2),
        hooks=[ours],
        meta=dict(config='new = 1'))
    assert not mark.exists()
    # the number of GPUs in it changes no counter either
    assert runner.iter == 8
    assert runner.meta['config'] == 'new = 1'


def test_a_repos_own_resume_keeps_this_runs_meta(tmp_path):
    ours = dict(interval=1, resume='auto', **OURS)
    for steps, seed in ((1, 1), (2, 2)):
        runner = train(
            tmp_path,
            runner=runner_config('OwnResumeRunner', steps),
            hooks=[ours],
            meta=dict(seed=seed))
    assert runner.own_resume
    assert runner.meta['seed'] == 2
    assert load(tmp_path / 'epoch_2.pth')['meta']['seed'] == 2


@pytest.mark.parametrize('kind', AMP)
def test_a_workflow_of_other_length_is_refused(tmp_path, kind):
    limit = 'max_epochs' if 'Epoch' in kind else 'max_iters'
    runner = make_runner(tmp_path, runner={'type': kind, limit: 1})
    with pytest.raises(
            ConfigError,
            match='1 data loader and a workflow of 2 '
            'phases do not fit'):
        runner.run([make_loader()], [('train', 1), ('train', 1)])
