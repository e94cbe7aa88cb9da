"""Links to checkpoints: what they lead to is resumed from; they stay."""
import os
import re
import shutil

import pytest
import torch
from checkpoint_files import moved
from foreign_files import stock_file
from lock_holder import another
from mmcv.runner import Hook
from test_latest import AMP, STOCK, ToolSaves, run, tool_run
from toy import make_loader, make_runner, names, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.errors import (AccessError, IntegrityError, LockedError,
                                    StorageError)
from mmcv_ckpt_hooks.storage.local import LocalBackend

BOTH = pytest.mark.parametrize('name', [AMP, STOCK])


@pytest.fixture
def work(tmp_path):
    """A run of four steps with a save at every second one."""
    run(tmp_path / 'work', 4)
    return tmp_path / 'work'


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def asides(work, name):
    return sorted(work.glob(f'{name}.*'))


# -- resumed from ------------------------------------------------------------


@BOTH
@pytest.mark.parametrize('is_known', [True, False])
def test_a_run_goes_on_from_what_was_moved(work, name, is_known):
    disk = moved(work, 'iter_2.pth', 'iter_4.pth')
    if not is_known:
        (work / 'checkpoints.json').unlink()
    before = content(disk)
    assert find_resumable(str(work)) == str(work / 'iter_4.pth')
    runner = run(work, 8, name, resume='auto', max_keep_ckpts=1)
    assert (runner.restored.name, runner.restored.iter) == ('iter_4.pth', 4)
    # links are never deleted, and do not count
    assert names(work) == [
        'iter_2.pth', 'iter_4.pth', 'iter_8.pth', 'latest.pth'
    ]
    assert content(disk) == before
    assert os.readlink(work / 'latest.pth') == 'iter_8.pth'


def test_only_the_newest_was_moved(work):
    moved(work, 'iter_4.pth')
    assert run(work, 6, resume='auto').restored.iter == 4
    # as if it had never been moved: the same run, which owns the rest
    run(work, 8, resume='auto', max_keep_ckpts=1)
    assert names(work) == ['iter_4.pth', 'iter_8.pth', 'latest.pth']


def test_what_was_moved_is_not_adopted(work):
    moved(work, 'iter_2.pth', 'iter_4.pth')
    run(work, 9, interval=3, adopt_existing=True, max_keep_ckpts=1)
    assert names(work) == [
        'iter_2.pth', 'iter_4.pth', 'iter_9.pth', 'latest.pth'
    ]


def test_a_save_that_fails_leaves_the_link_of_its_name(work, monkeypatch):
    disk = moved(work, 'iter_2.pth', 'iter_4.pth')
    before, put = content(disk), LocalBackend.put

    def refuse(self, name, write):
        if name == 'iter_4.pth':
            raise StorageError('no')
        return put(self, name, write)

    monkeypatch.setattr(LocalBackend, 'put', refuse)
    hook = dict(
        type='DurableCheckpointHook',
        interval=2,
        max_keep_ckpts=1,
        on_error='warn')
    runner = make_runner(
        work, runner=dict(type=AMP, max_iters=8), hooks=[hook])
    runner.resume(str(disk / 'iter_2.pth'))
    runner.run([make_loader()], [('train', 1)])
    assert names(work) == [
        'iter_2.pth', 'iter_4.pth', 'iter_8.pth', 'latest.pth'
    ]
    assert os.readlink(work / 'iter_4.pth') == str(disk / 'iter_4.pth')
    assert content(disk) == before


def test_a_link_of_another_name_is_not_where_the_run_went_on(work, tmp_path):
    """Weights of somebody else's long training, linked into the work dir."""
    run(tmp_path / 'other', 20)
    (work / 'pretrained.pth').symlink_to(tmp_path / 'other' / 'iter_20.pth')
    assert run(work, 6, resume='auto').restored.name == 'iter_4.pth'


# -- set aside ---------------------------------------------------------------


def to_nothing(tmp_path):
    return tmp_path / 'gone.pth'


def to_itself(tmp_path):
    return 'iter_4.pth'


def to_a_directory(tmp_path):
    return tmp_path


def to_a_checkpoint(tmp_path):
    return tmp_path / 'disk' / 'iter_4.pth'


@pytest.mark.parametrize(
    'lead', [to_nothing, to_itself, to_a_directory, to_a_checkpoint])
def test_a_run_that_starts_anew_replaces_no_link(work, tmp_path, caplog, lead):
    disk = moved(work, 'iter_4.pth')
    before = content(disk)
    target = lead(tmp_path)
    (work / 'iter_4.pth').unlink()
    (work / 'iter_4.pth').symlink_to(target)
    (work / 'checkpoints.json').unlink()
    run(work, 4)
    kept, = asides(work, 'iter_4.pth')
    assert os.readlink(kept) == str(target)
    assert f'iter_4.pth is a link to {target}: it is kept as {kept.name}' in \
        caplog.text
    assert content(disk) == before
    verify_checkpoint(str(work / 'iter_4.pth'))
    assert not (work / 'iter_4.pth').is_symlink()


