"""Real training runs that meet in one work dir."""
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from launching import run_to_the_end
from lock_holder import NAME, another, sign, signed
from mmcv.runner import Hook
from stock import best_has_a_place
from torch.utils.data import DataLoader
from toy import QuickEvalHook, make_loader, make_runner, names, train
from waiting_run import waiting_run

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.cli import main as command
from mmcv_ckpt_hooks.errors import ConfigError, LockedError
from mmcv_ckpt_hooks.storage.names import TEMPORARY_MARK
from mmcv_ckpt_hooks.testing import pavi

HERE = Path(__file__).parent
OURS = dict(type='DurableCheckpointHook', interval=2)
RUNNERS = ['IterBasedRunnerAmp', 'IterBasedRunner']


def run(work_dir, name='IterBasedRunnerAmp', waits_at=0):
    return waiting_run('lock_worker.py', work_dir, name, waits_at)


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNNERS)
def test_a_second_run_is_refused_and_a_requeue_goes_on_at_once(tmp_path, name):
    with run(tmp_path, name, waits_at=4) as first:
        workers = [int(pid) for pid in first.wait().split()[1:]]
        assert len(workers) == 2
        with run(tmp_path, name) as second:
            assert second.end() == 1
        assert re.search(
            rf'LockedError: {tmp_path} is in use by another run: host '
            rf'{socket.gethostname()}, pid {first.process.pid}, since 20',
            second.out)
        assert 'ENDED' not in second.out
        try:
            for pid in workers:  # they would notice the end of the trainer
                os.kill(pid, signal.SIGSTOP)
            first.process.kill()
            first.process.wait()
            with run(tmp_path, name) as requeued:
                assert requeued.end() == 0, requeued.out
            for pid in workers:
                os.kill(pid, 0)
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
    assert 'ENDED 6 4' in requeued.out  # resumed at 4
    line, = re.findall('.*Took over .*', requeued.out)
    assert f'pid {first.process.pid}' in line
    assert 'waiting up to' not in requeued.out
    assert signed(tmp_path).beat is None
    for file in names(tmp_path):
        verify_checkpoint(str(tmp_path / file))


@pytest.mark.slow
def test_a_run_that_was_stopped_does_not_replace_the_newer_one(tmp_path):
    """Another machine took it for dead; then it wakes."""
    with run(tmp_path, waits_at=4) as first:
        first.wait()
        first.process.send_signal(signal.SIGSTOP)
        sign(tmp_path)  # its lock is not seen there
        books = {
            path.name: path.read_bytes()
            for path in tmp_path.iterdir() if path.is_file()
        }
        first.process.send_signal(signal.SIGCONT)
        assert first.end() == 0
    assert re.search('Checkpoint iter_5.pth was not saved.*node7', first.out)
    assert {
        path.name: path.read_bytes()
        for path in tmp_path.iterdir() if path.is_file()
    } == books


@pytest.mark.slow
@pytest.mark.parametrize(
    'place', ['run', pytest.param('best/run', marks=best_has_a_place)])
def test_all_ranks_are_refused(tmp_path, place):
    """Also where only rank 0 opens the second place; none hangs."""
    place = tmp_path / place
    place.mkdir(parents=True)
    with another(place, 'acquire') as first:
        for rank in run_to_the_end('ddp_worker.py', tmp_path / 'run', 4,
                                   tmp_path / 'best'):
            # not 1: gloo may abort a rank whose peer has left
            assert rank.returncode != 0
            assert f'LockedError: {place}' in rank.output
            assert f'pid {first.pid}' in rank.output
    assert names(tmp_path / 'run') == []


@pytest.mark.parametrize('name', RUNNERS)
def test_a_run_ends_without_the_lock(tmp_path, name):
    hook = dict(OURS)
    train(tmp_path, runner=dict(type=name, max_iters=4), hooks=[hook])
    assert signed(tmp_path).beat is None
    with another(tmp_path, 'acquire', 'release'):
        pass


