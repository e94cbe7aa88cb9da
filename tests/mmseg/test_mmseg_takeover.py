"""Two lines of config, and the unmodified tool saves through the plugin."""
import os
from collections import Counter

import pytest
import torch

pytestmark = pytest.mark.mmseg
RUNS = ('stock_runner', 'amp_runner', 'epoch_runner', 'typed_config',
        'renamed_runner', 'mmcv_alone_renamed')

each_iteration_runner = pytest.mark.parametrize(
    'name', ['stock_runner', 'amp_runner', 'renamed_runner'])
each_taking_over = pytest.mark.parametrize(
    'name', ['stock_runner', 'amp_runner', 'renamed_runner', 'epoch_runner'])

STEPS = [2, 4, 6, 8, 10, 12]
REGULAR = [f'iter_{step}.pth' for step in STEPS]


@each_iteration_runner
def test_one_file_and_one_log_line_a_step(runs, name):
    run = runs[name]
    best = run.catalog['best']['mIoU']['name']
    assert run.names() == {*REGULAR, best}
    assert run.saved == REGULAR
    assert os.readlink(run.work_dir / 'latest.pth') == 'iter_12.pth'
    # stock's hook is silent, so that nothing is saved twice
    assert not run.lines('Saving checkpoint at')


@each_taking_over
def test_takeover_is_said_once(runs, name):
    run = runs[name]
    assert len(
        run.lines('CheckpointHook of checkpoint_config is replaced')) == 1
    hooks = Counter(run.probe['hooks'])
    assert hooks['DurableCheckpointHook'] == 1
    assert hooks['CheckpointHook'] == 0


@each_taking_over
def test_before_run_of_every_hook_comes_once(runs, name):
    """mmcv skips a hook when another leaves the list it iterates."""
    probe = runs[name].probe
    calls = probe['before_run_calls']
    calls.pop('CheckpointHook', None)  # stock's, before ours took over
    # our companion has joined inside of ours
    expected = [
        hook for hook in probe['hooks']
        if hook not in ('Lookout', 'LoggedCosts')
    ]
    assert calls == dict.fromkeys(expected, 1)
    assert {'EvalHook', 'RunProbe', 'TextLoggerHook'} <= set(calls)


@each_taking_over
def test_meta_is_that_of_the_tool(runs, name):
    run = runs[name]
    for path in run.checkpoints():
        meta = torch.load(path)['meta']
        assert meta['CLASSES'] == ('background', 'disk')
        assert meta['PALETTE'] == [[0, 0, 0], [255, 0, 0]]
        assert meta['mmseg_version'].startswith('0.30.0')
        assert "type='EncoderDecoder'" in meta['config']
        assert "dict(type='DurableCheckpointHook')" in meta['config']
        assert meta['seed'] == 0
        assert meta['exp_name'] == f'{name}.py'
        assert 'MMSegmentation: 0.30.0' in meta['env_info']


@each_iteration_runner
def test_meta_counts_finished_iterations(runs, name):
    for step in STEPS:
        checkpoint = torch.load(runs[name].work_dir / f'iter_{step}.pth')
        assert checkpoint['meta']['iter'] == step
        assert {
            int(state['step'])
            for state in checkpoint['optimizer']['state'].values()
        } == {step}


@each_iteration_runner
def test_evaluates_by_iteration(runs, name):
    assert list(runs[name].scores()) == [4, 8, 12]


def test_alone_a_renamed_runner_never_evaluates(runs):
    """The tool knows iteration runners by one literal name."""
    run = runs['mmcv_alone_renamed']
    assert run.scores() == {}
    assert not list(run.work_dir.glob('best_*.pth'))


@each_iteration_runner
def test_best_is_a_second_name_of_its_regular_checkpoint(runs, name):
    run = runs[name]
    best = run.catalog['best']['mIoU']
    path = run.work_dir / best['name']
    assert best['name'] == f'best_mIoU_iter_{best["iter"]}.pth'
    assert os.path.samefile(path, run.work_dir / f'iter_{best["iter"]}.pth')
    assert best['score'] == pytest.approx(max(run.scores().values()), abs=1e-4)
    assert run.scores()[best['iter']] == max(run.scores().values())


@each_iteration_runner
def test_scores_are_joined_to_their_checkpoints(runs, name):
    run = runs[name]
    infos = run.catalog['checkpoints']
    joined = {
        step: infos[f'iter_{step}.pth']['metrics'].get('mIoU')
        for step in STEPS
    }
    expected = {step: run.scores().get(step) for step in STEPS}
    assert joined == pytest.approx(expected, abs=1e-4)
    best = run.catalog['best']['mIoU']
    assert infos[best['name']]['metrics']['mIoU'] == best['score']


def test_epoch_runner_saves_and_evaluates_by_epoch(runs):
    run = runs['epoch_runner']
    names = [f'epoch_{epoch}.pth' for epoch in (1, 2, 3)]
    best = run.catalog['best']['mIoU']
    assert run.saved == names
    assert run.names() == {*names, best['name']}
    assert [line['epoch'] for line in run.records()
            if line['mode'] == 'val'] == [1, 2, 3]
    for epoch, name in enumerate(names, 1):
        meta = torch.load(run.work_dir / name)['meta']
        assert (meta['epoch'], meta['iter']) == (epoch, 4 * epoch)
        assert 'mIoU' in run.catalog['checkpoints'][name]['metrics']
    epoch = best['iter'] // 4
    assert best['name'] == f'best_mIoU_epoch_{epoch}.pth'
    assert os.path.samefile(run.work_dir / best['name'],
                            run.work_dir / f'epoch_{epoch}.pth')


class TestTypedCheckpointConfig:
    """``checkpoint_config=dict(type='DurableCheckpointHook', ...)``."""

    def test_keeps_its_own_settings(self, runs):
        run = runs['typed_config']
        regular = run.names() - {run.catalog['best']['mIoU']['name']}
        assert regular == {'iter_6.pth', 'iter_7.pth'}  # 7: the last one
        assert [name for name in run.saved if name.startswith('iter_')] == \
            ['iter_2.pth', 'iter_4.pth', 'iter_6.pth', 'iter_7.pth']
        assert not run.lines('takes over')
        assert Counter(run.probe['hooks'])['DurableCheckpointHook'] == 1

    def test_gets_the_meta_that_the_tool_sets_on_the_config(self, runs):
        run = runs['typed_config']
        for path in run.checkpoints():
            meta = torch.load(path)['meta']
            assert meta['CLASSES'] == ('background', 'disk')
            assert "type='EncoderDecoder'" in meta['config']

    def test_keeps_the_best_off_the_grid(self, runs):
        run = runs['typed_config']
        best = run.catalog['best']['mIoU']
        assert list(run.scores()) == [3, 6]
        assert run.scores()[best['iter']] == max(run.scores().values())
        assert torch.load(run.work_dir /
                          best['name'])['meta']['iter'] == best['iter']