def test_a_best_one_replaces_no_link(work, tmp_path):
    (work / 'best_mIoU_iter_6.pth').symlink_to(tmp_path / 'gone.pth')
    train(
        work,
        runner=dict(type=AMP, max_iters=6),
        hooks=[dict(type='DurableCheckpointHook', interval=2, resume='auto')],
        evaluation=dict(
            scores=[.5], interval=2, by_epoch=False, save_best='mIoU'))
    kept, = asides(work, 'best_mIoU_iter_6.pth')
    assert os.readlink(kept) == str(tmp_path / 'gone.pth')
    verify_checkpoint(str(work / 'best_mIoU_iter_6.pth'))


def test_a_file_beside_the_link_that_leads_to_it(work):
    """Both are there afterwards, and the content of both."""
    (work / 'iter_4.pth').rename(work / 'real.pth')
    (work / 'iter_4.pth').symlink_to('real.pth')
    before = (work / 'real.pth').read_bytes()
    assert run(
        work, 6, resume='auto', max_keep_ckpts=1).restored.name == 'iter_4.pth'
    assert os.readlink(work / 'iter_4.pth') == 'real.pth'
    run(work, 4, max_keep_ckpts=1)
    assert (work / 'real.pth').read_bytes() == before
    assert [one.read_bytes() for one in asides(work, 'iter_4.pth')] == [before]


def test_a_tools_own_save_replaces_no_link(work, tmp_path):
    (work / 'own_1.pth').symlink_to(tmp_path / 'gone.pth')
    tool_run(work, 2, hooks=[ToolSaves(work)])
    kept, = asides(work, 'own_1.pth')
    assert os.readlink(kept) == str(tmp_path / 'gone.pth')
    verify_checkpoint(str(work / 'own_1.pth'))


# -- links that lead nowhere -------------------------------------------------


def test_a_disk_that_is_away_is_no_empty_directory(work):
    disk = moved(work, 'iter_2.pth', 'iter_4.pth')
    disk.rename(work.parent / 'away')
    with pytest.raises(
            IntegrityError, match='is a link to .*iter_4.pth') as caught:
        run(work, 8, resume='auto')
    told = str(caught.value)
    # what to do first is not to throw away what the run has trained
    assert re.search(r'mounted\?\)\. Mount the disk that the links lead to',
                     told)
    assert told.index('Mount the disk') < told.index('if it is lost for good')
    assert names(work) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']
    (work.parent / 'away').rename(disk)
    assert run(work, 8, resume='auto').restored.iter == 4


def test_damaged_ones_beside_links_to_a_disk_that_is_away(work):
    disk = moved(work, 'iter_2.pth')
    os.truncate(work / 'iter_4.pth', 100)
    with pytest.raises(IntegrityError, match='Move them away to start anew'):
        os.truncate(disk / 'iter_2.pth', 100)
        run(work, 8, resume='auto')
    disk.rename(work.parent / 'away')
    with pytest.raises(IntegrityError, match='Mount the disk that the links'):
        run(work, 8, resume='auto')


def test_an_older_one_is_taken_when_the_disk_is_away(work, caplog):
    disk = moved(work, 'iter_4.pth')
    disk.rename(work.parent / 'away')
    assert run(work, 8, resume='auto').restored.iter == 2
    assert 'Not resuming from iter_4.pth' in caplog.text


@pytest.mark.parametrize('lead', [to_nothing, to_itself, to_a_directory])
def test_a_link_to_nothing_is_told(tmp_path, caplog, lead):
    work, target = tmp_path / 'work', lead(tmp_path)
    work.mkdir()
    (work / 'iter_4.pth').symlink_to(target)
    assert find_resumable(str(work)) is None
    run(work, 2, resume='auto')
    assert f'iter_4.pth is a link to {target}, which is no file' in caplog.text
    assert names(work) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']


def test_a_link_that_may_not_be_followed_is_an_error(work, monkeypatch):
    moved(work, 'iter_4.pth')
    stat = os.stat

    def refuse(path, *args, **kwargs):
        if str(path) == str(work / 'iter_4.pth'):
            raise PermissionError(13, 'Permission denied')
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, 'stat', refuse)
    with pytest.raises(AccessError, match='cannot follow the link'):
        run(work, 8, resume='auto')


# -- latest.pth --------------------------------------------------------------


@pytest.fixture
def linked(work, tmp_path):
    """A directory with nothing but a ``latest.pth`` to another run's."""
    place = tmp_path / 'linked'
    place.mkdir()
    (place / 'latest.pth').symlink_to(work / 'iter_4.pth')
    return place