class Raises:
    """A data set that is damaged."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise RuntimeError('damaged')


@pytest.mark.parametrize('name', RUNNERS)
def test_a_run_that_raised_is_followed_by_another(tmp_path, name):
    """In one process, with everything of the first still referred to."""
    config = dict(type=name, max_iters=4)
    first = make_runner(tmp_path, runner=config, hooks=[dict(OURS)])
    with pytest.raises(RuntimeError, match='damaged'):
        first.run([DataLoader(Raises())], [('train', 1)])
    train(tmp_path, runner=config, hooks=[dict(OURS)])
    assert 'iter_4.pth' in names(tmp_path)
    assert signed(tmp_path).beat is None


def test_run_may_be_called_twice(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[dict(OURS)])
    runner.run([make_loader()], [('train', 1)])
    runner._max_iters = 4
    runner.run([make_loader()], [('train', 1)])
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']
    assert signed(tmp_path).beat is None


@pytest.mark.parametrize('name', RUNNERS)
def test_a_start_that_fails_leaves_the_directory(tmp_path, name):
    config = dict(type=name, max_iters=2)
    missing = dict(OURS, resume=str(tmp_path / 'gone' / 'iter_4.pth'))
    with pytest.raises(FileNotFoundError) as kept:
        train(tmp_path, runner=config, hooks=[missing])
    assert kept.value is not None  # with all frames, as a notebook does
    assert signed(tmp_path).beat is None


@best_has_a_place
@pytest.mark.parametrize('name', RUNNERS)
def test_a_best_place_that_fails_leaves_the_directory(tmp_path, name):
    (tmp_path / 'file').write_text('')
    with pytest.raises(Exception) as kept:
        train(
            tmp_path / 'run',
            runner=dict(type=name, max_iters=2),
            hooks=[dict(OURS)],
            evaluation=dict(
                scores=[0.5],
                interval=2,
                by_epoch=False,
                save_best='mIoU',
                out_dir=str(tmp_path / 'file')))
    assert not isinstance(kept.value, ConfigError)
    assert signed(tmp_path / 'run').beat is None


@best_has_a_place
def test_the_place_of_the_best_is_locked_too(tmp_path):
    evaluation = dict(
        scores=[0.5],
        interval=2,
        by_epoch=False,
        save_best='mIoU',
        out_dir=str(tmp_path / 'best'))
    best = tmp_path / 'best' / 'run'
    best.mkdir(parents=True)
    kwargs = dict(
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[dict(OURS)],
        evaluation=evaluation)
    with another(best, 'acquire') as other:
        with pytest.raises(LockedError, match=f'{best}.*pid {other.pid}'):
            train(tmp_path / 'run', **kwargs)
        assert signed(tmp_path / 'run').beat is None
    train(tmp_path / 'run', **kwargs)
    assert signed(best).beat is None
    assert 'best_mIoU_iter_2.pth' in names(best)


@best_has_a_place
def test_two_evaluations_share_the_place_of_the_best(tmp_path):
    runner = make_runner(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[dict(OURS)])
    evaluation = dict(
        interval=2,
        by_epoch=False,
        rule='greater',
        out_dir=str(tmp_path / 'best'))
    for key in ('mIoU', 'mDice'):
        hook = QuickEvalHook([{key: 0.5}], save_best=key, **evaluation)
        runner.register_hook(hook, priority='LOW')
    runner.run([make_loader()], [('train', 1)])
    assert names(tmp_path / 'best' /
                 'run') == ['best_mDice_iter_2.pth', 'best_mIoU_iter_2.pth']


def test_the_catalog_of_a_remote_place_is_locked(tmp_path):
    """pavi cannot hold one; it is in the work dir."""
    hook = dict(OURS, out_dir='pavi://project/model')
    with pavi.install(str(tmp_path / 'platform')):
        train(tmp_path / 'run', hooks=[hook])
        assert signed(tmp_path / 'run').beat is None
        with another(tmp_path / 'run', 'acquire') as first:
            with pytest.raises(LockedError, match=f'pid {first.pid}'):
                train(tmp_path / 'run', hooks=[hook])


def test_readers_take_no_lock(tmp_path, capsys):
    train(tmp_path, hooks=[dict(OURS)])
    capsys.readouterr()
    with another(tmp_path, 'acquire') as first:
        before = (tmp_path / NAME).read_bytes()
        assert command(['ls', str(tmp_path)]) == 0
        assert command(['verify', str(tmp_path)]) == 0
        assert find_resumable(str(tmp_path)) == str(tmp_path / 'iter_8.pth')
        verify_checkpoint(str(tmp_path / 'iter_8.pth'))
        assert NAME not in capsys.readouterr().out
        assert (tmp_path / NAME).read_bytes() == before
        assert first.ask('check') is None


def test_a_repair_is_refused_while_a_run_writes(tmp_path, capsys):
    train(tmp_path, hooks=[dict(OURS)])
    repair = ['verify', '--repair-catalog', str(tmp_path)]
    with another(tmp_path, 'acquire') as first:
        assert command(repair) == 2
        assert f'pid {first.pid}' in capsys.readouterr().err
        first.ask('release')
        assert command(repair) == 0
    assert signed(tmp_path).beat is None


@pytest.mark.slow
def test_what_a_run_that_raised_had_staged_is_saved_at_the_exit(tmp_path):
    """On a stock runner no hook is told; then the directory is left."""
    code = f"""
