"""Traps 1 to 5: counters and meta. First what stock does, then ours."""
import os

import pytest
import torch
from foreign_files import BeitRunner, stock_file
from mmcv.runner import EpochBasedRunner, Hook
from stock import as_since_1_3_16
from toy import make_loader, make_runner, names, train

OURS = dict(type='DurableCheckpointHook')


class Count(Hook):
    """Which iterations were trained."""

    def __init__(self):
        self.iters = []

    def after_train_iter(self, runner):
        self.iters.append(runner.iter)


def load(path):
    return torch.load(path, map_location='cpu')


def iter_config(steps, amp=False):
    return dict(
        type='IterBasedRunnerAmp' if amp else 'IterBasedRunner',
        max_iters=steps)


def epoch_config(steps, amp=False):
    return dict(
        type='EpochBasedRunnerAmp' if amp else 'EpochBasedRunner',
        max_epochs=steps)


@as_since_1_3_16
def test_trap_01_a_resumed_run_repeats_one_step(tmp_path):
    # stock: iter_4.pth says 3, iteration 4 is trained twice
    count = Count()
    stock_file(tmp_path / 'stock', 4)
    assert load(tmp_path / 'stock' / 'iter_4.pth')['meta']['iter'] == 3
    runner = make_runner(
        tmp_path / 'stock', runner=iter_config(6), hooks=[count])
    runner.resume(str(tmp_path / 'stock' / 'iter_4.pth'), map_location='cpu')
    runner.run([make_loader()], [('train', 1)])
    assert count.iters == [3, 4, 5]
    # ours
    hook = dict(interval=4, **OURS)
    for amp in (True, False):
        work, count = tmp_path / f'ours{amp}', Count()
        train(work, runner=iter_config(4, amp), hooks=[hook])
        assert load(work / 'iter_4.pth')['meta']['iter'] == 4
        runner = make_runner(work, runner=iter_config(6, amp), hooks=[count])
        runner.resume(str(work / 'iter_4.pth'), map_location='cpu')
        runner.run([make_loader()], [('train', 1)])
        assert count.iters == [4, 5]


@as_since_1_3_16
def test_trap_01_two_conventions_of_one_name(tmp_path):
    # stock and BEiT write different numbers into files of one name
    stock = stock_file(tmp_path / 'stock', 4)
    BeitRunner.amp = None
    beit = stock_file(tmp_path / 'beit', 4, BeitRunner)
    assert os.path.basename(stock) == os.path.basename(beit)
    assert load(stock)['meta']['iter'] == 3
    assert load(beit)['meta']['iter'] == 4
    # ours
    for path in (stock, beit):
        runner = make_runner(tmp_path, runner=iter_config(8, amp=True))
        runner.resume(path)
        assert runner.iter == 4


def test_trap_02_counters_of_a_file_overwritten_by_those_before(tmp_path):
    # BEiT's order: what it resumed from wins over what it has done
    BeitRunner.amp = None
    path = stock_file(
        tmp_path / 'beit', 8, BeitRunner, meta=dict(epoch=1, iter=4))
    assert load(path)['meta']['iter'] == 4
    # ours, with the same meta of a file that was resumed from
    for amp in (True, False):
        train(
            tmp_path / f'ours{amp}',
            runner=iter_config(8, amp),
            hooks=[dict(interval=8, **OURS)],
            meta=dict(epoch=1, iter=4))
        meta = load(tmp_path / f'ours{amp}' / 'iter_8.pth')['meta']
        assert meta['iter'] == 8


def with_best(hooks, config, work, scores, by_epoch, **kwargs):
    return make_runner(
        work,
        runner=config,
        hooks=hooks,
        evaluation=dict(
            scores=scores,
            interval=1 if by_epoch else 4,
            by_epoch=by_epoch,
            save_best='mIoU'),
        **kwargs)


@pytest.mark.skipif(
    torch.cuda.is_available(), reason='fails on machines without a GPU')
def test_trap_03_no_resume_without_a_gpu(tmp_path):
    # stock
    path = stock_file(tmp_path, 4)
    runner = make_runner(tmp_path, runner=iter_config(8))
    with pytest.raises((RuntimeError, AssertionError)):
        runner.resume(path)
    # ours
    runner = make_runner(tmp_path, runner=iter_config(8, amp=True))
    runner.resume(path)
    assert runner.iter == 4


