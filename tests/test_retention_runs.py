"""``max_keep_ckpts`` over real runs: from the catalog, not by arithmetic."""
import itertools
import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
from foreign_files import stock_file
from mmcv.runner import Hook
from toy import make_loader, make_runner, names, train

from mmcv_ckpt_hooks import DurableCheckpointHook, find_resumable, starting
from mmcv_ckpt_hooks.errors import OutOfSpaceError, StorageError

OURS = dict(type='DurableCheckpointHook')
ITER = ['IterBasedRunner', 'IterBasedRunnerAmp']
EPOCH = ['EpochBasedRunner', 'EpochBasedRunnerAmp']


def runner_config(name, steps):
    if 'Iter' in name:
        return dict(type=name, max_iters=steps)
    return dict(type=name, max_epochs=steps)


def steps_in(directory, prefix='iter_'):
    return sorted(
        int(name[len(prefix):-4]) for name in names(directory)
        if name.startswith(prefix))


class Look(Hook):
    """Notes after every iteration which checkpoints are there."""

    comes = 'LOW'

    def __init__(self, directory):
        self.directory, self.seen = directory, []

    def after_train_iter(self, runner):
        self.seen.append(steps_in(self.directory))


def run(directory, steps, name='IterBasedRunnerAmp', **kwargs):
    extra = kwargs.pop('hooks', [])
    return train(
        directory,
        runner=runner_config(name, steps),
        hooks=[dict(resume='auto', **kwargs, **OURS), *extra])


@pytest.mark.parametrize('name', ITER)
@pytest.mark.parametrize('keep', [1, 2, 3])
def test_exactly_so_many_stay(tmp_path, name, keep):
    run(tmp_path, 10, name, interval=2, max_keep_ckpts=keep)
    assert steps_in(tmp_path) == [2, 4, 6, 8, 10][-keep:]


@pytest.mark.parametrize('name', EPOCH)
def test_exactly_so_many_stay_by_epoch(tmp_path, name):
    run(tmp_path, 5, name, interval=1, max_keep_ckpts=2)
    assert steps_in(tmp_path, 'epoch_') == [4, 5]


@pytest.mark.parametrize('name', EPOCH)
def test_exactly_so_many_stay_inside_epochs(tmp_path, name):
    """Trap 4: the names that stock looks for do not exist."""
    run(tmp_path, 3, name, interval=2, by_epoch=False, max_keep_ckpts=2)
    assert names(tmp_path) == [
        'epoch_2_iter_10.pth', 'epoch_3_iter_12.pth', 'latest.pth'
    ]


@pytest.mark.parametrize('name', ITER)
def test_the_settings_of_checkpoint_config_count(tmp_path, name):
    train(
        tmp_path,
        runner=runner_config(name, 8),
        checkpoint_config=dict(interval=2, max_keep_ckpts=2),
        hooks=[OURS])
    assert steps_in(tmp_path) == [6, 8]


@pytest.mark.parametrize('name', ITER)
def test_a_gap_stops_nothing(tmp_path, name):
    """Trap 7: stock keeps everything older than the gap for ever."""
    run(tmp_path, 8, name, interval=2)
    os.unlink(tmp_path / 'iter_6.pth')
    run(tmp_path, 10, name, interval=2, max_keep_ckpts=1)
    assert steps_in(tmp_path) == [10]


@pytest.mark.parametrize('name', ITER)
def test_a_gap_made_while_the_run_goes_on_stops_nothing(tmp_path, name):

    class Cleaner(Hook):

        def after_train_iter(self, runner):
            if runner.iter == 4:
                os.unlink(tmp_path / 'iter_4.pth')

    run(tmp_path,
        10,
        name,
        interval=2,
        max_keep_ckpts=3,
        write=dict(background=False),
        hooks=[Cleaner()])
    assert steps_in(tmp_path) == [6, 8, 10]


@pytest.mark.parametrize('name', ITER)
def test_a_changed_interval_leaves_nothing_behind(tmp_path, name):
    """Trap 7."""
    run(tmp_path, 9, name, interval=3, max_keep_ckpts=2)
    assert steps_in(tmp_path) == [6, 9]
    run(tmp_path, 20, name, interval=5, max_keep_ckpts=2)
    assert steps_in(tmp_path) == [15, 20]


@pytest.mark.parametrize('name', ITER)
def test_a_last_one_off_the_grid_counts_as_one(tmp_path, name):
    """Trap 7: stock keeps one too many."""
    run(tmp_path, 11, name, interval=4, max_keep_ckpts=2)
    assert steps_in(tmp_path) == [8, 11]
    run(tmp_path, 16, name, interval=4, max_keep_ckpts=2)
    assert steps_in(tmp_path) == [12, 16]