import time
from mmcv.runner import Hook
from mmcv_ckpt_hooks.storage import local
from toy import train

class Fail(Hook):
    comes = 'LOW'
    def after_train_iter(self, runner):
        if runner.iter == 1:
            raise RuntimeError('damaged')

sync = local._sync_file
local._sync_file = lambda number: time.sleep(.5) or sync(number)
train({str(tmp_path)!r}, runner=dict(type='IterBasedRunner', max_iters=4),
      hooks=[{OURS!r}, Fail()])
"""
    ended = subprocess.run([sys.executable, '-c', code],
                           cwd=HERE,
                           capture_output=True,
                           timeout=180,
                           text=True)
    assert 'RuntimeError: damaged' in ended.stderr
    assert 'iter_2.pth' in names(tmp_path)
    verify_checkpoint(str(tmp_path / 'iter_2.pth'))
    assert signed(tmp_path).beat is None


def test_a_refused_run_sweeps_nothing_of_the_live_one(tmp_path):
    with another(tmp_path, 'acquire'):
        writer = signed(tmp_path).writer
        left = tmp_path / f'.iter_2.pth{TEMPORARY_MARK}{writer}-ab12'
        left.write_bytes(b'half a checkpoint')
        os.utime(left, (0, 0))
        with pytest.raises(LockedError):
            train(tmp_path, hooks=[dict(OURS)])
        assert left.exists()


def test_a_requeue_removes_at_once_what_the_killed_run_was_writing(
        tmp_path, caplog):
    with another(tmp_path, 'acquire') as killed:
        writer = signed(tmp_path).writer
        killed.signal(signal.SIGKILL)
        killed.join()
    left = tmp_path / f'.iter_2.pth{TEMPORARY_MARK}{writer}-ab12'
    left.write_bytes(b'half a checkpoint')
    train(tmp_path, hooks=[dict(OURS)])
    assert not left.exists()
    assert f'left behind: {left.name}' in caplog.text


@pytest.mark.parametrize('on_error', ['warn', 'raise'])
def test_a_run_that_lost_the_directory_says_so_at_every_save(
        tmp_path, caplog, on_error):

    class Lose(Hook):

        def before_train_iter(self, runner):
            if runner.iter == 3:
                sign(tmp_path)

    hook = dict(OURS, on_error=on_error, write=dict(background=False))

    def go():
        train(tmp_path, hooks=[hook, Lose()])

    if on_error == 'raise':
        with pytest.raises(LockedError, match='node7'):
            go()
    else:
        go()
        assert caplog.text.count('was not saved (LockedError') == 3
        # at length once
        assert caplog.text.count('has lost the directory') == 1
        assert caplog.text.count('was not saved (LockedError: as before)') == 2
    assert names(tmp_path) == ['iter_2.pth', 'latest.pth']
    assert signed(tmp_path).host == 'node7'
