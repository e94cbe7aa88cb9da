"""Traps 13 to 20: registration and config. First stock, then ours."""
import os

import pytest
import torch
from mmcv.runner import CheckpointHook, Hook, IterBasedRunner
from mmcv.runner.builder import RUNNERS
from stock import as_since_1_3_16
from toy import make_loader, make_runner, names, train

from mmcv_ckpt_hooks import DurableCheckpointHook
from mmcv_ckpt_hooks.errors import ConfigError

OURS = dict(type='DurableCheckpointHook')
BOTH = ['IterBasedRunner', 'IterBasedRunnerAmp']


def iter_config(steps, name='IterBasedRunner'):
    return dict(type=name, max_iters=steps)


def test_trap_13_a_hook_in_custom_hooks_never_fires(tmp_path):
    # stock
    train(
        tmp_path / 'stock',
        runner=iter_config(4),
        hooks=[dict(type='CheckpointHook', interval=2)])
    assert names(tmp_path / 'stock') == []
    # ours
    for name in BOTH:
        train(
            tmp_path / name,
            runner=iter_config(4, name),
            hooks=[dict(interval=2, **OURS)])
        assert names(tmp_path /
                     name) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']


@RUNNERS.register_module(force=True)
class PlainIterRunner(IterBasedRunner):
    """Any repo's iteration runner with a name of its own."""


def test_trap_14_no_evaluation_on_a_runner_of_another_name(tmp_path):
    # mmseg/apis/train.py:165
    def run(work, name, hooks):
        by_epoch = name != 'IterBasedRunner'
        train(
            work,
            runner=iter_config(8, name),
            hooks=hooks,
            evaluation=dict(
                scores=[.5, .6],
                interval=4,
                by_epoch=by_epoch,
                save_best='mIoU'))

    # stock
    run(tmp_path / 'stock', 'PlainIterRunner', [])
    assert names(tmp_path / 'stock') == []
    # ours: the runner, or the hook on any runner
    run(tmp_path / 'runner', 'IterBasedRunnerAmp', [])
    assert names(tmp_path / 'runner') == ['best_mIoU_iter_8.pth']
    run(tmp_path / 'hook', 'PlainIterRunner', [dict(interval=4, **OURS)])
    assert 'best_mIoU_iter_8.pth' in names(tmp_path / 'hook')


def test_trap_15_without_checkpoint_config_the_palette_is_lost(tmp_path):
    # stock: only what the tool put into checkpoint_config.meta
    train(
        tmp_path / 'stock',
        runner=iter_config(4),
        hooks=[dict(type='CheckpointHook', interval=4, by_epoch=False)])
    meta = torch.load(tmp_path / 'stock' / 'iter_4.pth')['meta']
    assert 'PALETTE' not in meta
    # ours: from the model, and the run's meta
    for name in BOTH:
        train(
            tmp_path / name,
            runner=iter_config(4, name),
            hooks=[dict(interval=4, **OURS)],
            meta=dict(config='model = 1'))
        meta = torch.load(tmp_path / name / 'iter_4.pth')['meta']
        assert meta['PALETTE'] == [[0, 0, 0], [255, 255, 255]]
        assert list(meta['CLASSES']) == ['background', 'nucleus']
        assert meta['config'] == 'model = 1'


def test_trap_16_priority_is_a_reserved_name(tmp_path):
    # stock: a hook that says its own priority cannot be registered
    class WithPriority(CheckpointHook):
        priority = 'LOW'

    runner = make_runner(tmp_path, runner=iter_config(4))
    with pytest.raises(ValueError, match='reserved'):
        runner.register_hook(WithPriority())
    # ours has none until mmcv gives it one, and its place is what it needs
    assert not hasattr(DurableCheckpointHook(), 'priority')
    for priority in (0, 'HIGHEST', 'NORMAL', 'VERY_LOW', 100):
        runner = make_runner(tmp_path, runner=iter_config(4))
        runner.register_hook(DurableCheckpointHook(interval=4), priority)
        runner.run([make_loader()], [('train', 1)])
        ours, = [
            hook for hook in runner.hooks
            if isinstance(hook, DurableCheckpointHook)
        ]
        assert ours.priority == 50


