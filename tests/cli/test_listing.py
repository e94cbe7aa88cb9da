"""``mmcv-ckpt ls``: steps of any program's files, second names, links."""
import json
import os
import shutil

import numpy as np
import pytest
import torch
from checkpoint_files import Payload, moved, torch_written
from toy import ToyModel, make_loader, make_runner, train

from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import (CheckpointError, IntegrityError,
                                    UnsafeCheckpointError)


def listed(capsys, directory):
    """Return what is told, and the entries by name."""
    capsys.readouterr()
    assert main(['ls', str(directory), '--json']) == 0
    content = json.loads(capsys.readouterr().out)
    return content, {one['name']: one for one in content['checkpoints']}


def steps(capsys, directory):
    _, entries = listed(capsys, directory)
    return {name: (one['iter'], one['epoch']) for name, one in entries.items()}


def table(capsys, directory):
    capsys.readouterr()
    assert main(['ls', str(directory)]) == 0
    return capsys.readouterr()


def train_stock(directory, interval, **runner):
    train(directory, runner=runner, checkpoint_config=dict(interval=interval))


# -- finished steps ----------------------------------------------------------


def test_stocks_epochs_have_their_iterations(tmp_path, capsys):
    train_stock(tmp_path, 1, type='EpochBasedRunner', max_epochs=2)
    assert steps(capsys, tmp_path) == {
        'epoch_1.pth': (4, 1),
        'epoch_2.pth': (8, 2)
    }


def test_stocks_iterations_have_their_epochs(tmp_path, capsys):
    train_stock(tmp_path, 2, type='IterBasedRunner', max_iters=6)
    assert steps(capsys, tmp_path) == {
        'iter_2.pth': (2, 0),
        'iter_4.pth': (4, 0),
        'iter_6.pth': (6, 1)
    }


def test_a_count_that_nothing_tells_is_not_0(tmp_path, capsys):
    weights = dict(state_dict=dict(a=torch.zeros(2)))
    torch.save(weights, tmp_path / 'model.pth')
    torch.save(weights, tmp_path / 'epoch_3.pth')
    torch.save(weights, tmp_path / 'iter_7.pth')
    torch.save(dict(weights, meta=dict(epoch=1)), tmp_path / 'one.pth')
    torch.save(dict(weights, meta=dict(epoch=0, iter=0)), tmp_path / 'new.pth')
    (tmp_path / 'torn.pth').write_bytes(b'PK')
    assert steps(capsys, tmp_path) == {
        'model.pth': (None, None),
        'epoch_3.pth': (None, 3),
        'iter_7.pth': (7, None),
        'one.pth': (None, 1),
        'new.pth': (0, 0),
        'torn.pth': (None, None)
    }
    cells = [
        line.split()[:3] for line in table(capsys, tmp_path)[0].split('\n')
    ]
    assert ['model.pth', '-', '-'] in cells
    assert ['epoch_3.pth', '-', '3'] in cells and ['new.pth', '0', '0'
                                                   ] in cells


def test_a_name_without_a_step_has_those_of_its_meta(tmp_path, capsys):
    train_stock(tmp_path, 1, type='EpochBasedRunner', max_epochs=2)
    (tmp_path / 'latest.pth').unlink()
    os.rename(tmp_path / 'epoch_1.pth', tmp_path / 'pretrained.pth')
    # and is listed where it belongs
    assert list(steps(capsys,
                      tmp_path).items()) == [('pretrained.pth', (4, 1)),
                                             ('epoch_2.pth', (8, 2))]


@pytest.mark.parametrize('tree', [
    dict(meta=dict(epoch=3, iter='7'), state_dict={}),
    dict(meta=dict(epoch=-3, iter=7), state_dict={}),
    dict(meta=[3, 7], state_dict={}),
    [torch.ones(1)],
    dict(meta=dict(epoch=3, iter=7), own=Payload(os.mkdir, 'nowhere')),
])
def test_what_a_meta_cannot_tell_the_name_does(tmp_path, capsys, tree):
    (tmp_path / 'epoch_2.pth').write_bytes(torch_written(tree))
    assert steps(capsys, tmp_path) == {'epoch_2.pth': (None, 2)}


# -- second names ------------------------------------------------------------


def best_run(work, max_iters, scores):
    return make_runner(
        work,
        runner=dict(type='IterBasedRunnerAmp', max_iters=max_iters),
        evaluation=dict(
            scores=scores, interval=2, by_epoch=False, save_best='mIoU'),
        hooks=[dict(type='DurableCheckpointHook', interval=1)])


