"""A run that was cut off and resumed ends with the same bits."""
import random
from contextlib import suppress

import numpy as np
import pytest
import torch
from checkpoint_files import equal
from exact import (BATCH, SIZE, DrawingData, DrawingModel, Killed, Recorder,
                   SameData, drawing_loader, drawing_run, seed_all)
from mmcv.parallel import MMDataParallel
from mmcv.runner import EMAHook, Hook, OptimizerHook
from stock import ABOVE_NORMAL, CUMULATIVE, scales_on_a_cpu
from torch.utils.data import (BatchSampler, DistributedSampler, RandomSampler,
                              SubsetRandomSampler, WeightedRandomSampler)
from toy import QuickEvalHook, make_runner

ITERS = 14  # two passes of six batches, and two iterations more
EPOCH_ITERS = 3 * 6


def cut_and_resumed(tmp_path, steps, kills, **kwargs):
    """Run a training that is killed after each of ``kills``."""
    losses = {}
    for number, kill_at in enumerate([*kills, None]):
        state, found = drawing_run(
            tmp_path / 'cut', steps, kill_at, seed=number * 100, **kwargs)
        for step, loss in found.items():
            # what is trained again is trained as before
            assert losses.setdefault(step, loss) == loss, step
    return state, losses


def assert_same_end(tmp_path, steps, kills, **kwargs):
    expected, losses = drawing_run(tmp_path / 'whole', steps, **kwargs)
    state, found = cut_and_resumed(tmp_path, steps, kills, **kwargs)
    assert found == losses
    assert equal(state, expected)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kill_at', [1, 4, 6, 7, 11])
def test_an_iteration_run_ends_with_the_same_bits(tmp_path, workers, kill_at):
    assert_same_end(
        tmp_path,
        ITERS, [kill_at],
        interval=1,
        loaders=[lambda: drawing_loader(workers)])


def test_a_run_killed_again_and_again_off_the_grid(tmp_path):
    assert_same_end(
        tmp_path,
        ITERS, [4, 5, 8, 10, 13],
        loaders=[lambda: drawing_loader(2, persistent_workers=True)])


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kill_at', [2, 6, 7, 17])
def test_an_epoch_run_ends_with_the_same_bits(tmp_path, workers, kill_at):
    assert_same_end(
        tmp_path,
        3, [kill_at],
        interval=1,
        runner_type='EpochBasedRunnerAmp',
        loaders=[lambda: drawing_loader(workers)])


@pytest.mark.parametrize('persistent', [False, True])
def test_an_epoch_run_resumed_between_epochs(tmp_path, persistent):
    assert_same_end(
        tmp_path,
        3, [8, 14],
        interval=1,
        by_epoch=True,
        runner_type='EpochBasedRunnerAmp',
        loaders=[lambda: drawing_loader(2, persistent_workers=persistent)])


def test_the_number_of_workers_changes_nothing(tmp_path):
    expected, losses = drawing_run(tmp_path / 'whole', ITERS)
    first, before = drawing_run(
        tmp_path / 'cut',
        ITERS,
        8,
        loaders=[lambda: drawing_loader(2)],
    )
    state, after = drawing_run(
        tmp_path / 'cut', ITERS, seed=5, loaders=[lambda: drawing_loader(1)])
    assert {**before, **after} == losses
    assert equal(state, expected)


