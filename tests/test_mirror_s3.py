"""Real trainings that are mirrored to a real S3 server."""
import json
import os
import shutil
import uuid

import pytest
from dying import run_until_killed
from exact import drawing_run
from object_server import BUCKET
from toy import train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import AccessError, ConfigError, StorageError
from mmcv_ckpt_hooks.storage import open_backend

pytest.importorskip('obstore', reason='pip install obstore')

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def root():
    return f's3://{BUCKET}/{uuid.uuid4().hex}'


def stored(place, options):
    backend = open_backend(place, storage_options=options)
    return [file.name for file in backend.list()]


def mirrored(root, server, **more):
    return dict(
        max_keep_ckpts=2,
        mirror=dict(url=root, storage_options=server.options()),
        **more)


@pytest.mark.slow
def test_a_killed_run_is_mirrored_by_the_next_and_resumed_with_an_empty_disk(
        tmp_path, s3_server, root, capsys, monkeypatch):
    straight, losses = drawing_run(tmp_path / 'straight', 14)
    work_dir, place = tmp_path / 'run', f'{root}/run'
    options = mirrored(root, s3_server)
    # killed while a copy is under way: nothing of it is there
    given = dict(work_dir=str(work_dir), steps=14, die_at=8, options=options)
    run_until_killed('s3_worker.py', 'train_mirrored', **given)
    local = [name for name in os.listdir(work_dir) if name[:5] == 'iter_']
    assert local
    assert not [
        name
        for name in stored(place, s3_server.options()) if name.endswith('.pth')
    ]
    # what a killed run has left is pushed
    with monkeypatch.context() as patch:
        for name in ('access_key_id', 'secret_access_key'):
            # the run has noted all else
            patch.setenv(f'AWS_{name.upper()}', s3_server.options()[name])
        code = main(['push', str(work_dir), '--json'])
    told = json.loads(capsys.readouterr().out)
    assert code == 0 and told['url'] == place
    assert told['endpoint'] == s3_server.endpoint
    assert sorted(one['name'] for one in told['checkpoints']) == sorted(local)
    assert {one['status'] for one in told['checkpoints']} == {'copied'}
    # the disk is lost
    shutil.rmtree(work_dir)
    resumed, again = drawing_run(work_dir, 14, seed=1, options=options)
    assert min(again) in (4, 7)
    assert all(again[step] == losses[step] for step in again)
    for name, value in resumed['model'].items():
        assert (value == straight['model'][name]).all(), name
    names = stored(place, s3_server.options())
    assert [name for name in names
            if name.endswith('.pth')] == ['iter_12.pth', 'iter_14.pth']
    newest = find_resumable(place, s3_server.options())
    assert newest == f'{place}/iter_14.pth'
    assert verify_checkpoint(newest, s3_server.options()).info['iter'] == 14


@pytest.mark.slow
def test_the_next_start_copies_what_a_kill_has_left(tmp_path, s3_server, root,
                                                    caplog):
    work_dir, place = tmp_path / 'run', f'{root}/run'
    options = mirrored(root, s3_server)
    given = dict(work_dir=str(work_dir), steps=8, die_at=8, options=options)
    run_until_killed('s3_worker.py', 'train_mirrored', **given)
    drawing_run(work_dir, 8, options=options)
    assert 'of an earlier start' in caplog.text
    names = stored(place, s3_server.options())
    assert [name for name in names
            if name.endswith('.pth')] == ['iter_6.pth', 'iter_8.pth']


def run(work_dir, root, options, **hook):
    given = dict(type='DurableCheckpointHook', interval=2)
    mirror = dict(url=root, storage_options=options)
    return train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        evaluation=dict(
            scores=[0.5, 0.6], interval=2, by_epoch=False, save_best='mIoU'),
        meta=dict(config=f'mirror = {mirror!r}'),
        hooks=[dict(given, mirror=mirror, **hook)])


