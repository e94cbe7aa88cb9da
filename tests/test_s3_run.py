"""Real trainings whose checkpoints go to a real S3 server."""
import json
import os
import shutil
import uuid

import pytest
import torch
from dying import run_until_killed
from exact import drawing_loader, drawing_run
from fault_proxy import FAULTS
from mmcv import Config
from object_server import BUCKET
from toy import make_runner, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.errors import AccessError, StorageError
from mmcv_ckpt_hooks.storage import object_line, open_backend

pytest.importorskip('obstore', reason='pip install obstore')

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def out_dir():
    return f's3://{BUCKET}/{uuid.uuid4().hex}'


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def kept(out_dir, options):
    """Names of the checkpoints, and all other names."""
    listed = [
        file.name
        for file in open_backend(out_dir, storage_options=options).list()
    ]
    return [name for name in listed if name.endswith('.pth')
            ], [name for name in listed if not name.endswith('.pth')]


@pytest.mark.slow
def test_a_killed_run_goes_on_exactly_with_an_empty_disk(
        tmp_path, s3_server, out_dir, short_lease):
    straight, losses = drawing_run(tmp_path / 'straight', 14)
    options = dict(
        out_dir=out_dir, max_keep_ckpts=2, storage_options=s3_server.options())
    work_dir = tmp_path / 'run'
    given = dict(work_dir=str(work_dir), steps=14, die_at=11, options=options)
    run_until_killed('s3_worker.py', 'train', **given)
    shutil.rmtree(work_dir)
    resumed, again = drawing_run(work_dir, 14, seed=1, options=options)
    assert_equal(resumed['model'], straight['model'])
    # it went on: from the last save or, if that was cut off, the one before
    assert min(again) in (7, 10)
    assert all(again[step] == losses[step] for step in again)
    place = f'{out_dir}/run'
    names, others = kept(place, s3_server.options())
    # retention counts what the killed process left
    assert names == ['iter_12.pth', 'iter_14.pth']
    assert others == [
        'checkpoints.json', 'checkpoints.lock', 'checkpoints.log.jsonl',
        'last_checkpoint'
    ]
    newest = find_resumable(place, s3_server.options())
    assert newest == f'{place}/iter_14.pth'
    report = verify_checkpoint(newest, s3_server.options())
    assert report.info['iter'] == 14
    assert not any(name.endswith('.pth') for name in os.listdir(work_dir))


def run(work_dir, out_dir, options, max_iters=4, **hook):
    return train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=max_iters),
        checkpoint_config=dict(interval=2),
        evaluation=dict(
            scores=[0.5, 0.6], interval=2, by_epoch=False, save_best='mIoU'),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                out_dir=out_dir,
                storage_options=options,
                **hook)
        ])


def test_a_run_says_what_it_waits_for(tmp_path, s3_server, out_dir, proxy,
                                      caplog, monkeypatch):
    monkeypatch.setattr(object_line, '_SILENT_SECS', .1)
    options = dict(s3_server.options(), endpoint=proxy.endpoint, retry_secs=60)
    run(tmp_path / 'run', out_dir, options)
    proxy.arm(lambda number, line: FAULTS['error_500']
              if '.pth' in line and 'Waiting' not in caplog.text else None)
    runner = run(tmp_path / 'run', out_dir, options, 6, resume='auto')
    assert runner.restored.iter == 4
    told, = (one for one in caplog.records if 'Waiting' in one.getMessage())
    assert told.levelname == 'WARNING'
    assert f'Waiting for {out_dir}/run (500' in told.getMessage()
    assert 'up to 60 s' in told.getMessage()


def test_the_best_is_a_copy_on_the_server_and_the_old_one_goes(
        tmp_path, s3_server, out_dir, caplog):
    run(tmp_path / 'run', out_dir, s3_server.options())
    names, _ = kept(f'{out_dir}/run', s3_server.options())
    assert names == ['best_mIoU_iter_4.pth', 'iter_2.pth', 'iter_4.pth']
    assert 'a second name of iter_4.pth' in caplog.text
    history = open_backend(
        f'{out_dir}/run',
        storage_options=s3_server.options()).open('checkpoints.log.jsonl')
    with history:
        events = [json.loads(line)['event'] for line in history.readlines()]
    assert events.count('save') == 2 and events.count('best') == 2
    # a lost catalog is rebuilt from files and history
    open_backend(
        f'{out_dir}/run',
        storage_options=s3_server.options()).delete('checkpoints.json')
    runner = run(
        tmp_path / 'again' / 'run',
        out_dir,
        s3_server.options(),
        max_iters=6,
        resume='auto')
    assert runner.restored.iter == 4
    assert 'is rebuilt. Checkpoints with scores' in caplog.text


