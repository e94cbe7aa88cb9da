"""Which checkpoint a run goes on from, and what it says about the others."""
import errno
import json
import os
import re
import shutil

import pytest
import torch
from checkpoint_files import Payload, rewritten, torch_written
from foreign_files import stock_file
from mmcv.runner import Hook, IterBasedRunner, TextLoggerHook
from toy import make_loader, make_runner, names, train

from mmcv_ckpt_hooks import find_resumable, save_checkpoint, verify_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import (AccessError, CorruptError, IntegrityError,
                                    MissingCheckpointError, TruncatedError,
                                    UnsafeCheckpointError)

OURS = dict(type='DurableCheckpointHook')
ITER = ['IterBasedRunner', 'IterBasedRunnerAmp']


def run(directory, steps, name='IterBasedRunnerAmp', **kwargs):
    hook = dict(dict(interval=4, resume='auto', **OURS), **kwargs)
    return train(
        directory, runner=dict(type=name, max_iters=steps), hooks=[hook])


def built(directory, **kwargs):
    return make_runner(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=99),
        **kwargs)


class OwnNumbers(Hook):
    """Of a repo: it calls its settings as hooks of mmcv call theirs."""

    def __init__(self):
        self.settings = dict(
            start_iter=1000,
            base_lr=0.5,
            base_momentum=0.25,
            cumulative_iters=3,
            initialized=False)
        vars(self).update(self.settings)


def resumed_iter(caplog):
    """Finished iterations that the log of the last start tells."""
    lines = [
        one.getMessage() for one in caplog.records
        if one.getMessage().startswith('Resumed from')
    ]
    return int(re.search(r'(\d+) iterations', lines[-1])[1]) if lines else None


@pytest.mark.parametrize('name', ITER)
@pytest.mark.parametrize('steps', [2, 4])
def test_a_run_that_has_nothing_left_to_train_says_so(tmp_path, caplog, name,
                                                      steps):
    """Else it looks as if it had trained; its directory may be another's."""
    run(tmp_path, 4)
    caplog.clear()
    run(tmp_path, steps, name)
    assert caplog.text.count(
        f'Nothing is left to train: max_iters is {steps}, '
        f'and {tmp_path}/iter_4.pth has 4') == 1
    caplog.clear()
    run(tmp_path, 8, name)
    assert resumed_iter(caplog) == 4
    assert 'Nothing is left' not in caplog.text


@pytest.mark.parametrize('name', ['EpochBasedRunner', 'EpochBasedRunnerAmp'])
@pytest.mark.parametrize('by_tool', [False, True])
def test_nor_does_one_of_epochs(tmp_path, caplog, name, by_tool):
    for number in range(2):
        runner = make_runner(
            tmp_path,
            runner=dict(type=name, max_epochs=1),
            hooks=[dict(interval=1, resume='auto', **OURS)])
        if by_tool and number:
            runner.resume(str(tmp_path / 'epoch_1.pth'))
        runner.run([make_loader()], [('train', 1)])
    # once, by epochs: a stock runner has made iterations of them
    said = [one for one in caplog.messages if 'Nothing is left' in one]
    assert len(said) <= 1
    if name == 'EpochBasedRunnerAmp' or not by_tool:
        assert 'Nothing is left to train: max_epochs is 1, and' in said[0]


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


def empty(path):
    os.truncate(path, 0)


def flip(path):
    """One bit inside the weights; torch.load says nothing."""
    with open(path, 'r+b') as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))


def garbage(path):
    path.write_bytes(b'\0' * os.path.getsize(path))


def html(path):
    path.write_text('<html>404</html>')


DAMAGES = [truncate, empty, flip, garbage, html]

# -- the newest -------------------------------------------------------------


@pytest.mark.parametrize('name', ITER)
def test_a_fresh_start_says_so(tmp_path, caplog, name):
    runner = run(tmp_path / 'new', 4, name)
    assert runner.iter == 4
    assert resumed_iter(caplog) is None
    assert 'there is no checkpoint' in caplog.text
    assert 'starts anew' in caplog.text