@pytest.mark.parametrize('workers', [0, 2])
def test_without_sample_seeds_the_order_is_still_exact(tmp_path, workers):
    orders = []

    class Recording(DrawingData):

        def __getitem__(self, index):
            return dict(x=self.x[index], y=torch.tensor(index))

    def told(model):
        inner = model.train_step

        def train_step(data, *args, **kwargs):
            # mmcv < 1.5.2 keeps no batch in the runner
            order = data['y'].tolist()
            outputs = inner(dict(data, y=data['y'] % 2), *args, **kwargs)
            return dict(outputs, order=order)

        model.train_step = train_step
        return model

    def make():
        return torch.utils.data.DataLoader(
            Recording(), BATCH, shuffle=True, num_workers=workers)

    class Order(Hook):

        def after_train_iter(self, runner):
            orders[-1][runner.iter] = runner.outputs['order']

    def run(directory, kill_at=None, seed=0):
        orders.append({})
        drawing_run(
            tmp_path / directory,
            ITERS,
            kill_at,
            seed,
            loaders=[make],
            sample_seeds=False,
            wrap=told,
            hooks=[Order()])

    run('whole')
    run('cut', 8)
    run('cut', None, 7)
    whole, cut, resumed = orders
    assert {**cut, **resumed} == whole
    assert sorted(sum((whole[step] for step in range(6)),
                      [])) == list(range(SIZE))
    assert [whole[step]
            for step in range(6)] != [whole[step] for step in range(6, 12)]


def test_without_workers_sample_seeds_are_not_needed(tmp_path):
    assert_same_end(tmp_path, ITERS, [4, 9], sample_seeds=False)


SAMPLERS = {
    'with a generator of its own':
    lambda: dict(
        sampler=RandomSampler(
            DrawingData(), generator=torch.Generator().manual_seed(1))),
    'with replacement':
    lambda: dict(
        sampler=RandomSampler(DrawingData(), replacement=True, num_samples=40)
    ),
    'of a subset':
    lambda: dict(sampler=SubsetRandomSampler(range(4, 20))),
    'weighted':
    lambda: dict(sampler=WeightedRandomSampler([1., 2.] * 11, 20)),
    'distributed':
    lambda: dict(sampler=DistributedSampler(DrawingData(), 2, 1, seed=4)),
    'of batches':
    lambda: dict(
        batch_sampler=BatchSampler(RandomSampler(DrawingData()), 5, True)),
    "the loader's generator":
    lambda: dict(shuffle=True, generator=torch.Generator().manual_seed(1)),
    'pairs':
    lambda: dict(shuffle=True, batch_size=2),
}


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('name', SAMPLERS)
def test_samplers_go_on_inside_a_pass(tmp_path, name, workers):
    assert_same_end(
        tmp_path,
        ITERS, [5, 9, 12],
        interval=1,
        loaders=[lambda: drawing_loader(workers, **SAMPLERS[name]())])


def group_sampler():
    from mmdet.datasets.samplers import GroupSampler
    return dict(sampler=GroupSampler(DrawingData(), BATCH))


def distributed_group_sampler():
    from mmdet.datasets.samplers import DistributedGroupSampler
    return dict(
        sampler=DistributedGroupSampler(DrawingData(), BATCH, 2, 1, seed=3))


def infinite_group_sampler():
    from mmdet.datasets.samplers import InfiniteGroupBatchSampler

    # as mmdet, where no seed is given: drawn anew in every process
    seed = int(torch.randint(2**31, ()))
    return dict(
        batch_sampler=InfiniteGroupBatchSampler(
            DrawingData(), BATCH, 2, 1, seed=seed))


def mmseg_sampler():
    from mmseg.datasets.samplers import DistributedSampler
    return dict(
        sampler=DistributedSampler(DrawingData(), 2, 1, shuffle=True, seed=6))


@pytest.mark.mmseg
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('make', [
    group_sampler, distributed_group_sampler, infinite_group_sampler,
    mmseg_sampler
])
def test_samplers_of_mmdet_and_mmseg_go_on_inside_a_pass(
        tmp_path, make, workers):
    assert_same_end(
        tmp_path,
        ITERS, [5, 9, 12],
        interval=1,
        loaders=[lambda: drawing_loader(workers, **make())])


@pytest.mark.parametrize('persistent', [False, True])
@pytest.mark.parametrize('runner_type, steps, kills',
                         [('IterBasedRunnerAmp', ITERS, [7, 8, 13]),
                          ('EpochBasedRunnerAmp', 4, [7, 8, 13])])
