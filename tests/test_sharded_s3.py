"""Sharded checkpoints that ranks write to a real S3 server."""
import shutil
import uuid

import pytest
from fault_proxy import FAULTS
from folders import NEW_TORCH
from object_server import BUCKET
from test_s3_faults import through
from test_sharded import run, run_shattered
from toy import train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.errors import AccessError
from mmcv_ckpt_hooks.storage import open_backend

pytest.importorskip('obstore', reason='pip install obstore')
pytestmark = [NEW_TORCH, pytest.mark.usefixtures('short_lease')]


@pytest.fixture
def out_dir():
    return f's3://{BUCKET}/{uuid.uuid4().hex}'


def committed(place, options):
    """What a listing has of folders."""
    backend = open_backend(place, storage_options=options)
    return [file.name for file in backend.list() if file.name.endswith('.dcp')]


def ours(out_dir, options, **more):
    return dict(out_dir=out_dir, storage_options=options, **more)


def test_ranks_write_their_parts_and_go_on_with_an_empty_disk(
        tmp_path, s3_server, out_dir):
    access, place = s3_server.options(), f'{out_dir}/run'
    whole = run(tmp_path / 'straight', steps=8)
    options = ours(out_dir, access, resume='auto', keep=dict(last=2))
    run(tmp_path / 'run', steps=6, options=options)
    assert committed(place, access) == ['iter_4.dcp', 'iter_6.dcp']
    folder = open_backend(f'{place}/iter_6.dcp', storage_options=access)
    assert sorted(file.name for file in folder.list()) == [
        '.metadata', '__0_0.distcp', '__1_0.distcp', 'manifest.json',
        'rest.zip'
    ]
    assert find_resumable(place, access) == f'{place}/iter_6.dcp'
    shutil.rmtree(tmp_path / 'run')
    resumed = run(tmp_path / 'run', steps=8, options=options)
    assert resumed['model'] == whole['model']
    assert resumed['optimizer'] == whole['optimizer']
    assert committed(place, access) == ['iter_6.dcp', 'iter_8.dcp']
    for name in committed(place, access):
        verify_checkpoint(f'{place}/{name}', access)
    names = [
        file.name
        for file in open_backend(place, storage_options=access).list()
    ]
    assert 'checkpoints.probe' not in names


def test_a_rank_that_is_killed_in_its_part_commits_nothing(
        tmp_path, s3_server, out_dir):
    access, place = s3_server.options(), f'{out_dir}/run'
    options = ours(
        out_dir, access, resume='auto', triggers=dict(exception=False))
    status, said = run_shattered(
        tmp_path / 'run',
        steps=8,
        options=options,
        fault=dict(kind='kill', rank=1, part=2))
    assert status == 1, said[-3000:]
    assert 'iter_4.dcp was not saved' in said and 'rank 1 does not' in said
    assert committed(place, access) == ['iter_2.dcp']
    told = run(tmp_path / 'run', steps=4, options=options)['logs'][0]
    assert 'what a killed save left behind' in told and 'iter_4.dcp' in told
    assert committed(place, access) == ['iter_2.dcp', 'iter_4.dcp']
    for name in committed(place, access):
        verify_checkpoint(f'{place}/{name}', access)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['cut_after', 'error_500'])
def test_over_a_bad_line_it_ends_with_the_same_bits(tmp_path, s3_server, proxy,
                                                    out_dir, name):
    whole = run(tmp_path / 'straight', steps=4)
    # one request of nine, each time for once
    proxy.arm(lambda number, line: FAULTS[name] if number % 9 == 8 else None)
    options = dict(through(proxy, s3_server), retry_secs=60)
    options = ours(out_dir, options, resume='auto')
    run(tmp_path / 'run', steps=2, options=options)
    resumed = run(tmp_path / 'run', steps=4, options=options)
    assert proxy.injected > 5
    proxy.arm()
    assert resumed['model'] == whole['model']
    access = s3_server.options()
    assert committed(f'{out_dir}/run', access) == ['iter_2.dcp', 'iter_4.dcp']
    for one in committed(f'{out_dir}/run', access):
        verify_checkpoint(f'{out_dir}/run/{one}', access)


def test_wrong_keys_end_the_start(tmp_path, s3_server, out_dir):
    options = dict(s3_server.options(), secret_access_key='wrong')
    with pytest.raises(AccessError, match='credentials'):
        train(
            tmp_path / 'run',
            hooks=[
                dict(
                    type='DurableCheckpointHook',
                    format='dcp',
                    **ours(out_dir, options))
            ])


def test_a_place_in_a_store_has_a_mirror_on_a_disk(tmp_path, s3_server,
                                                   out_dir):
    access = s3_server.options()
    train(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                format='dcp',
                mirror=dict(url=str(tmp_path / 'second')),
                **ours(out_dir, access))
        ])
    there = tmp_path / 'second' / 'run'
    for name in committed(f'{out_dir}/run', access):
        digest = verify_checkpoint(f'{out_dir}/run/{name}', access).digest
        assert verify_checkpoint(there / name).digest == digest
    assert find_resumable(there) == str(there / 'iter_4.dcp')
