"""The FileClient backend, over real mmcv backends and registered ones."""
import http.server
import sys
import threading

import fake_petrel
import pytest
from mmcv.fileio import BaseStorageBackend, FileClient

from mmcv_ckpt_hooks.errors import (AccessError, ConfigError, DependencyError,
                                    MissingCheckpointError, OutOfSpaceError,
                                    StorageError, UnsupportedError)
from mmcv_ckpt_hooks.storage import open_backend
from mmcv_ckpt_hooks.storage.file_client import FileClientBackend
from mmcv_ckpt_hooks.testing.contract import StorageBackendContract
from mmcv_ckpt_hooks.types import POINTER_FILE, Capabilities

pytestmark = pytest.mark.skipif(
    not hasattr(FileClient, 'infer_client'),
    reason='FileClient of mmcv < 1.3.16 knows no URLs and writes nothing')


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test registers in mmcv is gone afterwards."""
    for name in ('_backends', '_prefix_to_backends', '_instances'):
        monkeypatch.setattr(FileClient, name, dict(getattr(FileClient, name)))


class ReadOnly(BaseStorageBackend):
    """What every backend could do before mmcv 1.3.16."""

    def __init__(self, files=None):
        self.files = {} if files is None else files

    def get(self, filepath):
        return self.files[filepath]

    def get_text(self, filepath):
        return self.files[filepath].decode()


class PutOnly(ReadOnly):

    def put(self, obj, filepath):
        assert type(obj) is bytes
        self.files[filepath] = obj

    def exists(self, filepath):
        return filepath in self.files


class Complete(PutOnly):
    """A registered backend over a mapping: KeyError for a missing file."""

    def remove(self, filepath):
        del self.files[filepath]

    def join_path(self, filepath, *filepaths):
        return '/'.join((filepath.rstrip('/'), ) + filepaths)

    def list_dir_or_file(self,
                         dir_path,
                         list_dir=True,
                         list_file=True,
                         suffix=None,
                         recursive=False):
        assert list_file and not list_dir
        for path in self.files:
            if path.startswith(f'{dir_path}/'):
                yield path[len(dir_path) + 1:]


class NoneForMissing(Complete):

    def get(self, filepath):
        return self.files.get(filepath)


def served(backend, url='kept://runs/a'):
    """A FileClientBackend over a class of this file."""
    FileClient.register_backend('kept', backend, prefixes='kept', force=True)
    return FileClientBackend(url, dict(backend='kept'))


class TestRegisteredBackend(StorageBackendContract):
    knows_sizes = False

    @pytest.fixture(params=[Complete, NoneForMissing, PutOnly])
    def backend(self, request):
        backend = served(request.param)
        backend.prepare()
        return backend


class TestDiskBackend(StorageBackendContract):
    """mmcv's own, which open_backend would not choose."""
    knows_sizes = False

    @pytest.fixture
    def backend(self, tmp_path):
        backend = FileClientBackend(str(tmp_path / 'a'), dict(backend='disk'))
        backend.prepare()
        return backend


@pytest.fixture
def petrel(monkeypatch):
    fake_petrel.install(monkeypatch)


class TestPetrelBackend(StorageBackendContract):
    knows_sizes = False

    @pytest.fixture(params=[
        ('s3://bucket/run', dict(backend='petrel')),
        # the prefix decides, as in mmcv
        ('cluster:s3://bucket/run/', None),
    ])
    def backend(self, petrel, request):
        url, file_client_args = request.param
        backend = open_backend(url, file_client_args)
        backend.prepare()
        return backend


def put(backend, name='a.pth', content=b'content'):
    return backend.put(name, lambda stream: stream.write(content))


# -- capabilities ----------------------------------------------------------


@pytest.mark.parametrize('backend, expected', [
    (ReadOnly, Capabilities()),
    (PutOnly, Capabilities(point=True)),
    (Complete, Capabilities(listing=True, delete=True, point=True)),
])
def test_declares_what_the_class_implements(backend, expected):
    assert served(backend).capabilities == expected