@pytest.mark.parametrize('name', ITER)
def test_the_newest_is_taken_and_told(tmp_path, caplog, name):
    run(tmp_path, 8, name)
    caplog.clear()
    runner = run(tmp_path, 12, name)
    assert resumed_iter(caplog) == 8
    assert str(tmp_path / 'iter_8.pth') in caplog.text
    assert runner.restored.name == 'iter_8.pth'


@pytest.mark.parametrize('name', ITER)
def test_a_finished_run_trains_no_further(tmp_path, name):
    run(tmp_path, 8, name)
    before = (tmp_path / 'iter_8.pth').read_bytes()
    runner = run(tmp_path, 8, name)
    assert runner.iter == 8
    assert (tmp_path / 'iter_8.pth').read_bytes() == before


def test_by_iterations_not_by_name_or_time(tmp_path, caplog):
    """Trap 12: mmseg's helper takes the longest name, or best_*."""
    run(tmp_path, 12)
    os.utime(tmp_path / 'iter_4.pth')
    caplog.clear()
    run(tmp_path, 16)
    assert resumed_iter(caplog) == 12


@pytest.mark.parametrize('name', ITER)
@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_newest_one_falls_back_with_a_reason(tmp_path, caplog, name,
                                                       damage):
    run(tmp_path, 12, name)
    damage(tmp_path / 'iter_12.pth')
    caplog.clear()
    runner = run(tmp_path, 12, name)
    assert resumed_iter(caplog) == 8
    assert 'Not resuming from iter_12.pth' in caplog.text
    assert runner.iter == 12
    # and the damaged one is replaced
    verify_checkpoint(str(tmp_path / 'iter_12.pth'))


def test_two_damaged_ones_fall_back_twice(tmp_path, caplog):
    run(tmp_path, 12)
    truncate(tmp_path / 'iter_12.pth')
    flip(tmp_path / 'iter_8.pth')
    caplog.clear()
    run(tmp_path, 12)
    assert resumed_iter(caplog) == 4
    assert caplog.text.count('Not resuming from') == 2


@pytest.mark.parametrize('name', ITER)
def test_all_damaged_stops_instead_of_starting_over(tmp_path, name):
    run(tmp_path, 8, name)
    truncate(tmp_path / 'iter_4.pth')
    flip(tmp_path / 'iter_8.pth')
    with pytest.raises(IntegrityError) as caught:
        run(tmp_path, 12, name)
    for text in ('iter_4.pth', 'iter_8.pth', 'start anew'):
        assert text in str(caught.value)
    assert names(tmp_path)[:2] == ['iter_4.pth', 'iter_8.pth']


def test_a_replaced_file_of_the_same_size_is_noticed(tmp_path, caplog):
    """Undamaged, but not the checkpoint that was committed there."""
    run(tmp_path, 8)
    catalog = json.loads((tmp_path / 'checkpoints.json').read_text())
    del catalog['crc32']
    catalog['checkpoints'][-1]['digest'] = 'sha256-zipdir:' + 64 * '0'
    (tmp_path / 'checkpoints.json').write_text(json.dumps(catalog))
    caplog.clear()
    run(tmp_path, 12)
    assert resumed_iter(caplog) == 4
    assert 'Not resuming from iter_8.pth' in caplog.text


def test_leftovers_of_a_kill_are_no_checkpoints(tmp_path, caplog):
    run(tmp_path, 8)
    content = (tmp_path / 'iter_8.pth').read_bytes()
    (tmp_path / '.iter_12.pth.tmp-1-deadbeef').write_bytes(content[:100])
    caplog.clear()
    run(tmp_path, 8)
    assert resumed_iter(caplog) == 8


