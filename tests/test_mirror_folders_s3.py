"""Mirrors of sharded checkpoints on a real S3 server."""
import itertools
import json
import os
import shutil
import uuid
from pathlib import Path

import pytest
import torch
from dying import run_until_killed
from exact import drawing_run
from fault_proxy import FAULTS, TRANSIENT
from folders import NEW_TORCH
from object_server import BUCKET
from test_mirror import opened
from test_mirror_folders import contents, nothing, run
from test_s3_faults import ALL, TIMEOUTS, through
from test_sharded import run as run_ranks

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import CheckpointError, StorageError
from mmcv_ckpt_hooks.mirroring import MirrorPlace
from mmcv_ckpt_hooks.retention import KeepLast
from mmcv_ckpt_hooks.storage import object_store, open_backend, uploads
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.storage.s3_signature import requests_to

pytest.importorskip('obstore', reason='pip install obstore')
pytestmark = NEW_TORCH

#: Of the faults those that differ here; all with MMCV_CKPT_ALL_FAULTS=1.
SOME = sorted(FAULTS) if ALL else [
    'cut_after', 'error_500', 'flipped', 'flipped_request', 'missing',
    'no_listing', 'refused', 'truncated', 'upload_is_gone'
]


@pytest.fixture
def root():
    return f's3://{BUCKET}/{uuid.uuid4().hex}'


def stored(place, options):
    """The checkpoints of a place."""
    backend = open_backend(place, storage_options=options)
    return [file.name for file in backend.list() if file.name[:5] == 'iter_']


def objects(place, options):
    """What is in a folder."""
    backend = open_backend(place, storage_options=options)
    found = {}
    for file in backend.list():
        with backend.open(file.name) as there:
            found[file.name] = there.read()
    return found


def test_a_killed_run_is_mirrored_by_a_push_and_resumed_with_an_empty_disk(
        tmp_path, s3_server, root, capsys, monkeypatch):
    straight, losses = drawing_run(tmp_path / 'straight', 14)
    work_dir, place = tmp_path / 'run', f'{root}/run'
    access = s3_server.options()
    options = dict(
        format='dcp',
        max_keep_ckpts=2,
        mirror=dict(url=root, storage_options=access))
    given = dict(work_dir=str(work_dir), steps=14, die_at=8, options=options)
    run_until_killed('s3_worker.py', 'train_mirrored', **given)
    local = [
        file.name for file in LocalBackend(str(work_dir)).list()
        if file.name[:5] == 'iter_'
    ]
    assert local and stored(place, access) == []
    # killed while a copy was under way
    begun = open_backend(place, storage_options=access).folders()
    assert begun and 'writing' in objects(f'{place}/{begun[0]}', access)
    with monkeypatch.context() as patch:
        for name in ('access_key_id', 'secret_access_key'):
            patch.setenv(f'AWS_{name.upper()}', access[name])
        code = main(['push', str(work_dir), '--json'])
    told = json.loads(capsys.readouterr().out)
    assert code == 0 and told['url'] == place
    assert {
        one['name']: one['status']
        for one in told['checkpoints']
    } == dict.fromkeys(local, 'copied')
    assert stored(place, access) == sorted(local)
    for name in local:
        assert objects(f'{place}/{name}', access) == contents(work_dir / name)
    # the disk is lost
    shutil.rmtree(work_dir)
    resumed, again = drawing_run(work_dir, 14, seed=1, options=options)
    assert min(again) in (4, 7)
    assert all(again[step] == losses[step] for step in again)
    for name, value in resumed['model'].items():
        assert torch.equal(value, straight['model'][name]), name
    assert stored(place, access) == ['iter_12.dcp', 'iter_14.dcp']
    newest = find_resumable(place, access)
    assert newest == f'{place}/iter_14.dcp'
    assert verify_checkpoint(newest, access).info['iter'] == 14
    with open_backend(
            place, storage_options=access).open('last_checkpoint') as file:
        assert file.read() == b'iter_14.dcp\n'


def test_ranks_go_on_from_the_mirror_when_the_disk_is_lost(
        tmp_path, s3_server, root):
    access = s3_server.options()
    whole = run_ranks(tmp_path / 'straight', steps=6)
    options = dict(
        mirror=dict(url=root, storage_options=access), resume='auto')
    run_ranks(tmp_path / 'run', steps=4, options=options)
    assert stored(f'{root}/run', access) == ['iter_2.dcp', 'iter_4.dcp']
    assert '__1_0.distcp' in objects(f'{root}/run/iter_4.dcp', access)
    shutil.rmtree(tmp_path / 'run')
    resumed = run_ranks(tmp_path / 'run', steps=6, options=options)
    assert 'iter_4.dcp, newer than all in' in resumed['logs'][0]
    assert resumed['model'] == whole['model']
    assert resumed['optimizer'] == whole['optimizer']