@pytest.mark.parametrize('name', ITER)
def test_a_smaller_number_takes_effect_after_a_resume(tmp_path, name):
    run(tmp_path, 8, name, interval=2)
    run(tmp_path, 10, name, interval=2, max_keep_ckpts=2)
    assert steps_in(tmp_path) == [8, 10]


def test_keep_every_so_many_for_ever(tmp_path):
    run(tmp_path, 14, interval=2, keep=dict(last=2, every=4))
    assert steps_in(tmp_path) == [4, 8, 12, 14]


def test_keep_every_so_many_epochs(tmp_path):
    run(tmp_path,
        5,
        'EpochBasedRunnerAmp',
        interval=1,
        keep=dict(last=1, every=2))
    assert steps_in(tmp_path, 'epoch_') == [2, 4, 5]


@pytest.mark.parametrize('name', ITER)
def test_one_off_the_grid_goes_when_the_next_regular_one_is_there(
        tmp_path, name):

    class Ask(Hook):
        comes = 'LOW'

        def after_train_iter(self, runner):
            if runner.iter == 4:
                (tmp_path / 'SAVE').touch()
                for hook in runner.hooks:
                    if hasattr(hook, '_schedule'):
                        hook._schedule._looked_at -= 10

    look = Look(tmp_path)

    run(tmp_path,
        8,
        name,
        interval=4,
        max_keep_ckpts=1,
        write=dict(background=False),
        hooks=[Ask(), look])
    assert not (tmp_path / 'SAVE').exists()
    assert look.seen[3:] == [[4], [4], [4, 6], [4, 6], [8]]


@pytest.mark.parametrize('interval, left', [(-1, [19, 20]),
                                            (8, [8, 16, 19, 20])])
def test_those_by_time_are_no_more_than_told(tmp_path, monkeypatch, caplog,
                                             interval, left):
    # a second passes at every look
    clock = SimpleNamespace(monotonic=itertools.count().__next__)
    monkeypatch.setattr(starting, 'time', clock)
    caplog.set_level('INFO')
    run(tmp_path,
        20,
        interval=interval,
        save_last=False,
        max_keep_ckpts=2,
        triggers=dict(secs=1))
    assert steps_in(tmp_path) == left
    assert f', for {len(left)} and ' in caplog.text


# -- whose files ------------------------------------------------------------


@pytest.mark.parametrize('name', ITER)
def test_files_of_stock_mmcv_are_not_deleted(tmp_path, name):
    """INVARIANT 3."""
    stock_file(tmp_path, 6)
    run(tmp_path, 14, name, interval=2, max_keep_ckpts=1)
    assert steps_in(tmp_path) == [6, 14]


@pytest.mark.parametrize('name', ITER)
def test_files_of_another_run_are_not_deleted(tmp_path, name):
    """Trap 7: stock deletes whatever has the name."""
    run(tmp_path, 8, name, interval=2)
    train(
        tmp_path,
        runner=runner_config(name, 7),
        hooks=[dict(interval=3, max_keep_ckpts=1, **OURS)])
    assert steps_in(tmp_path) == [2, 4, 7, 8]
    # the one whose name was needed is kept under another
    assert len(list(tmp_path.glob('iter_6.pth.*'))) == 1


def test_a_same_named_file_of_another_run_is_set_aside(tmp_path, caplog):
    train(tmp_path, hooks=[dict(interval=4, **OURS)], seed=1)
    before = (tmp_path / 'iter_4.pth').read_bytes()
    caplog.clear()
    train(tmp_path, hooks=[dict(interval=4, max_keep_ckpts=1, **OURS)], seed=2)
    aside = [
        path for path in tmp_path.iterdir()
        if path.name.startswith('iter_4.pth.')
    ]
    assert len(aside) == 1
    assert aside[0].read_bytes() == before
    assert aside[0].name in caplog.text
    assert 'another run' in caplog.text
    # our own iter_4.pth is gone by our own retention
    assert steps_in(tmp_path) == [8]


def test_a_damaged_file_of_nobody_is_told_as_such(tmp_path, caplog):
    (tmp_path / 'iter_4.pth').touch()
    train(tmp_path, hooks=[dict(interval=4, **OURS)])
    whose = 'is damaged, or of another program, and does not tell whose it is'
    assert f'What {whose} (iter_4.pth; 1 in all) is neither' in caplog.text
    assert f'iter_4.pth {whose}; that one is kept as iter_4.pth.damaged' in \
        caplog.text
    assert 'another run' not in caplog.text


def test_files_of_stock_mmcv_are_told_as_such(tmp_path, caplog):
    stock_file(tmp_path, 4)
    (tmp_path / 'iter_6.pth').touch()
    train(tmp_path, hooks=[dict(interval=4, **OURS)])
    assert 'What another run, or stock mmcv, has saved here (iter_4.pth; 1 ' \
        'in all) and what is damaged, or of another program, and does not ' \
        'tell whose it is (iter_6.pth; 1 in all) is neither' in caplog.text
    assert 'iter_4.pth belongs to another run, or to stock mmcv; that one ' \
        'is kept as iter_4.pth.' in caplog.text


