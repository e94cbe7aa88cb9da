"""``mmcv-ckpt prune``: deletes what a run of these policies would delete."""
import json
import os
import shutil
import struct
import zipfile
from dataclasses import replace

import pytest
import torch
from checkpoint_files import moved
from folders import NEW_TORCH
from toy import make_loader, make_runner, names, train

from mmcv_ckpt_hooks import find_resumable, scanning
from mmcv_ckpt_hooks.catalog import CATALOG_NAME, Catalog
from mmcv_ckpt_hooks.catalog_home import read_place
from mmcv_ckpt_hooks.cli import choice, main, proving
from mmcv_ckpt_hooks.cli import prune as cli_prune
from mmcv_ckpt_hooks.errors import AccessError, LockedError, StorageError
from mmcv_ckpt_hooks.history import History
from mmcv_ckpt_hooks.lease import lock_name
from mmcv_ckpt_hooks.run_lock import RunLock
from mmcv_ckpt_hooks.storage.local import LocalBackend

ALL = ['best_mIoU_iter_4.pth'] + [f'iter_{step}.pth' for step in (2, 4, 6, 8)]
SCORES = dict(scores=[.5, .7, .6, .65], interval=2, by_epoch=False)


def prune(capsys, directory, *arguments):
    """Run the command; exit code, its JSON object, what it warned of."""
    capsys.readouterr()
    code = main(['prune', str(directory), *map(str, arguments), '--json'])
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content['exit_code'] == code and content['ok'] is (code == 0)
    assert bool(content['error']) == bool(content['problem']) == bool(code)
    return code, content, err


def going(content):
    return [one['name'] for one in content['checkpoints'] if one['goes']]


def why(content):
    return {
        one['name']: ', '.join(one['why'])
        for one in content['checkpoints']
    }


