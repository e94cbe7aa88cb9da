"""Traps 6 to 12: best, retention, latest. First stock, then ours."""
import errno
import os
import shutil

import pytest
import torch
from mmcv.fileio.file_client import HardDiskBackend
from stock import as_since_1_3_16
from toy import QuickEvalHook, make_loader, make_runner, names, train

from mmcv_ckpt_hooks import find_resumable
from mmcv_ckpt_hooks.errors import ConfigError
from mmcv_ckpt_hooks.storage import local

OURS = dict(type='DurableCheckpointHook')
RUNNERS = ['IterBasedRunner', 'IterBasedRunnerAmp']


def iter_config(steps, name='IterBasedRunner'):
    return dict(type=name, max_iters=steps)


def by_iter(scores, **kwargs):
    return dict(
        dict(scores=scores, interval=4, by_epoch=False, save_best='mIoU'),
        **kwargs)


def best_files(directory):
    return [name for name in names(directory) if name.startswith('best')]


def steps_in(directory):
    return sorted(
        int(name[5:-4]) for name in names(directory)
        if name.startswith('iter_'))


# -- 6 ----------------------------------------------------------------------


@as_since_1_3_16
def test_trap_06_a_score_of_zero_is_dropped(tmp_path):
    # stock
    train(tmp_path / 'stock', runner=iter_config(4), evaluation=by_iter([0.0]))
    assert best_files(tmp_path / 'stock') == []
    # ours
    for name in RUNNERS:
        train(
            tmp_path / name,
            runner=iter_config(4, name),
            hooks=[dict(interval=4, **OURS)],
            evaluation=by_iter([0.0]))
        assert best_files(tmp_path / name) == ['best_mIoU_iter_4.pth']


class MmsegEvalHook(QuickEvalHook):
    """The override of mmseg 0.30.0 without the guard."""

    def _do_evaluate(self, runner):
        key_score = self.evaluate(runner, [])
        if self.save_best:
            self._save_ckpt(runner, key_score)


@as_since_1_3_16
@pytest.mark.filterwarnings('ignore:Since `eval_res`')
def test_trap_06_a_missing_score_stops_training(tmp_path):

    def run(work, name, hooks):
        runner = make_runner(work, runner=iter_config(4, name), hooks=hooks)
        runner.register_hook(
            MmsegEvalHook([{}], interval=4, by_epoch=False, save_best='mIoU'),
            'LOW')
        runner.run([make_loader()], [('train', 1)])
        return runner

    # stock
    with pytest.raises(TypeError):
        run(tmp_path / 'stock', 'IterBasedRunner', [])
    # ours
    for name in RUNNERS:
        assert run(tmp_path / name, name, [dict(interval=4, **OURS)]).iter == 4


def test_trap_06_an_unknown_metric_is_a_bare_key_error(tmp_path):
    # stock
    with pytest.raises(KeyError) as caught:
        train(
            tmp_path / 'stock',
            runner=iter_config(4),
            evaluation=by_iter([.5], save_best='mAP'))
    assert 'mIoU' not in str(caught.value)
    # ours
    for name in RUNNERS:
        with pytest.raises(ConfigError, match='mIoU'):
            train(
                tmp_path / name,
                runner=iter_config(4, name),
                hooks=[dict(interval=4, **OURS)],
                evaluation=by_iter([.5], save_best='mAP'))


# -- 7 ----------------------------------------------------------------------


def run_with_a_gap(work, name, hooks):
    train(
        work,
        runner=iter_config(8, name),
        checkpoint_config=dict(interval=2),
        hooks=hooks)
    os.unlink(work / 'iter_6.pth')
    runner = make_runner(
        work,
        runner=iter_config(10, name),
        checkpoint_config=dict(interval=2, max_keep_ckpts=1),
        hooks=hooks)
    runner.resume(str(work / 'iter_8.pth'), map_location='cpu')
    runner.run([make_loader()], [('train', 1)])


def test_trap_07_a_gap_keeps_everything_older_for_ever(tmp_path):
    # stock
    run_with_a_gap(tmp_path / 'stock', 'IterBasedRunner', [])
    assert steps_in(tmp_path / 'stock') == [2, 4, 10]
    # ours
    for name in RUNNERS:
        run_with_a_gap(tmp_path / name, name, [OURS])
        assert steps_in(tmp_path / name) == [10]


def test_trap_07_a_last_save_off_the_grid_leaves_one_too_many(tmp_path):
    config = dict(interval=4, max_keep_ckpts=2)
    # stock
    train(
        tmp_path / 'stock',
        runner=iter_config(10),
        checkpoint_config=dict(config))
    assert steps_in(tmp_path / 'stock') == [4, 8, 10]
    # ours
    for name in RUNNERS:
        train(
            tmp_path / name,
            runner=iter_config(10, name),
            checkpoint_config=dict(config),
            hooks=[OURS])
        assert steps_in(tmp_path / name) == [8, 10]


