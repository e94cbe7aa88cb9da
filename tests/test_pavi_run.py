"""Real trainings whose checkpoints go to pavi (the shipped fake)."""
import os
import shutil

import pytest
import torch
from dying import run_until_killed
from exact import drawing_run
from mmcv.runner import load_checkpoint
from stock import as_since_1_3_16
from toy import ToyModel, make_runner, names, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.errors import (AccessError, DependencyError, ResumeError,
                                    UnsupportedError)
from mmcv_ckpt_hooks.testing import pavi

HERE = os.path.dirname(os.path.abspath(__file__))
OUT_DIR = 'pavi://project/model'


@pytest.fixture
def platform(tmp_path):
    with pavi.install(str(tmp_path / 'platform')) as installed:
        yield installed


def model_of(platform, name='run'):
    return os.path.join(platform.directory, 'project', 'model', name)


def run(work_dir,
        max_iters=4,
        runner='IterBasedRunnerAmp',
        keep=1,
        scores=(0.5, 0.6),
        **options):
    hook = dict(type='DurableCheckpointHook', out_dir=OUT_DIR, **options)
    return train(
        work_dir,
        runner=dict(type=runner, max_iters=max_iters),
        checkpoint_config=dict(interval=2, max_keep_ckpts=keep),
        evaluation=dict(
            scores=list(scores), interval=2, by_epoch=False, save_best='mIoU'),
        hooks=[hook])