def test_another_runs_folder_is_kept_under_another_name(
        tmp_path, s3_server, root, caplog):
    access = s3_server.options()
    mirror = dict(url=root, storage_options=access)
    run(tmp_path / 'run', None, steps=4, mirror=mirror)
    other = objects(f'{root}/run/iter_4.dcp', access)
    shutil.rmtree(tmp_path / 'run')
    run(tmp_path / 'run', None, steps=4, mirror=mirror, resume=None)
    told = 'iter_4.dcp belongs to another run; that one is kept as '
    aside = caplog.text.partition(told)[2].split()[0]
    assert objects(f'{root}/run/{aside}', access) == other
    assert objects(f'{root}/run/iter_4.dcp', access) == contents(
        tmp_path / 'run' / 'iter_4.dcp') != other


@pytest.fixture
def small_parts(monkeypatch):
    """All but small files go up in parts."""
    monkeypatch.setattr(uploads, 'PART_BYTES', 4 << 10)
    monkeypatch.setattr(object_store, 'PART_BYTES', 5 << 20)


@pytest.fixture
def saved(tmp_path, s3_server):
    """A run's place and what it has."""
    run(tmp_path / 'run', None, steps=2)
    return LocalBackend(str(tmp_path / 'run')), opened(tmp_path / 'run')


def mirror_of(root, catalog, options):
    place = MirrorPlace(f'{root}/run', KeepLast(None), print, print, options)
    place.open()
    place.begin(catalog)
    return place


@pytest.mark.parametrize('name', SOME)
def test_a_fault_at_every_request_of_a_copy(saved, s3_server, proxy, root,
                                            small_parts, name,
                                            record_property):
    source, catalog = saved
    info = catalog.find('iter_2.dcp')
    options = through(proxy, s3_server, TIMEOUTS.get(name, '5s'))
    place = mirror_of(root, catalog, options)
    past = s3_server.options()
    cases = failed = 0
    for at in itertools.count(1):
        proxy.arm_at(FAULTS[name], at)
        error = None
        try:
            # it replaces the one before
            place.add(info, source, nothing)
        except CheckpointError as raised:
            error = raised
        reached, injected = len(proxy.lines), proxy.injected
        proxy.arm()
        if reached < at:
            break
        cases, failed = cases + (injected > 0), failed + bool(error)
        assert error is None or name not in TRANSIENT, at
        there = stored(f'{root}/run', past)
        assert there == ['iter_2.dcp'] or error, at
        if error:
            place.add(info, source, nothing)
        assert place.catalog.find(info.name) == info
        assert stored(f'{root}/run', past) == ['iter_2.dcp']
        verified = verify_checkpoint(f'{root}/run/iter_2.dcp', past)
        assert verified.digest == info.digest, at
        found = objects(f'{root}/run/iter_2.dcp', past)
        if name == 'missing':
            # that what is to be deleted is not there is believed
            found.pop('writing', None)
        assert found == contents(Path(source.url) / info.name), at
    place.release()
    assert cases
    print(name, cases, 'cases', failed, 'failed')
    record_property('cases', cases)


def test_a_copy_that_fails_leaves_no_upload(saved, s3_server, root,
                                            small_parts):
    source, catalog = saved
    place = mirror_of(root, catalog, s3_server.options())
    path = os.path.join(source.url, 'iter_2.dcp', '__0_0.distcp')
    with open(path, 'r+b') as file:
        # beyond what is sent first
        file.seek(-2000, os.SEEK_END)
        byte = file.read(1)
        file.seek(-2000, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CheckpointError, match='damaged'):
        place.add(catalog.find('iter_2.dcp'), source, nothing)
    place.release()
    assert place.backend.folders() == []
    found = requests_to(BUCKET, s3_server.options()).send(
        'GET', query=dict(uploads='', prefix=root.rpartition('/')[2])).body
    assert b'<UploadId>' not in found


def test_an_error_for_the_listing_of_a_folder_is_no_empty_folder(
        saved, s3_server, proxy, root):
    source, catalog = saved
    place = mirror_of(root, catalog, s3_server.options())
    place.add(catalog.find('iter_2.dcp'), source, nothing)
    place.release()
    backend = open_backend(
        f'{root}/run', storage_options=through(proxy, s3_server))
    proxy.arm(lambda number, line: FAULTS['no_listing']
              if 'iter_2.dcp' in line else None)
    with pytest.raises(StorageError, match='listed without .metadata, which'):
        backend.list()
    proxy.arm_at(FAULTS['no_listing'], 2)
    assert 'iter_2.dcp' in [file.name for file in backend.list()]
