"""The backend over fsspec's own file systems, which are real ones."""
import datetime
import gc
import io
import os
import sys
import time
import uuid

import pytest
from object_server import BUCKET

from mmcv_ckpt_hooks.errors import (AccessError, ConfigError, DependencyError,
                                    MissingCheckpointError, OutOfSpaceError,
                                    StorageError, UnsupportedError)
from mmcv_ckpt_hooks.storage import open_backend
from mmcv_ckpt_hooks.storage.fsspec_store import FsspecBackend
from mmcv_ckpt_hooks.testing.contract import StorageBackendContract

fsspec = pytest.importorskip('fsspec', reason='pip install fsspec')

from fsspec.implementations.local import LocalFileSystem  # noqa: E402
from fsspec.implementations.memory import MemoryFile  # noqa: E402
from fsspec.implementations.memory import MemoryFileSystem  # noqa: E402


@pytest.fixture
def url():
    url = f'memory://{uuid.uuid4().hex}/run'
    yield url
    MemoryFileSystem.store.clear()
    del MemoryFileSystem.pseudo_dirs[1:]


@pytest.fixture
def backend(url):
    backend = FsspecBackend(url)
    backend.prepare()
    return backend


def put(backend, name='a.pth', content=b'content'):
    return backend.put(name, lambda stream: stream.write(content))


def get(backend, name='a.pth'):
    with backend.open(name) as file:
        return file.read()


def names(backend):
    return [file.name for file in backend.list()]


class TestMemory(StorageBackendContract):

    @pytest.fixture
    def backend(self, backend):
        assert backend.capabilities.atomic_replace
        assert backend.capabilities.server_copy
        return backend


class TestLocal(StorageBackendContract):

    @pytest.fixture(params=['file', 'local'])
    def backend(self, request, tmp_path):
        backend = FsspecBackend(f'{request.param}://{tmp_path}/new/run')
        backend.prepare()
        return backend


class PlainFileSystem(LocalFileSystem):
    """One that cannot copy, nor replace by a rename: as ftp and webhdfs."""
    protocol = 'plain'

    def mv(self, path1, path2, **kwargs):
        if not os.path.exists(self._strip_protocol(path2)):
            os.rename(self._strip_protocol(path1), self._strip_protocol(path2))

    @classmethod
    def _strip_protocol(cls, path):
        return path[len('plain://'):] if path.startswith('plain://') else path


class TestPlain(StorageBackendContract):
    """What it lacks has its named error, or is made up for."""

    @pytest.fixture
    def backend(self, plain, tmp_path):
        backend = FsspecBackend(f'plain://{tmp_path}/run')
        backend.prepare()
        assert not backend.capabilities.atomic_replace
        assert not backend.capabilities.server_copy
        return backend


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.delattr(LocalFileSystem, 'cp_file')
    monkeypatch.setitem(sys.modules['fsspec.registry']._registry, 'plain',
                        PlainFileSystem)


class StoreFile:
    """Appears when it is closed, which it also is when it is freed."""

    def __init__(self, fs, path):
        self._fs = fs
        self._path = path
        self._content = io.BytesIO()
        self.closed = False
        self.write = self._content.write

    def close(self):
        if not self.closed:
            self.closed = True
            self._fs.store[self._path] = MemoryFile(self._fs, self._path,
                                                    self._content.getvalue())

    def discard(self):
        self._fs.aborted.append(self._path)

    __del__ = close


class StoreFileSystem(MemoryFileSystem):
    """An object store, as those of fsspec's packages are."""
    store = {}
    pseudo_dirs = ['']
    aborted = []

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace('gcs://', 'memory://'))

    def _open(self, path, mode='rb', **kwargs):
        if mode == 'wb':
            return StoreFile(self, self._strip_protocol(path))
        return super()._open(path, mode, **kwargs)

    def ls(self, path, detail=True, **kwargs):
        found = super().ls(path, detail, **kwargs)
        return [dict(name=f'{path}/', size=0, type='file'), *found]


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setitem(sys.modules['fsspec.registry']._registry, 'gcs',
                        StoreFileSystem)
    StoreFileSystem.store.clear()
    StoreFileSystem.pseudo_dirs[1:] = ['/bucket']
    del StoreFileSystem.aborted[:]
    return StoreFileSystem