def test_a_kill_between_file_and_catalog_loses_nothing(tmp_path, caplog):
    run(tmp_path, 4)
    catalog = (tmp_path / 'checkpoints.json').read_bytes()
    run(tmp_path, 8)
    (tmp_path / 'checkpoints.json').write_bytes(catalog)
    os.unlink(tmp_path / 'latest.pth')
    os.symlink('iter_4.pth', tmp_path / 'latest.pth')
    caplog.clear()
    run(tmp_path, 12)
    assert resumed_iter(caplog) == 8


def test_a_dangling_latest_pointer_is_no_obstacle(tmp_path, caplog):
    """Trap 11: mmseg's helper raises ``int('latest')``."""
    run(tmp_path, 8)
    os.unlink(tmp_path / 'iter_8.pth')
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'iter_4.pth')
    caplog.clear()
    run(tmp_path, 8)
    assert resumed_iter(caplog) == 4
    assert os.readlink(tmp_path / 'latest.pth') == 'iter_8.pth'


def test_names_that_are_no_steps_are_no_obstacle(tmp_path):
    """Trap 12: published and exported files in the work dir."""
    run(tmp_path, 8)
    for name in ('final.pth', 'epoch_12-1a2b3c4d.pth', 'best.pth'):
        torch.save(dict(state_dict={}), tmp_path / name)
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'iter_8.pth')


@pytest.mark.parametrize('how', ['moved', 'copied'])
def test_a_moved_or_copied_directory_goes_on(tmp_path, caplog, how):
    first, second = tmp_path / 'first', tmp_path / 'second'
    run(first, 8, max_keep_ckpts=2)
    if how == 'moved':
        shutil.move(str(first), str(second))
    else:
        shutil.copytree(first, second, symlinks=True)
    caplog.clear()
    runner = run(second, 16, max_keep_ckpts=2)
    assert runner.restored.directory == str(second)
    assert names(second) == ['iter_12.pth', 'iter_16.pth', 'latest.pth']
    if how == 'copied':
        assert names(first) == ['iter_4.pth', 'iter_8.pth', 'latest.pth']
    else:
        assert not first.exists()


def test_a_single_file_that_was_copied_goes_on(tmp_path, caplog):
    run(tmp_path / 'first', 8)
    (tmp_path / 'second').mkdir()
    shutil.copy(tmp_path / 'first' / 'iter_8.pth', tmp_path / 'second')
    caplog.clear()
    run(tmp_path / 'second', 12)
    assert resumed_iter(caplog) == 8


def test_auto_looks_where_the_hook_saves(tmp_path, caplog):
    out = dict(out_dir=str(tmp_path / 'out'))
    run(tmp_path / 'work', 8, **out)
    caplog.clear()
    run(tmp_path / 'work', 12, **out)
    assert resumed_iter(caplog) == 8


# -- an explicit path -------------------------------------------------------


@pytest.mark.parametrize('damage, error', [(truncate, TruncatedError),
                                           (flip, CorruptError),
                                           (empty, TruncatedError),
                                           (html, CorruptError)])
def test_a_damaged_explicit_file_is_an_error_that_names_a_good_one(
        tmp_path, damage, error):
    """Never a silent substitute."""
    run(tmp_path, 12)
    damage(tmp_path / 'iter_8.pth')
    with pytest.raises(error) as caught:
        built(tmp_path / 'other').resume(str(tmp_path / 'iter_8.pth'))
    assert 'iter_8.pth' in str(caught.value)
    assert 'iter_12.pth' in str(caught.value)


def test_no_good_one_is_named_where_there_is_none(tmp_path):
    run(tmp_path, 4)
    truncate(tmp_path / 'iter_4.pth')
    with pytest.raises(IntegrityError) as caught:
        built(tmp_path / 'other').resume(str(tmp_path / 'iter_4.pth'))
    assert 'newest good' not in str(caught.value)