@pytest.mark.parametrize('change, kind, message', [
    (dict(secret_access_key='wrong'), AccessError, 'credentials'),
    (dict(access_key_id='NOBODY'), AccessError, 'credentials'),
    (dict(bucket='no-such-bucket'), StorageError, 'name of the bucket'),
    (dict(endpoint='http://127.0.0.1:9'), StorageError, 'cannot list'),
    (dict(identity='reader'), AccessError, 'cannot write'),
    (dict(identity='stranger'), AccessError, 'cannot list'),
])
def test_access_is_checked_before_training(tmp_path, s3_server, out_dir,
                                           change, kind, message, caplog):
    change = dict(change)
    bucket = change.pop('bucket', BUCKET)
    options = s3_server.options(change.pop('identity', 'writer'))
    options.update(change)
    with pytest.raises(kind, match=message) as caught:
        run(tmp_path / 'run',
            out_dir.replace(BUCKET, bucket),
            options,
            resume='auto')
    assert isinstance(caught.value, AccessError) is (kind is AccessError)
    for secret in ('secret_access_key', 'access_key_id'):
        assert options[secret] not in str(caught.value) + caplog.text


def test_a_lost_permission_is_no_missing_checkpoint(tmp_path, s3_server,
                                                    out_dir):
    run(tmp_path / 'run', out_dir, s3_server.options())
    place = f'{out_dir}/run'
    with pytest.raises(AccessError):
        find_resumable(place, s3_server.options('stranger'))
    with pytest.raises(AccessError):
        verify_checkpoint(f'{place}/iter_4.pth', s3_server.options('stranger'))
    with pytest.raises(StorageError, match='NoSuchBucket'):
        find_resumable(
            place.replace(BUCKET, 'no-such-bucket'), s3_server.options())
    assert find_resumable(f'{out_dir}/other', s3_server.options()) is None


def test_a_tool_resumes_and_loads_from_a_url(tmp_path, s3_server, out_dir):
    first = run(tmp_path / 'run', out_dir, s3_server.options())
    hook = dict(
        type='DurableCheckpointHook', storage_options=s3_server.options())
    runner = make_runner(tmp_path / 'other', hooks=[hook])
    runner.resume(f'{out_dir}/run/iter_4.pth')
    assert runner.iter == 4
    runner = make_runner(tmp_path / 'third', hooks=[hook])
    runner.load_checkpoint(f'{out_dir}/run/iter_4.pth')
    assert_equal(runner.model.state_dict(), first.model.state_dict())


def test_credentials_of_a_config_are_in_no_checkpoint(tmp_path, s3_server,
                                                      out_dir):
    options = s3_server.options()
    hook = dict(
        type='DurableCheckpointHook',
        interval=2,
        out_dir=out_dir,
        storage_options=options)
    train(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        meta=dict(config=f'custom_hooks = [{hook!r}]'),
        hooks=[hook])
    backend = open_backend(f'{out_dir}/run', storage_options=options)
    for file in backend.list():
        with backend.open(file.name) as stored:
            content = stored.read()
        assert options['secret_access_key'].encode() not in content
        assert options['access_key_id'].encode() not in content


def test_the_config_that_is_shipped_runs(tmp_path, s3_server, monkeypatch):
    for name, value in s3_server.options().items():
        name = 'ENDPOINT_URL' if name == 'endpoint' else name.upper()
        monkeypatch.setenv(f'AWS_{name}', value)
    config = Config.fromfile(f'{HERE}/../configs/checkpoints_s3.py')
    for steps in (4, 6):
        runner = train(
            tmp_path / str(steps) / 'run',
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            checkpoint_config=config.checkpoint_config,
            hooks=config.custom_hooks)
    assert runner.restored.iter == 4
    names, _ = kept(f'{config.custom_hooks[0].out_dir}/run', None)
    assert names == ['iter_4.pth', 'iter_6.pth']


@pytest.mark.parametrize('runner_type',
                         ['IterBasedRunner', 'EpochBasedRunner'])
def test_stock_runners_and_forked_workers(tmp_path, s3_server, out_dir,
                                          runner_type):
    options = dict(out_dir=out_dir, storage_options=s3_server.options())
    for steps in (2, 3):
        drawing_run(
            tmp_path / str(steps) / 'run',
            steps,
            interval=1,
            loaders=[lambda: drawing_loader(workers=2)],
            runner_type=runner_type,
            by_epoch=None,
            options=options)
    names, _ = kept(f'{out_dir}/run', s3_server.options())
    unit = 'iter' if runner_type == 'IterBasedRunner' else 'epoch'
    assert names == [f'{unit}_{step}.pth' for step in (1, 2, 3)]