class TestStore(StorageBackendContract):

    @pytest.fixture
    def backend(self, store):
        backend = FsspecBackend('gcs://bucket/run')
        backend.prepare()
        return backend


class TestS3fs(StorageBackendContract):
    """On a real server, where somebody has installed s3fs."""

    @pytest.fixture
    def backend(self, request):
        pytest.importorskip('s3fs', reason='pip install s3fs')
        given = request.getfixturevalue('s3_server').options()
        place = dict(
            endpoint_url=given['endpoint'], region_name=given['region'])
        backend = open_backend(
            f's3a://{BUCKET}/{uuid.uuid4().hex}',
            storage_options=dict(
                key=given['access_key_id'],
                secret=given['secret_access_key'],
                client_kwargs=place))
        backend.prepare()
        return backend


def test_on_an_object_store_nothing_is_renamed_and_uploads_are_aborted(store):
    backend = FsspecBackend('gcs://bucket/run')
    put(backend)
    assert list(store.store) == ['/bucket/run/a.pth']

    def write(stream):
        stream.write(b'half')
        raise ValueError('in the writer')

    with pytest.raises(ValueError):
        backend.put('b.pth', write)
    gc.collect()
    assert list(store.store) == ['/bucket/run/a.pth']
    assert store.aborted == ['/bucket/run/b.pth']


def test_a_bucket_that_is_not_there_is_no_empty_prefix(store):
    assert FsspecBackend('gcs://bucket/new').list() == []
    with pytest.raises(StorageError, match='cannot list') as caught:
        FsspecBackend('gcs://gone/run').list()
    assert not isinstance(caught.value, MissingCheckpointError)


# -- a file appears complete or not at all ---------------------------------


def test_what_is_written_has_another_name_until_it_is_complete(url, backend):

    def write(stream):
        stream.write(b'half')
        there = fsspec.filesystem('memory').ls(url, detail=False)
        assert len(there) == 1 and '/.a.pth.tmp-' in there[0]

    backend.put('a.pth', write)
    assert names(backend) == ['a.pth']
    assert fsspec.filesystem('memory').ls(
        url, detail=False) == [backend._path('a.pth')]


def test_what_was_lost_on_the_way_is_no_checkpoint(backend, monkeypatch):
    put(backend, content=b'old')
    commit = MemoryFileSystem._open

    def lose(self, path, mode='rb', **kwargs):
        file = commit(self, path, mode, **kwargs)
        if mode == 'wb':
            file.write = lambda data: len(data)
        return file

    monkeypatch.setattr(MemoryFileSystem, '_open', lose)
    with pytest.raises(StorageError, match='has 0 bytes, expected 7'):
        put(backend)
    assert get(backend) == b'old' and names(backend) == ['a.pth']


def test_large_writes_go_on_in_blocks(backend, monkeypatch):
    sizes = []
    opened = MemoryFileSystem._open

    def count(self, path, mode='rb', **kwargs):
        file = opened(self, path, mode, **kwargs)
        write = file.write
        file.write = lambda data: (sizes.append(len(data)), write(data))[1]
        return file

    monkeypatch.setattr(MemoryFileSystem, '_open', count)
    assert put(backend, content=bytes(20 << 20)) == 20 << 20
    assert sizes == [8 << 20, 8 << 20, 4 << 20]
    assert len(get(backend)) == 20 << 20


