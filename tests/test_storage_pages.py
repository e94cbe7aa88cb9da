"""The configs of ``docs/storage``: built, and run where the pages say so."""
from pathlib import Path

import fake_petrel
import pytest
from doc_blocks import blocks_of
from mmcv.runner import HOOKS
from mmcv.utils import build_from_cfg
from object_server import IDENTITIES
from stock import as_since_1_3_16
from toy import train

from mmcv_ckpt_hooks import DurableCheckpointHook
from mmcv_ckpt_hooks.testing import pavi

PAGES = Path(__file__).parent.parent / 'docs' / 'storage'
NAMES = sorted(path.stem for path in PAGES.glob('[a-z]*.md'))


def config(name):
    """The one config of a page."""
    block, = [
        one for one in blocks_of(f'docs/storage/{name}.md')
        if one.language == 'python'
    ]
    found = {}
    exec(block.text, found)
    hook, = found['custom_hooks']
    return hook


def run(work_dir, hook):
    """Train, and go on from what was saved with an empty disk."""
    for steps in (2, 4):
        runner = train(
            work_dir / str(steps) / work_dir.name,
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            hooks=[dict(hook)])
    assert runner.restored is not None


def test_every_page_is_in_the_table_and_has_a_config():
    table = (PAGES / 'README.md').read_text()
    assert NAMES == [
        'azure', 'fsspec', 'gcs', 'minio-seaweedfs', 'pavi', 'petrel', 's3'
    ]
    for name in NAMES:
        assert f'({name}.md)' in table
        hook = build_from_cfg(config(name), HOOKS)
        assert isinstance(hook, DurableCheckpointHook)


@pytest.mark.parametrize('name', ['s3', 'minio-seaweedfs'])
def test_s3(tmp_path, s3_server, monkeypatch, name):
    pytest.importorskip('obstore', reason='pip install obstore')
    key, secret, _ = IDENTITIES['writer']
    for variable, value in (('ACCESS_KEY_ID', key), ('SECRET_ACCESS_KEY',
                                                     secret), ('REGION',
                                                               'us-east-1')):
        monkeypatch.setenv(f'AWS_{variable}', value)
    hook = config(name)
    if 'storage_options' in hook:
        hook['storage_options']['endpoint'] = s3_server.endpoint
    else:
        monkeypatch.setenv('AWS_ENDPOINT_URL', s3_server.endpoint)
    run(tmp_path / name, hook)


def test_pavi(tmp_path):
    with pavi.install(str(tmp_path / 'platform')):
        run(tmp_path / 'run', config('pavi'))


@as_since_1_3_16
def test_petrel(tmp_path, monkeypatch):
    fake_petrel.install(monkeypatch)
    run(tmp_path / 'run', config('petrel'))


def test_fsspec(tmp_path, short_lease):
    pytest.importorskip('fsspec', reason='pip install fsspec')
    run(tmp_path / tmp_path.name, config('fsspec'))