def test_the_tools_latest_pointer_falls_back(tmp_path, caplog):
    """``--resume-from work_dir/latest.pth`` means the newest."""
    run(tmp_path, 12)
    truncate(tmp_path / 'iter_12.pth')
    caplog.clear()
    runner = built(tmp_path / 'other')
    runner.resume(str(tmp_path / 'latest.pth'))
    assert runner.iter == 8
    assert 'Not resuming from iter_12.pth' in caplog.text


def test_the_tools_latest_pointer_of_nothing_is_missing(tmp_path):
    with pytest.raises(MissingCheckpointError, match='latest.pth'):
        built(tmp_path).resume(str(tmp_path / 'latest.pth'))


@pytest.mark.parametrize('name', ITER)
def test_a_path_is_only_the_start_and_the_own_newest_goes_before_it(
        tmp_path, caplog, name):
    """The same command again after a kill must not start over."""
    run(tmp_path / 'old', 4, name)
    path = str(tmp_path / 'old' / 'iter_4.pth')
    run(tmp_path / 'new', 8, name, resume=path)
    assert resumed_iter(caplog) == 4
    caplog.clear()
    run(tmp_path / 'new', 12, name, resume=path)
    assert resumed_iter(caplog) == 8
    # and says that the path was left aside
    assert repr(path) in caplog.text


@pytest.mark.parametrize('name', ITER)
def test_a_path_that_does_not_exist_is_an_error(tmp_path, name):
    with pytest.raises(MissingCheckpointError, match='none.pth'):
        run(tmp_path, 4, name, resume=str(tmp_path / 'none.pth'))


def test_auto_goes_before_an_older_file_of_the_tool(tmp_path, caplog):
    """``resume_from`` in the config, ``resume='auto'`` in the hook."""
    run(tmp_path, 8)
    for first, expected in ((4, 8), (8, 8)):
        runner = built(tmp_path, hooks=[dict(resume='auto', **OURS)])
        runner.resume(str(tmp_path / f'iter_{first}.pth'))
        caplog.clear()
        for hook in runner._own_hooks():
            hook.prepare(runner)
        assert runner.iter == expected


def test_a_newer_file_of_the_tool_goes_before_auto(tmp_path, caplog):
    """Given on purpose: from where another run had come further."""
    run(tmp_path / 'other', 12)
    run(tmp_path / 'own', 4)
    runner = built(tmp_path / 'own', hooks=[dict(resume='auto', **OURS)])
    runner.resume(str(tmp_path / 'other' / 'iter_12.pth'))
    for hook in runner._own_hooks():
        hook.prepare(runner)
    assert runner.iter == 12


def test_without_resume_nothing_is_resumed(tmp_path, caplog):
    run(tmp_path, 8)
    caplog.clear()
    runner = run(tmp_path, 4, resume=None)
    assert resumed_iter(caplog) is None
    assert runner.iter == 4
    assert 'another run' in caplog.text


# -- no is not the same as none ---------------------------------------------