def state_of(directory):
    """Names, sizes and times of all files; to lock is to sign."""
    return {
        path.name: (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in directory.iterdir() if path.name != lock_name(CATALOG_NAME)
    }


# -- without --yes ---------------------------------------------------------


def test_nothing_is_changed_until_it_is_said(run_dir, capsys):
    before = state_of(run_dir)
    assert main(['prune', str(run_dir), '--last', '2']) == 0
    out, err = capsys.readouterr()
    assert state_of(run_dir) == before and err == ''
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == sorted(
        ALL, key=lambda name: (int(name[-5]), name.startswith('best')))
    assert lines[1].split()[-1] == 'delete'
    assert lines[3].endswith('keep    the best so far')
    assert lines[5].endswith('keep    of the last 2, the latest, for a resume')
    # of iter_4 there is a second name: nothing but iter_2 takes space
    size = os.path.getsize(str(run_dir / 'iter_2.pth'))
    assert lines[-1] == (
        f'2 of 5 checkpoints would be deleted, {size / 1000:.1f} kB freed. '
        'Nothing has been changed, and the structure alone was looked at: '
        '--yes reads every byte of what stays, and deletes')
    _, content, _ = prune(capsys, run_dir, '--last', 2)
    assert content['bytes'] == size and content['done'] is False
    assert going(content) == ['iter_2.pth', 'iter_4.pth']


@pytest.mark.parametrize('arguments, said', [
    ([], 'what to keep must be said: --last, --best, --every or --bytes'),
    (['--last', '0'], '--last=0: it must be at least 1, or -1 for all'),
    (['--every', '-2'], '--every=-2: it must be at least 1'),
    (['--last', '2', '--rule', 'less'], "--rule='less': it says which are"),
    (['--bytes', '20 apples'], "--bytes='20 apples': expected an int"),
    (['--last', '-1', '--every', '2'], 'it contradicts --last=-1'),
    (['--best', '1', '--monitor', 'mIou'], "did you mean 'mIoU'?"),
])
def test_what_cannot_be_meant_is_refused(run_dir, capsys, arguments, said):
    before = state_of(run_dir)
    code, content, err = prune(capsys, run_dir, '--yes', *arguments)
    assert code == 2 and content['error'] == 'ConfigError'
    assert said in content['problem'] and said in err
    assert 'keep.' not in content['problem']
    assert state_of(run_dir) == before


def test_a_checkpoint_is_no_directory_of_them(run_dir, capsys):
    code, content, _ = prune(capsys, run_dir / 'iter_2.pth', '--last', 1)
    assert code == 2
    assert 'iter_2.pth is a checkpoint, expected a directory' in \
        content['problem']


def test_an_empty_directory_has_nothing_to_delete(tmp_path, capsys):
    code, content, _ = prune(capsys, tmp_path, '--last', 1, '--yes')
    assert code == 0 and content['checkpoints'] == []
    assert main(['prune', str(tmp_path), '--last', '1']) == 0
    assert capsys.readouterr().out == f'No checkpoints in {tmp_path}\n'


def test_best_is_a_number(run_dir, capsys):
    with pytest.raises(SystemExit):
        main(['prune', str(run_dir), '--best', 'mIoU'])
    assert "'mIoU' is no number: --best says how many, --monitor by which" in \
        capsys.readouterr().err


def test_a_budget_that_is_too_small_is_told_in_its_words(run_dir, capsys):
    code, _, err = prune(capsys, run_dir, '--last', 2, '--bytes', '1kB')
    assert code == 0 and 'more than --bytes' in err and 'keep.' not in err


def test_a_name_that_frees_nothing_is_told(run_dir, capsys):
    for name in ('iter_2.pth', 'iter_6.pth'):
        (run_dir / name).unlink()
    assert main(['prune', str(run_dir), '--bytes', '5']) == 0
    out, err = capsys.readouterr()
    assert err.endswith('all of it stays, and the budget keeps nothing more\n')
    row, = [row for row in out.splitlines() if row.startswith('iter_4.pth')]
    assert row.endswith(
        'delete  a second name of best_mIoU_iter_4.pth: frees nothing')
    assert '1 of 3 checkpoints would be deleted, 0 B freed' in out


# -- the policies ----------------------------------------------------------


@pytest.mark.parametrize(
    'keep', [
        dict(last=1),
        dict(last=2, every=4),
        dict(best=1),
        dict(best=2),
        dict(best=2, rule='less'),
        dict(best=1, last=2),
        dict(every=4),
        dict(last=-1),
        dict(bytes=1),
        dict(bytes='100GB'),
        dict(bytes=30000, every=4),
    ],
    ids=str)
def test_what_stays_is_what_a_run_keeps(tmp_path, capsys, keep):
    whole, kept = tmp_path / 'whole', tmp_path / 'kept'
    for directory, options in ((whole, {}), (kept, dict(keep=keep))):
        train(
            directory,
            loader=make_loader(32),
            evaluation=SCORES,
            hooks=[dict(type='DurableCheckpointHook', interval=2, **options)])
    arguments = [f'--{name}={value}' for name, value in keep.items()]
    if 'best' in keep:
        arguments.append('--monitor=mIoU')
    code, content, _ = prune(capsys, whole, *arguments, '--yes')
    assert code == 0 and content['done'] is True
    assert names(whole) == names(kept)
    there = {one['name'] for one in content['checkpoints'] if not one['goes']}
    assert there | {'latest.pth'} == set(names(whole))
    # a run goes on as from its own
    assert find_resumable(whole) == str(whole / 'iter_8.pth')
    catalog = json.loads((whole / 'checkpoints.json').read_text())
    assert {one['name'] for one in catalog['checkpoints']} == there


def test_the_metric_is_that_by_which_the_run_kept_its_best(run_dir, capsys):
    code, content, _ = prune(capsys, run_dir, '--best', 2)
    assert code == 0
    assert why(content)['iter_8.pth'].startswith(
        'the last, of the 2 best mIoU')
    # iter_4 is the best: best_mIoU_iter_4 is a second name of it
    assert why(content)['iter_4.pth'] == 'of the 2 best mIoU'
    assert going(content) == ['iter_2.pth', 'iter_6.pth']


def test_without_scores_there_is_no_best(tmp_path, capsys):
    train(tmp_path, hooks=[dict(type='DurableCheckpointHook', interval=2)])
    code, content, _ = prune(capsys, tmp_path, '--best', 2, '--yes')
    assert code == 2
    assert 'no checkpoint of the run in' in content['problem']
    assert len(names(tmp_path)) == 5


def test_where_the_only_score_is_of_a_damaged_one_nothing_goes(
        tmp_path, capsys):
    train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        hooks=[dict(type='DurableCheckpointHook', interval=2)],
        evaluation=dict(
            scores=[.5], interval=4, by_epoch=False, save_best='mIoU'))
    before = names(tmp_path)
    path = tmp_path / 'iter_4.pth'
    flip(path, place_in(path, of_pickle=False))
    code, content, _ = prune(capsys, tmp_path, '--best', 1, '--yes')
    assert code == 2 and names(tmp_path) == before
    assert content['problem'].startswith(
        'Without what is damaged (best_mIoU_iter_4.pth, iter_4.pth) nothing '
        'can be chosen: ')


