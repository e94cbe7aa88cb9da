"""Folders in an object store whose listing is none, on a real S3 server.

To the client any answer 200 in XML is a listing: an error of the server, the
page of a proxy.
"""
import itertools
import uuid

import pytest
from fault_proxy import FAULTS
from folders import NEW_TORCH
from object_server import BUCKET
from test_s3_faults import through
from toy import ToyModel, train

from mmcv_ckpt_hooks import find_resumable, short_listing, verify_checkpoint
from mmcv_ckpt_hooks.errors import StorageError
from mmcv_ckpt_hooks.folders.folder import free_name
from mmcv_ckpt_hooks.storage import open_backend

pytest.importorskip('obstore', reason='pip install obstore')
pytestmark = [NEW_TORCH, pytest.mark.usefixtures('short_lease')]
NONE = FAULTS['no_listing']


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(short_listing, '_PAUSES_SECS', (0., 0.))


@pytest.fixture
def out_dir():
    return f's3://{BUCKET}/{uuid.uuid4().hex}'


def run(work_dir, out_dir, options, steps):
    return train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                format='dcp',
                resume='auto',
                out_dir=out_dir,
                storage_options=options)
        ])


@pytest.fixture
def place(tmp_path, s3_server, out_dir):
    """Where a run has two checkpoints."""
    run(tmp_path / 'run', out_dir, s3_server.options(), 4)
    return f'{out_dir}/run'


def of_folder(name, page=''):
    """Whether a request is for the listing of a folder, or a page of it."""
    return lambda line: 'list-type=2' in line and f'{name}%2F' in line and (
        page in line)


def fail(proxy, which, first=1, last=1):
    """Answer some of the listings that are meant with none."""
    seen = itertools.count(1)
    proxy.arm(lambda number, line: NONE
              if which(line) and first <= next(seen) <= last else None)


def test_one_listing_that_is_none_gives_up_no_checkpoint(
        tmp_path, s3_server, proxy, out_dir, place):
    """Whichever it is, of the place or of a folder."""
    options, path = through(proxy, s3_server), f'{place}/iter_4.dcp'
    for at in itertools.count(1):
        fail(proxy, lambda line: 'list-type=2' in line, at, at)
        assert find_resumable(place, options) == path, at
        if not proxy.injected:
            break
    assert at > 3
    for at in itertools.count(1):
        fail(proxy, lambda line: 'list-type=2' in line, at, at)
        runner = run(tmp_path / 'run', out_dir, options, 4)
        assert runner.restored.iter == 4, at
        if not proxy.injected:
            break
    proxy.arm()
    for name in ('iter_2.dcp', 'iter_4.dcp'):
        verify_checkpoint(f'{place}/{name}', s3_server.options())


def test_no_listing_of_a_folder_stops_a_resume(tmp_path, s3_server, proxy,
                                               out_dir, place):
    options = through(proxy, s3_server)
    # the one that the catalog asks for is right
    fail(proxy, of_folder('iter_4.dcp'), 2, 1000)
    with pytest.raises(
            StorageError,
            match='iter_4.dcp is listed as empty, but has .meta'):
        find_resumable(place, options)
    fail(proxy, of_folder('iter_4.dcp'), 3, 1000)
    with pytest.raises(
            StorageError, match='iter_4.dcp is listed .* is no listing'):
        run(tmp_path / 'run', out_dir, options, 6)
    fail(proxy, of_folder('iter_4.dcp'), 1, 1000)
    with pytest.raises(StorageError, match='iter_4.dcp is listed as empty'):
        verify_checkpoint(f'{place}/iter_4.dcp', options)
    proxy.arm()
    assert find_resumable(place, options) == f'{place}/iter_4.dcp'


@pytest.mark.parametrize(
    'before, lacks', [('0', 'manifest.json'), ('_a', 'manifest.json'),
                      ('n', 'rest.zip')],
    ids=['its parts', 'its manifest', 'its rest'])
def test_a_page_that_is_none_does_not_end_a_folder(s3_server, proxy, place,
                                                   before, lacks):
    """There are more files in it than a page has, in order of their names."""
    options, path = through(proxy, s3_server), f'{place}/iter_4.dcp'
    folder = open_backend(path, storage_options=s3_server.options())
    for number in range(1000):
        folder.put(f'{before}_{number:03}', lambda stream: None)
    second = of_folder('iter_4.dcp', 'continuation-token=')
    # the first is that of the catalog, which asks for .metadata alone
    for at in (1, 2):
        fail(proxy, second, at, at)
        assert find_resumable(place, options) == path
        assert proxy.injected == 1
    fail(proxy, second, 1, 1000)
    with pytest.raises(
            StorageError, match=f'{path} is listed without {lacks}'):
        find_resumable(place, options)


def test_a_page_that_is_none_does_not_end_a_folder_of_torch(
        tmp_path, s3_server, proxy, out_dir):
    from torch.distributed.checkpoint import save
    save(
        dict(state_dict=ToyModel().state_dict()),
        checkpoint_id=tmp_path / 'plain')
    path = f'{out_dir}/plain.dcp'
    folder = open_backend(path, storage_options=s3_server.options())
    for file in (tmp_path / 'plain').iterdir():
        folder.put(file.name, lambda stream: stream.write(file.read_bytes()))
    for number in range(1000):
        folder.put(f'0_{number:03}', lambda stream: None)
    options = through(proxy, s3_server)
    second = of_folder('plain.dcp', 'continuation-token=')
    fail(proxy, second)
    assert verify_checkpoint(path, options).note
    assert proxy.injected == 1
    fail(proxy, second, 1, 1000)
    with pytest.raises(StorageError, match='is listed without __0_0.distcp'):
        verify_checkpoint(path, options)


def test_a_name_that_is_taken_is_not_free_for_a_listing_that_is_none(
        s3_server, proxy, place):
    backend = open_backend(place, storage_options=through(proxy, s3_server))
    fail(proxy, of_folder('iter_4.dcp'))
    assert free_name(backend, 'iter_4.dcp') == 'iter_4.dcp.2'
    assert proxy.injected == 1
