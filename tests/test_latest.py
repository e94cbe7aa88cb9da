"""A ``latest.pth`` that is no link of ours: resumed from, never destroyed."""
import os
import shutil

import pytest
import torch
from foreign_files import stock_file
from mmcv.runner import Hook
from toy import make_runner, names, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.errors import IntegrityError

OURS = dict(type='DurableCheckpointHook', interval=2)
AMP, STOCK = 'IterBasedRunnerAmp', 'IterBasedRunner'


def run(work_dir, max_iters, name=AMP, **options):
    return train(
        work_dir,
        runner=dict(type=name, max_iters=max_iters),
        hooks=[dict(OURS, **options)])


def asides(directory):
    return sorted(directory.glob('latest.pth.*'))


@pytest.fixture
def copied(tmp_path):
    """A directory to which nothing but ``latest.pth`` was copied."""
    run(tmp_path / 'first', 4)
    work = tmp_path / 'work'
    work.mkdir()
    shutil.copy(tmp_path / 'first' / 'latest.pth', work / 'latest.pth')
    assert not (work / 'latest.pth').is_symlink()
    return work


@pytest.mark.parametrize('name', [AMP, STOCK])
def test_a_run_goes_on_from_it_and_keeps_it(copied, caplog, name):
    before = (copied / 'latest.pth').read_bytes()
    assert find_resumable(str(copied)) == str(copied / 'latest.pth')
    runner = run(copied, 8, name, resume='auto', max_keep_ckpts=1)
    assert (runner.restored.name, runner.restored.iter) == ('latest.pth', 4)
    assert names(copied) == ['iter_8.pth', 'latest.pth']
    assert os.readlink(copied / 'latest.pth') == 'iter_8.pth'
    kept, = asides(copied)
    assert kept.read_bytes() == before
    assert f'that one is kept as {kept.name}' in caplog.text
    # the same run as that of the copy, and not another one's file
    assert 'another run' not in caplog.text


def test_nothing_left_to_train_leaves_it_as_it_is(copied):
    before = (copied / 'latest.pth').read_bytes()
    assert run(copied, 4, resume='auto').restored.iter == 4
    assert names(copied) == ['latest.pth']
    assert (copied / 'latest.pth').read_bytes() == before
    verify_checkpoint(str(copied / 'latest.pth'))


def test_a_run_that_starts_anew_keeps_it(copied):
    before = (copied / 'latest.pth').read_bytes()
    run(copied, 4, adopt_existing=True, max_keep_ckpts=1)
    assert [one.read_bytes() for one in asides(copied)] == [before]
    assert os.readlink(copied / 'latest.pth') == 'iter_4.pth'


def test_it_goes_before_what_is_older(copied, tmp_path):
    shutil.copy(tmp_path / 'first' / 'iter_2.pth', copied)
    assert run(copied, 6, resume='auto').restored.name == 'latest.pth'


def test_it_comes_after_what_is_newer(copied, tmp_path, caplog):
    """And is set aside before training: the link is moved at the start."""
    run(tmp_path / 'first', 6, resume='auto')
    shutil.copy(tmp_path / 'first' / 'iter_6.pth', copied)
    assert run(copied, 6, resume='auto').restored.name == 'iter_6.pth'
    assert os.readlink(copied / 'latest.pth') == 'iter_6.pth'
    assert torch.load(asides(copied)[0])['meta']['iter'] == 4


def test_a_copied_directory_goes_on_from_the_file_with_a_name(
        tmp_path, caplog):
    run(tmp_path / 'first', 4)
    shutil.copytree(tmp_path / 'first', tmp_path / 'work')
    assert not (tmp_path / 'work' / 'latest.pth').is_symlink()
    caplog.clear()
    runner = run(tmp_path / 'work', 6, resume='auto')
    assert runner.restored.name == 'iter_4.pth'
    assert not asides(tmp_path / 'work')
    assert 'latest.pth' not in caplog.text


def test_where_only_hard_links_are_allowed_nothing_is_set_aside(
        tmp_path, monkeypatch):

    def refuse(*args, **kwargs):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'symlink', refuse)
    run(tmp_path, 4)
    assert run(tmp_path, 8, resume='auto').restored.name == 'iter_4.pth'
    assert not asides(tmp_path)
    assert os.path.samefile(tmp_path / 'latest.pth', tmp_path / 'iter_8.pth')


@pytest.mark.parametrize('zipped', [True, False])
def test_one_of_stock_mmcv(tmp_path, zipped):
    """Its name tells no step; on Windows stock copies the file."""
    path = stock_file(tmp_path / 'first', 4)
    work = tmp_path / 'work'
    work.mkdir()
    torch.save(
        torch.load(path, weights_only=False),
        work / 'latest.pth',
        _use_new_zipfile_serialization=zipped)
    before = (work / 'latest.pth').read_bytes()
    runner = run(work, 6, resume='auto', trust_checkpoint=not zipped)
    assert (runner.restored.name, runner.restored.iter) == ('latest.pth', 4)
    assert [one.read_bytes() for one in asides(work)] == [before]