def test_adopted_files_are_counted_and_deleted(tmp_path):
    stock_file(tmp_path, 6)
    run(tmp_path, 10, interval=2, max_keep_ckpts=1, adopt_existing=True)
    assert steps_in(tmp_path) == [10]


def test_an_adopted_file_ahead_does_not_cost_what_was_just_saved(tmp_path):
    """Order is by iterations: the adopted one counts as the newest."""
    stock_file(tmp_path, 20)
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[
            dict(interval=4, max_keep_ckpts=1, adopt_existing=True, **OURS)
        ])
    assert steps_in(tmp_path) == [8, 20]


def test_a_copy_that_the_user_made_is_not_deleted(tmp_path):
    run(tmp_path, 4, interval=2)
    shutil.copy(tmp_path / 'iter_2.pth', tmp_path / 'keep_me.pth')
    os.rename(tmp_path / 'iter_2.pth', tmp_path / 'also_me.pth')
    run(tmp_path, 8, interval=2, max_keep_ckpts=1)
    assert names(tmp_path) == [
        'also_me.pth', 'iter_8.pth', 'keep_me.pth', 'latest.pth'
    ]


def test_what_lies_beside_the_checkpoints_is_left_alone(tmp_path):
    others = ['log.txt', 'iter_2.pth.bak', 'iter_4.txt', 'config.py']
    tmp_path.mkdir(exist_ok=True)
    for other in others:
        (tmp_path / other).write_text('mine')
    (tmp_path / 'iter_2').mkdir()
    run(tmp_path, 8, interval=2, max_keep_ckpts=1)
    assert all((tmp_path / other).read_text() == 'mine' for other in others)


def test_a_link_to_a_checkpoint_is_not_deleted(tmp_path):
    outside = tmp_path / 'outside'
    stock_file(outside, 6)
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'iter_2.pth').symlink_to(outside / 'iter_6.pth')
    run(work, 8, interval=4, max_keep_ckpts=1)
    assert (outside / 'iter_6.pth').exists()
    assert (work / 'iter_2.pth').is_symlink()


# -- never without a checkpoint ---------------------------------------------


@pytest.mark.parametrize('name', ITER)
def test_at_every_moment_one_checkpoint_is_there(tmp_path, name, monkeypatch):
    """Trap 9, INVARIANT 2: with max_keep_ckpts=1 a kill leaves one."""
    seen = []
    from mmcv_ckpt_hooks.storage import local
    replace, unlink = os.replace, os.unlink

    def look():
        seen.append(
            [one for one in names(tmp_path) if one.startswith('iter_')])

    def watched(function):

        def call(path, *args):
            if str(path).startswith(str(tmp_path)):
                look()
            result = function(path, *args)
            if str(path).startswith(str(tmp_path)):
                look()
            return result

        return call

    monkeypatch.setattr(local.os, 'replace', watched(replace))
    monkeypatch.setattr(local.os, 'unlink', watched(unlink))
    run(tmp_path, 12, name, interval=2, max_keep_ckpts=1)
    first = next(index for index, there in enumerate(seen) if there)
    assert all(seen[first:])
    for there in seen[first:]:
        assert len(there) <= 2


def test_the_file_resumed_from_stays_until_a_newer_one_is_there(tmp_path):
    run(tmp_path, 4, interval=4, max_keep_ckpts=1)
    look = Look(tmp_path)

    run(tmp_path,
        8,
        interval=4,
        max_keep_ckpts=1,
        write=dict(background=False),
        hooks=[look])
    assert look.seen == [[4], [4], [4], [8]]


@pytest.mark.parametrize('name', ITER)
def test_a_failed_save_deletes_nothing(tmp_path, name, monkeypatch):
    """INVARIANT 6."""
    from mmcv_ckpt_hooks.storage import local
    fill = local.fill_file

    def fail(temporary, write, what, path, *args):
        if path.endswith('iter_8.pth'):
            raise OSError(28, 'No space left on device')
        return fill(temporary, write, what, path, *args)

    monkeypatch.setattr(local, 'fill_file', fail)
    run(tmp_path, 8, name, interval=4, max_keep_ckpts=1)
    assert steps_in(tmp_path) == [4]
    assert torch.load(tmp_path / 'latest.pth')['meta']['iter'] == 4


class Remover(Hook):
    """Deletes a checkpoint by hand, at the end of an iteration."""

    def __init__(self, path, after):
        self.path, self.after = path, after

    def after_train_iter(self, runner):
        if runner.iter + 1 == self.after:
            os.unlink(self.path)