def test_what_is_read_is_not_remembered(backend, monkeypatch):
    """Another process replaces it; file systems keep listings."""
    put(backend, content=b'first')
    remembered, opened = {}, MemoryFileSystem._open

    def remember(self, path, mode='rb', **kwargs):
        if mode == 'wb':
            return opened(self, path, mode, **kwargs)
        return io.BytesIO(
            remembered.setdefault(path,
                                  opened(self, path, mode).read()))

    monkeypatch.setattr(MemoryFileSystem, '_open', remember)
    monkeypatch.setattr(MemoryFileSystem, 'invalidate_cache',
                        lambda *_: remembered.clear())
    assert get(backend) == b'first'
    fsspec.filesystem('memory').store[backend._path('a.pth')] = MemoryFile(
        None, backend._path('a.pth'), b'second')
    assert get(backend) == b'second'


def test_a_shared_file_has_a_connection_of_its_own(backend, tmp_path):
    """It is renewed on another thread than checkpoints are written."""
    for one in (backend, FsspecBackend(f'local://{tmp_path}')):
        files = [one, one.share('a.lock')._files, one.share('a.lock')._files]
        assert len({id(file._files) for file in files}) == 3


def test_one_url_is_one_place_on_each_server(url):
    """Or a live run of this process would be ended as an earlier one."""

    def place(**options):
        return FsspecBackend(url, options).share('a.lock').place

    one = dict(host='one', client_kwargs=dict(endpoint_url='http://one:1'))
    others = [
        dict(one, host='two'),
        dict(one, port=2222),
        dict(one, client_kwargs=dict(endpoint_url='http://two:1')), one
    ]
    assert len({place(**other) for other in others}) == 4
    # who connects anew has another token
    keys = [dict(one, key=key, token=object()) for key in ('key 1', 'key 2')]
    assert place(**keys[0]) == place(**keys[1]) == place(**one)


# -- sweep -----------------------------------------------------------------


def test_only_what_was_abandoned_is_swept(tmp_path):
    backend = FsspecBackend(f'local://{tmp_path}')
    put(backend)
    old = time.time() - 7200
    for name, age in (('.iter_1.pth.tmp-12-ab', old), ('.iter_2.pth.tmp-12-ab',
                                                       time.time()),
                      ('.hidden', old)):
        (tmp_path / name).write_bytes(b'half')
        os.utime(tmp_path / name, (age, age))
    assert backend.sweep() == ['.iter_1.pth.tmp-12-ab']
    assert names(backend) == ['.hidden', 'a.pth']
    assert (tmp_path / '.iter_2.pth.tmp-12-ab').exists()


def test_a_file_system_that_knows_no_times_is_not_swept(
        url, backend, monkeypatch):
    fsspec.filesystem('memory').pipe_file(f'{url}/.a.pth.tmp-1-ab', b'half')

    def modified(self, path):
        raise NotImplementedError

    monkeypatch.setattr(MemoryFileSystem, 'modified', modified)
    assert backend.sweep() == []
    naive = datetime.datetime(2020, 1, 1)
    monkeypatch.setattr(MemoryFileSystem, 'modified', lambda *_: naive)
    assert backend.sweep() == ['.a.pth.tmp-1-ab']


# -- errors ----------------------------------------------------------------


class AuthenticationException(Exception):
    """As paramiko's."""


class HttpError(Exception):
    """As gcsfs's and azure's."""

    def __init__(self, status):
        super().__init__('refused with secret-key')
        self.status = status


@pytest.fixture
def clients(monkeypatch):
    """As if the packages of the clients were imported."""
    import types
    paramiko, gcsfs = types.ModuleType('paramiko'), types.ModuleType('retry')
    paramiko.SSHException = AuthenticationException
    gcsfs.HttpError = HttpError
    monkeypatch.setitem(sys.modules, 'paramiko', paramiko)
    monkeypatch.setitem(sys.modules, 'gcsfs.retry', gcsfs)


ERRORS = [
    (PermissionError(13, 'no'), AccessError),
    (AuthenticationException('no'), AccessError),
    (HttpError(403), AccessError),
    (HttpError(500), StorageError),
    (OSError(28, 'full'), OutOfSpaceError),
    (ConnectionResetError(104, 'reset'), StorageError),
    (TimeoutError('slow'), StorageError),
    (ValueError('secret-key is wrong'), StorageError),
    (NotImplementedError('not here'), StorageError),
    (RuntimeError('loop'), StorageError),
    (KeyError('size'), StorageError),
]


