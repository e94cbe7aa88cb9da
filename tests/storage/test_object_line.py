"""How long an object store is tried."""
import uuid
from dataclasses import dataclass

import pytest
from fault_proxy import (FAULTS, FaultProxy, cut_after, truncated,
                         upload_is_gone)
from object_server import BUCKET

from mmcv_ckpt_hooks.errors import StorageError
from mmcv_ckpt_hooks.storage import (object_line, object_store, patience,
                                     uploads)
from mmcv_ckpt_hooks.storage.object_store import ObjectStoreBackend
from mmcv_ckpt_hooks.testing.clock import ManualClock

foreign = pytest.importorskip(
    'obstore.exceptions', reason='pip install obstore')

SILENT = foreign.GenericError(
    'Error performing GET http://a/b in 9s, after 9 retries - HTTP error: '
    'error sending request')
REFUSED = foreign.GenericError('status code: 403 Forbidden')


@dataclass
class Place:
    """A store is called by how patient it is."""
    retry_secs: float = 180.
    url: str = 's3://a/b'
    secrets: tuple = ('secret', )

    def connect(self, quick=False):
        return 'quick' if quick else self.retry_secs

    def patience_secs(self, quick=False):
        return 10. if quick else self.retry_secs


class Line:

    def __init__(self, monkeypatch, **place):
        self.clock, self.said = ManualClock(), []
        monkeypatch.setattr(
            object_line, 'Retries', lambda secs, attempts=5: self)
        monkeypatch.setattr(patience, '_tell', self.said.append)
        self.line = object_line.ObjectLine(Place(**place), self.clock)

    def run(self, attempt, passes):
        return attempt()

    def fail(self, error):
        """Make a request that fails; return the stores that were asked."""
        asked = []

        def call(store):
            asked.append(store)
            raise error

        with pytest.raises(foreign.BaseError):
            self.line.reach(call)
        return asked

    def ask(self):
        return self.line.reach(lambda store: store)


def test_who_has_waited_in_vain_does_not_at_once_do_so_again(monkeypatch):
    line = Line(monkeypatch)
    assert line.ask() == 5.
    assert line.fail(SILENT) == [5., 180.]
    assert line.line.store == 'quick'
    assert line.fail(SILENT) == ['quick']
    assert line.ask() == 'quick'
    # it has answered
    assert line.ask() == 5.


def test_a_refusal_is_an_answer(monkeypatch):
    line = Line(monkeypatch)
    line.fail(SILENT)
    line.fail(REFUSED)
    assert line.fail(REFUSED) == [5.]


def test_a_later_save_is_patient_again(monkeypatch):
    line = Line(monkeypatch)
    line.fail(SILENT)
    line.clock.advance(180.)
    assert line.line.store == 'quick'
    line.clock.advance(1.)
    assert line.fail(SILENT) == [5., 180.]


def test_who_waits_for_long_says_so_once_an_outage(monkeypatch):
    line = Line(monkeypatch)
    line.fail(SILENT)
    line.clock.advance(181.)
    line.fail(SILENT)
    told, = line.said
    assert 's3://a/b (no answer from http://a' in told
    assert 'for up to 180 s' in told
    line.ask()
    line.fail(SILENT)
    assert len(line.said) == 2


@pytest.mark.parametrize(
    'error, place, quick', [
        (REFUSED, {}, False),
        (SILENT, dict(retry_secs=20.), False),
        (SILENT, {}, True),
    ],
    ids=['refused', 'impatient', 'quick'])
def test_who_does_not_wait_says_nothing(monkeypatch, error, place, quick):
    line = Line(monkeypatch, **place)
    asked = []

    def call(store):
        asked.append(store)
        raise error

    with pytest.raises(foreign.BaseError):
        line.line.reach(call, quick)
    assert line.said == [] and len(asked) == 1


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


def test_what_is_away_for_long_is_told_and_waited_for(backend, proxy,
                                                      monkeypatch):
    monkeypatch.setattr(object_line, '_SILENT_SECS', .1)
    backend = ObjectStoreBackend(
        backend.url,
        dict(backend._place.config, endpoint=proxy.endpoint, retry_secs=30))
    said = []

    def told(line):
        said.append(line)
        proxy.start()

    monkeypatch.setattr(patience, '_tell', told)
    proxy.stop()
    assert backend.list() == []
    line, = said
    assert line.startswith(f'Waiting for {backend.url} (no answer from ')
    assert 'secret' not in line and '30 s' in line


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