@pytest.mark.parametrize('name', ITER)
def test_the_last_one_makes_no_room_when_a_newer_one_was_deleted_by_hand(
        tmp_path, name, monkeypatch):
    """INVARIANT 2."""
    from mmcv_ckpt_hooks.storage import local
    fill = local.fill_file

    def fail(temporary, write, what, path, *args):
        if path.endswith('iter_8.pth'):
            raise OutOfSpaceError('no space left on the small disk')
        return fill(temporary, write, what, path, *args)

    monkeypatch.setattr(local, 'fill_file', fail)
    run(tmp_path,
        9,
        name,
        interval=2,
        max_keep_ckpts=2,
        save_last=False,
        write=dict(background=False),
        hooks=[Remover(tmp_path / 'iter_6.pth', 7)])
    assert steps_in(tmp_path) == [4]


def test_none_goes_for_a_better_one_that_was_deleted_by_hand(tmp_path):
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 7),
        hooks=[
            dict(
                interval=2,
                keep=dict(best=2),
                write=dict(background=False),
                **OURS),
            Remover(tmp_path / 'iter_4.pth', 5)
        ],
        evaluation=dict(scores=[.5, .9, .6], interval=2, by_epoch=False))
    assert steps_in(tmp_path) == [2, 6, 7]


class Waiter(Hook):
    """Waits for the save of every step."""

    def after_train_iter(self, runner):
        for hook in runner.hooks:
            if isinstance(hook, DurableCheckpointHook):
                hook._saver.wait()


def undeletable(monkeypatch, *stuck):
    unlink = os.unlink

    def fail(path, *args, **kwargs):
        if os.path.basename(path) in stuck:
            raise OSError(5, 'Input/output error', path)
        unlink(path, *args, **kwargs)

    monkeypatch.setattr(os, 'unlink', fail)


@pytest.mark.parametrize('background', [False, True])
@pytest.mark.parametrize('name', ITER)
def test_a_failed_deletion_is_told_once_a_file_and_training_goes_on(
        tmp_path, caplog, monkeypatch, name, background):
    undeletable(monkeypatch, 'iter_2.pth', 'iter_4.pth')
    runner = run(
        tmp_path,
        10,
        name,
        interval=2,
        max_keep_ckpts=1,
        write=dict(background=background))
    assert runner.iter == 10 and steps_in(tmp_path) == [2, 4, 10]
    told = [one for one in caplog.records if 'not delete' in one.message]
    assert [one.levelname for one in told] == ['WARNING'] * 2
    for one, stuck in zip(told, ('iter_2.pth', 'iter_4.pth')):
        assert f'Could not delete {stuck}' in one.message
        assert 'Input/output error' in one.message
    monkeypatch.undo()
    run(tmp_path, 12, name, interval=2, max_keep_ckpts=1)
    assert steps_in(tmp_path) == [12]


@pytest.mark.parametrize('background', [False, True])
@pytest.mark.parametrize('name', ITER)
def test_on_error_raise_stops_for_a_failed_deletion(tmp_path, caplog,
                                                    monkeypatch, name,
                                                    background):
    undeletable(monkeypatch, 'iter_2.pth')
    options = dict(
        interval=2,
        max_keep_ckpts=1,
        on_error='raise',
        write=dict(background=background))
    with pytest.raises(StorageError, match='iter_2.pth'):
        run(tmp_path, 10, name, hooks=[Waiter()], **options)
    assert {2, 4} <= set(steps_in(tmp_path)) and max(steps_in(tmp_path)) < 10
    catalog = json.loads((tmp_path / 'checkpoints.json').read_text())
    assert {info['name']
            for info in catalog['checkpoints']
            } == {f'iter_{step}.pth'
                  for step in steps_in(tmp_path)}
    newest = f'iter_{max(steps_in(tmp_path))}.pth'
    assert os.readlink(tmp_path / 'latest.pth') == newest
    assert find_resumable(str(tmp_path)) == str(tmp_path / newest)
    assert 'not saved' not in caplog.text
    # the next start tries again
    monkeypatch.undo()
    assert run(tmp_path, 10, name, **options).restored.name == newest
    assert steps_in(tmp_path) == [10]


def test_going_back_and_on_keeps_what_the_run_stands_on(tmp_path):
    """From an explicit older checkpoint; its later ones are thrown away."""
    run(tmp_path, 12, interval=4)
    runner = make_runner(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 10),
        hooks=[dict(interval=3, max_keep_ckpts=2, **OURS)])
    runner.resume(str(tmp_path / 'iter_4.pth'))
    runner.run([make_loader()], [('train', 1)])
    assert {9, 10} <= set(steps_in(tmp_path))
    assert 4 not in steps_in(tmp_path)
    again = run(tmp_path, 10, interval=3)
    assert again.restored.name == 'iter_10.pth'