def test_credentials_of_a_mirror_are_nowhere(tmp_path, s3_server, root,
                                             caplog):
    options = s3_server.options()
    run(tmp_path / 'run', root, options)
    backend = open_backend(f'{root}/run', storage_options=options)
    contents = [path.read_bytes() for path in (tmp_path / 'run').iterdir()]
    for file in backend.list():
        with backend.open(file.name) as there:
            contents.append(there.read())
    names = stored(f'{root}/run', options)
    assert 'best_mIoU_iter_4.pth' in names and 'last_checkpoint' in names
    for key in ('secret_access_key', 'access_key_id'):
        assert options[key] not in caplog.text
        assert not any(options[key].encode() in one for one in contents)


@pytest.mark.parametrize('change, kind, message', [
    (dict(secret_access_key='wrong'), AccessError, 'credentials'),
    (dict(bucket='no-such-bucket'), StorageError, 'name of the bucket'),
    (dict(identity='reader'), AccessError, 'cannot write'),
])
def test_a_mirror_that_refuses_stops_before_training(tmp_path, s3_server, root,
                                                     change, kind, message,
                                                     caplog):
    change = dict(change)
    bucket = change.pop('bucket', BUCKET)
    options = s3_server.options(change.pop('identity', 'writer'))
    options.update(change)
    root = root.replace(BUCKET, bucket)
    with pytest.raises(kind, match=message) as caught:
        run(tmp_path / 'run', root, options)
    # which of the two places it is about
    assert str(caught.value).startswith(f'mirror=dict(url={root!r}): cannot ')
    assert options['secret_access_key'] not in caplog.text


def test_so_does_one_of_which_nothing_is_known(tmp_path, s3_server, root):
    options = s3_server.options(retry_secs=0.1)
    options['endpoint'] = 'http://127.0.0.1:9'
    with pytest.raises(
            StorageError,
            match=f'the mirror does, mirror=dict.url={root!r}., cannot be'):
        run(tmp_path / 'run', root, options, resume='auto')


def test_an_option_of_the_mirror_is_told_as_one(tmp_path, s3_server, root):
    options = s3_server.options(end_point='http://127.0.0.1:9')
    with pytest.raises(
            ConfigError, match=f'mirror=dict.url={root!r}.: storage_options'):
        run(tmp_path / 'run', root, options)


@pytest.mark.parametrize('beside, is_told', [(BUCKET, True), ('other', False)])
def test_a_mirror_in_the_same_bucket_is_told(tmp_path, s3_server, root, caplog,
                                             beside, is_told):
    s3_server.make_bucket(beside)
    options = s3_server.options()
    place = root.replace(BUCKET, beside) + '-first'
    run(tmp_path / 'run',
        root,
        options,
        out_dir=place,
        storage_options=options)
    told = f'Mirror {root}/run is in the same bucket as {place}/run: who ' \
        'loses it, or the right to it, loses both'
    assert (told in caplog.text) is is_told


def test_a_mirror_that_is_the_place_itself_is_refused(tmp_path, s3_server,
                                                      root):
    options = s3_server.options()
    with pytest.raises(ConfigError, match='itself, where the checkpoints go'):
        run(tmp_path / 'run',
            f'{root[:-32]}/{root[-32:]}',
            options,
            out_dir=root,
            storage_options=options)
    assert stored(f'{root}/run', options) == []


def test_an_unreachable_server_does_not(tmp_path, s3_server, root, caplog,
                                        monkeypatch):
    from mmcv_ckpt_hooks import mirror
    monkeypatch.setattr(mirror, 'AWAY_SECS', 0.)
    options = s3_server.options(retry_secs=0.1)
    options['endpoint'] = 'http://127.0.0.1:9'
    run(tmp_path / 'run', root, options)
    assert (tmp_path / 'run' / 'iter_4.pth').exists()
    assert 'cannot be reached' in caplog.text
    assert 'not copied' in caplog.text