def refuse(monkeypatch, function, directory):
    """Let a function of ``os`` fail for a directory, as for non-root."""
    original = getattr(os, function)

    def call(path, *args, **kwargs):
        if str(path).rstrip('/') == str(directory):
            raise PermissionError(errno.EACCES, 'Permission denied', str(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, function, call)


@pytest.mark.parametrize('name', ITER)
def test_a_directory_that_may_not_be_read_is_not_empty(tmp_path, monkeypatch,
                                                       name):
    run(tmp_path, 4, name)
    refuse(monkeypatch, 'scandir', tmp_path)
    with pytest.raises(AccessError, match='Permission denied'):
        run(tmp_path, 8, name)
    monkeypatch.undo()
    assert names(tmp_path) == ['iter_4.pth', 'latest.pth']


@pytest.mark.parametrize('functions', [['scandir'], ['scandir', 'stat']])
def test_find_resumable_does_not_take_a_refusal_for_none(
        tmp_path, monkeypatch, functions):
    """``os.path.isdir`` says False for what may not be looked at."""
    work = tmp_path / 'work'
    run(work, 4)
    for function in functions:
        refuse(monkeypatch, function, work)
    with pytest.raises(AccessError):
        find_resumable(str(work))


@pytest.mark.parametrize('name', ITER)
def test_a_checkpoint_that_may_not_be_read_is_not_passed_over(
        tmp_path, monkeypatch, name):
    """Else the run goes back without anybody knowing why."""
    run(tmp_path, 8, name)
    import builtins
    original = builtins.open

    def refusing(path, *args, **kwargs):
        if str(path).endswith('iter_8.pth'):
            raise PermissionError(errno.EACCES, 'Permission denied')
        return original(path, *args, **kwargs)

    monkeypatch.setattr(builtins, 'open', refusing)
    with pytest.raises(AccessError, match='iter_8.pth'):
        run(tmp_path, 12, name)


@pytest.mark.parametrize('name', ITER)
def test_a_disk_error_is_not_passed_over_either(tmp_path, monkeypatch, name):
    run(tmp_path, 8, name)
    import builtins
    original = builtins.open

    def failing(path, *args, **kwargs):
        if str(path).endswith('iter_8.pth'):
            raise OSError(errno.EIO, 'Input/output error')
        return original(path, *args, **kwargs)

    monkeypatch.setattr(builtins, 'open', failing)
    with pytest.raises(Exception, match='Input/output error'):
        run(tmp_path, 12, name)


@pytest.mark.parametrize('name', ITER)
@pytest.mark.parametrize('is_known', [True, False])
def test_a_bad_sector_in_the_zip_directory_is_passed_over(
        tmp_path, monkeypatch, caplog, name, is_known):
    from mmcv_ckpt_hooks import verification
    run(tmp_path, 8, name)
    if not is_known:
        (tmp_path / 'checkpoints.json').unlink()
    check = verification.check_directory

    def failing(file, size, path):
        if path.endswith('iter_8.pth'):
            raise OSError(errno.EIO, 'Input/output error')
        check(file, size, path)

    monkeypatch.setattr(verification, 'check_directory', failing)
    assert run(tmp_path, 10, name).restored.iter == 4
    # of what is damaged nobody knows whose it is, if the catalog does not
    assert not is_known or \
        'iter_8.pth: its zip directory cannot be read' in caplog.text


# -- reading executes nothing -----------------------------------------------


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, 'w'))


@pytest.mark.parametrize('name', ITER)
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, name):
    """INVARIANT 12."""
    mark = tmp_path / 'executed'
    path = stock_file(tmp_path / 'work', 4, IterBasedRunner)
    checkpoint = torch.load(path)
    checkpoint['meta']['bomb'] = Bomb(mark)
    torch.save(checkpoint, path)
    with pytest.raises(UnsafeCheckpointError, match='trust_checkpoint'):
        run(tmp_path / 'work', 8, name)
    with pytest.raises(UnsafeCheckpointError, match='trust_checkpoint'):
        built(tmp_path).resume(path)
    assert not mark.exists()


def test_trust_checkpoint_loads_it(tmp_path, caplog):
    mark = tmp_path / 'executed'
    path = stock_file(tmp_path / 'work', 4, IterBasedRunner)
    checkpoint = torch.load(path)
    checkpoint['meta']['bomb'] = Bomb(mark)
    torch.save(checkpoint, path)
    run(tmp_path / 'work', 8, trust_checkpoint=True)
    assert mark.exists()
    assert resumed_iter(caplog) == 4


# -- the functions ----------------------------------------------------------


def test_find_resumable_of_nothing_is_none(tmp_path):
    assert find_resumable(str(tmp_path / 'none')) is None
    assert find_resumable(str(tmp_path)) is None


