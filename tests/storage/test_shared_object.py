"""Objects that several processes write to, on a real S3 server."""
import uuid
from datetime import timedelta

import pytest
from fault_proxy import TRANSIENT, _refusal
from object_server import BUCKET

from mmcv_ckpt_hooks.errors import AccessError, MissingPlaceError, StorageError
from mmcv_ckpt_hooks.storage.object_store import ObjectStoreBackend
from mmcv_ckpt_hooks.storage.object_url import ObjectPlace

pytest.importorskip('obstore', reason='pip install obstore')

NAME = 'checkpoints.lock'


@pytest.fixture
def url():
    return f's3://{BUCKET}/{uuid.uuid4().hex}'


@pytest.fixture
def past(s3_server, url):
    """The object, past the proxy."""
    return ObjectStoreBackend(url, s3_server.options()).share(NAME)


@pytest.fixture
def shared(s3_server, proxy, url):
    """The object, through the proxy."""
    options = dict(
        s3_server.options(),
        endpoint=proxy.endpoint,
        client_options=dict(timeout='300ms'))
    return ObjectStoreBackend(url, options).share(NAME)


def lines(proxy):
    return [line.split()[0] for line in proxy.lines]


def test_what_a_start_asks(shared, proxy):
    """Two requests, and two that see whether conditions are minded."""
    shared.look()
    shared.replace(b'first')
    assert lines(proxy) == ['GET', 'PUT', 'PUT', 'PUT']
    assert shared.is_exclusive
    proxy.arm()
    for content in (b'second', b'third'):
        assert shared.replace(content) is True
    assert lines(proxy) == ['PUT', 'PUT']
    assert shared.look() == b'third'


@pytest.mark.parametrize('fault', sorted(TRANSIENT))
@pytest.mark.parametrize('at', [1, 2])
def test_what_passes_refuses_nobody(shared, past, proxy, fault, at):
    """Above all an answer that is lost: what it was to say is done."""
    for before, content in ((b'', b'first'), (b'first', b'second')):
        proxy.arm_at(TRANSIENT[fault], at)
        assert shared.look() == before
        assert shared.replace(content) is True
        assert shared.is_exclusive
        assert past.look() == content


@pytest.mark.parametrize('fault', ['cut_after', 'late', 'error_500'])
def test_a_lost_answer_does_not_hide_who_came_first(shared, past, proxy,
                                                    fault):
    shared.replace(b'first')
    past.look()
    past.replace(b'other')
    proxy.arm_at(TRANSIENT[fault], 1)
    assert shared.replace(b'second') is False
    assert shared.look() == b'other'


def test_nobody_answers(shared, proxy):
    shared.replace(b'first')
    proxy.stop()
    with pytest.raises(StorageError, match='no answer'):
        shared.replace(b'second')
    proxy.start()
    assert shared.replace(b'third') is True


@pytest.mark.parametrize('given, expected', [
    ({}, timedelta(seconds=10)),
    (dict(timeout='3s'), '3s'),
])
def test_a_silent_server_is_not_waited_for_as_by_a_save(
        s3_server, url, monkeypatch, given, expected):
    """A part of a checkpoint may take minutes."""
    options = s3_server.options(client_options=given)
    backend = ObjectStoreBackend(url, options)
    found, connect = [], ObjectPlace.connect

    def connected(place, quick=False):
        found.append(place.client_options['timeout'])
        return connect(place, quick)

    monkeypatch.setattr(ObjectPlace, 'connect', connected)
    backend.share(NAME)
    assert set(found) == {expected}


def test_one_url_is_one_place_on_each_server():
    """Or a live run of this process would be ended as an earlier one."""

    def place(url, **options):
        return ObjectStoreBackend(url, options).share(NAME).place

    one = dict(endpoint='http://one:1', skip_signature=True)
    two = dict(one, endpoint='http://two:1')
    patient = dict(one, client_options=dict(timeout='3s'))
    assert place('s3://a/b', **one) == place('s3://a/b', **patient)
    assert place('s3://a/b', **one) != place('s3://a/b', **two)
    assert place('s3://a/b', **one) != place('s3://a/c', **one)
    accounts = [
        place('az://a/b', skip_signature=True, **{name: account})
        for name in ('account_name', 'azure_storage_account_name')
        for account in ('one', 'two')
    ]
    assert accounts[:2] == accounts[2:] and accounts[0] != accounts[1]


# -- servers that are not as they should be --------------------------------