def test_file_client_that_lacks_a_verb_is_believed(monkeypatch):
    """mmcv before 1.3.16: the backend may have it, FileClient has not."""
    monkeypatch.delattr(FileClient, 'remove')
    monkeypatch.delattr(FileClient, 'list_dir_or_file')
    assert served(Complete).capabilities == Capabilities(point=True)


def test_inherited_stub_of_the_base_class_is_no_implementation(monkeypatch):
    monkeypatch.setattr(
        BaseStorageBackend, 'put', lambda *args: None, raising=False)
    with pytest.raises(UnsupportedError, match="'put'"):
        served(ReadOnly).prepare()


def test_read_only_backend_reads_and_says_that_it_cannot_write():
    backend = served(ReadOnly)
    backend._client.client.files['kept://runs/a/a.pth'] = b'content'
    with backend.open('a.pth') as file:
        assert file.read() == b'content'
    for verb in (backend.prepare, lambda: put(backend),
                 lambda: backend.point('latest.pth', 'a.pth')):
        with pytest.raises(UnsupportedError, match='ReadOnly'):
            verb()


def test_sdk_that_lacks_a_verb_is_unsupported(petrel, monkeypatch):
    """Petrel's class has ``remove``, but its SDK may be too old for it."""
    backend = open_backend('s3://bucket/run', dict(backend='petrel'))
    put(backend)
    monkeypatch.delattr(fake_petrel.PetrelClient, 'delete')
    with pytest.raises(UnsupportedError, match='Petrel Python SDK'):
        backend.delete('a.pth')


# -- prepare ---------------------------------------------------------------


def test_prepare_leaves_nothing():
    backend = served(Complete)
    backend.prepare()
    assert backend._client.client.files == {}


def test_prepare_finds_out_that_nothing_can_be_written(monkeypatch):
    backend = served(Complete)

    def refused(self, obj, filepath):
        raise PermissionError('no such token')

    monkeypatch.setattr(Complete, 'put', refused)
    with pytest.raises(AccessError, match='credentials'):
        backend.prepare()


def test_storage_that_keeps_everything_can_be_saved_to(monkeypatch):
    backend = served(Complete)

    def refused(self, filepath):
        raise PermissionError('nobody may delete')

    monkeypatch.setattr(Complete, 'remove', refused)
    backend.prepare()
    put(backend)
    assert [file.name for file in backend.list()] == ['a.pth']


def test_prepare_writes_no_probe_that_would_stay():
    backend = served(PutOnly)
    backend.prepare()
    assert backend._client.client.files == {}


# -- errors ----------------------------------------------------------------

VERBS = {
    'put': lambda backend: put(backend),
    'get': lambda backend: backend.open('a.pth'),
    'remove': lambda backend: backend.delete('a.pth'),
    'list_dir_or_file': lambda backend: backend.list(),
}