def test_find_resumable_passes_damaged_ones_over(tmp_path):
    run(tmp_path, 8)
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'iter_8.pth')
    flip(tmp_path / 'iter_8.pth')
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'iter_4.pth')
    flip(tmp_path / 'iter_4.pth')
    with pytest.raises(IntegrityError):
        find_resumable(str(tmp_path))


def test_find_resumable_returns_what_a_resume_takes(tmp_path, caplog):
    run(tmp_path / 'other', 8)
    tree = torch.load(tmp_path / 'other' / 'iter_8.pth', weights_only=True)
    content = torch_written(tree)
    (tmp_path / 'iter_8.pth').write_bytes(content)
    # one without counters, and one that claims more than it has
    torch.save(tree['state_dict'], tmp_path / 'iter_12.pth')
    (tmp_path / 'iter_16.pth').write_bytes(
        rewritten(
            content, lambda name, data: data[4:]
            if name.endswith('/data/0') else data))
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'iter_8.pth')
    for name in ('iter_12.pth', 'iter_16.pth'):
        assert f'Not resuming from {name}' in caplog.text
    assert run(tmp_path, 10).restored.name == 'iter_8.pth'


def test_find_resumable_of_a_file_that_names_code_says_so(tmp_path):
    run(tmp_path, 4)
    tree = torch.load(tmp_path / 'iter_4.pth', weights_only=True)
    tree['meta']['own'] = Payload(os.mkdir, 'nowhere')
    torch.save(tree, tmp_path / 'iter_8.pth')
    with pytest.raises(UnsafeCheckpointError, match='trust_checkpoint'):
        find_resumable(str(tmp_path))


def test_find_resumable_changes_nothing(tmp_path):
    run(tmp_path, 8)
    os.unlink(tmp_path / 'iter_8.pth')
    before = {
        path: path.read_bytes()
        for path in tmp_path.iterdir() if path.is_file()
    }
    find_resumable(str(tmp_path))
    assert before == {
        path: path.read_bytes()
        for path in tmp_path.iterdir() if path.is_file()
    }


def test_verify_checkpoint_reports_what_it_checked(tmp_path):
    run(tmp_path, 4)
    report = verify_checkpoint(str(tmp_path / 'iter_4.pth'))
    assert report.info['iter'] == 4
    assert report.bytes == os.path.getsize(tmp_path / 'iter_4.pth')
    assert verify_checkpoint(str(tmp_path /
                                 'latest.pth')).digest == report.digest


@pytest.mark.parametrize('damage', DAMAGES)
def test_verify_checkpoint_names_the_defect(tmp_path, damage):
    run(tmp_path, 4)
    damage(tmp_path / 'iter_4.pth')
    with pytest.raises(IntegrityError, match='iter_4.pth'):
        verify_checkpoint(str(tmp_path / 'iter_4.pth'))


@pytest.mark.parametrize('name', ITER)
def test_settings_of_other_hooks_stay_at_a_resume(tmp_path, name):
    """``start_iter`` of mmgen's ExponentialMovingAverageHook is one."""
    run(tmp_path, 4, name)
    own = OwnNumbers()
    runner = train(
        tmp_path,
        runner=dict(type=name, max_iters=8),
        log_interval=2,
        hooks=[own, dict(resume='auto', **OURS)])
    assert runner.iter == 8
    assert {key: getattr(own, key) for key in own.settings} == own.settings
    text = [hook for hook in runner.hooks if isinstance(hook, TextLoggerHook)]
    assert text[0].start_iter == 4


def test_weights_without_a_run_are_refused_in_words(tmp_path):
    (tmp_path / 'work').mkdir()
    torch.save(dict(state_dict={}), tmp_path / 'work' / 'iter_4.pth')
    with pytest.raises(IntegrityError, match='load_from'):
        run(tmp_path / 'work', 8)


# -- a tool that has resumed already ------------------------------------------


def resumed_by_the_tool(work_dir, path, steps):
    runner = make_runner(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        hooks=[dict(OURS, interval=4, resume='auto')])
    runner.resume(str(path))
    runner.run([make_loader()], [('train', 1)])
    return runner