def test_a_copy_without_checksums_is_known_by_its_bytes(tmp_path):
    path = stock_file(tmp_path, 4)
    torch.save(
        torch.load(path, weights_only=False),
        path,
        _use_new_zipfile_serialization=False)
    (tmp_path / 'latest.pth').unlink()
    shutil.copy(path, tmp_path / 'latest.pth')
    run(tmp_path, 6, resume='auto', trust_checkpoint=True)
    assert not asides(tmp_path)


def test_a_damaged_one_alone_is_no_empty_directory(copied):
    with open(copied / 'latest.pth', 'r+b') as file:
        file.truncate(1000)
    with pytest.raises(IntegrityError, match='Move them away'):
        run(copied, 8, resume='auto')
    assert names(copied) == ['latest.pth']


def test_the_tool_resumes_from_it(copied):
    runner = make_runner(copied, runner=dict(type=AMP, max_iters=8))
    runner.resume(str(copied / 'latest.pth'))
    assert runner.iter == 4


# -- create_symlink=False ----------------------------------------------------


def test_without_the_link_a_file_of_its_own_stays(copied):
    before = (copied / 'latest.pth').read_bytes()
    run(copied, 8, create_symlink=False, max_keep_ckpts=1)
    assert (copied / 'latest.pth').read_bytes() == before
    assert not asides(copied)


def test_without_the_link_a_copy_stays(tmp_path):
    run(tmp_path / 'first', 4)
    shutil.copytree(tmp_path / 'first', tmp_path / 'work')
    run(tmp_path / 'work',
        8,
        resume='auto',
        create_symlink=False,
        max_keep_ckpts=1)
    assert torch.load(tmp_path / 'work' / 'latest.pth')['meta']['iter'] == 4


@pytest.mark.parametrize('make', [os.symlink, os.link])
def test_without_the_link_that_of_an_earlier_start_goes(tmp_path, make):
    run(tmp_path, 4)
    (tmp_path / 'latest.pth').unlink()
    make('iter_4.pth' if make is os.symlink else tmp_path / 'iter_4.pth',
         tmp_path / 'latest.pth')
    run(tmp_path, 8, resume='auto', create_symlink=False)
    assert not os.path.lexists(tmp_path / 'latest.pth')
    assert 'iter_4.pth' in names(tmp_path)


def test_without_the_link_one_that_leads_elsewhere_stays(tmp_path):
    run(tmp_path / 'first', 4)
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'latest.pth').symlink_to(tmp_path / 'first' / 'iter_4.pth')
    run(work, 4, create_symlink=False)
    assert (work / 'latest.pth').is_symlink()


# -- a tool's own save --------------------------------------------------------


class ToolSaves(Hook):
    """Calls the runner's ``save_checkpoint`` after the first step."""

    def __init__(self, out_dir, template='own_{}.pth', after=(1, )):
        self.out_dir, self.template, self.after = out_dir, template, after

    def after_train_iter(self, runner):
        if runner.iter + 1 in self.after:
            runner.save_checkpoint(str(self.out_dir), self.template)


def tool_run(work, max_iters, **kwargs):
    return train(
        work,
        runner=dict(type=AMP, max_iters=max_iters),
        **{
            'hooks': [ToolSaves(work)],
            **kwargs
        })


def test_a_tools_own_save_keeps_it_too(copied, caplog):
    before = (copied / 'latest.pth').read_bytes()
    tool_run(copied, 2)
    assert os.readlink(copied / 'latest.pth') == 'own_1.pth'
    kept, = asides(copied)
    assert kept.read_bytes() == before
    assert f'that one is kept as {kept.name}' in caplog.text


def test_between_two_saves_of_the_hook_it_is_kept_once(copied):
    """The hook that knows it must not set the tool's own link aside."""
    before = (copied / 'latest.pth').read_bytes()
    tool_run(copied, 4, hooks=[ToolSaves(copied), dict(OURS)])
    assert os.readlink(copied / 'latest.pth') == 'iter_4.pth'
    assert [one.read_bytes() for one in asides(copied)] == [before]


def test_a_copy_of_a_file_there_is_not_kept(tmp_path):
    run(tmp_path, 2)
    (tmp_path / 'latest.pth').unlink()
    shutil.copy(tmp_path / 'iter_2.pth', tmp_path / 'latest.pth')
    tool_run(tmp_path, 2)
    assert not asides(tmp_path)
    assert os.readlink(tmp_path / 'latest.pth') == 'own_1.pth'


def test_a_tools_save_into_a_new_directory(tmp_path):
    place = tmp_path / 'new'
    tool_run(tmp_path, 2, hooks=[ToolSaves(place)])
    assert os.readlink(place / 'latest.pth') == 'own_1.pth'


def test_a_hard_link_to_a_name_that_is_saved_again_is_not_kept(
        tmp_path, monkeypatch):

    def refuse(*args, **kwargs):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'symlink', refuse)
    tool_run(
        tmp_path, 3, hooks=[ToolSaves(tmp_path, 'own.pth', after=(1, 2, 3))])
    assert not asides(tmp_path)
    assert os.path.samefile(tmp_path / 'latest.pth', tmp_path / 'own.pth')