def test_scores_that_cannot_be_read_keep_all(run_dir, capsys, monkeypatch):
    (run_dir / 'checkpoints.json').unlink()

    def read(self, *_):
        raise PermissionError('no history for you')

    monkeypatch.setattr(History, 'read', read)
    there = names(run_dir)
    code, content, _ = prune(capsys, run_dir, '--best', 1, '--monitor=mIoU',
                             '--yes')
    assert code == 2
    assert '--best: the scores cannot be read (no history' in \
        content['problem']
    assert names(run_dir) == there


@pytest.mark.parametrize('template, arguments, stays', [
    ('epoch_{}.pth', [], ['epoch_3.pth']),
    ('epoch_{}.pth', ['--by=iter'
                      ], ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']),
    ('step_{}.pth', ['--by=epoch'], ['step_3.pth']),
    ('step_{}.pth', [], None),
])
def test_the_names_tell_what_every_counts(tmp_path, capsys, template,
                                          arguments, stays):
    train(
        tmp_path,
        # three iterations an epoch
        loader=make_loader(12),
        runner=dict(type='EpochBasedRunnerAmp', max_epochs=3),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=1,
                filename_tmpl=template)
        ])
    code, content, _ = prune(capsys, tmp_path, '--every=3', '--yes',
                             *arguments)
    if stays is None:
        assert code == 2 and 'give --by epoch or --by iter' in \
            content['problem']
    else:
        assert code == 0
        assert set(names(tmp_path)) == {*stays, 'latest.pth'}


# -- what stays whatever is asked for --------------------------------------


def test_what_is_damaged_neither_counts_nor_goes(run_dir, capsys):
    os.truncate(str(run_dir / 'iter_8.pth'), 100)
    code, content, _ = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 0
    assert why(content)['iter_8.pth'] == 'damaged: it neither counts nor goes'
    assert why(content)['iter_6.pth'] == 'the last, for a resume'
    assert going(content) == ['iter_2.pth', 'iter_4.pth']


def test_nothing_goes_for_one_that_nobody_can_load(run_dir, capsys):
    path = run_dir / 'iter_8.pth'
    content = bytearray(path.read_bytes())
    # in the values of a tensor: the zip directory is as it was
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    code, content, err = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 1 and content['error'] == 'CorruptError'
    assert 'Nothing is deleted: a resume would need one of the others' in err
    assert set(ALL) <= set(names(run_dir))


def test_what_is_damaged_does_not_count_wherever_it_stands(run_dir, capsys):
    path = run_dir / 'iter_6.pth'
    path.write_bytes(bytes(path.stat().st_size))
    code, content, _ = prune(capsys, run_dir, '--last', 2, '--yes')
    assert code == 0 and going(content) == ['iter_2.pth']
    assert why(content)['iter_6.pth'] == 'damaged: it neither counts nor goes'
    assert why(content)['iter_4.pth'] == 'of the last 2'


def flip(path, at):
    """Turn a bit, as a disk does: nobody has written."""
    before = path.stat()
    with open(str(path), 'r+b') as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(str(path), ns=(before.st_atime_ns, before.st_mtime_ns))


def place_in(path, of_pickle):
    """Return where the bytes of the pickle, or of a tensor, lie."""
    with zipfile.ZipFile(str(path)) as archive:
        record = next(
            one for one in archive.infolist() if one.file_size
            and one.filename.endswith('/data.pkl' if of_pickle else '/data/0'))
        header = record.header_offset
        with open(str(path), 'rb') as file:
            file.seek(header + 26)
            lengths = struct.unpack('<HH', file.read(4))
    return header + 30 + sum(lengths) + record.file_size // 2