def test_a_loader_of_two_phases_has_two_positions(tmp_path, runner_type, steps,
                                                  kills, persistent):
    workers = 1 if persistent else 0
    shared = []

    def make():
        if not shared:
            shared.append(
                drawing_loader(workers, persistent_workers=persistent))
        return shared[0]

    def make_last():
        return shared.pop()

    assert_same_end(
        tmp_path,
        steps,
        kills,
        interval=1,
        runner_type=runner_type,
        workflow=[('train', 2), ('val', 1)],
        loaders=[make, make_last])


# -- hooks ------------------------------------------------------------------


@pytest.mark.parametrize('kill_at', [7, 12, 13])
@pytest.mark.parametrize('runner_type, steps, interval',
                         [('IterBasedRunnerAmp', ITERS, 1),
                          ('EpochBasedRunnerAmp', 3, 1)])
def test_averaged_weights_go_on(tmp_path, runner_type, steps, interval,
                                kill_at):
    # by mmcv swapped with the trained ones between two epochs
    assert_same_end(
        tmp_path,
        steps, [kill_at],
        interval=interval,
        runner_type=runner_type,
        hooks=[dict(type='EMAHook', momentum=0.1, priority=ABOVE_NORMAL)])


class Clips(Hook):

    def after_train_iter(self, runner):
        with torch.no_grad():
            for one in runner.model.parameters():
                one.clamp_(-.3, .3)


class Decays(Hook):

    def after_train_epoch(self, runner):
        with torch.no_grad():
            for one in runner.model.parameters():
                one.mul_(.9)


CHANGING = {
    'clips': lambda: [Clips()],
    'decays': lambda: [Decays()],
    'averages': lambda: [EMAHook(momentum=0.1)],
}


@pytest.mark.parametrize('stock', [True, False])
@pytest.mark.parametrize('runner_type, steps, kill_at',
                         [('IterBasedRunnerAmp', ITERS, 7),
                          ('EpochBasedRunnerAmp', 3, 8)])
@pytest.mark.parametrize('name', CHANGING)
def test_what_hooks_of_normal_priority_change_goes_on(tmp_path, name,
                                                      runner_type, steps,
                                                      kill_at, stock):
    # by epoch, and listed behind ours
    by_epoch = 'Epoch' in runner_type
    stock_config = dict(interval=1, by_epoch=by_epoch)
    assert_same_end(
        tmp_path,
        steps, [kill_at],
        interval=None if stock else 1,
        by_epoch=None if stock else by_epoch,
        checkpoint_config=stock_config if stock else None,
        runner_type=runner_type,
        make_hooks=CHANGING[name])


@pytest.mark.parametrize('runner_type, steps, kills',
                         [('IterBasedRunnerAmp', ITERS, [7]),
                          ('EpochBasedRunnerAmp', 3, [6, 8])])
def test_averages_go_before_the_save(tmp_path, caplog, runner_type, steps,
                                     kills):
    assert_same_end(
        tmp_path,
        steps,
        kills,
        interval=1,
        runner_type=runner_type,
        hooks=[dict(type='EMAHook', momentum=0.1, priority='LOW')])
    assert 'EMAHook goes before DurableCheckpointHook' in caplog.text


@pytest.mark.mmseg
@pytest.mark.parametrize('kind',
                         ['ExpMomentumEMAHook', 'LinearMomentumEMAHook'])
@pytest.mark.parametrize('runner_type, steps, by_epoch, kill_at',
                         [('IterBasedRunnerAmp', ITERS, False, 7),
                          ('EpochBasedRunnerAmp', 3, False, 6),
                          ('EpochBasedRunnerAmp', 3, False, 8),
                          ('EpochBasedRunnerAmp', 3, True, 8)])
def test_averages_of_mmdet_go_on(tmp_path, kind, runner_type, steps, by_epoch,
                                 kill_at):
    pytest.importorskip('mmdet.core')
    assert_same_end(
        tmp_path,
        steps, [kill_at],
        interval=1,
        by_epoch=by_epoch,
        runner_type=runner_type,
        hooks=[dict(type=kind, momentum=0.1, priority=49)])


