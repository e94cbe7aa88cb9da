"""Disks that are full, read-only or gone, in real runs; nothing is faked.

Where nothing may be mounted (no root), a limit of the process on the size of
a file stands in for the full disk, and the read-only disk is left out.
"""
import contextlib
import os
import resource
import shutil
import signal
import subprocess

import pytest
from faulty_runs import (END, LAST, assert_whole, contents, errors_told,
                         faulty_run)
from mmcv.runner import Hook
from toy import ToyModel, make_loader, make_runner, names, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.errors import AccessError, StorageError

BOTH = pytest.mark.parametrize('background', [False, True])
#: Of the model: a checkpoint takes about 2 MB with its optimizer.
WIDTH = 16000


class At(Hook):
    """Does something before a step, when no save is under way."""

    def __init__(self, **actions):
        self.actions = {
            int(step.lstrip('_')): action
            for step, action in actions.items()
        }

    def before_train_iter(self, runner):
        action = self.actions.get(runner.iter + 1)
        if action is not None:
            for hook in runner.hooks:
                if getattr(hook, '_saver', None) is not None:
                    hook._saver.wait()
            action()


def run(directory, steps, background, actions=None, **options):
    hook = dict(
        type='DurableCheckpointHook',
        interval=2,
        max_keep_ckpts=2,
        write=dict(background=background))
    runner = make_runner(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        model=ToyModel(WIDTH),
        hooks=[dict(hook, **options)])
    runner.register_hook(actions or At(), 'VERY_HIGH')
    runner.run([make_loader()], [('train', 1)])
    return runner


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 10 MB of its own."""
    place = tmp_path / 'disk'
    place.mkdir()
    made = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=10m', 'none',
         str(place)],
        capture_output=True)
    if made.returncode:
        pytest.skip(f'no file system may be mounted: {made.stderr.decode()}')
    yield place
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(['mount', '-o', 'remount,rw', str(place)], check=True)
    subprocess.run(['umount', '-l', str(place)], check=True)


def fill(disk):
    """Take all space that is left."""
    left = os.statvfs(disk)
    (disk / 'filler').write_bytes(bytes(left.f_bavail * left.f_frsize))


@BOTH
def test_a_full_disk_costs_only_the_saves_that_it_meets(
        small_disk, caplog, background):
    work, seen = small_disk / 'work', {}

    def watch():
        seen.update(contents(work))

    def free():
        # while it was full nothing was lost and nothing half-written is left
        for name, digest in seen.items():
            verify_checkpoint(str(work / name))
        assert contents(work) == seen
        assert not [one for one in os.listdir(work) if '.tmp-' in one]
        (small_disk / 'filler').unlink()

    runner = run(
        work,
        12,
        background,
        At(_5=lambda: (watch(), fill(small_disk)), _10=free),
        max_keep_ckpts=4)
    assert runner.iter == 12
    assert sorted(seen) == ['iter_2.pth', 'iter_4.pth']
    told = errors_told(caplog)
    assert [one.getMessage().split()[1]
            for one in told] == ['iter_6.pth', 'iter_8.pth']
    for one in told:
        assert one.exc_info is None and '\n' not in one.getMessage()
        assert 'No space left on device' in one.getMessage()
    assert names(work) == [
        'iter_10.pth', 'iter_12.pth', 'iter_2.pth', 'iter_4.pth', 'latest.pth'
    ]
    again = run(work, 14, background, resume='auto')
    assert again.restored.iter == 12 and again.iter == 14


def test_the_end_of_a_run_on_a_full_disk_resumes(small_disk, caplog):
    work = small_disk / 'work'
    run(work, 8, True, At(_5=lambda: fill(small_disk)), max_keep_ckpts=4)
    assert names(work) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']
    caplog.clear()
    (small_disk / 'filler').unlink()
    again = run(work, 8, True, resume='auto')
    assert again.restored.iter == 4
    assert find_resumable(str(work)).endswith('iter_8.pth')


@BOTH
def test_on_a_full_disk_what_goes_anyway_makes_room(small_disk, caplog,
                                                    background):
    """The new checkpoint takes what the old one leaves, to the last byte."""
    work = small_disk / 'work'

    def look():
        # although nothing is left, not even for the catalog
        assert (work / 'latest.pth').resolve() == work / 'iter_6.pth'
        for name in names(work):
            verify_checkpoint(str(work / name))

    run(work, 8, background, At(_5=lambda: fill(small_disk), _7=look))
    assert names(work) == ['iter_6.pth', 'iter_8.pth', 'latest.pth']
    assert (work / 'latest.pth').resolve() == work / 'iter_8.pth'
    room = [
        one.getMessage() for one in caplog.records
        if one.getMessage().startswith('No space')
    ]
    assert room == [
        'No space for iter_6.pth: deleted iter_2.pth, which it replaces',
        'No space for iter_8.pth: deleted iter_4.pth, which it replaces'
    ]
    for one in errors_told(caplog):
        assert 'is saved, but what follows failed' in one.getMessage()
        assert 'checkpoints.json' in one.getMessage()
    # with no room for the catalog, the files tell what there is
    again = run(work, 10, background, resume='auto')
    assert again.restored.iter == 8 and again.iter == 10


@BOTH
def test_a_process_that_may_not_write_large_files(tmp_path, caplog,
                                                  background):
    """``EFBIG``: what a full disk is where nothing may be mounted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    try:
        run(tmp_path, 8, background,
            At(_3=lambda: limit(100000), _7=lambda: limit(before[0])))
    finally:
        limit(before[0])
        signal.signal(signal.SIGXFSZ, handler)
    told = errors_told(caplog)
    assert [one.getMessage().split()[1]
            for one in told] == ['iter_4.pth', 'iter_6.pth']
    assert all('File too large' in one.getMessage() for one in told)
    assert names(tmp_path) == ['iter_2.pth', 'iter_8.pth', 'latest.pth']
    for name in names(tmp_path):
        verify_checkpoint(str(tmp_path / name))


