"""The object store backend on a real S3 server."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import uuid
from contextlib import ExitStack

import pytest
import torch
from object_server import BUCKET

from mmcv_ckpt_hooks import (DurableCheckpointHook, save_checkpoint,
                             verify_checkpoint)
from mmcv_ckpt_hooks.errors import (AccessError, ConfigError, DependencyError,
                                    MissingCheckpointError, MissingPlaceError,
                                    OutOfSpaceError, StorageError)
from mmcv_ckpt_hooks.storage import object_store, open_backend, s3_leftovers
from mmcv_ckpt_hooks.storage.object_errors import object_errors
from mmcv_ckpt_hooks.storage.object_store import ObjectStoreBackend
from mmcv_ckpt_hooks.storage.object_url import secrets_of
from mmcv_ckpt_hooks.storage.s3_signature import requests_to
from mmcv_ckpt_hooks.storage.uploads import PART_BYTES
from mmcv_ckpt_hooks.testing.contract import StorageBackendContract

foreign = pytest.importorskip(
    'obstore.exceptions', reason='pip install obstore')

WORKER = pathlib.Path(__file__).resolve().parent.parent / 's3_worker.py'
MIB = 1 << 20


@pytest.fixture
def url():
    """A prefix that no other test has."""
    return f's3://{BUCKET}/{uuid.uuid4().hex}/run'


@pytest.fixture
def backend(s3_server, url):
    backend = ObjectStoreBackend(url, s3_server.options())
    backend.prepare()
    return backend


class TestObjectStoreBackend(StorageBackendContract):

    @pytest.fixture
    def backend(self, s3_server, url):
        backend = ObjectStoreBackend(url, s3_server.options())
        backend.prepare()
        return backend


def unfinished(s3_server, url):
    """Keys of the uploads that are neither completed nor aborted."""
    prefix = url.split(f'{BUCKET}/')[1]
    found = requests_to(BUCKET, s3_server.options()).send(
        'GET', query=dict(uploads='', prefix=prefix)).body.decode()
    return found.count('<UploadId>')


def get(backend, name):
    with backend.open(name) as file:
        return file.read()


# -- uploads ---------------------------------------------------------------


@pytest.mark.parametrize('lends', [False, True])
@pytest.mark.parametrize('size', [
    PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES,
    3 * PART_BYTES + 5 * MIB + 7
])
def test_objects_of_several_parts(backend, s3_server, url, size, lends):
    content = memoryview((os.urandom(MIB) * (size // MIB + 1))[:size])

    def write(stream):
        put = stream.lend if lends else stream.write
        stream.write(content[:10])
        for start in range(10, size, 8 * MIB):
            put(content[start:min(size, start + 8 * MIB)])

    assert backend.put('a.pth', write) == size
    assert backend.list()[0].bytes == size
    assert get(backend, 'a.pth') == content
    backend.link('a.pth', 'b.pth')
    assert get(backend, 'b.pth') == content
    assert unfinished(s3_server, url) == 0


def test_what_is_written_may_change_afterwards(backend):
    block = bytearray(8 * MIB)

    def write(stream):
        for value in range(6):
            block[:] = bytes([value]) * len(block)
            stream.write(block)

    backend.put('a.pth', write)
    content = get(backend, 'a.pth')
    for value in range(6):
        part = content[value * 8 * MIB:(value + 1) * 8 * MIB]
        assert part == bytes([value]) * len(block)


@pytest.mark.parametrize('error', [ValueError('mine'), KeyboardInterrupt()])
def test_the_upload_of_a_failing_writer_is_aborted(backend, s3_server, url,
                                                   error):
    seen = []

    def write(stream):
        for _ in range(8):
            stream.write(bytes(8 * MIB))
        seen.append(unfinished(s3_server, url))
        raise error

    with pytest.raises(type(error)) as caught:
        backend.put('a.pth', write)
    assert caught.value is error
    assert seen == [1]
    assert unfinished(s3_server, url) == 0
    assert backend.list() == []


def test_a_failing_store_ends_the_writer(backend, monkeypatch):
    put = backend._client.put

    def failing(store, name, blocks, **kwargs):
        next(blocks)
        raise OSError('the line is cut')

    monkeypatch.setattr(backend._client, 'put', failing)
    written = []

    def write(stream):
        for _ in range(100):
            written.append(stream.write(bytes(8 * MIB)))

    with pytest.raises(StorageError, match='the line is cut') as caught:
        backend.put('a.pth', write)
    assert not isinstance(caught.value, MissingCheckpointError)
    assert len(written) < 100
    monkeypatch.setattr(backend._client, 'put', put)
    assert backend.list() == []


def test_where_no_thread_can_be_started_it_uploads_all_the_same(
        backend, monkeypatch):
    monkeypatch.setattr('mmcv_ckpt_hooks.executor.Follower.start',
                        lambda self: False)
    backend.put('a.pth', lambda stream: stream.write(bytes(40 * MIB)))
    assert backend.list()[0].bytes == 40 * MIB


_PEAK = '''
import json, pathlib, sys
from mmcv_ckpt_hooks.storage import open_backend

def peak():
    return next(int(line.split()[1]) for line in open('/proc/self/status')
                if line.startswith('VmHWM'))

url, options = json.loads(sys.argv[1])
backend = open_backend(url, storage_options=options)
backend.prepare()
block = bytes(8 << 20)
backend.put('small.pth', lambda stream: stream.write(block))
before = peak()

def write(stream):
    for _ in range(48):
        stream.write(block)

backend.put('a.pth', write)
up = peak()
with backend.open('a.pth') as file:
    while file.read(1 << 20):
        pass
print(json.dumps([up - before, peak() - up]))
'''


@pytest.mark.slow
def test_memory_is_bounded_whatever_the_size(s3_server, url):
    given = json.dumps([url, s3_server.options()])
    output = subprocess.run([sys.executable, '-c', _PEAK, given],
                            check=True,
                            stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout
    up, down = json.loads(output)
    # of 384 MiB: three blocks and four parts; five ranges, collected in
    # buffers that grow
    assert up < 140 << 10
    assert down < 140 << 10


# -- what a killed process leaves ------------------------------------------


def abandon(s3_server, url):
    """Leave an upload whose process is killed."""
    given = json.dumps(dict(url=url, options=s3_server.options()))
    with subprocess.Popen(
        [sys.executable, str(WORKER), 'upload', given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL) as process:
        try:
            assert b'UPLOADING' in process.stdout.readline()
        finally:
            process.send_signal(signal.SIGKILL)
    assert unfinished(s3_server, url) == 1


@pytest.fixture
def abandoned(s3_server, url):
    abandon(s3_server, url)


def test_it_is_no_checkpoint_and_is_swept(backend, abandoned, s3_server, url,
                                          monkeypatch):
    assert backend.list() == []
    with pytest.raises(MissingCheckpointError):
        backend.open('iter_9.pth')
    monkeypatch.setattr(s3_leftovers, 'IDLE_SECS', -1.)
    assert backend.sweep() == ['an upload of iter_9.pth']
    assert unfinished(s3_server, url) == 0
    assert backend.sweep() == []


def test_uploads_of_folders_are_swept(s3_server, url, monkeypatch):
    monkeypatch.setattr(s3_leftovers, 'IDLE_SECS', -1.)
    folder = f'{url}/iter_9.dcp'
    abandon(s3_server, folder)
    for other in (url.rsplit('/', 1)[0], f'{url}/below'):
        assert ObjectStoreBackend(other, s3_server.options()).sweep() == []
    assert ObjectStoreBackend(url, s3_server.options()).sweep() == [
        'an upload of iter_9.dcp/iter_9.pth'
    ]
    assert unfinished(s3_server, folder) == 0


def test_what_may_live_is_left_and_swept_by_a_later_save(
        backend, abandoned, s3_server, url, monkeypatch):
    assert backend.sweep() == []
    assert unfinished(s3_server, url) == 1
    monkeypatch.setattr(s3_leftovers, 'IDLE_SECS', -1.)
    backend._leftovers._look_at = 0.
    backend.put('iter_10.pth', lambda stream: stream.write(b'small'))
    assert unfinished(s3_server, url) == 0
    assert [file.name for file in backend.list()] == ['iter_10.pth']


def test_uploads_of_other_directories_are_not_swept(backend, abandoned,
                                                    s3_server, url,
                                                    monkeypatch):
    monkeypatch.setattr(s3_leftovers, 'IDLE_SECS', -1.)
    for other in (url.rsplit('/', 1)[0], url[:-1], f'{url}/below'):
        assert ObjectStoreBackend(other, s3_server.options()).sweep() == []
    assert unfinished(s3_server, url) == 1


def test_an_upload_that_ends_while_it_is_swept_is_passed_over(
        backend, abandoned, s3_server, url, monkeypatch, caplog):
    monkeypatch.setattr(s3_leftovers, 'IDLE_SECS', -1.)
    listed = backend._leftovers._listed

    def ended(requests):
        found = listed(requests)
        for upload, _ in found:
            requests.send('DELETE', upload.key,
                          dict(uploadId=upload.upload_id))
        return found

    monkeypatch.setattr(backend._leftovers, '_listed', ended)
    assert backend.sweep() == []
    assert not caplog.text


def test_who_may_not_sweep_trains_all_the_same(s3_server, url, abandoned,
                                               caplog):
    backend = ObjectStoreBackend(url, s3_server.options('stranger'))
    assert backend.sweep() == []
    assert 'Unfinished uploads are left where they are' in caplog.text
    assert s3_server.options()['secret_access_key'] not in caplog.text


# -- reading ---------------------------------------------------------------


def test_an_object_that_is_replaced_is_not_read_mixed(backend):
    for value in (b'a', b'b'):
        backend.put('a.pth', lambda stream: stream.write(value * 40 * MIB))
        if value == b'a':
            file = backend.open('a.pth')
            assert file.read(10) == b'a' * 10
    with file, pytest.raises(StorageError, match='Another program') as caught:
        while file.read(MIB):
            pass
    assert not isinstance(caught.value, MissingCheckpointError)


def test_a_deleted_object_is_missing_also_while_it_is_read(backend):
    backend.put('a.pth', lambda stream: stream.write(bytes(2 * MIB)))
    with backend.open('a.pth') as file:
        backend.delete('a.pth')
        with pytest.raises(MissingCheckpointError):
            file.read()


def test_the_folder_that_consoles_make_is_no_checkpoint(backend):
    backend._client.put(
        backend._place.__class__(backend._place.scheme, backend._place.bucket,
                                 '', backend._place.config,
                                 backend._place.client_options).connect(),
        f'{backend._place.prefix}/below/a.pth', b'x')
    assert backend.list() == []


def test_a_folder_moves_its_metadata_last(backend, monkeypatch):
    folder = backend.folder('iter_2.dcp')
    for name in ('.metadata', '__0_0.distcp', 'rest.zip'):
        folder.put(name, lambda stream: stream.write(b'x'))
    copied = []
    inner = backend._client.copy

    def copy(store, source, name):
        copied.append(name)
        return inner(store, source, name)

    monkeypatch.setattr(backend._client, 'copy', copy)
    backend.move('iter_2.dcp', 'iter_2.dcp.1a')
    assert copied[-1] == 'iter_2.dcp.1a/.metadata' and len(copied) == 3
    assert backend.list() == []


def test_a_large_copy_goes_through_this_machine(backend, monkeypatch):
    content = os.urandom(MIB) * 20
    backend.put('a.pth', lambda stream: stream.write(content))
    monkeypatch.setattr(object_store, '_COPY_BYTES', MIB)
    backend.link('a.pth', 'b.pth')
    assert get(backend, 'b.pth') == content


def test_no_pointer_is_left_behind(backend):
    backend.put('a.pth', lambda stream: stream.write(b'a'))
    backend.point('latest.pth', 'a.pth')
    with pytest.raises(MissingCheckpointError):
        backend.point('latest.pth', 'gone.pth')
    assert get(backend, 'last_checkpoint') == b'a.pth\n'
    backend.point('latest.pth', None)
    assert [file.name for file in backend.list()] == ['a.pth']


def test_functions_take_storage_options(s3_server, url):
    model = torch.nn.Linear(3, 2)
    path = f'{url}/a.pth'
    save_checkpoint(model, path, storage_options=s3_server.options())
    assert verify_checkpoint(path, s3_server.options()).bytes > 0
    with pytest.raises(MissingCheckpointError):
        verify_checkpoint(f'{url}/b.pth', s3_server.options())


@pytest.mark.parametrize('verb', [
    lambda backend: backend.delete('a.pth'),
    lambda backend: backend.put('a.pth', lambda stream: None),
    lambda backend: backend.put('b.pth', lambda stream: stream.write(
        bytes(40 * MIB))),
    lambda backend: backend.link('a.pth', 'b.pth'),
    lambda backend: backend.point('latest.pth', 'a.pth'),
])
def test_who_may_only_read_is_refused(backend, s3_server, url, verb):
    backend.put('a.pth', lambda stream: stream.write(b'a'))
    reader = ObjectStoreBackend(url, s3_server.options('reader'))
    assert get(reader, 'a.pth') == b'a'
    with pytest.raises(AccessError, match='credentials'):
        verb(reader)
    assert get(backend, 'a.pth') == b'a'


# -- the line --------------------------------------------------------------


class FlippingLine:
    """Forwards to the server; flips a bit of what it was told to."""

    def __init__(self, endpoint):
        host, port = endpoint.split('//')[1].split(':')
        self.server = host, int(port)
        self.flip = None
        self.flipped = 0
        self.listener = socket.create_server(('127.0.0.1', 0))
        port = self.listener.getsockname()[1]
        self.endpoint = f'http://127.0.0.1:{port}'
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.server)
            for one, other, up in ((client, server, True), (server, client,
                                                            False)):
                threading.Thread(
                    target=self.forward, args=(one, other, up),
                    daemon=True).start()

    def forward(self, one, other, up):
        with ExitStack() as stack:
            stack.callback(other.close)
            while True:
                try:
                    data = one.recv(1 << 16)
                    at = data.find(self.flip) if up and self.flip else -1
                    if at >= 0:
                        data = bytearray(data)
                        data[at] ^= 1
                        self.flipped += 1
                    if not data:
                        return
                    other.sendall(data)
                except OSError:
                    return

    def close(self):
        self.listener.close()


@pytest.mark.parametrize('size', [MIB, 40 * MIB])
def test_the_server_refuses_what_was_changed_on_the_way(s3_server, url, size):
    line = FlippingLine(s3_server.endpoint)
    try:
        options = dict(s3_server.options(), endpoint=line.endpoint)
        backend = ObjectStoreBackend(url, dict(options, retry_secs=1))
        backend.put('a.pth', lambda stream: stream.write(b'old'))
        mark = b'a mark that occurs once'
        line.flip = mark
        content = bytes(size - 100) + mark + bytes(77)
        with pytest.raises(StorageError):
            backend.put('a.pth', lambda stream: stream.write(content))
        assert line.flipped
        assert get(backend, 'a.pth') == b'old'
    finally:
        line.close()
    assert unfinished(s3_server, url) == 0


# -- options and credentials -----------------------------------------------


def test_no_credential_is_told(s3_server, url, caplog):
    options = s3_server.options(session_token='the-token-of-a-session')
    hook = DurableCheckpointHook(out_dir=url, storage_options=options)
    backend = ObjectStoreBackend(url, options)
    with pytest.raises(AccessError) as caught:
        backend.prepare()
    told = [repr(hook.options), repr(backend._place), backend.url, caplog.text]
    error = caught.value
    while error is not None:
        told.append(repr(error))
        error = error.__cause__
    for name in ('access_key_id', 'secret_access_key', 'session_token'):
        assert options[name] not in ' '.join(told)


def test_a_refusal_is_not_quoted():
    """Amazon's holds the request that was signed, session token included."""
    text = ('Server returned non-2xx status code: 403 Forbidden: <Error><Code>'
            'SignatureDoesNotMatch</Code><Message>It differs.</Message>'
            '<CanonicalRequest>x-amz-security-token:hidden</CanonicalRequest>'
            '</Error>')
    with pytest.raises(AccessError) as caught:
        with object_errors('cannot read', 's3://bucket/a.pth'):
            raise foreign.GenericError(text)
    for error in (caught.value, caught.value.__cause__):
        assert 'hidden' not in str(error)
        assert '403 SignatureDoesNotMatch It differs' in str(error)