@pytest.mark.parametrize('workflow, kills', [(None, [6, 12, 18]),
                                             ([('train', 1),
                                               ('val', 1)], [6, 12])])
def test_averages_are_swapped_behind_the_last_iteration(
        tmp_path, workflow, kills):
    """Saved before an evaluation, and so before the swap: with no epoch left
    to train, and validated before the next one, too."""
    loaders = [drawing_loader, lambda: drawing_loader(size=10)]
    for kill_at in kills:
        assert_same_end(
            tmp_path / str(kill_at),
            3, [kill_at],
            interval=1,
            runner_type='EpochBasedRunnerAmp',
            workflow=workflow,
            loaders=loaders if workflow else loaders[:1],
            hooks=[dict(type='EMAHook', momentum=0.1, priority=49)],
            make_hooks=lambda:
            [QuickEvalHook([.1, .5], interval=2, by_epoch=False)])


class Batches:
    """Batches without a sampler that could be advanced."""

    def __init__(self, loader):
        self.loader = loader
        self.dataset = loader.dataset

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return iter(self.loader)


class First(Hook):
    """The state with which training begins."""

    def before_train_iter(self, runner):
        if not hasattr(self, 'state'):
            self.state = {
                name: value.clone()
                for name, value in runner.model.state_dict().items()
            }


@pytest.mark.parametrize(
    'make',
    [lambda: Batches(drawing_loader()), lambda: drawing_loader(size=11)])
def test_averages_go_on_where_the_data_do_not(tmp_path, make):
    kwargs = dict(interval=1, runner_type='EpochBasedRunnerAmp')
    ema = dict(type='EMAHook', momentum=0.1)
    drawing_run(tmp_path, 3, 8, hooks=[ema], **kwargs)
    saved = torch.load(tmp_path / 'epoch_1_iter_8.pth')['state_dict']
    first = First()
    drawing_run(tmp_path, 3, hooks=[ema, first], loaders=[make], **kwargs)
    assert equal(first.state, dict(saved))


AVERAGED = [('IterBasedRunnerAmp', ITERS, 'iter_4.pth', 9),
            ('EpochBasedRunnerAmp', 3, 'epoch_0_iter_4.pth', 9)]


@pytest.mark.parametrize('priority', [49, 'LOW'])
@pytest.mark.parametrize('runner_type, steps, start, kill_at', AVERAGED)
def test_resume_from_of_an_averaging_hook_is_where_a_run_starts(
        tmp_path, caplog, runner_type, steps, start, kill_at, priority):
    """mmcv resumes from there at every start."""
    kwargs = dict(interval=1, runner_type=runner_type)
    ema = dict(type='EMAHook', momentum=0.1, priority=priority)
    expected, losses = drawing_run(
        tmp_path / 'whole', steps, hooks=[dict(ema)], **kwargs)
    ema['resume_from'] = str(tmp_path / 'whole' / start)
    first, before = drawing_run(
        tmp_path / 'cut', steps, kill_at, seed=1, hooks=[dict(ema)], **kwargs)
    assert min(before) == 5
    caplog.clear()
    state, after = drawing_run(
        tmp_path / 'cut', steps, seed=2, hooks=[dict(ema)], **kwargs)
    assert min(after) == kill_at + 1
    assert {
        **before,
        **after
    } == {
        step: loss
        for step, loss in losses.items() if step > 4
    }
    assert equal(state, expected)


@pytest.mark.parametrize('priority', [49, 'LOW'])
def test_on_a_stock_runner_the_own_newest_counts_as_well(
        tmp_path, caplog, priority):
    """A hook behind ours would resume behind our restore."""
    hooks = [dict(type='EMAHook', momentum=0.1, priority=priority)]
    kwargs = dict(interval=1, by_epoch=True, runner_type='EpochBasedRunner')
    drawing_run(tmp_path, 3, 14, hooks=hooks, **kwargs)
    hooks[0]['resume_from'] = str(tmp_path / 'epoch_1.pth')
    _, losses = drawing_run(tmp_path, 3, hooks=hooks, **kwargs)
    assert sorted(losses) == list(range(13, 19))
    assert 'is passed over: this run goes on from epoch_2.pth' in caplog.text