@pytest.mark.parametrize('of_pickle', [False, True])
def test_what_is_kept_is_read_before_the_others_go(run_dir, capsys, of_pickle):
    path = run_dir / 'iter_6.pth'
    # noted as good, and its time is as it was: that is no proof
    assert main(['verify', str(run_dir), '--all']) == 0
    flip(path, place_in(path, of_pickle))
    _, content, err = prune(capsys, run_dir, '--last', 2)
    assert going(content) == ['iter_2.pth', 'iter_4.pth'] and err == ''
    code, content, err = prune(capsys, run_dir, '--last', 2, '--yes')
    assert code == 0 and going(content) == ['iter_2.pth']
    assert why(content)['iter_6.pth'] == 'damaged: it neither counts nor goes'
    assert why(content)['iter_4.pth'] == 'of the last 2'
    assert 'iter_6.pth' in err and 'It neither counts nor goes' in err
    assert (run_dir / 'iter_4.pth').exists() and path.exists()


def test_the_choice_is_made_until_all_that_is_kept_is_good(run_dir, capsys):
    for name in ('iter_6.pth', 'iter_4.pth'):
        path = run_dir / name
        flip(path, place_in(path, of_pickle=False))
    code, content, _ = prune(capsys, run_dir, '--last', 2, '--yes')
    assert code == 0 and going(content) == []
    assert why(content)['iter_2.pth'] == 'of the last 2'
    # the best is the same file
    assert why(content)['best_mIoU_iter_4.pth'] == \
        why(content)['iter_4.pth'] == 'damaged: it neither counts nor goes'


def test_one_that_cannot_be_read_keeps_another(run_dir, capsys, monkeypatch):
    opened = LocalBackend.open

    def deny(self, name):
        if name == 'iter_6.pth' and reads:
            raise AccessError('cannot read iter_6.pth')
        return opened(self, name)

    reads = []

    def taken(listing, given, places):
        reads.append(given)
        return proving.proven(listing, given, places)

    monkeypatch.setattr(LocalBackend, 'open', deny)
    monkeypatch.setattr(cli_prune, 'proven', taken)
    code, content, err = prune(capsys, run_dir, '--last', 2, '--yes')
    assert code == 0 and going(content) == ['iter_2.pth']
    assert why(content)['iter_6.pth'] == \
        'not checked: it neither counts nor goes'
    assert 'cannot read iter_6.pth' in err


def test_a_best_one_does_not_go_for_a_damaged_better_one(tmp_path, capsys):
    train(
        tmp_path,
        loader=make_loader(32),
        evaluation=dict(
            scores=[.5, .7, .6, .65],
            interval=2,
            by_epoch=False,
            save_best='mIoU'),
        hooks=[dict(type='DurableCheckpointHook', interval=2)])
    better, worse = (
        tmp_path / f'best_mIoU_iter_{step}.pth' for step in (4, 2))
    # it could not be deleted when the better one came
    shutil.copy(str(tmp_path / 'iter_2.pth'), str(worse))
    catalog = read_place(LocalBackend(str(tmp_path)), print)
    catalog.commit(
        replace(
            catalog.find('iter_2.pth'),
            name=worse.name,
            trigger='best',
            regular=False))
    os.unlink(str(better))
    shutil.copy(str(tmp_path / 'iter_4.pth'), str(better))
    _, content, _ = prune(capsys, tmp_path, '--last', 1)
    assert worse.name in going(content)
    flip(better, place_in(better, of_pickle=False))
    code, content, _ = prune(capsys, tmp_path, '--last', 1, '--yes')
    assert code == 0 and worse.exists()
    assert why(content)[worse.name] == 'no better one is known'
    assert 'iter_2.pth' in going(content)


def test_where_nothing_goes_nothing_is_read(run_dir, capsys, monkeypatch):
    monkeypatch.delattr(proving, 'check')
    code, content, _ = prune(capsys, run_dir, '--last', 4, '--yes')
    assert code == 0 and going(content) == []


@pytest.fixture
def gone_back(run_dir):
    """A run that went back to iter_4, wrote iter_6 anew and gave up iter_8."""
    runner = make_runner(
        run_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        hooks=[dict(type='DurableCheckpointHook', interval=2)])
    runner.resume(str(run_dir / 'iter_4.pth'))
    runner.run([make_loader(32)], [('train', 1)])
    return run_dir


def test_what_was_given_up_and_is_damaged_stays(gone_back, capsys):
    os.truncate(str(gone_back / 'iter_8.pth'), 100)
    code, content, _ = prune(capsys, gone_back, '--last', 1, '--superseded',
                             '--yes')
    assert code == 0 and (gone_back / 'iter_8.pth').exists()
    assert why(content)['iter_8.pth'] == 'damaged: it neither counts nor goes'