@pytest.mark.parametrize('verb', VERBS)
@pytest.mark.parametrize('error, expected', [
    (PermissionError('token'), AccessError),
    (PermissionError(13, 'Permission denied'), AccessError),
    (OSError(28, 'No space left on device'), OutOfSpaceError),
    (ConnectionError('reset'), StorageError),
    (TimeoutError(), StorageError),
    (TypeError('odd'), StorageError),
    (NotImplementedError('old SDK'), UnsupportedError),
])
def test_errors_are_mapped(monkeypatch, verb, error, expected):
    backend = served(Complete)
    put(backend)

    def refused(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(Complete, verb, refused)
    with pytest.raises(StorageError, match='kept://runs/a') as caught:
        VERBS[verb](backend)
    assert type(caught.value) is expected
    assert caught.value.__cause__ is error


@pytest.mark.parametrize('error', [
    FileNotFoundError('a.pth'),
    FileNotFoundError(2, 'No such file'),
    KeyError('a.pth'),
    TypeError('NoneType'),
])
def test_missing_file_is_told_from_a_failure(monkeypatch, error):
    backend = served(Complete)

    def refused(self, filepath):
        raise error

    for verb in ('get', 'remove'):
        monkeypatch.setattr(Complete, verb, refused)
    with pytest.raises(MissingCheckpointError) as caught:
        backend.open('a.pth')
    assert caught.value.__cause__ is error
    backend.delete('a.pth')


@pytest.mark.parametrize('exists, expected', [
    (lambda self, path: True, StorageError),
    (None, StorageError),
])
def test_doubt_is_no_missing_file(monkeypatch, exists, expected):
    backend = served(Complete)
    if exists is None:
        monkeypatch.delattr(PutOnly, 'exists')
    else:
        monkeypatch.setattr(PutOnly, 'exists', exists)
    for verb in (lambda: backend.open('a.pth'),
                 lambda: backend.delete('a.pth')):
        with pytest.raises(StorageError) as caught:
            verb()
        assert type(caught.value) is expected


def test_refused_look_is_no_missing_file(monkeypatch):
    backend = served(Complete)

    def refused(self, filepath):
        raise PermissionError('token')

    monkeypatch.setattr(PutOnly, 'exists', refused)
    with pytest.raises(AccessError):
        backend.open('a.pth')


def test_directory_that_no_save_made_yet_is_empty(tmp_path):
    backend = FileClientBackend(str(tmp_path / 'new'), dict(backend='disk'))
    assert backend.list() == []


def test_failed_save_is_no_missing_checkpoint(monkeypatch):
    backend = served(Complete)

    def refused(self, obj, filepath):
        raise FileNotFoundError('bucket')

    monkeypatch.setattr(Complete, 'put', refused)
    with pytest.raises(StorageError) as caught:
        put(backend)
    assert not isinstance(caught.value, MissingCheckpointError)


# -- http ------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):

    def do_GET(self):
        status = int(self.path.split('/')[1])
        content = b'content' if status == 200 else b''
        self.send_response(status)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def server():
    with http.server.HTTPServer(('127.0.0.1', 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01, ))
        thread.start()
        try:
            yield f'http://127.0.0.1:{server.server_port}'
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize('status, expected', [
    (404, MissingCheckpointError),
    (410, MissingCheckpointError),
    (401, AccessError),
    (403, AccessError),
    (500, StorageError),
    (507, OutOfSpaceError),
])
def test_http_status_is_understood(server, monkeypatch, status, expected):
    monkeypatch.setenv('no_proxy', '*')
    with pytest.raises(StorageError) as caught:
        open_backend(f'{server}/{status}').open('a.pth')
    assert type(caught.value) is expected


def test_http_can_only_be_read(server, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    backend = open_backend(f'{server}/200')
    with backend.open('a.pth') as file:
        assert file.read() == b'content'
    assert backend.capabilities == Capabilities()
    with pytest.raises(UnsupportedError, match='HTTPBackend'):
        backend.prepare()


# -- which client ----------------------------------------------------------


def test_scheme_that_nobody_serves_is_refused():
    with pytest.raises(ConfigError, match='prefix gopher is not supported'):
        FileClientBackend('gopher://host/a')


@pytest.mark.parametrize('arguments, message', [
    (dict(backend='no_such'), 'Backend no_such is not supported'),
    (dict(backend='kept', secret='hidden'), 'secret'),
])
def test_arguments_that_mmcv_refuses_are_config_errors(arguments, message):
    FileClient.register_backend('kept', Complete)
    with pytest.raises(ConfigError, match=message) as caught:
        FileClientBackend('kept://a', arguments)
    assert 'hidden' not in str(caught.value)


def test_missing_sdk_is_a_dependency_error(monkeypatch):
    monkeypatch.setitem(sys.modules, 'petrel_client', None)
    with pytest.raises(DependencyError, match='petrel_client'):
        FileClientBackend('s3://bucket/run')


def test_url_is_shown_without_credentials():
    backend = served(Complete, 'kept://key:secret@bucket/run')
    assert backend.url == 'kept://bucket/run'
    put(backend)
    assert list(backend._client.client.files) == [
        'kept://key:secret@bucket/run/a.pth'
    ]
    with pytest.raises(MissingCheckpointError) as caught:
        backend.open('b.pth')
    # in the backend's own words it is, which cannot be helped
    assert 'secret' not in str(caught.value).split(': ')[0]


def test_pointer_is_a_file_that_is_no_pth():
    backend = served(Complete)
    put(backend)
    backend.point('latest.pth', 'a.pth')
    assert [file.name for file in backend.list()] == ['a.pth', POINTER_FILE]