@pytest.mark.parametrize('by_hook', [False, True])
@pytest.mark.parametrize('runner_type, steps, start, kill_at', AVERAGED)
def test_averages_go_on_with_the_stock_hook(tmp_path, runner_type, steps,
                                            start, kill_at, by_hook):
    by_epoch = 'Epoch' in runner_type
    name = 'epoch_1.pth' if by_epoch else 'iter_9.pth'

    def run(where, kill_at=None, resume=None, seed=0):
        model = DrawingModel()
        limit = 'max_epochs' if by_epoch else 'max_iters'
        runner = make_runner(
            tmp_path / where,
            model=model,
            seed=seed,
            runner=dict(type=runner_type, **{limit: steps}),
            checkpoint_config=dict(interval=1, by_epoch=by_epoch),
            hooks=[
                EMAHook(momentum=0.1, resume_from=resume if by_hook else None)
            ])
        if resume is not None and not by_hook:
            runner.resume(resume)
        recorder = Recorder(kill_at)
        runner.register_hook(recorder, priority='VERY_LOW')
        with suppress(Killed):
            runner.run([drawing_loader()], [('train', 1)])
        return model.state_dict(), recorder.losses

    seed_all(0)
    expected, losses = run('whole')
    seed_all(0)
    run('cut', kill_at)
    state, after = run('cut', None, str(tmp_path / 'cut' / name), seed=1)
    assert min(after) == (7 if by_epoch else 10)
    assert after.items() <= losses.items()
    assert equal(state, expected)


class GoesOverTheData(Hook):
    """As mmcls's PreciseBNHook between two epochs."""

    def after_train_epoch(self, runner):
        for _ in zip(range(2), runner.data_loader):
            pass


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('by_epoch, kills', [(True, [8, 14]),
                                             (False, [5, 8, 14])])
def test_a_hook_that_goes_over_the_data_between_two_epochs(
        tmp_path, workers, by_epoch, kills):
    assert_same_end(
        tmp_path,
        3,
        kills,
        interval=1,
        by_epoch=by_epoch,
        runner_type='EpochBasedRunnerAmp',
        make_hooks=lambda: [GoesOverTheData()],
        loaders=[lambda: drawing_loader(workers)])


ACCUMULATING = [
    CUMULATIVE,
    dict(type='DistOptimizerHook', update_interval=4),
]


@pytest.mark.parametrize('kill_at', [5, 6, 8, 13])
@pytest.mark.parametrize('optimizer_config', ACCUMULATING)
def test_accumulated_gradients_go_on(tmp_path, caplog, optimizer_config,
                                     kill_at):
    assert_same_end(
        tmp_path,
        ITERS, [kill_at],
        interval=1,
        optimizer_config=optimizer_config)
    # mmcv's warning, which is not true here
    assert 'gradient of some iters is lost' not in caplog.text


def test_gradients_are_saved_only_between_two_steps(tmp_path):
    drawing_run(
        tmp_path, 9, interval=1, optimizer_config=dict(ACCUMULATING[1]))
    held = {
        step:
        set(
            torch.load(tmp_path / f'iter_{step}.pth',
                       weights_only=True)['resume_state']['gradients'])
        for step in (4, 5)
    }
    assert held[4] == set()
    assert held[5] == {name for name, _ in DrawingModel().named_parameters()}


class ScalingHook(OptimizerHook):
    """Mixed precision with a scaler that works on the CPU."""

    def __init__(self):
        super().__init__()
        self.loss_scaler = torch.amp.GradScaler('cpu', growth_interval=3)

    def after_train_iter(self, runner):
        runner.optimizer.zero_grad()
        self.loss_scaler.scale(runner.outputs['loss']).backward()
        self.loss_scaler.step(runner.optimizer)
        self.loss_scaler.update()