def test_where_nothing_can_be_continued_from_nothing_goes(gone_back, capsys):
    for name in names(gone_back):
        if name not in ('latest.pth', 'iter_8.pth'):
            os.truncate(str(gone_back / name), 100)
    (gone_back / 'latest.pth').unlink()
    there = names(gone_back)
    code, content, _ = prune(capsys, gone_back, '--last', 1, '--superseded',
                             '--yes')
    assert code == 2 and names(gone_back) == there
    assert 'can be continued from: nothing is deleted' in content['problem']


def test_what_other_runs_wrote_stays_unless_adopted(run_dir, tmp_path, capsys):
    other = tmp_path / 'other'
    train(
        other,
        runner=dict(type='IterBasedRunnerAmp', max_iters=7),
        hooks=[dict(type='DurableCheckpointHook', interval=1)])
    for step in (1, 3):
        shutil.copy(str(other / f'iter_{step}.pth'), str(run_dir))
    code, content, _ = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 0
    assert why(content)['iter_3.pth'] == 'of another run (--adopt-existing)'
    assert {'iter_1.pth', 'iter_3.pth'} <= set(names(run_dir))
    code, content, _ = prune(capsys, run_dir, '--last', 1, '--yes',
                             '--adopt-existing')
    assert code == 0 and going(content) == ['iter_1.pth', 'iter_3.pth']
    assert names(run_dir) == [
        'best_mIoU_iter_4.pth', 'iter_8.pth', 'latest.pth'
    ]


def test_a_directory_of_stock_mmcv_is_pruned_when_adopted(tmp_path, capsys):
    train(
        tmp_path,
        runner=dict(type='IterBasedRunner', max_iters=8),
        checkpoint_config=dict(interval=2))
    code, content, _ = prune(capsys, tmp_path, '--last', 2, '--yes')
    assert code == 0 and going(content) == []
    assert why(content)['iter_2.pth'] == 'of another program, or ' \
        'copied or renamed (--adopt-existing)'
    code, content, _ = prune(capsys, tmp_path, '--last', 2, '--yes',
                             '--adopt-existing')
    assert code == 0
    assert names(tmp_path) == ['iter_6.pth', 'iter_8.pth', 'latest.pth']


def stock_epochs(directory, epochs, **kwargs):
    """Train on stock mmcv; its names count epochs."""
    runner = make_runner(
        directory,
        runner=dict(type='EpochBasedRunner', max_epochs=epochs),
        checkpoint_config=dict(interval=1, create_symlink=False))
    if kwargs:
        runner.resume(kwargs['resume'])
    runner.run([make_loader(4)], [('train', 1)])


def test_stock_epochs_are_in_the_order_of_their_iterations(tmp_path, capsys):
    stock_epochs(tmp_path, 11)
    code, content, _ = prune(capsys, tmp_path, '--last', 2, '--yes',
                             '--adopt-existing')
    assert code == 0
    assert names(tmp_path) == ['epoch_10.pth', 'epoch_11.pth']


def test_what_stock_mmcv_wrote_later_is_newer(tmp_path, capsys):
    train(
        tmp_path,
        loader=make_loader(4),
        runner=dict(type='EpochBasedRunnerAmp', max_epochs=2),
        hooks=[
            dict(
                type='DurableCheckpointHook', interval=1, create_symlink=False)
        ])
    stock_epochs(tmp_path, 4, resume=str(tmp_path / 'epoch_2.pth'))
    code, content, _ = prune(capsys, tmp_path, '--last', 1, '--yes',
                             '--adopt-existing')
    assert code == 0
    assert names(tmp_path) == ['epoch_4.pth']


def test_what_was_given_up_goes_if_that_is_said(gone_back, capsys):
    code, content, _ = prune(capsys, gone_back, '--last', 1)
    assert why(content)['iter_8.pth'] == 'superseded (--superseded)'
    assert going(content) == ['iter_2.pth', 'iter_4.pth']
    code, content, _ = prune(capsys, gone_back, '--last', 1, '--superseded',
                             '--yes')
    assert code == 0
    assert names(gone_back) == [
        'best_mIoU_iter_4.pth', 'iter_6.pth', 'latest.pth'
    ]