def test_a_step_that_was_saved_again_is_not_its_best_of_before(
        tmp_path, capsys):
    best_run(tmp_path, 4, [.5, .7]).run([make_loader(32)], [('train', 1)])
    again = best_run(tmp_path, 4, [.4])
    again.resume(str(tmp_path / 'iter_3.pth'))
    again.run([make_loader(32, seed_of_data=1)], [('train', 1)])
    _, entries = listed(capsys, tmp_path)
    before = entries['best_mIoU_iter_4.pth']
    assert before['flags'] == ['superseded'] and before['same_as'] == ''
    assert before['digest'] != entries['iter_4.pth']['digest']
    # the other one still is
    assert entries['best_mIoU_iter_2.pth']['same_as'] == 'iter_2.pth'
    out = table(capsys, tmp_path).out
    assert '5 checkpoints and 1 second name, ' in out


def test_a_copy_is_told_and_takes_its_bytes(run_dir, capsys):
    """Where a file system has no hard links the best is a copy."""
    best = run_dir / 'best_mIoU_iter_4.pth'
    data = best.read_bytes()
    best.unlink()
    best.write_bytes(data)
    _, entries = listed(capsys, run_dir)
    assert 'same as iter_4.pth' in entries[best.name]['flags']
    paths = [path for path in run_dir.glob('*.pth') if not path.is_symlink()]
    total = sum(path.stat().st_size for path in paths) / 1000
    assert f'and 1 second name, {total:.1f} kB\n' in table(capsys, run_dir).out


def test_a_file_in_the_place_of_a_copy_is_not_the_same(run_dir, capsys):
    """The catalog says so, the files do not."""
    best = run_dir / 'best_mIoU_iter_4.pth'
    size = best.stat().st_size
    best.unlink()
    best.write_bytes(bytes(size))
    _, entries = listed(capsys, run_dir)
    assert entries[best.name]['same_as'] == ''


def test_second_names_are_known_without_a_catalog(run_dir, capsys):
    (run_dir / 'checkpoints.json').unlink()
    (run_dir / 'checkpoints.log.jsonl').unlink()
    _, entries = listed(capsys, run_dir)
    assert entries['best_mIoU_iter_4.pth']['same_as'] == 'iter_4.pth'


def test_the_run_s_own_name_comes_before_those_of_others(run_dir, capsys):
    shutil.copy(run_dir / 'iter_8.pth', run_dir / 'a_copy.pth')
    os.link(run_dir / 'iter_4.pth', run_dir / 'aa_link.pth')
    _, entries = listed(capsys, run_dir)
    same = {name: one['same_as'] for name, one in entries.items()}
    assert same == {
        'iter_2.pth': '',
        'aa_link.pth': 'iter_4.pth',
        'iter_4.pth': '',
        'best_mIoU_iter_4.pth': 'iter_4.pth',
        'iter_6.pth': '',
        # what nobody made as a copy may differ within a tensor
        'a_copy.pth': '',
        'iter_8.pth': ''
    }
    assert entries['iter_8.pth']['flags'] == ['resume', 'latest']


# -- links -------------------------------------------------------------------


def test_a_link_is_one_and_what_it_was(run_dir, capsys):
    disk = moved(run_dir, 'iter_6.pth', 'iter_8.pth')
    content, entries = listed(capsys, run_dir)
    assert entries['iter_8.pth']['flags'] == ['resume', 'latest', 'link']
    assert entries['iter_6.pth']['flags'] == ['link']
    assert entries['iter_4.pth']['flags'] == []
    assert entries['iter_8.pth']['link'] == str(disk / 'iter_8.pth')
    assert entries['iter_4.pth']['link'] == ''
    assert content['latest'] == content['resume'] == 'iter_8.pth'
    assert table(capsys, run_dir).err == ''


def test_a_latest_that_leads_where_a_link_leads(run_dir, capsys):
    disk = moved(run_dir, 'iter_8.pth')
    (run_dir / 'latest.pth').unlink()
    (run_dir / 'latest.pth').symlink_to(disk / 'iter_8.pth')
    content, _ = listed(capsys, run_dir)
    assert content['latest'] == 'iter_8.pth'


def test_a_latest_that_is_the_only_one_is_told_as_it_is(run_dir, capsys):
    place = run_dir.parent / 'linked'
    place.mkdir()
    (place / 'latest.pth').symlink_to(run_dir / 'iter_8.pth')
    content, entries = listed(capsys, place)
    assert content['latest'] == content['resume'] == 'latest.pth'
    assert entries['latest.pth']['flags'] == ['resume', 'latest', 'link']
    assert table(capsys, place).err == ''


def test_a_link_to_a_disk_that_is_away_is_not_damaged(run_dir, capsys):
    disk = moved(run_dir, 'iter_6.pth', 'iter_8.pth')
    disk.rename(run_dir.parent / 'away')
    content, entries = listed(capsys, run_dir)
    last = entries['iter_8.pth']
    told = f'link to {disk}/iter_8.pth, which is not there'
    assert last['flags'] == ['latest', told] and last['problem'] == told
    assert content['resume'] == 'iter_4.pth'
    assert content['latest'] == 'iter_8.pth'
    out = table(capsys, run_dir).out
    assert 'damaged' not in out
    assert f'iter_6.pth: a link to {disk}/iter_6.pth, which is not there. ' \
        'Is its disk mounted?\n' in out
    assert 'would take iter_4.pth, the newest that is there. ' in out