@pytest.mark.parametrize('error, kind', ERRORS)
@pytest.mark.parametrize('verb', ['put', 'open', 'list', 'prepare'])
def test_errors_are_mapped_without_what_is_secret(backend, clients,
                                                  monkeypatch, verb, error,
                                                  kind):
    put(backend)
    backend._options['password'] = 'secret-key'

    def fail(*args, **kwargs):
        raise error

    for name in ('_open', 'ls', 'makedirs'):
        monkeypatch.setattr(MemoryFileSystem, name, fail)
    call = dict(
        put=lambda: put(backend),
        open=lambda: backend.open('a.pth'),
        list=backend.list,
        prepare=backend.prepare)[verb]
    with pytest.raises(StorageError, match=backend.url) as caught:
        call()
    assert type(caught.value) is kind
    assert 'secret-key' not in str(caught.value)
    if 'secret-key' in str(error):
        assert caught.value.__suppress_context__
    else:
        assert caught.value.__cause__ is error


@pytest.mark.parametrize('error',
                         [FileNotFoundError(2, 'gone'),
                          HttpError(404)])
def test_a_missing_file_is_told_from_a_refused_one(backend, clients,
                                                   monkeypatch, error):

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(MemoryFileSystem, '_open', fail)
    with pytest.raises(MissingCheckpointError):
        backend.open('a.pth')
    with pytest.raises(StorageError) as caught:
        put(backend)  # the directory is gone, no checkpoint
    assert not isinstance(caught.value, MissingCheckpointError)


def test_errors_while_a_file_is_read_are_mapped(backend, monkeypatch):
    put(backend)
    with backend.open('a.pth') as file:
        monkeypatch.setattr(
            type(file._file), 'read', lambda *_:
            (_ for _ in ()).throw(ConnectionError('cut')))
        with pytest.raises(StorageError, match='a.pth.*cut'):
            file.read()


def test_a_directory_that_is_not_there_is_no_empty_one(url):
    with pytest.raises(MissingCheckpointError):
        FsspecBackend(url).list()


def test_who_may_not_delete_can_save(tmp_path, monkeypatch):

    def refuse(self, path):
        raise PermissionError(13, 'no')

    monkeypatch.setattr(LocalFileSystem, 'rm_file', refuse)
    backend = FsspecBackend(f'local://{tmp_path}')
    backend.prepare()
    put(backend)
    with pytest.raises(AccessError):
        backend.delete('a.pth')
    assert names(backend) == ['a.pth']


def test_what_can_neither_rename_nor_copy_is_refused_before_training(
        plain, tmp_path, monkeypatch):
    monkeypatch.delattr(PlainFileSystem, 'mv')
    monkeypatch.delattr(LocalFileSystem, 'mv')
    with pytest.raises(StorageError, match='cannot write checkpoint'):
        FsspecBackend(f'plain://{tmp_path}/run').prepare()
    assert list((tmp_path / 'run').iterdir()) == []


# -- which place -----------------------------------------------------------


@pytest.mark.parametrize('url, kind', [
    ('memory://a/b', 'FsspecBackend'),
    ('local:///a/b', 'FsspecBackend'),
    ('hdfs://host/a', 'FsspecBackend'),
    ('file:///a/b', 'LocalBackend'),
    ('/a/b', 'LocalBackend'),
    ('C:/a', 'LocalBackend'),
    ('pavi://a/b', 'PaviBackend'),
    ('s3://bucket/a', 'ObjectStoreBackend'),
    ('gs://bucket/a', 'ObjectStoreBackend'),
    ('az://bucket/a', 'ObjectStoreBackend'),
])
def test_each_scheme_has_one_place(monkeypatch, url, kind):
    monkeypatch.setenv('AZURE_STORAGE_ACCOUNT_NAME', 'account')
    if kind == 'ObjectStoreBackend':
        pytest.importorskip('obstore')
    assert type(open_backend(url)).__name__ == kind


