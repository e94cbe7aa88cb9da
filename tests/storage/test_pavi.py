"""The pavi backend over the fake SDK; the fake under stock mmcv."""
import os
import sys
import tempfile

import mmcv.runner
import mmcv.runner.checkpoint
import pytest
import torch

from mmcv_ckpt_hooks.errors import (AccessError, ConfigError, DependencyError,
                                    MissingCheckpointError, OutOfSpaceError,
                                    StorageError)
from mmcv_ckpt_hooks.storage import open_backend
from mmcv_ckpt_hooks.storage.pavi import PaviBackend
from mmcv_ckpt_hooks.testing import install
from mmcv_ckpt_hooks.testing.contract import StorageBackendContract
from mmcv_ckpt_hooks.testing.pavi import NodeExistsError, NodeNotFoundError

URL = 'pavi://project/model'


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary files go; must be empty at the end."""
    path = tmp_path / 'temporary'
    path.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(path))
    yield path
    assert list(path.iterdir()) == []


@pytest.fixture
def platform(tmp_path, temporary):
    place = tmp_path / 'platform'
    place.mkdir()
    with install(str(place)) as fake:
        yield fake


@pytest.fixture
def no_pavi(monkeypatch):
    for name in list(sys.modules):
        if name.split('.')[0] == 'pavi':
            monkeypatch.delitem(sys.modules, name)


class TestPaviBackend(StorageBackendContract):

    @pytest.fixture
    def backend(self, platform):
        backend = PaviBackend(URL)
        backend.prepare()
        return backend


def put(content=b'content', name='a.pth'):
    return PaviBackend(URL).put(name, lambda stream: stream.write(content))


# -- the model -------------------------------------------------------------


def test_prepare_creates_nothing(platform):
    PaviBackend(URL).prepare()
    assert platform.calls == ['get project/model']


def test_model_is_created_at_the_first_save_and_found_at_the_next(platform):
    put()
    assert platform.calls == [
        'get project/model', 'create_training_model project/model',
        'create_file project/model/a.pth'
    ]
    del platform.calls[:]
    put(name='b.pth')
    assert platform.calls == [
        'get project/model', 'create_file project/model/b.pth'
    ]


def test_failing_writer_creates_no_model(platform):

    def write(stream):
        raise ValueError('no')

    with pytest.raises(ValueError):
        PaviBackend(URL).put('a.pth', write)
    assert platform.calls == []


def test_model_that_another_job_creates_at_the_same_time_is_used(
        platform, monkeypatch):
    create = platform.create_training_model

    def create_late(path):
        create(path)
        raise NodeExistsError(path)

    monkeypatch.setattr(platform, 'create_training_model', create_late)
    assert put() == 7
    with PaviBackend(URL).open('a.pth') as file:
        assert file.read() == b'content'


def test_model_that_cannot_be_created_is_an_error(platform):
    platform.faults['create_training_model'] = NodeExistsError('odd')
    with pytest.raises(
            StorageError, match='cannot create training model pavi://') as got:
        put()
    assert isinstance(got.value.__cause__, NodeExistsError)


def test_model_that_vanished_is_no_missing_checkpoint(platform):
    platform.faults['create_file'] = NodeNotFoundError('project/model')
    with pytest.raises(StorageError, match='cannot upload') as got:
        put()
    assert not isinstance(got.value, MissingCheckpointError)


@pytest.mark.parametrize('url', [
    'pavi://', 'pavi:///', 'pavi://a//b', 'pavi://../b', 'pavi://a/.',
    's3://a/b'
])
def test_url_without_a_model_is_refused(url):
    with pytest.raises(ConfigError, match='pavi://project/model'):
        PaviBackend(url)


def test_slashes_around_the_model_do_not_matter():
    assert PaviBackend('pavi:///project/model/').url == URL


# -- errors and what they leave --------------------------------------------


class SdkHttpError(OSError):
    """Like ``requests.HTTPError``."""

    def __init__(self, status_code):
        super().__init__(f'{status_code} for url')
        self.response = type('Response', (), {'status_code': status_code})


@pytest.mark.parametrize('call', ['get', 'create_file'])
@pytest.mark.parametrize('error, expected', [
    (NodeExistsError('sdk'), StorageError),
    (ConnectionResetError(104, 'reset'), StorageError),
    (TimeoutError('slow'), StorageError),
    (PermissionError('token'), AccessError),
    (SdkHttpError(403), AccessError),
    (SdkHttpError(401), AccessError),
    (SdkHttpError(500), StorageError),
    (SdkHttpError(507), OutOfSpaceError),
])
def test_errors_are_mapped_and_nothing_is_left(platform, call, error,
                                               expected):
    platform.faults[call] = error
    with pytest.raises(expected, match=URL) as got:
        put()
    assert got.value.__cause__ is error
    assert not isinstance(got.value, MissingCheckpointError)


@pytest.mark.parametrize('call', ['get', 'download'])
@pytest.mark.parametrize('error, expected', [
    (NodeNotFoundError('a.pth'), MissingCheckpointError),
    (SdkHttpError(404), MissingCheckpointError),
    (SdkHttpError(403), AccessError),
    (PermissionError('token'), AccessError),
    (NodeExistsError('sdk'), StorageError),
])
def test_errors_of_a_download_are_mapped(platform, call, error, expected):
    put()
    platform.faults[call] = error
    with pytest.raises(expected, match='a.pth') as got:
        PaviBackend(URL).open('a.pth')
    assert type(got.value) is expected
    assert got.value.__cause__ is error


def test_refused_look_up_stops_before_training(platform):
    platform.faults['get'] = PermissionError('token expired')
    with pytest.raises(AccessError, match='credentials'):
        PaviBackend(URL).prepare()


def test_full_temporary_directory_is_named(platform, temporary):
    put(b'old')

    def fail(directory=None, **kwargs):
        raise OSError(28, 'No space left on device')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, 'TemporaryDirectory', fail)
        with pytest.raises(OutOfSpaceError, match='temporary directory'):
            put(b'new')
    with PaviBackend(URL).open('a.pth') as file:
        assert file.read() == b'old'


def test_checkpoint_is_written_to_a_directory_that_goes(platform, temporary):
    during = []

    def write(stream):
        stream.write(b'x')
        during.extend(path.name for path in temporary.rglob('*'))

    PaviBackend(URL).put('a.pth', write)
    assert len(during) == 2 and 'a.pth' in during


@pytest.mark.skipif(os.name != 'posix', reason='open files stay on Windows')
def test_download_has_no_name_while_it_is_read(platform, temporary):
    put()
    with PaviBackend(URL).open('a.pth') as file:
        assert list(temporary.iterdir()) == []
        assert file.read() == b'content'


def test_download_that_gives_no_file_is_an_error(platform):
    put()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmcv_ckpt_hooks.testing.pavi._Node.download',
                      lambda self, path: None)
        with pytest.raises(StorageError, match='cannot read the download') \
                as got:
            PaviBackend(URL).open('a.pth')
    assert not isinstance(got.value, MissingCheckpointError)


# -- the package -----------------------------------------------------------


def calls():
    backend = PaviBackend(URL)
    return [
        backend.prepare, lambda: backend.put('a.pth', print),
        lambda: backend.open('a.pth')
    ]


@pytest.mark.parametrize('call', range(3))
def test_missing_package_says_what_to_do(no_pavi, monkeypatch, call):
    monkeypatch.setitem(sys.modules, 'pavi', None)
    with pytest.raises(DependencyError, match='not installed') as got:
        calls()[call]()
    assert isinstance(got.value, ImportError)
    assert 'placeholder' in str(got.value)


@pytest.mark.parametrize('call', range(3))
def test_placeholder_package_is_told_from_the_sdk(no_pavi, monkeypatch,
                                                  tmp_path, call):
    (tmp_path / 'pavi').mkdir()
    (tmp_path / 'pavi' / '__init__.py').write_text("name = 'pavi'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
            DependencyError, match="is not the platform's SDK") as got:
        calls()[call]()
    assert str(tmp_path / 'pavi') in str(got.value)
    assert 'Uninstall it' in str(got.value)


@pytest.mark.parametrize('broken', ['__init__.py', 'modelcloud.py'])
def test_sdk_that_lacks_a_package_is_no_placeholder(no_pavi, monkeypatch,
                                                    tmp_path, broken):
    (tmp_path / 'pavi').mkdir()
    for name in ('__init__.py', 'modelcloud.py', 'exception.py'):
        (tmp_path / 'pavi' /
         name).write_text('import no_such_package\n' if name == broken else '')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DependencyError, match='no_such_package') as got:
        PaviBackend(URL).prepare()
    assert 'placeholder' not in str(got.value)


def test_fake_is_gone_afterwards(no_pavi, tmp_path):
    with install(str(tmp_path)):
        import pavi
        assert pavi.modelcloud is sys.modules['pavi.modelcloud']
    assert 'pavi' not in sys.modules
    assert 'pavi.modelcloud' not in sys.modules


# -- together with mmcv ----------------------------------------------------


def test_mmcv_loads_what_the_backend_saved(platform):
    content = {'state_dict': {'weight': torch.arange(4.)}}
    open_backend(URL).put('a.pth', lambda stream: torch.save(content, stream))
    loaded = mmcv.runner.checkpoint.load_from_pavi(f'{URL}/a.pth')
    assert torch.equal(loaded['state_dict']['weight'], torch.arange(4.))


def test_backend_opens_what_mmcv_saved(platform):
    model = torch.nn.Linear(2, 1)
    mmcv.runner.save_checkpoint(model, f'{URL}/a.pth')
    with open_backend(URL).open('a.pth') as file:
        loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded['state_dict']['weight'], model.weight)


def test_file_client_args_contradict_pavi():
    with pytest.raises(ConfigError, match='must be None'):
        open_backend(URL, dict(backend='disk'))