def test_trap_07_files_of_another_run_are_deleted(tmp_path):

    def run(work, name, hooks, seed, keep):
        train(
            work,
            runner=iter_config(8, name),
            checkpoint_config=dict(interval=4, max_keep_ckpts=keep),
            hooks=hooks,
            seed=seed)

    def first_bias(path):
        return torch.load(path)['state_dict']['last.bias']

    # stock
    stock = tmp_path / 'stock'
    run(stock, 'IterBasedRunner', [], 1, -1)
    run(stock, 'IterBasedRunner', [], 2, 1)
    assert not (stock / 'iter_4.pth').exists()
    assert len(list(stock.glob('iter_*'))) == 1
    # ours
    for name in RUNNERS:
        work = tmp_path / name
        run(work, name, [OURS], 1, -1)
        other = {
            step: first_bias(work / f'iter_{step}.pth')
            for step in (4, 8)
        }
        run(work, name, [OURS], 2, 1)
        for step, bias in other.items():
            kept, = work.glob(f'iter_{step}.pth.*')
            assert torch.equal(first_bias(kept), bias)


# -- 8, 9 -------------------------------------------------------------------


@as_since_1_3_16
def test_trap_08_the_old_best_goes_before_the_new_one_is_there(
        tmp_path, monkeypatch):
    # stock
    put = HardDiskBackend.put

    def full(self, obj, filepath):
        if str(filepath).endswith('best_mIoU_iter_8.pth'):
            raise OSError(errno.ENOSPC, 'No space left on device')
        put(self, obj, filepath)

    monkeypatch.setattr(HardDiskBackend, 'put', full)
    stock = tmp_path / 'stock'
    runner = make_runner(
        stock, runner=iter_config(8), evaluation=by_iter([.5, .6]))
    with pytest.raises(OSError):
        runner.run([make_loader()], [('train', 1)])
    assert best_files(stock) == []
    messages = runner.meta['hook_msgs']
    assert messages['best_score'] == .6
    assert not os.path.exists(messages['best_ckpt'])
    # ours: on the grid it is a link, off the grid a file
    link, fill = os.link, local.fill_file

    def full_link(source, target, **kwargs):
        if 'best_mIoU_iter_8' in str(target):
            raise OSError(errno.ENOSPC, 'No space left on device')
        link(source, target, **kwargs)

    def full_file(temporary, write, what, path, *args):
        if 'best_mIoU_iter_8' in str(path):
            raise OSError(errno.ENOSPC, 'No space left on device')
        return fill(temporary, write, what, path, *args)

    monkeypatch.setattr(local.os, 'link', full_link)
    monkeypatch.setattr(local, 'fill_file', full_file)
    for interval in (4, 100):
        for name in RUNNERS:
            work = tmp_path / f'{name}{interval}'
            runner = train(
                work,
                runner=iter_config(8, name),
                hooks=[dict(interval=interval, **OURS)],
                evaluation=by_iter([.5, .6]))
            assert best_files(work) == ['best_mIoU_iter_4.pth']
            messages = runner.meta['hook_msgs']
            assert messages['best_score'] == .5
            assert os.path.exists(messages['best_ckpt'])