@pytest.mark.parametrize('text, code, kind', [
    ('403 Forbidden', '', AccessError),
    ('401 Unauthorized', '', AccessError),
    ('400 Bad Request', 'ExpiredToken', AccessError),
    ('400 Bad Request', 'InvalidAccessKeyId', AccessError),
    ('404 Not Found', 'NoSuchBucket', MissingPlaceError),
    ('404 Not Found', 'ContainerNotFound', MissingPlaceError),
    ('404 Not Found', 'NoSuchKey', MissingCheckpointError),
    ('507 Insufficient Storage', 'XMinioStorageFull', OutOfSpaceError),
    ('412 Precondition Failed', '', StorageError),
    ('503 Slow Down', 'SlowDown', StorageError),
    ('500 Internal Server Error', '', StorageError),
])
def test_every_answer_has_its_error(text, code, kind):
    of_client = FileNotFoundError if text.startswith('404') else \
        foreign.GenericError
    with pytest.raises(StorageError) as caught:
        with object_errors('cannot read', 's3://bucket/a.pth'):
            raise of_client(f'status code: {text}: <Code>{code}</Code>')
    assert type(caught.value) is kind


def test_every_error_of_the_client_is_mapped():
    kinds = [
        kind for kind in vars(foreign).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert len(kinds) > 8
    for kind in [*kinds, FileNotFoundError, ValueError, OSError]:
        with pytest.raises(StorageError) as caught:
            with object_errors('cannot read', 's3://bucket/a.pth'):
                raise kind('told')
        refused = kind.__name__ in ('PermissionDeniedError',
                                    'UnauthenticatedError')
        assert isinstance(caught.value, AccessError) is refused
        assert isinstance(caught.value, MissingCheckpointError) is \
            (kind is FileNotFoundError)


@pytest.mark.parametrize(
    'url, options, message',
    [
        ('s3://key:hidden@bucket/run', None, 'must not hold credentials'),
        ('s3://bucket/../run', None, "must not be empty, '.' or '..'"),
        ('s3:///run', None, "no bucket: .*such as 's3://bucket/run'"),
        ('s3://bad bucket/run', None, "'bad bucket' is no name of a bucket"),
        # a secret key may hold slashes
        ('s3://key:hid/den@bucket/run', None, 'must not hold credentials'),
        ('s3://bucket/run', dict(endpoint='127.0.0.1:8333'),
         'begin with http'),
        ('s3://bucket/run', dict(endpoint='http//host'), 'begin with http'),
        ('s3://bucket/run', dict(endpoint='http://a b'), 'begin with http'),
        ('s3://bucket/run', dict(endpont='http://hidden'), "'endpont'"),
        ('s3://bucket/run', dict(endpoint='http://a:hidden@b'),
         'must not hold credentials'),
        ('s3://bucket/run', dict(retry_secs=0), 'retry_secs'),
        ('s3://bucket/run', dict(retry_sec=3), "'retry_secs'"),
        ('s3://bucket/run', dict(profile='nobody'), "'nobody'"),
        ('gs://bucket/run', dict(profile='x'), 's3:// only'),
        ('s3://bucket/run', dict(access_key_id='hidden'), 'belong together'),
    ])
def test_wrong_options_are_config_errors(url, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        open_backend(url, storage_options=options)
    assert 'hidden' not in str(caught.value)


def test_a_client_that_panics_is_a_storage_error():
    # it is no Exception: no other rank would hear of it
    PanicException = type('PanicException', (BaseException, ), {})
    with pytest.raises(StorageError, match='cannot list s3://bucket'):
        with object_errors('cannot list', 's3://bucket'):
            raise PanicException('InvalidUri')
    with pytest.raises(KeyboardInterrupt):
        with object_errors('cannot list', 's3://bucket'):
            raise KeyboardInterrupt


def test_short_options_are_no_secrets_in_messages():
    secrets = secrets_of(dict(token='a', key='hidden'))
    with pytest.raises(StorageError) as caught:
        with object_errors('cannot list', 's3://bucket', secrets=secrets):
            raise ValueError('a bad hidden thing')
    assert 'a bad *** thing' in str(caught.value)


def test_the_missing_client_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, 'obstore', None)
    with pytest.raises(DependencyError, match=r'mmcv_ckpt_hooks\[s3\]'):
        open_backend('s3://bucket/run')


def test_a_token_of_the_environment_is_not_sent_with_other_keys(
        s3_server, url, monkeypatch, caplog):
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', 'another')
    monkeypatch.setenv('AWS_SESSION_TOKEN', 'of the other')
    backend = ObjectStoreBackend(url, s3_server.options())
    backend.prepare()
    assert backend.sweep() == []
    assert not caplog.text


@pytest.mark.parametrize('source', ['environment', 'profile', 'default'])
def test_the_environment_or_a_profile_says_what_options_do_not(
        s3_server, url, source, monkeypatch, tmp_path):
    options = s3_server.options()
    for name in list(os.environ):
        if name.startswith('AWS_'):
            monkeypatch.delenv(name)
    monkeypatch.setenv('HOME', str(tmp_path))
    given = None
    if source == 'environment':
        for name, value in options.items():
            name = 'ENDPOINT_URL' if name == 'endpoint' else name.upper()
            monkeypatch.setenv(f'AWS_{name}', value)
    else:
        name = 'default' if source == 'default' else 'mine'
        given = None if source == 'default' else dict(profile='mine')
        (tmp_path / '.aws').mkdir()
        (tmp_path / '.aws' / 'credentials').write_text(
            f'[{name}]\naws_access_key_id = {options["access_key_id"]}\n'
            f'aws_secret_access_key = {options["secret_access_key"]}\n')
        section = name if name == 'default' else f'profile {name}'
        (tmp_path / '.aws' / 'config').write_text(
            f'[{section}]\nregion = {options["region"]}\n'
            f'endpoint_url = {options["endpoint"]}\n')
    backend = open_backend(url, storage_options=given)
    backend.prepare()
    backend.put('a.pth', lambda stream: stream.write(b'a'))
    assert get(backend, 'a.pth') == b'a'
    assert backend.sweep() == []