def test_trap_03_the_best_score_is_forgotten(tmp_path):
    # stock
    stock = tmp_path / 'stock'
    runner = with_best([],
                       iter_config(8),
                       stock, [.5, .4],
                       False,
                       checkpoint_config=dict(interval=4))
    runner.run([make_loader()], [('train', 1)])
    path = str(stock / 'iter_8.pth')
    assert load(path)['meta']['hook_msgs']['best_score'] == .5
    runner = make_runner(stock, runner=iter_config(8))
    runner.resume(path, map_location='cpu')
    assert 'best_score' not in runner.meta.get('hook_msgs', {})
    # ours, also from stock's file
    runner = make_runner(stock, runner=iter_config(8, amp=True))
    runner.resume(path)
    assert runner.meta['hook_msgs']['best_score'] == .5


@as_since_1_3_16
def test_trap_03_the_old_runs_meta_replaces_this_ones(tmp_path):
    # stock
    stock_file(
        tmp_path, 1, EpochBasedRunner, meta=dict(seed=1, exp_name='old.py'))
    path = str(tmp_path / 'epoch_1.pth')
    new = dict(seed=2, exp_name='new.py')
    runner = make_runner(
        tmp_path / 'new', runner=epoch_config(2), meta=dict(new))
    runner.resume(path, map_location='cpu')
    assert (runner.meta['seed'], runner.meta['exp_name']) == (1, 'old.py')
    # ours
    runner = make_runner(
        tmp_path / 'new', runner=epoch_config(2, amp=True), meta=dict(new))
    runner.resume(path)
    assert (runner.meta['seed'], runner.meta['exp_name']) == (2, 'new.py')


def test_trap_03_a_missing_optimizer_is_not_mentioned(tmp_path, caplog):
    path = stock_file(tmp_path, 4)
    checkpoint = load(path)
    del checkpoint['optimizer']
    torch.save(checkpoint, path)
    # stock
    caplog.clear()
    runner = make_runner(tmp_path, runner=iter_config(8))
    runner.resume(path, map_location='cpu')
    assert 'optimizer' not in caplog.text
    # ours
    runner = make_runner(tmp_path, runner=iter_config(8, amp=True))
    runner.resume(path)
    assert 'optimizer' in caplog.text


def test_trap_04_saves_inside_an_epoch_replace_each_other(tmp_path):
    config = dict(interval=3, by_epoch=False, max_keep_ckpts=1)
    # stock: the unfinished epoch counts as finished, the message names a file
    # that does not exist, and nothing is ever deleted
    stock = tmp_path / 'stock'
    runner = train(
        stock,
        runner=epoch_config(2),
        checkpoint_config=dict(config, save_last=False))
    assert names(stock) == ['epoch_1.pth', 'epoch_2.pth', 'latest.pth']
    meta = load(stock / 'epoch_2.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (2, 5)
    assert not os.path.exists(runner.meta['hook_msgs']['last_ckpt'])
    # ours
    for amp in (True, False):
        work = tmp_path / f'ours{amp}'
        runner = train(
            work,
            runner=epoch_config(2, amp),
            checkpoint_config=dict(config, save_last=False),
            hooks=[OURS])
        assert names(work) == ['epoch_1_iter_6.pth', 'latest.pth']
        meta = load(work / 'epoch_1_iter_6.pth')['meta']
        assert (meta['epoch'], meta['iter']) == (1, 6)
        assert os.path.exists(runner.meta['hook_msgs']['last_ckpt'])


def test_trap_05_a_worse_model_becomes_the_best_after_a_resume(tmp_path):

    def run(work, hooks, steps, scores, amp=False, stock=False):
        runner = with_best(
            hooks,
            epoch_config(steps, amp),
            work,
            scores,
            True,
            checkpoint_config=dict(interval=1))
        if stock and steps > 2:
            runner.resume(str(work / 'epoch_2.pth'), map_location='cpu')
        runner.run([make_loader()], [('train', 1)])
        return runner

    # stock: epoch_2.pth was saved before the evaluation that found .7
    stock = tmp_path / 'stock'
    run(stock, [], 2, [.5, .7], stock=True)
    assert load(stock / 'epoch_2.pth')['meta']['hook_msgs']['best_score'] == .5
    runner = run(stock, [], 3, [.6], stock=True)
    assert runner.meta['hook_msgs']['best_score'] == .6
    assert [name for name in names(stock) if name.startswith('best')
            ] == ['best_mIoU_epoch_2.pth', 'best_mIoU_epoch_3.pth']
    # ours
    for amp in (True, False):
        work = tmp_path / f'ours{amp}'
        hooks = [dict(resume='auto', **OURS)]
        run(work, hooks, 2, [.5, .7], amp)
        runner = run(work, hooks, 3, [.6], amp)
        assert runner.meta['hook_msgs']['best_score'] == .7
        assert [name for name in names(work)
                if name.startswith('best')] == ['best_mIoU_epoch_2.pth']