def ignoring(client, monkeypatch, *ignored):
    """Have a server that takes no notice of some conditions."""
    put = client.put

    def unconditional(store, name, content, mode, **options):
        if (mode if isinstance(mode, str) else 'update') in ignored:
            mode = 'overwrite'
        return put(store, name, content, mode=mode, **options)

    monkeypatch.setattr(client, 'put', unconditional)


@pytest.mark.parametrize('ignored', [('create', ), ('update', ),
                                     ('create', 'update')])
def test_a_server_that_ignores_conditions_is_found_out(past, url, s3_server,
                                                       monkeypatch, ignored):
    ignoring(past._client, monkeypatch, *ignored)
    assert past.replace(b'first') is True
    assert past.is_exclusive is False
    other = ObjectStoreBackend(url, s3_server.options()).share(NAME)
    # it is looked at instead
    other.look()
    assert past.replace(b'second') is True
    assert other.look() == b'second'
    assert other.replace(b'other') is True
    assert past.replace(b'third') is False
    assert past.look() == b'other'


def test_a_trial_that_was_cut_off_is_made_again(past, monkeypatch):
    """A mirror that was away at the start is opened with the same file."""
    ignoring(past._client, monkeypatch, 'create', 'update')
    put, modes = past._put, []

    def cut_off(content, mode):
        modes.append(mode)
        if len(modes) == 2:
            raise StorageError('no route')
        return put(content, mode)

    monkeypatch.setattr(past, '_put', cut_off)
    with pytest.raises(StorageError, match='no route'):
        past.replace(b'first')
    assert past.replace(b'first') is True
    assert past.is_exclusive is False


@pytest.mark.parametrize('status, code',
                         [('501 Not Implemented', 'NotImplemented'),
                          ('400 Bad Request', 'NotImplemented'),
                          ('400 Bad Request', 'InvalidArgument'),
                          ('400 Bad Request', 'InvalidRequest')])
def test_a_server_that_refuses_conditions_is_not_asked_again(
        shared, past, proxy, status, code):
    times = 3 if status.startswith('5') else 1  # the client asks again
    proxy.arm_at(_refusal(status, code), 1, times)
    assert shared.replace(b'first') is True
    assert shared.is_exclusive is False
    assert past.look() == b'first'
    proxy.arm()
    assert shared.replace(b'second') is True
    assert lines(proxy) == ['GET', 'PUT']


def test_who_switches_conditions_off_has_none(url, s3_server):
    shared = ObjectStoreBackend(
        url, s3_server.options(conditional_put='disabled')).share(NAME)
    assert shared.replace(b'first') is True
    assert shared.is_exclusive is False


def test_objects_without_a_version_are_looked_at(past, monkeypatch):
    put = past._client.put
    monkeypatch.setattr(
        past._client, 'put',
        lambda *args, **kwargs: dict(put(*args, **kwargs), e_tag=None))
    assert past.replace(b'first') is True
    assert past.replace(b'second') is True
    assert past.is_exclusive is False
    assert past.look() == b'second'


def test_an_empty_object_is_none_of_ours(past, s3_server, url):
    backend = ObjectStoreBackend(url, s3_server.options())
    backend.put(NAME, lambda stream: None)
    assert past.look() == b''
    assert past.replace(b'first') is True and past.look() == b'first'


# -- refusals --------------------------------------------------------------


@pytest.mark.parametrize('who, bucket, kind', [
    ('stranger', BUCKET, AccessError),
    ('writer', 'no-such-bucket', MissingPlaceError),
])
def test_a_refusal_is_no_missing_object(s3_server, who, bucket, kind):
    options = s3_server.options(who)
    shared = ObjectStoreBackend(f's3://{bucket}/run', options).share(NAME)
    with pytest.raises(kind) as caught:
        shared.look()
    assert options['secret_access_key'] not in str(caught.value)
    with pytest.raises(kind):
        shared.replace(b'first')


def test_who_may_only_read_signs_nothing(s3_server, url, past):
    past.replace(b'first')
    reader = ObjectStoreBackend(url, s3_server.options('reader')).share(NAME)
    assert reader.look() == b'first'
    with pytest.raises(AccessError):
        reader.replace(b'second')
    assert past.look() == b'first'


def test_the_same_url_at_two_servers_is_two_places(s3_server, proxy, url, past,
                                                   shared):
    assert past.place != shared.place
    assert s3_server.options()['secret_access_key'] not in past.place