def test_trap_16_equal_priority_runs_behind_the_defaults(tmp_path):
    # stock: the order of registration
    order = []

    class Note(Hook):

        def after_train_iter(self, runner):
            order.append('note')

    class StockNote(CheckpointHook):

        def after_train_iter(self, runner):
            order.append('stock')

    train(
        tmp_path / 'stock',
        runner=iter_config(1),
        hooks=[Note(), StockNote(by_epoch=False)])
    assert order == ['note', 'stock']
    # ours comes behind all hooks of its priority, wherever it is listed: what
    # they change belongs to the step
    seen = []

    class Look(Hook):

        def after_train_iter(self, runner):
            seen.append('iter_2.pth' in names(tmp_path / 'ours'))

    runner = make_runner(
        tmp_path / 'ours',
        runner=iter_config(2),
        checkpoint_config=dict(interval=2),
        hooks=[dict(write=dict(background=False), **OURS),
               Look()])
    runner.register_hook(Look(), 60)
    runner.run([make_loader()], [('train', 1)])
    assert seen == [False, False, False, True]


def test_trap_19_a_misspelt_option_fails_at_the_first_save(tmp_path):
    # stock: hours later
    runner = make_runner(
        tmp_path / 'stock',
        runner=iter_config(8),
        checkpoint_config=dict(interval=4, max_keep_ckpt=3))
    with pytest.raises(TypeError):
        runner.run([make_loader()], [('train', 1)])
    assert runner.iter == 3
    # ours: when it is built
    with pytest.raises(ConfigError, match='max_keep_ckpts'):
        make_runner(
            tmp_path,
            runner=iter_config(8),
            hooks=[dict(interval=4, max_keep_ckpt=3, **OURS)])


def test_trap_19_the_users_meta_is_changed(tmp_path):

    def run(work, hooks, name='IterBasedRunner'):
        meta = dict(CLASSES=('a', 'b'))
        train(
            work,
            runner=iter_config(4, name),
            checkpoint_config=dict(interval=4, meta=meta),
            hooks=hooks)
        return set(meta)

    # stock
    assert {'iter', 'epoch', 'time'} <= run(tmp_path / 'stock', [])
    # ours
    for name in BOTH:
        assert run(tmp_path / name, [OURS], name) == {'CLASSES'}


@as_since_1_3_16
def test_trap_20_before_run_twice_moves_the_directory(tmp_path):
    # stock
    runner = make_runner(tmp_path / 'work', runner=iter_config(4))
    hook = CheckpointHook(interval=4, out_dir=str(tmp_path / 'out'))
    hook.before_run(runner)
    hook.before_run(runner)
    assert hook.out_dir == str(tmp_path / 'out' / 'work' / 'work')
    # ours
    for name in BOTH:
        runner = make_runner(tmp_path / 'work', runner=iter_config(4, name))
        hook = DurableCheckpointHook(4, out_dir=str(tmp_path / 'out'))
        runner.register_hook(hook)
        hook.before_run(runner)
        hook.before_run(runner)
        assert hook.out_dir == str(tmp_path / 'out' / 'work')


def runner_without_work_dir(tmp_path, name, hook):
    runner = make_runner(tmp_path, runner=iter_config(4, name))
    runner.work_dir = None
    runner.register_hook(hook)
    return runner


@as_since_1_3_16
def test_trap_20_no_work_dir_is_a_bare_assertion(tmp_path):
    # stock
    runner = runner_without_work_dir(tmp_path, 'IterBasedRunner',
                                     CheckpointHook(4, by_epoch=False))
    with pytest.raises(AssertionError):
        runner.run([make_loader()], [('train', 1)])
    # ours
    for name in BOTH:
        runner = runner_without_work_dir(tmp_path, name,
                                         DurableCheckpointHook(4))
        with pytest.raises(ConfigError, match='out_dir'):
            runner.run([make_loader()], [('train', 1)])
        out = tmp_path / f'out{name}'
        runner = runner_without_work_dir(
            tmp_path, name, DurableCheckpointHook(4, out_dir=str(out)))
        runner.run([make_loader()], [('train', 1)])
        assert names(out) == ['iter_4.pth', 'latest.pth']


@as_since_1_3_16
def test_trap_20_a_slash_makes_a_second_directory(tmp_path):
    work = str(tmp_path / 'work')
    # stock
    train(
        work,
        runner=iter_config(4),
        hooks=[
            dict(
                type='CheckpointHook',
                interval=4,
                by_epoch=False,
                out_dir=work + os.sep)
        ])
    assert names(tmp_path / 'work' / 'work') == ['iter_4.pth', 'latest.pth']
    # ours
    for name in BOTH:
        work = str(tmp_path / name)
        train(
            work,
            runner=iter_config(4, name),
            hooks=[dict(interval=4, out_dir=work + os.sep, **OURS)])
        assert names(tmp_path / name) == ['iter_4.pth', 'latest.pth']
