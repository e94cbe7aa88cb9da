"""Real trainings whose checkpoints go where fsspec leads."""
import os
import uuid
from dataclasses import replace

import pytest
import torch
from exact import drawing_run
from toy import make_runner, train

from mmcv_ckpt_hooks import (find_resumable, run_lock, save_checkpoint,
                             verify_checkpoint)
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.lease import encode, this_run
from mmcv_ckpt_hooks.storage import open_backend

pytest.importorskip('fsspec', reason='pip install fsspec')

pytestmark = pytest.mark.usefixtures('short_lease')


@pytest.fixture(params=['memory', 'local'])
def out_dir(request, tmp_path):
    if request.param == 'local':
        return f'local://{tmp_path}/stored'
    return f'memory://{uuid.uuid4().hex}'


def listed(out_dir):
    return [file.name for file in open_backend(f'{out_dir}/run').list()]


def run(work_dir, out_dir, max_iters=4, runner='IterBasedRunnerAmp', **hook):
    return train(
        work_dir,
        runner=dict(type=runner, max_iters=max_iters),
        evaluation=dict(
            scores=[.5, .6], interval=2, by_epoch=False, save_best='mIoU'),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                max_keep_ckpts=1,
                out_dir=out_dir,
                **hook)
        ])


@pytest.mark.parametrize('runner', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_retention_best_and_resume_from_an_empty_disk(tmp_path, out_dir,
                                                      runner, caplog):
    run(tmp_path / 'run', out_dir, runner=runner)
    assert listed(out_dir) == [
        'best_mIoU_iter_4.pth', 'checkpoints.json', 'checkpoints.lock',
        'checkpoints.log.jsonl', 'iter_4.pth', 'last_checkpoint'
    ]
    assert 'a second name of iter_4.pth' in caplog.text
    assert ' cannot ' not in caplog.text
    again = run(
        tmp_path / 'elsewhere' / 'run', out_dir, 6, runner, resume='auto')
    assert (again.iter, again.restored.iter) == (6, 4)
    assert 'iter_6.pth' in listed(out_dir)
    assert 'iter_4.pth' not in listed(out_dir)
    newest = find_resumable(f'{out_dir}/run')
    assert newest == f'{out_dir}/run/iter_6.pth'
    assert verify_checkpoint(newest).info['iter'] == 6


def test_who_goes_on_from_a_strangers_dead_run_is_told_of_it(
        tmp_path, out_dir, caplog, monkeypatch):
    """The last level of the work dir may be the same by chance."""
    monkeypatch.setattr(run_lock, 'WATCH_SECS', .1)
    run(tmp_path / 'one' / 'run', out_dir)
    dead = replace(this_run(0, False), host='node7', pid=41, writer='41-ab12')
    open_backend(f'{out_dir}/run').put(
        'checkpoints.lock', lambda stream: stream.write(encode(dead)))
    caplog.clear()
    run(tmp_path / 'two' / 'run', out_dir, 6, resume='auto')
    told, = (one for one in caplog.records if 'Took over' in one.getMessage())
    assert told.levelname == 'WARNING'
    for text in ('that did not leave it (host node7, pid 41',
                 f'since {dead.since} (UTC)', 'not renewed'):
        assert text in told.getMessage()
    # that one has left it
    caplog.clear()
    run(tmp_path / 'three' / 'run', out_dir, 8, resume='auto')
    assert 'Took over' not in caplog.text


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, out_dir):
    straight, losses = drawing_run(tmp_path / 'straight', 14)
    options = dict(out_dir=out_dir)
    drawing_run(tmp_path / 'run', 14, kill_at=11, options=options)
    resumed, again = drawing_run(
        tmp_path / 'elsewhere' / 'run', 14, seed=1, options=options)
    assert min(again) == 10
    assert all(again[step] == losses[step] for step in again)
    for name, value in straight['model'].items():
        assert torch.equal(value, resumed['model'][name]), name


def test_a_tool_resumes_and_loads_from_a_url(tmp_path, out_dir):
    first = run(tmp_path / 'run', out_dir)
    hook = dict(type='DurableCheckpointHook')
    runner = make_runner(tmp_path / 'other', hooks=[hook])
    runner.resume(f'{out_dir}/run/iter_4.pth')
    assert runner.iter == 4
    runner = make_runner(tmp_path / 'third', hooks=[hook], seed=3)
    runner.load_checkpoint(f'{out_dir}/run/iter_4.pth')
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, runner.model.state_dict()[name]), name
    started = run(
        tmp_path / 'fourth', str(tmp_path), resume=f'{out_dir}/run/iter_4.pth')
    assert started.restored.iter == 4


def test_the_function_saves_and_the_commands_read(tmp_path, out_dir, capsys):
    model = torch.nn.Linear(2, 1)
    save_checkpoint(model, f'{out_dir}/run/iter_1.pth')
    assert main(['ls', f'{out_dir}/run']) == 0
    assert main(['verify', '--all', f'{out_dir}/run']) == 0
    assert main(['inspect', f'{out_dir}/run/iter_1.pth']) == 0
    assert 'state_dict.weight' in capsys.readouterr().out
    assert main(['ls', f'{out_dir}/nowhere']) == 2


def test_options_reach_the_file_system_and_no_checkpoint(tmp_path):
    out_dir = f'memory://{uuid.uuid4().hex}'
    hook = dict(
        type='DurableCheckpointHook',
        interval=2,
        out_dir=out_dir,
        storage_options=dict(client_kwargs=dict(password='secret-of-mine')))
    train(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        meta=dict(config=f'custom_hooks = [{hook!r}]'),
        hooks=[hook])
    backend = open_backend(f'{out_dir}/run')
    for file in backend.list():
        with backend.open(file.name) as stored:
            assert b'secret-of-mine' not in stored.read()
    assert not any(name.endswith('.pth') for name in os.listdir(tmp_path))