def test_nothing_but_links_to_a_disk_that_is_away(run_dir, capsys):
    names = [f'iter_{step}.pth' for step in (2, 4, 6, 8)]
    (run_dir / 'best_mIoU_iter_4.pth').unlink()
    moved(run_dir, *names).rename(run_dir.parent / 'away')
    content, _ = listed(capsys, run_dir)
    assert content['resume'] is None
    out = table(capsys, run_dir).out
    assert 'damaged' not in out and out.count('Is its disk mounted?') == 4
    assert "resume='auto' would stop with an error" in out


# -- what a resume takes -----------------------------------------------------


def resumes_from(directory):
    """What resume='auto' does in a new run: a name, or the error."""
    runner = make_runner(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=20),
        hooks=[dict(type='DurableCheckpointHook', resume='auto', interval=9)])
    try:
        runner.call_hook('before_run')
    except CheckpointError as error:
        return error
    restored = runner.restored
    runner.call_hook('after_run')
    return restored and restored.name


def bare(path, **more):
    torch.save(dict(state_dict=ToyModel().state_dict(), **more), str(path))


WEIGHTS_ALONE = [
    dict(),
    dict(meta=3),
    dict(meta=dict(epoch='one')),
    dict(meta={}, optimizer=[1]),
]


@pytest.mark.parametrize('more', WEIGHTS_ALONE)
def test_weights_alone_are_nothing_to_resume_from(run_dir, capsys, more):
    """As a run that was converted, or published, and lies beside another."""
    bare(run_dir / 'iter_20.pth', **more)
    (run_dir / 'checkpoints.json').unlink()
    content, entries = listed(capsys, run_dir)
    assert entries['iter_20.pth']['flags'] == ['not resumable', 'not owned']
    assert 'iter_20.pth cannot be resumed from: ' in \
        entries['iter_20.pth']['problem']
    assert content['resume'] == 'iter_8.pth' == resumes_from(run_dir)


@pytest.mark.parametrize('more', WEIGHTS_ALONE)
def test_nothing_but_weights_is_told(tmp_path, capsys, more):
    bare(tmp_path / 'iter_2.pth', **more)
    bare(tmp_path / 'iter_4.pth', **more)
    out = table(capsys, tmp_path).out
    assert "resume='auto' would stop with an error: nothing here" in out
    why = [line for line in out.splitlines() if 'not resumable: ' in line]
    assert [line[:25] for line in why
            ] == ['not resumable: iter_4.pth', 'not resumable: iter_2.pth']
    content, entries = listed(capsys, tmp_path)
    assert content['resume'] is None
    assert entries['iter_4.pth']['flags'] == ['not resumable']
    error = resumes_from(tmp_path)
    assert isinstance(error, IntegrityError)
    assert why[0].partition(': ')[2] in str(error)


def test_many_weights_are_not_all_explained(tmp_path, capsys):
    for steps in range(1, 7):
        bare(tmp_path / f'iter_{steps}.pth')
    lines = table(capsys, tmp_path).out.splitlines()
    assert [line for line in lines if line.startswith('and ')
            ] == ['and 3 more, of which --json says why']
    assert sum('not resumable: ' in line for line in lines) == 3


def test_a_resume_stops_at_what_needs_trust(run_dir, capsys):
    """It is not passed over: who trusts it loses nothing of the run."""
    tree = dict(
        meta=dict(iter=20, epoch=0),
        state_dict=ToyModel().state_dict(),
        own=Payload(os.mkdir, 'nowhere'))
    (run_dir / 'iter_20.pth').write_bytes(torch_written(tree))
    content, entries = listed(capsys, run_dir)
    assert content['resume'] is None
    assert entries['iter_20.pth']['flags'] == [
        'needs trust_checkpoint', 'not owned'
    ]
    assert table(capsys, run_dir).out.splitlines()[-1] == (
        "resume='auto' would stop with an error at iter_20.pth, which is not "
        'loaded without trust_checkpoint=True')
    error = resumes_from(run_dir)
    assert isinstance(error, UnsafeCheckpointError)
    assert 'iter_20.pth' in str(error)


def test_steps_that_numpy_has_counted_are_resumed_from(tmp_path, capsys):
    meta = dict(iter=np.int64(4), epoch=np.int64(1))
    bare(tmp_path / 'one.pth', meta=meta)
    assert listed(capsys, tmp_path)[0]['resume'] == 'one.pth' == \
        resumes_from(tmp_path)