@BOTH
def test_a_run_goes_on_from_where_latest_leads(linked, work, caplog, name):
    before, target = content(work), work / 'iter_4.pth'
    assert find_resumable(str(linked)) == str(linked / 'latest.pth')
    assert run(
        linked, 8, name, resume='auto', max_keep_ckpts=1).restored.iter == 4
    kept, = asides(linked, 'latest.pth')
    assert os.readlink(kept) == str(target)
    assert f'latest.pth is a link to {target}: it is kept as {kept.name}' in \
        caplog.text
    assert os.readlink(linked / 'latest.pth') == 'iter_8.pth'
    assert content(work) == before


@pytest.mark.parametrize('by_tool', [True, False])
def test_the_name_behind_latest_tells_the_step_of_a_foreign_file(
        tmp_path, by_tool):
    """Not its meta: BEiT's has the counters of the file before."""
    path = stock_file(tmp_path / 'first', 4)
    saved = torch.load(path, weights_only=False)
    saved['meta'].update(iter=1)
    torch.save(saved, path)
    work = tmp_path / 'work'
    work.mkdir()
    # a chain: stock's own latest.pth is a link, too
    (work / 'latest.pth').symlink_to(tmp_path / 'first' / 'latest.pth')
    resume = str(work / 'latest.pth') if by_tool else 'auto'
    assert run(work, 6, resume=resume).restored.iter == 4


def test_a_latest_that_is_no_own_link_is_kept_beside_what_is_newer(
        linked, work):
    for name in ('iter_2.pth', 'iter_4.pth'):
        shutil.copy(work / name, linked)
    assert run(linked, 6, resume='auto').restored.name == 'iter_4.pth'
    kept, = asides(linked, 'latest.pth')
    assert os.readlink(kept) == str(work / 'iter_4.pth')


def test_a_tool_that_saves_keeps_where_latest_leads(linked, work):
    tool_run(linked, 2)
    kept, = asides(linked, 'latest.pth')
    assert os.readlink(kept) == str(work / 'iter_4.pth')
    assert os.readlink(linked / 'latest.pth') == 'own_1.pth'


@pytest.mark.parametrize('is_absolute', [True, False])
def test_a_latest_to_a_link_beside_it_is_moved_on(work, is_absolute):
    """Stock mmcv's own link, after the files were moved."""
    moved(work, 'iter_4.pth')
    (work / 'latest.pth').unlink()
    (work /
     'latest.pth').symlink_to(work /
                              'iter_4.pth' if is_absolute else 'iter_4.pth')
    assert run(work, 6, resume='auto').restored.name == 'iter_4.pth'
    assert not asides(work, 'latest.pth')
    assert os.readlink(work / 'latest.pth') == 'iter_6.pth'


# -- a directory that was copied with hard links (cp -al) --------------------


@pytest.fixture
def copied(work, tmp_path):
    shutil.copytree(work, tmp_path / 'copied', True, copy_function=os.link)
    return tmp_path / 'copied'


def test_the_copy_goes_on_and_leaves_the_original(work, copied):
    before = content(work)
    assert run(copied, 8, resume='auto', max_keep_ckpts=1).restored.iter == 4
    assert content(work) == before
    assert 'iter_8.pth' in (copied / 'checkpoints.log.jsonl').read_text()
    assert not [name for name in os.listdir(copied) if '.tmp-' in name]
    # and the other way round
    before = content(copied)
    run(work, 6, resume='auto')
    assert content(copied) == before


def test_a_live_run_keeps_its_lock_where_the_directory_was_copied(
        work, tmp_path):
    with another(work, 'acquire') as process:
        shutil.copytree(work, tmp_path / 'copied', True, copy_function=os.link)
        for place in (work, tmp_path / 'copied'):
            with pytest.raises(LockedError, match=str(process.pid)):
                run(place, 8, resume='auto')
        assert process.ask('check') is None


class Moves(Hook):
    """Somebody makes room while the run goes on, and leaves a link."""

    def __init__(self, work):
        self.work = work

    def before_train_iter(self, runner):
        if runner.iter == 4:
            for hook in runner.hooks:
                if hasattr(hook, '_saver'):
                    hook._saver.wait()
            moved(self.work, 'iter_2.pth')


def test_what_is_moved_while_a_run_goes_on_keeps_its_link(tmp_path):
    work = tmp_path / 'work'
    train(
        work,
        runner=dict(type=AMP, max_iters=8),
        hooks=[
            dict(type='DurableCheckpointHook', interval=2, max_keep_ckpts=2),
            Moves(work)
        ])
    assert (work / 'iter_2.pth').is_symlink()
    assert verify_checkpoint(str(work / 'iter_2.pth')).records
    assert not (work / 'iter_4.pth').exists()
