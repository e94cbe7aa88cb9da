"""How long an object store is tried."""
import uuid

import pytest
from fault_proxy import (FAULTS, FaultProxy, cut_after, truncated,
                         upload_is_gone)
from object_server import BUCKET

from mmcv_ckpt_hooks.errors import StorageError
from mmcv_ckpt_hooks.storage import object_line, object_store, uploads
from mmcv_ckpt_hooks.storage.object_store import ObjectStoreBackend
from mmcv_ckpt_hooks.testing.clock import ManualClock

foreign = pytest.importorskip(
    'obstore.exceptions', reason='pip install obstore')

SILENT = foreign.GenericError(
    'Error performing GET http://a/b in 9s, after 9 retries - HTTP error: '
    'error sending request')
REFUSED = foreign.GenericError('status code: 403 Forbidden')


class Place:
    """A store is called by how patient it is."""
    retry_secs = 180.

    def connect(self, quick=False):
        return 'quick' if quick else 'patient'

    def patience_secs(self, quick=False):
        return 10. if quick else 180.


class Line:

    def __init__(self, monkeypatch):
        self.clock = ManualClock()
        monkeypatch.setattr(
            object_line, 'Retries', lambda secs, attempts=5: self)
        self.line = object_line.ObjectLine(Place(), self.clock)

    def run(self, attempt, passes):
        return attempt()

    def fail(self, error):

        def call(store):
            raise error

        with pytest.raises(foreign.BaseError):
            self.line.reach(call)

    def ask(self):
        return self.line.reach(lambda store: store)


def test_who_has_waited_in_vain_does_not_at_once_do_so_again(monkeypatch):
    line = Line(monkeypatch)
    assert line.ask() == 'patient'
    line.fail(SILENT)
    assert line.line.store == 'quick'
    line.fail(SILENT)
    assert line.ask() == 'quick'
    # it has answered
    assert line.ask() == 'patient'


def test_a_refusal_is_an_answer(monkeypatch):
    line = Line(monkeypatch)
    line.fail(SILENT)
    line.fail(REFUSED)
    assert line.ask() == 'patient'


def test_a_later_save_is_patient_again(monkeypatch):
    line = Line(monkeypatch)
    line.fail(SILENT)
    line.clock.advance(180.)
    assert line.line.store == 'quick'
    line.clock.advance(1.)
    assert line.ask() == 'patient'


# -- on a server -----------------------------------------------------------


@pytest.fixture
def proxy(s3_server):
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def backend(s3_server, proxy, monkeypatch):
    monkeypatch.setattr(uploads, 'PART_BYTES', 16 << 10)
    monkeypatch.setattr(object_store, 'PART_BYTES', 5 << 20)
    options = dict(s3_server.options(), endpoint=proxy.endpoint, retry_secs=30)
    return ObjectStoreBackend(f's3://{BUCKET}/{uuid.uuid4().hex}', options)


def put(backend, byte):
    calls = []

    def write(stream):
        calls.append(1)
        stream.write(byte * 50000)

    backend.put('a.pth', write)
    return len(calls)


def content(backend):
    with backend.open('a.pth') as file:
        return file.read()


@pytest.mark.parametrize('fault', [cut_after, truncated, upload_is_gone])
def test_an_upload_whose_end_nobody_has_told_is_not_sent_again(
        backend, proxy, fault):
    proxy.arm_at(fault, 3)
    assert put(backend, b'a') == 1
    assert proxy.lines[2].startswith('POST') and proxy.injected == 1
    assert content(backend) == b'a' * 50000


def test_an_older_object_of_that_size_is_not_taken_for_the_new_one(
        backend, proxy):
    put(backend, b'a')
    gone = FAULTS['no_upload']
    proxy.arm(lambda number, line: gone
              if 'uploadId=' in line and line.startswith('POST') else None)
    with pytest.raises(StorageError, match='NoSuchUpload'):
        put(backend, b'b')
    assert content(backend) == b'a' * 50000


@pytest.mark.parametrize('fault', ['flipped_request', 'timeout_400'])
def test_a_part_that_was_spoilt_is_sent_again_with_all_others(
        backend, proxy, fault):
    proxy.arm_at(FAULTS[fault], 2)
    assert put(backend, b'a') == 2
    assert content(backend) == b'a' * 50000


def test_what_is_always_spoilt_is_given_up(backend, proxy):
    put(backend, b'a')
    proxy.arm(lambda number, line: FAULTS['flipped_request']
              if 'partNumber=' in line else None)
    with pytest.raises(StorageError, match='a.pth: 400 .*pass by itself'):
        put(backend, b'b')
    assert proxy.injected == 5
    proxy.arm()
    assert content(backend) == b'a' * 50000


def test_the_number_of_tries_is_not_what_ends_it(backend, proxy):
    backend.put('a.pth', lambda stream: stream.write(b'a'))
    proxy.arm_at(FAULTS['error_500'], 1, times=13)
    assert [one.name for one in backend.list()] == ['a.pth']
    assert proxy.injected == 13
    # its pauses are random: this many may be over in a minute
    assert backend._line.store.retry_config['max_retries'] > 100


@pytest.mark.parametrize('name', ['refused', 'missing', 'no_bucket'])
@pytest.mark.parametrize('verb', [
    lambda backend: backend.list(),
    lambda backend: backend.open('a.pth'),
    lambda backend: backend.put('a.pth', lambda stream: stream.write(b'a')),
    lambda backend: backend.link('a.pth', 'b.pth'),
])
def test_a_refusal_is_not_asked_for_again(backend, proxy, name, verb):
    proxy.arm(lambda number, line: FAULTS[name])
    with pytest.raises(StorageError):
        verb(backend)
    assert len(proxy.lines) == 1