@BOTH
def test_a_disk_that_becomes_read_only(small_disk, caplog, background):

    def call(*command):
        subprocess.run([*command, str(small_disk)], check=True)

    def refuse():
        # a second mount over it: the first has a file open, the lock, and
        # would not let itself be remounted
        call('mount', '--bind', str(small_disk))
        call('mount', '-o', 'remount,bind,ro')

    run(small_disk, 8, background, At(_5=refuse, _8=lambda: call('umount')))
    told = errors_told(caplog)
    assert [one.getMessage().split()[1] for one in told] == ['iter_6.pth']
    assert 'Read-only file system' in told[0].getMessage()
    assert names(small_disk) == ['iter_4.pth', 'iter_8.pth', 'latest.pth']


def test_a_read_only_disk_stops_before_training(small_disk):
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    with pytest.raises(AccessError, match='Read-only file system'):
        run(small_disk, 4, True)


# -- a directory that goes ---------------------------------------------------


@BOTH
@pytest.mark.parametrize('returns', [True, False])
def test_a_directory_that_is_deleted_during_the_run(tmp_path, caplog,
                                                    background, returns):
    work = tmp_path / 'work'
    actions = dict(_5=lambda: shutil.rmtree(work))
    if returns:
        actions['_7'] = work.mkdir
    runner = run(work, 10, background, At(**actions))
    assert runner.iter == 10
    told = [
        one.getMessage() for one in errors_told(caplog)
        if 'was not saved' in one.getMessage()
    ]
    lost = ['iter_6.pth'] if returns else \
        ['iter_6.pth', 'iter_8.pth', 'iter_10.pth']
    assert [one.split()[1] for one in told] == lost
    assert len(errors_told(caplog)) == len(lost)
    if not returns:
        # it may be the place where a disk was mounted: none is made up
        assert not work.exists()
        return
    assert names(work) == ['iter_10.pth', 'iter_8.pth', 'latest.pth']
    again = run(work, 12, background, resume='auto')
    assert again.restored.iter == 10


def test_with_on_error_raise_a_directory_that_goes_stops_the_run(tmp_path):
    work = tmp_path / 'work'
    with pytest.raises(StorageError, match='No such file or directory'):
        run(work,
            10,
            False,
            At(_5=lambda: shutil.rmtree(work)),
            on_error='raise')


def test_a_directory_that_is_replaced_by_a_file(tmp_path, caplog):
    work = tmp_path / 'work'

    def replace():
        shutil.rmtree(work)
        work.write_text('x')

    run(work, 6, True, At(_5=replace))
    told = errors_told(caplog)
    assert len(told) == 1 and 'Not a directory' in told[0].getMessage()
    assert work.read_text() == 'x'


# -- a directory that moved --------------------------------------------------


def tree(directory):
    return {
        str(path.relative_to(directory)):
        os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in directory.rglob('*') if not path.is_dir()
    }


@pytest.mark.parametrize('ours', [True, False])
@pytest.mark.parametrize('name', ['IterBasedRunnerAmp', 'IterBasedRunner'])
@pytest.mark.parametrize('by', ['copytree', 'copy with a link back'])
def test_a_copied_directory_never_touches_the_original(tmp_path, ours, name,
                                                       by):
    """Stock mmcv writes absolute paths, and deletes what they name."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    if ours:
        faulty_run(first)
    else:
        train(
            first,
            runner=dict(type='IterBasedRunner', max_iters=LAST),
            checkpoint_config=dict(interval=2, max_keep_ckpts=1),
            evaluation=dict(
                scores=[.1, .2, .3, .4],
                interval=2,
                by_epoch=False,
                save_best='mIoU'))
    before = tree(first)
    assert set(END) <= set(before)
    shutil.copytree(first, second, symlinks=True)
    if by != 'copytree':
        (second / 'latest.pth').unlink()
        os.symlink(first / f'iter_{LAST}.pth', second / 'latest.pth')
    runner = train(
        second,
        runner=dict(type=name, max_iters=16),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                max_keep_ckpts=1,
                resume='auto')
        ],
        evaluation=dict(
            scores=[.5, .6, .7, .8],
            interval=2,
            by_epoch=False,
            save_best='mIoU'))
    assert runner.restored.directory == str(second)
    assert runner.restored.iter == LAST
    assert 'iter_16.pth' in names(second)
    assert str(first) not in str(runner.meta['hook_msgs'])
    assert tree(first) == before


def test_a_run_that_starts_from_another_directory_leaves_it_alone(tmp_path):
    first, second = tmp_path / 'first', tmp_path / 'second'
    faulty_run(first)
    before = tree(first)
    _, _, raised = faulty_run(
        second,
        'raise',
        steps=16,
        better=1.,
        resume=str(first / f'iter_{LAST}.pth'))
    assert raised is None
    assert 'iter_16.pth' in names(second)
    assert tree(first) == before


def test_the_faults_of_this_module_are_none_without_a_fault(tmp_path):
    _, _, raised = faulty_run(tmp_path)
    assert raised is None
    assert_whole(tmp_path, END)