@scales_on_a_cpu
def test_the_loss_scale_goes_on(tmp_path):
    scales = []
    for directory, kills in (('whole', [None]), ('cut', [5, 7, None])):
        for kill_at in kills:
            hook = ScalingHook()
            state, losses = drawing_run(
                tmp_path / directory,
                ITERS,
                kill_at,
                interval=1,
                optimizer_config=hook)
        scales.append((hook.loss_scaler.state_dict(), state))
    assert scales[0][0]['scale'] > 2**16
    assert equal(scales[0], scales[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kind, steps', [('Iter', ITERS), ('Epoch', 3)])
def test_a_run_on_a_gpu_ends_with_the_same_bits(tmp_path, kind, steps,
                                                workers):
    """Dropout draws from the device's generator; mmcv's loss scale."""
    assert_same_end(
        tmp_path,
        steps, [5, 9],
        interval=1,
        runner_type=f'{kind}BasedRunnerAmp',
        wrap=lambda model: MMDataParallel(model.cuda(), device_ids=[0]),
        optimizer_config=dict(
            type='Fp16OptimizerHook',
            loss_scale=dict(init_scale=2.**8, growth_interval=3)),
        loaders=[lambda: drawing_loader(workers)])


@pytest.mark.parametrize('lr_config', [
    dict(policy='poly', power=0.9, min_lr=1e-4, by_epoch=False),
    dict(
        policy='step',
        step=[1],
        warmup='linear',
        warmup_iters=9,
        warmup_ratio=0.1),
    dict(policy='cyclic', target_ratio=(5, 1e-3), step_ratio_up=0.4),
])
def test_schedules_of_rate_and_momentum_go_on(tmp_path, lr_config):
    assert_same_end(
        tmp_path,
        ITERS, [5, 9],
        lr_config=lr_config,
        momentum_config=dict(
            policy='cyclic', target_ratio=(0.9, 1.), step_ratio_up=0.4)
        if lr_config['policy'] == 'cyclic' else None)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kill_at', [3, 5, 6, 9, 13])
def test_a_workflow_with_validation_goes_on_in_its_phase(
        tmp_path, kill_at, workers):
    assert_same_end(
        tmp_path,
        ITERS, [kill_at],
        interval=1,
        workflow=[('train', 3), ('val', 2)],
        loaders=[
            lambda: drawing_loader(workers),
            lambda: drawing_loader(workers, 10)
        ])


@pytest.mark.parametrize('kill_at', [5, 6, 12, 13, 20])
def test_a_workflow_of_epochs_goes_on_in_its_phase(tmp_path, kill_at):
    assert_same_end(
        tmp_path,
        4, [kill_at],
        interval=1,
        runner_type='EpochBasedRunnerAmp',
        workflow=[('train', 2), ('val', 1)],
        loaders=[drawing_loader, lambda: drawing_loader(0, 10)])


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kind, steps', [('Iter', ITERS), ('Epoch', 4)])
def test_two_train_loaders_go_on_in_turn(tmp_path, kind, steps, workers):
    assert_same_end(
        tmp_path,
        steps, [2, 5, 7, 11, 13],
        interval=1,
        runner_type=f'{kind}BasedRunnerAmp',
        workflow=[('train', 2), ('train', 1)],
        loaders=[
            lambda: drawing_loader(workers),
            lambda: drawing_loader(workers, 10)
        ])


class DrawingEvalHook(QuickEvalHook):
    """Draws random numbers and leaves the model in eval mode, as mmcv."""

    def evaluate(self, runner, results):
        runner.model.eval()
        np.random.rand(3), random.random(), torch.rand(3)
        return super().evaluate(runner, results)


@pytest.mark.parametrize('kind, by_epoch, kills', [
    ('Iter', False, [6, 12]),
    ('Epoch', False, [8, 16]),
    ('Epoch', True, [7, 13]),
])
def test_an_evaluation_that_a_kill_skips_changes_nothing(
        tmp_path, kind, by_epoch, kills):
    assert_same_end(
        tmp_path,
        3 if kind == 'Epoch' else ITERS,
        kills,
        interval=1 if by_epoch else 2,
        by_epoch=by_epoch,
        runner_type=f'{kind}BasedRunnerAmp',
        make_hooks=lambda: [
            DrawingEvalHook([0.1, 0.4, 0.3],
                            interval=1 if by_epoch else 2,
                            by_epoch=by_epoch,
                            save_best='mIoU')
        ])


# -- stock runners: all but the data ----------------------------------------


def same_loader(workers, generator=False):
    return torch.utils.data.DataLoader(
        SameData(),
        BATCH,
        shuffle=True,
        num_workers=workers,
        generator=torch.Generator() if generator else None)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(
    'kill_at, steps, generator',
    [
        (3, 6, False),  # to the end of the pass of six
        (3, 14, True),  # further passes draw nothing from training's
        (6, 14, False),  # the seeds of the next pass are drawn yet
    ])
def test_a_stock_iteration_run_goes_on_but_for_the_data(
        tmp_path, workers, kill_at, steps, generator):
    assert_same_end(
        tmp_path,
        steps, [kill_at],
        interval=1,
        runner_type='IterBasedRunner',
        loaders=[lambda: same_loader(workers, generator)])


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kill_at', [7, 12])
def test_a_stock_epoch_run_goes_on_behind_an_epoch(tmp_path, workers, kill_at):
    assert_same_end(
        tmp_path,
        3, [kill_at],
        interval=1,
        by_epoch=True,
        runner_type='EpochBasedRunner',
        loaders=[lambda: same_loader(workers)])


@pytest.mark.parametrize('kill_at', [5, 6])
@pytest.mark.parametrize('optimizer_config', ACCUMULATING)
def test_accumulated_gradients_go_on_on_a_stock_runner(tmp_path,
                                                       optimizer_config,
                                                       kill_at):
    assert_same_end(
        tmp_path,
        ITERS, [kill_at],
        interval=1,
        optimizer_config=optimizer_config,
        runner_type='IterBasedRunner',
        loaders=[lambda: same_loader(0, True)])


@pytest.mark.parametrize('kind, steps, kill_at', [
    ('Iter', 6, 4),
    ('Epoch', 3, 12),
])
def test_an_evaluation_of_a_stock_run_changes_nothing_that_it_draws(
        tmp_path, kind, steps, kill_at):
    by_epoch = kind == 'Epoch'
    # behind the save of the step, before its evaluation
    assert_same_end(
        tmp_path,
        steps, [kill_at],
        interval=1 if by_epoch else 2,
        by_epoch=by_epoch,
        runner_type=f'{kind}BasedRunner',
        loaders=[lambda: same_loader(0)],
        make_hooks=lambda: [
            DrawingEvalHook([0.1, 0.4, 0.3],
                            interval=1 if by_epoch else 2,
                            by_epoch=by_epoch,
                            save_best='mIoU')
        ])


class CountingHook(Hook):
    """Of a repo that keeps state in a hook, and runs before the save."""

    def __init__(self):
        self.total = 0.

    def after_train_iter(self, runner):
        self.total += runner.outputs['loss'].item()

    def state_dict(self):
        return dict(total=self.total)

    def load_state_dict(self, state):
        self.total = state['total']


def test_hooks_with_state_go_on(tmp_path):
    totals = []
    for directory, kills in (('whole', [None]), ('cut', [5, 9, None])):
        for kill_at in kills:
            # two of a kind: each gets its own
            hooks = [CountingHook(), CountingHook()]
            hooks[1].total = 1.
            drawing_run(
                tmp_path / directory,
                ITERS,
                kill_at,
                interval=1,
                early_hooks=hooks)
        totals.append([hook.total for hook in hooks])
    assert totals[0] == totals[1]
    assert totals[0][1] == totals[0][0] + 1.