@pytest.mark.parametrize('runner', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_hook_saves_to_pavi(tmp_path, platform, runner):
    run(tmp_path / 'run', runner=runner)
    # the last level of the work dir is appended, as for every out_dir; what
    # max_keep_ckpts and a better score would remove stays
    assert sorted(os.listdir(model_of(platform))) == [
        'best_mIoU_iter_2.pth', 'best_mIoU_iter_4.pth', 'checkpoints.json',
        'iter_2.pth', 'iter_4.pth'
    ]
    assert names(tmp_path / 'run') == []
    # stock mmcv reads it back through the same SDK
    loaded = load_checkpoint(ToyModel(), f'{OUT_DIR}/run/iter_4.pth')
    assert loaded['meta']['iter'] == 4


def test_a_run_there_has_a_mirror(tmp_path, platform, caplog):
    work_dir, there = tmp_path / 'run', tmp_path / 'second' / 'run'
    run(work_dir, mirror=dict(url=str(there.parent)))
    assert names(there) == ['best_mIoU_iter_4.pth', 'iter_4.pth', 'latest.pth']
    # the note is of this machine: push starts here
    note = 'checkpoints.mirror.json'
    assert (work_dir / note).exists()
    assert note not in os.listdir(model_of(platform))
    # an empty disk
    shutil.rmtree(work_dir)
    run(work_dir,
        6,
        scores=[.7],
        resume='auto',
        mirror=dict(url=str(there.parent)))
    assert 'going on from there' not in caplog.text
    assert names(there) == ['best_mIoU_iter_6.pth', 'iter_6.pth', 'latest.pth']


@pytest.mark.parametrize('keep, said', [
    (1, 'max_keep_ckpts and keep are not followed'),
    (-1, 'nothing is deleted'),
])
def test_the_start_says_in_one_line_what_pavi_cannot_do(
        tmp_path, platform, caplog, keep, said):
    run(tmp_path / 'run', keep=keep)
    lines = [
        record.getMessage() for record in caplog.records
        if f'{OUT_DIR}/run cannot' in record.getMessage()
    ]
    assert len(lines) == 1
    assert f'cannot delete: {said}' in lines[0]
    assert f'the catalog in {tmp_path / "run"}' in lines[0]
    assert 'there is no latest.pth' in lines[0]
    # nor does the plan promise what cannot be
    assert 'keeps   all' in caplog.text


def test_a_local_run_says_nothing_of_the_kind(tmp_path, caplog):
    train(
        tmp_path / 'run',
        checkpoint_config=dict(interval=4, max_keep_ckpts=1),
        hooks=[dict(type='DurableCheckpointHook')])
    assert 'cannot' not in caplog.text and 'keeps   the last 1' in caplog.text


@pytest.mark.parametrize('runner', ['IterBasedRunnerAmp', 'IterBasedRunner'])
@pytest.mark.parametrize('disk', ['kept', 'empty', 'other'])
def test_a_run_goes_on_from_pavi(tmp_path, platform, runner, disk, caplog):
    run(tmp_path / 'run', runner=runner)
    work_dir = tmp_path / 'elsewhere' / 'run' if disk == 'other' else \
        tmp_path / 'run'
    if disk == 'empty':
        shutil.rmtree(work_dir)
    again = run(work_dir, 6, runner, scores=[0.55], resume='auto')
    assert (again.iter, again.restored.iter) == (6, 4)
    # the best score came back, too
    assert 'best_mIoU_iter_6.pth' not in os.listdir(model_of(platform))
    assert find_resumable(f'{OUT_DIR}/run') == f'{OUT_DIR}/run/iter_6.pth'


@pytest.mark.slow
@pytest.mark.parametrize(
    'kill, resumed_at', [
        (dict(die_at=11), (6, 9)),
        (dict(die_in='create_file project/model/run/iter_9.pth'), (6, )),
    ],
    ids=['between', 'in_an_upload'])
def test_a_killed_run_goes_on_exactly(tmp_path, platform, kill, resumed_at):
    straight, losses = drawing_run(tmp_path / 'straight', 14)
    work_dir, options = tmp_path / 'run', dict(out_dir=OUT_DIR)
    given = dict(
        platform=platform.directory,
        work_dir=str(work_dir),
        steps=14,
        options=options,
        **kill)
    run_until_killed('pavi_worker.py', **given)
    shutil.rmtree(work_dir)
    resumed, again = drawing_run(work_dir, 14, seed=1, options=options)
    assert min(again) - 1 in resumed_at
    assert all(again[step] == losses[step] for step in again)
    for name, value in straight['model'].items():
        assert torch.equal(value, resumed['model'][name]), name
    # half of a file stood there; it was replaced
    for step in (9, 12, 14):
        verify_checkpoint(f'{OUT_DIR}/run/iter_{step}.pth')


def test_what_nothing_tells_of_is_not_called_absent(tmp_path, platform,
                                                    caplog):
    run(tmp_path / 'run')
    os.unlink(os.path.join(model_of(platform), 'checkpoints.json'))
    with pytest.raises(UnsupportedError, match="'listing'"):
        find_resumable(f'{OUT_DIR}/run')
    assert run(tmp_path / 'elsewhere' / 'run', resume='auto').restored is None
    assert 'nothing tells of a checkpoint in' in caplog.text


def test_a_damaged_copy_stops_a_run_that_has_nothing_else(tmp_path, platform):
    run(tmp_path / 'run')
    copy = os.path.join(model_of(platform), 'checkpoints.json')
    os.truncate(copy, 100)
    with pytest.raises(ResumeError, match='checkpoints.json is damaged'):
        run(tmp_path / 'elsewhere' / 'run', resume='auto')
    # with the catalog in the work dir it is not looked at, and mended
    assert run(tmp_path / 'run', 6, resume='auto').restored.iter == 4
    assert find_resumable(f'{OUT_DIR}/run') == f'{OUT_DIR}/run/iter_6.pth'


def test_a_copy_that_fails_is_told_once_and_stops_nothing(
        tmp_path, platform, monkeypatch, caplog):
    enter = platform.enter

    def refuse(call, path):
        enter(call, path)
        if call == 'create_file' and path.endswith('.json'):
            raise PermissionError('it is there already')

    monkeypatch.setattr(platform, 'enter', refuse)
    assert run(tmp_path / 'run').iter == 4
    assert caplog.text.count('checkpoints.json was not copied to') == 1
    assert run(tmp_path / 'run', 6, resume='auto').restored.iter == 4


def test_a_run_starts_from_a_pavi_url(tmp_path, platform):
    first = run(tmp_path / 'run')
    second = run(
        tmp_path / 'other', max_iters=4, resume=f'{OUT_DIR}/run/iter_4.pth')
    assert second.restored.iter == 4
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_tool_resumes_from_a_pavi_url(tmp_path, platform):
    run(tmp_path / 'run')
    runner = make_runner(
        tmp_path / 'other', hooks=[dict(type='DurableCheckpointHook')])
    runner.resume(f'{OUT_DIR}/run/iter_4.pth')
    assert runner.iter == 4


def test_our_runners_take_pavi_from_checkpoint_config(tmp_path, platform):
    train(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        checkpoint_config=dict(interval=2, out_dir=OUT_DIR),
        hooks=[dict(type='DurableCheckpointHook')])
    assert 'iter_2.pth' in os.listdir(model_of(platform))


@as_since_1_3_16
def test_mmcv_refuses_pavi_in_checkpoint_config_of_a_stock_runner(
        tmp_path, platform):
    with pytest.raises(ValueError, match='prefix pavi is not supported'):
        train(
            tmp_path / 'run',
            runner=dict(type='IterBasedRunner', max_iters=2),
            checkpoint_config=dict(interval=2, out_dir=OUT_DIR),
            hooks=[dict(type='DurableCheckpointHook')])
    assert platform.calls == []


def test_a_refusal_ends_the_run_before_training(tmp_path, platform):
    platform.faults['get'] = PermissionError('token expired')
    with pytest.raises(AccessError, match='credentials'):
        run(tmp_path / 'run', resume='auto')


def test_without_the_sdk_the_run_ends_before_training(tmp_path):
    with pytest.raises(DependencyError, match='pavi'):
        run(tmp_path / 'run')
    assert names(tmp_path / 'run') == []