def test_the_own_newest_goes_before_an_older_one_of_the_tool(tmp_path, caplog):
    """A requeued job has the same command line as its first start."""
    run(tmp_path, 8)
    caplog.clear()
    runner = resumed_by_the_tool(tmp_path, tmp_path / 'iter_4.pth', 12)
    assert runner.restored.name == 'iter_8.pth'
    assert 'The tool resumed from iter_4.pth' in caplog.text


def test_what_the_tool_resumed_from_elsewhere_does_not_start_anew(
        tmp_path, caplog):
    run(tmp_path / 'first', 8)
    caplog.clear()
    runner = resumed_by_the_tool(tmp_path / 'second',
                                 tmp_path / 'first' / 'iter_4.pth', 12)
    assert runner.restored.iter == 4
    assert 'starts anew' not in caplog.text


def test_paths_may_be_objects_everywhere(tmp_path):
    """As those of pathlib, which configs in Python hold."""
    run(tmp_path / 'work', 4, out_dir=tmp_path / 'out')
    place = tmp_path / 'out' / 'work'
    path = place / 'iter_4.pth'
    report = verify_checkpoint(path)
    assert report == verify_checkpoint(str(path))
    assert find_resumable(place) == str(path)
    runner = built(tmp_path / 'a')
    runner.resume(path)
    assert runner.restored.name == 'iter_4.pth'
    runner = built(tmp_path / 'b')
    runner.load_checkpoint(path)
    assert runner.loaded_from == str(path)
    runner.save_checkpoint(tmp_path / 'own')
    assert verify_checkpoint(tmp_path / 'own' / 'iter_0.pth').records
    save_checkpoint(runner.model, tmp_path / 'own' / 'model.pth')
    for number, name in enumerate(ITER):
        resumed = run(tmp_path / str(number), 6, name=name, resume=path)
        assert resumed.iter == 6
        assert 'iter_4.pth' not in names(tmp_path / str(number))


def test_a_stock_hook_with_a_path_object_is_taken_over(tmp_path):
    train(
        tmp_path / 'work',
        runner=dict(type='IterBasedRunner', max_iters=4),
        checkpoint_config=dict(interval=4, out_dir=tmp_path / 'out'),
        hooks=[OURS])
    assert verify_checkpoint(tmp_path / 'out' / 'work' / 'iter_4.pth').records


def newer(directory):
    (directory / 'checkpoints.json').write_text('{"version": 99}')


def no_file(directory):
    (directory / 'checkpoints.json').unlink()
    (directory / 'checkpoints.json').mkdir()


def damaged(directory):
    (directory / 'checkpoints.json').write_text('{')


def dangling(directory):
    (directory / 'checkpoints.json').unlink()
    (directory / 'checkpoints.json').symlink_to('nowhere')


@pytest.mark.parametrize('change', [newer, no_file, damaged, dangling])
def test_a_file_is_checked_whatever_its_catalog_is(tmp_path, caplog, capsys,
                                                   change):
    run(tmp_path, 4)
    change(tmp_path)
    path = tmp_path / 'iter_4.pth'
    assert verify_checkpoint(path).info['iter'] == 4
    told = 'is checked without the catalog' in caplog.text
    assert told == (change in (newer, no_file))
    assert main(['verify', str(path)]) == 0
    flip(path)
    with pytest.raises(CorruptError):
        verify_checkpoint(path)
    assert main(['verify', str(path)]) == 1


def test_a_name_tells_no_step_that_no_run_comes_to(tmp_path):
    """The card of the file, or its meta, does."""
    name = 'iter_99999999999999999999.pth'
    path = stock_file(tmp_path, 3)
    os.rename(path, tmp_path / name)
    runner = built(tmp_path)
    runner.resume(tmp_path / name)
    assert runner.iter == 3
