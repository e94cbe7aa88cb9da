"""mmsegmentation's ``find_latest_checkpoint``, behind ``--auto-resume``."""
import os
import shutil

import pytest
import toy
from mmseg_tool import on_disk

from mmcv_ckpt_hooks import verify_checkpoint

find_latest_checkpoint = pytest.importorskip(
    'mmseg.utils').find_latest_checkpoint

pytestmark = pytest.mark.mmseg
RUNS = ('mmcv_alone', 'amp_runner', 'killed_amp', 'killed_stock')

OURS = dict(type='DurableCheckpointHook')


@pytest.fixture
def copied(runs, tmp_path):
    """Copies the work dir of a run, links as links."""

    def copy(name):
        target = tmp_path / name
        shutil.copytree(runs[name].work_dir, target, symlinks=True)
        return target

    return copy


def assert_finds(work_dir, name):
    found = find_latest_checkpoint(str(work_dir))
    assert os.path.basename(os.path.realpath(found)) == name
    verify_checkpoint(found)


def test_finds_the_newest_by_latest(runs):
    assert_finds(runs['amp_runner'].work_dir, 'iter_12.pth')


@pytest.mark.parametrize('name', ['killed_amp', 'killed_stock'])
def test_finds_a_good_one_after_a_kill(runs, name):
    """The link moves after the commit: it may be one checkpoint behind."""
    work_dir = runs[name].work_dir
    found = find_latest_checkpoint(str(work_dir))
    assert found == str(work_dir / 'latest.pth')
    verify_checkpoint(found)


def test_meets_no_unfinished_file(copied):
    work_dir = copied('killed_stock')
    unfinished = [path for path in os.listdir(work_dir) if '.tmp-' in path]
    assert len(unfinished) == 1
    os.unlink(work_dir / 'latest.pth')
    remove_best(work_dir)
    assert_finds(work_dir, f'iter_{on_disk(work_dir)[-1]}.pth')


@pytest.mark.parametrize('name', ['amp_runner', 'killed_amp', 'killed_stock'])
def test_does_not_fail_without_latest(copied, name):
    """By name it may take the best for the newest, but never fails."""
    work_dir = copied(name)
    os.unlink(work_dir / 'latest.pth')
    verify_checkpoint(find_latest_checkpoint(str(work_dir)))
    remove_best(work_dir)
    assert_finds(work_dir, f'iter_{on_disk(work_dir)[-1]}.pth')


def test_meets_no_file_that_was_set_aside(tmp_path):
    """A second run in the same place keeps the files of the first."""
    for max_iters in (8, 6):
        toy.train(
            tmp_path,
            runner=dict(type='IterBasedRunnerAmp', max_iters=max_iters),
            checkpoint_config=dict(interval=2),
            hooks=[OURS])
    set_aside = [name for name in os.listdir(tmp_path) if '.pth.' in name]
    assert len(set_aside) == 3
    assert_finds(tmp_path, 'iter_6.pth')
    os.unlink(tmp_path / 'latest.pth')
    verify_checkpoint(find_latest_checkpoint(str(tmp_path)))


def test_without_the_link(tmp_path):
    toy.train(
        tmp_path,
        checkpoint_config=dict(interval=2, create_symlink=False),
        hooks=[OURS])
    assert not os.path.lexists(tmp_path / 'latest.pth')
    assert_finds(tmp_path, 'iter_8.pth')


def test_before_the_first_save(tmp_path):
    toy.train(
        tmp_path,
        checkpoint_config=dict(interval=-1, save_last=False),
        hooks=[OURS])
    with pytest.warns(UserWarning, match='no checkpoints'):
        assert find_latest_checkpoint(str(tmp_path)) is None


@pytest.mark.parametrize('keep', [1, 2])
def test_the_link_never_dangles(tmp_path, monkeypatch, keep):
    """Looked at after every change of a name in the directory."""
    link = tmp_path / 'latest.pth'
    seen = []

    def looked_after(change):

        def changed(*args, **kwargs):
            change(*args, **kwargs)
            if os.path.lexists(link):
                seen.append(os.path.exists(link))

        return changed

    for name in ('replace', 'unlink'):
        monkeypatch.setattr(os, name, looked_after(getattr(os, name)))
    toy.train(
        tmp_path,
        checkpoint_config=dict(interval=1, max_keep_ckpts=keep),
        hooks=[OURS])
    assert len(seen) > 3 * 7 and all(seen)
    assert toy.names(tmp_path) == sorted(
        ['latest.pth', *[f'iter_{8 - back}.pth' for back in range(keep)]])


def test_alone_a_dangling_link_stops_every_later_start(copied):
    work_dir = copied('mmcv_alone')
    remove_best(work_dir)
    for step in (10, 12):  # what is left has names as long as 'latest.pth'
        os.unlink(work_dir / f'iter_{step}.pth')
    with pytest.raises(ValueError, match='latest'):
        find_latest_checkpoint(str(work_dir))


def remove_best(work_dir):
    for path in work_dir.glob('best_*.pth'):
        path.unlink()
