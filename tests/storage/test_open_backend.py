"""Which backend serves which place."""
import os
import subprocess
import sys

import pytest
from mmcv.fileio import FileClient

from mmcv_ckpt_hooks.errors import ConfigError, StorageError, UnsupportedError
from mmcv_ckpt_hooks.storage import open_backend, scheme_of, split_filename
from mmcv_ckpt_hooks.storage.file_client import FileClientBackend
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.storage.names import (is_temporary, plain_name,
                                           without_credentials)
from mmcv_ckpt_hooks.storage.pavi import PaviBackend

knows_urls = pytest.mark.skipif(
    not hasattr(FileClient, 'infer_client'),
    reason='FileClient of mmcv < 1.3.16 knows no URLs')
windows_only = pytest.mark.skipif(os.name != 'nt', reason='Windows')


@pytest.mark.parametrize('file_client_args', [
    None,
    {},
    dict(backend='disk'),
    dict(backend=None, prefix=None),
    dict(backend='disk', prefix='s3'),
])
def test_every_way_to_say_disk_is_atomic(tmp_path, file_client_args):
    for url in (str(tmp_path), f'file://{tmp_path}'):
        backend = open_backend(url, file_client_args)
        assert isinstance(backend, LocalBackend)
        assert backend.url == str(tmp_path)


@pytest.mark.parametrize('url, file_client_args, kind', [
    ('pavi://project/model', None, PaviBackend),
    pytest.param('http://host/a', None, FileClientBackend, marks=knows_urls),
    pytest.param('https://host/a', None, FileClientBackend, marks=knows_urls),
    ('/a/b', dict(backend='http'), FileClientBackend),
    pytest.param(
        '/a/b', dict(prefix='http'), FileClientBackend, marks=knows_urls),
])
def test_others(url, file_client_args, kind):
    assert isinstance(open_backend(url, file_client_args), kind)


@knows_urls
def test_registered_prefix_is_enough_as_in_mmcv(monkeypatch):
    for name in ('_backends', '_prefix_to_backends', '_instances'):
        monkeypatch.setattr(FileClient, name, dict(getattr(FileClient, name)))
    FileClient.register_backend(
        'mine', FileClient._backends['disk'], prefixes='mine')
    backend = open_backend('mine://bucket/run')
    assert isinstance(backend, FileClientBackend)
    assert backend.url == 'mine://bucket/run'


def test_an_old_mmcv_serves_no_url(monkeypatch):
    monkeypatch.delattr(FileClient, 'infer_client', raising=False)
    with pytest.raises(ConfigError, match='mmcv < 1.3.16 does not choose'):
        open_backend('http://host/a')


def test_an_old_mmcv_only_reads(tmp_path, monkeypatch):
    monkeypatch.delattr(FileClient, 'put', raising=False)
    (tmp_path / 'a.pth').write_bytes(b'content')
    backend = FileClientBackend(str(tmp_path), dict(backend='disk'))
    assert backend.open('a.pth').read() == b'content'
    with pytest.raises(UnsupportedError, match='put'):
        backend.prepare()


@pytest.mark.parametrize('url, file_client_args, message', [
    ('nowhere://bucket/run', None, 'mounted as a directory'),
    ('s3://bucket/run', dict(backend='disk'), 'no local path'),
    ('s3://bucket/run', {}, 'no local path'),
    ('/a/b', dict(backend='disk', path_mapping={}), "'path_mapping'"),
    ('pavi://a/b', dict(backend='disk'), 'must be None'),
    ('pavi://', None, 'no training model'),
])
def test_contradictions_are_refused(url, file_client_args, message):
    with pytest.raises(ConfigError, match=message):
        open_backend(url, file_client_args)


def test_nothing_is_touched_yet(tmp_path):
    open_backend(str(tmp_path / 'new'))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('filename, expected', [
    ('a.pth', ('.', 'a.pth')),
    ('/a.pth', ('/', 'a.pth')),
    ('work_dirs/x/a.pth', ('work_dirs/x', 'a.pth')),
    ('pavi://project/model/a.pth', ('pavi://project/model', 'a.pth')),
    ('cluster:s3://bucket/a.pth', ('cluster:s3://bucket', 'a.pth')),
    ('file:///work/a.pth', ('file:///work', 'a.pth')),
])
def test_filename_is_split_into_place_and_name(filename, expected):
    assert split_filename(filename) == expected


@pytest.mark.parametrize('filename', ['', 'work_dirs/', 'pavi://a/'])
def test_filename_without_a_name_is_refused(filename):
    with pytest.raises(ConfigError, match='names no file'):
        split_filename(filename)


@pytest.mark.parametrize('url, scheme', [('/a/b', ''), ('pavi://a', 'pavi'),
                                         ('cluster:s3://a', 'cluster:s3')])
def test_scheme(url, scheme):
    assert scheme_of(url) == scheme


@pytest.mark.parametrize('name', ['a', 'iter_1.pth', '.hidden', '..a', 'ä b'])
def test_plain_names(name):
    assert plain_name(name, '/somewhere') == name


@pytest.mark.skipif(os.name == 'nt', reason='a backslash separates there')
def test_a_backslash_is_part_of_a_name():
    assert plain_name('old\\iter_1.pth', '/somewhere')


@pytest.mark.parametrize('name', [
    '', '.', '..', 'a/b', '/', '\0',
    pytest.param('a\\b', marks=windows_only),
    pytest.param('C:a', marks=windows_only)
])
def test_names_that_are_not_plain(name):
    with pytest.raises(StorageError, match='/somewhere'):
        plain_name(name, '/somewhere')


@pytest.mark.parametrize('name, expected', [
    ('.iter_1.pth.tmp-12-ab', True),
    ('iter_1.pth', False),
    ('a.tmp-b.pth', False),
    ('.hidden', False),
])
def test_temporary_names(name, expected):
    assert is_temporary(name) is expected


@pytest.mark.parametrize('url, expected', [
    ('s3://key:secret@bucket/a@b', 's3://bucket/a@b'),
    ('https://token@host/x', 'https://host/x'),
    ('sftp://me:p@ss@host/x@y', 'sftp://host/x@y'),
    ('s3://bucket/a@b', 's3://bucket/a@b'),
    ('/home/me@work', '/home/me@work'),
])
def test_credentials_are_not_shown(url, expected):
    assert without_credentials(url) == expected


def test_backends_import_no_mmcv_and_no_torch():
    """Only the FileClient backend does, once it is used."""
    names = ('local', 'pavi', 'file_client', 'fsspec_store')
    code = '\n'.join([
        'import sys, types',
        # in the place of the package, which imports both
        'package = types.ModuleType("mmcv_ckpt_hooks")',
        'package.__path__ = [sys.argv[1]]',
        'sys.modules["mmcv_ckpt_hooks"] = package',
        *(f'import mmcv_ckpt_hooks.storage.{name}' for name in names),
        'import mmcv_ckpt_hooks.testing',
        'assert not {"mmcv", "torch"} & set(sys.modules), "imported"',
    ])
    import mmcv_ckpt_hooks
    subprocess.run([sys.executable, '-c', code, mmcv_ckpt_hooks.__path__[0]],
                   check=True)