@as_since_1_3_16
def test_trap_09_with_one_checkpoint_kept_a_failed_save_leaves_none(
        tmp_path, monkeypatch):
    """mmengine deletes before it saves; stock mmcv writes in place."""

    # stock: the name is there, the checkpoint is not
    def torn(self, obj, filepath):
        with open(filepath, 'wb') as file:
            file.write(obj[:len(obj) // 2])
        if str(filepath).endswith('iter_8.pth'):
            raise KeyboardInterrupt

    monkeypatch.setattr(HardDiskBackend, 'put', torn)
    stock = tmp_path / 'stock'
    with pytest.raises(KeyboardInterrupt):
        train(
            stock,
            runner=iter_config(8),
            checkpoint_config=dict(interval=8, max_keep_ckpts=1))
    with pytest.raises(Exception):
        torch.load(stock / 'iter_8.pth')

    # ours
    fill = local.fill_file

    def killed(temporary, write, what, path, *args):
        if not path.endswith('iter_8.pth'):
            return fill(temporary, write, what, path, *args)

        def some(stream):
            stream.write(b'PK\x03\x04' + 5000 * b'\0')
            raise KeyboardInterrupt

        return fill(temporary, some, what, path, *args)

    monkeypatch.setattr(local, 'fill_file', killed)
    for name in RUNNERS:
        work = tmp_path / name
        with pytest.raises(KeyboardInterrupt):
            train(
                work,
                runner=iter_config(8, name),
                hooks=[
                    dict(
                        interval=4,
                        max_keep_ckpts=1,
                        write=dict(background=False),
                        **OURS)
                ])
        assert names(work) == ['iter_4.pth', 'latest.pth']
        assert torch.load(work / 'latest.pth')['meta']['iter'] == 4


# -- 10 ---------------------------------------------------------------------


@as_since_1_3_16
def test_trap_10_a_fork_deletes_the_originals_best(tmp_path):

    def run(work, hooks, epochs, scores, amp=False):
        name = 'EpochBasedRunnerAmp' if amp else 'EpochBasedRunner'
        runner = make_runner(
            work,
            runner=dict(type=name, max_epochs=epochs),
            checkpoint_config=dict(interval=1),
            hooks=hooks,
            evaluation=by_iter(scores, interval=1, by_epoch=True))
        if epochs > 2 and not hooks:
            runner.resume(str(work / 'epoch_2.pth'), map_location='cpu')
        runner.run([make_loader()], [('train', 1)])

    # stock
    first, second = tmp_path / 'first', tmp_path / 'second'
    run(first, [], 2, [.5, .4])
    shutil.copytree(first, second, symlinks=True)
    assert best_files(first) == ['best_mIoU_epoch_1.pth']
    run(second, [], 3, [.6])
    assert best_files(first) == []
    # ours
    for amp in (True, False):
        first, second = tmp_path / f'first{amp}', tmp_path / f'second{amp}'
        hooks = [dict(resume='auto', max_keep_ckpts=1, **OURS)]
        run(first, hooks, 2, [.5, .4], amp)
        before = names(first)
        shutil.copytree(first, second, symlinks=True)
        run(second, hooks, 3, [.6], amp)
        assert names(first) == before
        assert best_files(second) == ['best_mIoU_epoch_3.pth']


# -- 11, 12 -----------------------------------------------------------------


def test_trap_11_a_moment_without_a_latest_pointer(tmp_path, monkeypatch):
    symlink = os.symlink
    calls = []

    def killed(source, target, **kwargs):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        symlink(source, target, **kwargs)

    monkeypatch.setattr(os, 'symlink', killed)
    # stock
    stock = tmp_path / 'stock'
    with pytest.raises(KeyboardInterrupt):
        train(stock, runner=iter_config(8), checkpoint_config=dict(interval=4))
    assert names(stock) == ['iter_4.pth', 'iter_8.pth']
    # ours
    for name in RUNNERS:
        del calls[:]
        work = tmp_path / name
        with pytest.raises(KeyboardInterrupt):
            train(
                work,
                runner=iter_config(8, name),
                hooks=[dict(interval=4, write=dict(background=False), **OURS)])
        assert names(work) == ['iter_4.pth', 'iter_8.pth', 'latest.pth']
        assert os.readlink(work / 'latest.pth') == 'iter_4.pth'


def test_trap_11_where_links_are_not_allowed(tmp_path, monkeypatch):

    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, 'Operation not permitted')

    monkeypatch.setattr(os, 'symlink', refuse)
    # stock
    with pytest.raises(OSError):
        train(
            tmp_path / 'stock',
            runner=iter_config(4),
            checkpoint_config=dict(interval=4))
    # ours: a hard link, and where that is not allowed a pointer file
    work = tmp_path / 'hard'
    train(work, runner=iter_config(4), hooks=[dict(interval=4, **OURS)])
    assert torch.load(work / 'latest.pth')['meta']['iter'] == 4
    monkeypatch.setattr(os, 'link', refuse)
    work = tmp_path / 'neither'
    train(work, runner=iter_config(4), hooks=[dict(interval=4, **OURS)])
    assert names(work) == ['iter_4.pth']
    assert (work / 'last_checkpoint').read_text().strip() == 'iter_4.pth'


@pytest.mark.mmseg
def test_trap_12_which_checkpoint_is_the_newest(tmp_path):
    find_latest = pytest.importorskip('mmseg.utils').find_latest_checkpoint
    hook = dict(interval=4, **OURS)
    train(tmp_path, runner=iter_config(8), hooks=[hook])
    newest = str(tmp_path / 'iter_8.pth')
    # mmseg 0.30.0: a pointer to a file that was deleted
    os.unlink(tmp_path / 'latest.pth')
    os.symlink('iter_12.pth', tmp_path / 'latest.pth')
    with pytest.raises(ValueError):
        find_latest(str(tmp_path))
    # ours
    assert find_resumable(str(tmp_path)) == newest
    # mmseg: a name that is no step
    os.unlink(tmp_path / 'latest.pth')
    torch.save(dict(state_dict={}), tmp_path / 'final.pth')
    with pytest.raises(ValueError):
        find_latest(str(tmp_path))
    # ours
    assert find_resumable(str(tmp_path)) == newest