def test_what_latest_leads_to_stays(run_dir, capsys):
    (run_dir / 'latest.pth').unlink()
    (run_dir / 'latest.pth').symlink_to('iter_2.pth')
    code, content, _ = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 0
    assert why(content)['iter_2.pth'] == 'the latest'
    assert (run_dir / 'iter_2.pth').exists()


def test_a_link_that_somebody_made_stays(run_dir, tmp_path, capsys):
    moved(run_dir, 'iter_2.pth')
    code, content, _ = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 0
    assert why(content)['iter_2.pth'] == 'a link that somebody made'
    assert (run_dir / 'iter_2.pth').is_symlink()


def test_what_somebody_links_to_stays(run_dir, capsys):
    (run_dir / 'good.pth').symlink_to('iter_2.pth')
    code, content, _ = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 0
    assert why(content)['iter_2.pth'] == 'good.pth leads to it'
    assert (run_dir / 'good.pth').exists()


def test_a_lost_catalog_costs_no_best_checkpoint(run_dir, capsys):
    (run_dir / 'checkpoints.json').unlink()
    (run_dir / 'checkpoints.log.jsonl').unlink()
    code, content, _ = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 0
    assert names(run_dir) == [
        'best_mIoU_iter_4.pth', 'iter_8.pth', 'latest.pth'
    ]


# -- what is done ----------------------------------------------------------


def test_a_run_that_is_writing_there_is_left_alone(run_dir, live_run, capsys):
    before = names(run_dir)
    with live_run(run_dir):
        code, content, _ = prune(capsys, run_dir, '--last', 1)
        assert code == 0 and going(content)
        code, content, _ = prune(capsys, run_dir, '--last', 1, '--yes')
    assert (code, content['error']) == (2, 'LockedError')
    assert names(run_dir) == before


def test_the_lock_is_left_to_the_next_run(run_dir, capsys):
    assert prune(capsys, run_dir, '--last', 1, '--yes')[0] == 0
    train(
        run_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=10),
        hooks=[dict(type='DurableCheckpointHook', interval=2, resume='auto')])
    assert names(run_dir) == [
        'best_mIoU_iter_4.pth', 'iter_10.pth', 'iter_8.pth', 'latest.pth'
    ]


def test_the_history_tells_what_went(run_dir, capsys):
    assert prune(capsys, run_dir, '--last', 2, '--yes')[0] == 0
    event = History(str(run_dir)).read()[-1]
    assert event['event'] == 'prune'
    assert event['deleted'] == ['iter_2.pth', 'iter_4.pth']
    assert event['time'].endswith('+00:00')


def test_one_that_cannot_be_deleted_is_told_and_the_others_go(
        run_dir, capsys, monkeypatch):

    def remove(files, name, remove=cli_prune.remove):
        if name == 'iter_2.pth':
            raise StorageError('the disk is read-only')
        remove(files, name)

    monkeypatch.setattr(cli_prune, 'remove', remove)
    code, content, err = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 2 and content['error'] == 'StorageError'
    assert 'could not delete iter_2.pth: the disk is read-only' in err
    assert names(run_dir) == [
        'best_mIoU_iter_4.pth', 'iter_2.pth', 'iter_8.pth', 'latest.pth'
    ]
    # what is there is in the catalog, with its score, and goes the next time
    catalog = json.loads((run_dir / CATALOG_NAME).read_text())
    assert 'iter_2.pth' in {one['name'] for one in catalog['checkpoints']}
    monkeypatch.undo()
    code, content, _ = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 0 and going(content) == ['iter_2.pth']


def test_what_is_freed_is_what_the_disk_gets_back(run_dir, capsys):
    shutil.copy(str(run_dir / 'iter_4.pth'), str(run_dir / 'iter_3.pth'))
    sizes = sum(
        (run_dir / f'iter_{step}.pth').stat().st_size for step in (2, 3, 6))
    code, content, _ = prune(capsys, run_dir, '--last', 1, '--adopt-existing')
    # iter_4 has another name, and a copy, which is a file of its own
    assert going(content) == [
        'iter_2.pth', 'iter_3.pth', 'iter_4.pth', 'iter_6.pth'
    ]
    assert content['bytes'] == sizes