def test_file_client_args_go_before_fsspec(tmp_path):
    backend = open_backend(f'memory://{tmp_path}', dict(backend='http'))
    assert type(backend).__name__ == 'FileClientBackend'


def test_what_is_registered_with_mmcv_is_mmcvs(monkeypatch):
    from mmcv.fileio import FileClient
    if not hasattr(FileClient, '_prefix_to_backends'):
        pytest.skip('mmcv < 1.3.16')
    for name in ('_backends', '_prefix_to_backends', '_instances'):
        monkeypatch.setattr(FileClient, name, dict(getattr(FileClient, name)))
    assert type(open_backend('hdfs://a/b')) is FsspecBackend
    FileClient.register_backend(
        'mine', FileClient._backends['disk'], prefixes='hdfs')
    assert type(open_backend('hdfs://a/b')).__name__ == 'FileClientBackend'


def test_without_fsspec_the_error_says_what_to_install(monkeypatch):
    for name in list(sys.modules):
        if name.split('.')[0] == 'fsspec':
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r'mmcv_ckpt_hooks\[fsspec\]'):
        open_backend('sftp://host/a')
    with pytest.raises(DependencyError, match=r'mmcv_ckpt_hooks\[fsspec\]'):
        FsspecBackend('sftp://host/a')


@pytest.mark.parametrize('url, package', [('sftp://host/a', 'paramiko'),
                                          ('gcs://bucket/a', 'gcs')])
def test_what_a_file_system_needs_is_told(monkeypatch, url, package):
    monkeypatch.setitem(sys.modules, 'paramiko', None)
    monkeypatch.setitem(sys.modules, 'gcsfs', None)
    monkeypatch.delitem(
        sys.modules, 'fsspec.implementations.sftp', raising=False)
    with pytest.raises(DependencyError, match=f'{url}.*{package}'):
        open_backend(url)


@pytest.mark.parametrize('url', [
    'sftp://me:pass-word@host/a', 'sftp://me:pass-word/x@host/a',
    'sftp://me:1pass-word/x@host/a'
])
def test_a_password_in_a_url_is_refused(url):
    with pytest.raises(ConfigError, match='storage_options') as caught:
        FsspecBackend(url)
    assert 'pass-word' not in str(caught.value)


@pytest.mark.parametrize('url', ['memory://a:b@c/d'])
def test_what_a_path_holds_is_told_from_a_password(url):
    with pytest.raises(ConfigError, match='password'):
        FsspecBackend(url)
    FsspecBackend('memory://host:22/a@b/c:d')


def test_nothing_connects_before_it_is_used(monkeypatch, url):
    made = []
    monkeypatch.setattr(MemoryFileSystem, '__init__',
                        lambda self, **options: made.append(options))
    open_backend(url, storage_options=dict(global_store=False))
    assert made == []


def test_storage_options_are_those_of_the_file_system(tmp_path):
    backend = FsspecBackend(f'memory://{tmp_path}',
                            dict(global_store=False, skip_instance_cache=True))
    backend.prepare()
    put(backend)
    assert get(backend) == b'content'
    assert not any(
        str(tmp_path) in name for name in fsspec.filesystem('memory').store)


def test_an_option_that_the_file_system_does_not_know(tmp_path, monkeypatch):

    def connect(self, host=None):
        pass

    monkeypatch.setattr(MemoryFileSystem, '__init__', connect)
    backend = FsspecBackend('memory://a', dict(hots='x'))
    with pytest.raises(StorageError, match='storage_options.*hots'):
        backend.prepare()


def test_link_needs_a_file_system_that_copies(plain, tmp_path):
    backend = FsspecBackend(f'plain://{tmp_path}/run')
    backend.prepare()
    put(backend)
    with pytest.raises(UnsupportedError, match="'link'.*cannot copy"):
        backend.link('a.pth', 'b.pth')