def test_a_catalog_that_cannot_be_written_is_told(run_dir, capsys,
                                                  monkeypatch):

    def forget(self, name):
        raise StorageError('no space left')

    monkeypatch.setattr(Catalog, 'forget', forget)
    code, content, err = prune(capsys, run_dir, '--last', 2, '--yes')
    assert code == 0 and content['bytes'] > 0
    assert 'iter_2.pth is deleted, but still listed: no space left' in err
    assert History(
        str(run_dir)).read()[-1]['deleted'] == ['iter_2.pth', 'iter_4.pth']


def test_a_place_that_another_run_has_taken_is_left_alone(
        run_dir, capsys, monkeypatch):
    """The lease ran out while the process was stopped."""
    taken_over = []

    def check(self, check=RunLock.check):
        if taken_over:
            raise LockedError('another run has it')
        check(self)

    def remove(files, name, remove=cli_prune.remove):
        remove(files, name)
        taken_over.append(name)

    catalog = (run_dir / CATALOG_NAME).read_bytes()
    monkeypatch.setattr(RunLock, 'check', check)
    monkeypatch.setattr(cli_prune, 'remove', remove)
    code, _, err = prune(capsys, run_dir, '--last', 1, '--yes')
    assert code == 2 and 'another run has it' in err
    assert taken_over == ['iter_2.pth']
    assert (run_dir / CATALOG_NAME).read_bytes() == catalog
    assert {'iter_4.pth', 'iter_6.pth'} <= set(names(run_dir))


def test_one_that_was_killed_in_between_is_completed(run_dir, capsys,
                                                     monkeypatch):

    class Killed(BaseException):
        pass

    def remove(files, name, remove=cli_prune.remove):
        remove(files, name)
        raise Killed

    monkeypatch.setattr(cli_prune, 'remove', remove)
    with pytest.raises(Killed):
        main(['prune', str(run_dir), '--last', '1', '--yes'])
    monkeypatch.undo()
    assert 'iter_2.pth' not in names(run_dir)
    assert prune(capsys, run_dir, '--last', 1, '--yes')[0] == 0
    assert names(run_dir) == [
        'best_mIoU_iter_4.pth', 'iter_8.pth', 'latest.pth'
    ]


@NEW_TORCH
@pytest.mark.filterwarnings('ignore:torch.distributed is')
def test_folders_go_as_files_do(tmp_path, capsys):
    train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        hooks=[dict(type='DurableCheckpointHook', interval=2, format='dcp')])
    code, content, _ = prune(capsys, tmp_path, '--last', 1, '--yes')
    assert code == 0 and going(content) == ['iter_2.dcp', 'iter_4.dcp']
    assert sorted(
        path.name for path in tmp_path.iterdir()
        if path.name.endswith('.dcp')) == ['iter_6.dcp', 'latest.dcp']
    assert content['bytes'] > 10000


# -- what else lies there --------------------------------------------------


def test_weights_alone_are_never_the_last_checkpoint(run_dir, capsys):
    # published into the directory: by its name the newest
    torch.save(dict(a=torch.zeros(2)), str(run_dir / 'iter_99.pth'))
    args = ('--last', 1, '--adopt-existing')
    _, content, _ = prune(capsys, run_dir, *args, '--yes')
    assert (run_dir / 'iter_8.pth').exists()
    assert (run_dir / 'iter_99.pth').exists()
    assert why(content)['iter_99.pth'] == (
        'weights alone, or no checkpoint of a run: it neither counts nor goes')
    assert why(content)['iter_8.pth'].startswith('the last')
    assert 'iter_6.pth' in going(content)


def test_of_a_file_that_tells_no_step_none_is_shown(run_dir, capsys):
    (run_dir / 'notes.pth').write_bytes(b'no checkpoint')
    assert main(['prune', str(run_dir), '--last', '1']) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith('notes.pth'))
    assert row.split()[1:3] == ['-', '-']
    _, content, _ = prune(capsys, run_dir, '--last', 1)
    found = {one['name']: one for one in content['checkpoints']}
    assert found['notes.pth']['iter'] is found['notes.pth']['epoch'] is None
    assert found['iter_2.pth']['iter'] == 2


def test_200_good_files_are_not_unpickled_one_by_one(run_dir, capsys,
                                                     monkeypatch):
    read = []

    def outlined(archive, path):
        read.append(path)
        return scanning.read_outline(archive, path)

    monkeypatch.setattr(choice, 'read_outline', outlined)
    prune(capsys, run_dir, '--last', 1)
    assert read == ['iter_8.pth']  # what a resume would take
