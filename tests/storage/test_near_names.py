"""Options and URLs that are nearly right, and endpoints that say nothing."""
import socket

import pytest
from toy import train

from mmcv_ckpt_hooks import DurableCheckpointHook, find_resumable
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import ConfigError, StorageError
from mmcv_ckpt_hooks.storage import open_backend
from mmcv_ckpt_hooks.storage.s3_signature import requests_to

pytest.importorskip('obstore', reason='pip install obstore')


@pytest.mark.parametrize('given, meant', [
    ('end_point', 'endpoint'),
    ('endpont', 'endpoint'),
    ('access_key', 'access_key_id'),
    ('AWS_ACCESS_KEY', 'access_key_id'),
    ('key', 'access_key_id'),
    ('secret', 'secret_access_key'),
    ('secret_acess_key', 'secret_access_key'),
    ('region_name', 'region'),
    ('aws_regoin', 'aws_region'),
    ('profile_name', 'profile'),
    ('retry_sec', 'retry_secs'),
    ('client_option', 'client_options'),
])
def test_a_misspelt_option_gets_the_nearest_name(given, meant):
    with pytest.raises(ConfigError, match=f'did you mean {meant!r}') as caught:
        open_backend('s3://bucket/run', storage_options={given: 'hidden'})
    assert repr(given) in str(caught.value)
    assert 'hidden' not in str(caught.value)


@pytest.mark.parametrize('url, given, meant', [
    ('az://bucket/run', 'account', 'account_name'),
    ('az://bucket/run', 'acount_key', 'account_key'),
    ('gs://bucket/run', 'servce_account', 'service_account'),
])
def test_so_do_those_of_other_stores(url, given, meant):
    with pytest.raises(ConfigError, match=f'did you mean {meant!r}'):
        open_backend(url, storage_options={given: 'hidden'})


def test_an_option_that_is_like_none_is_only_named():
    with pytest.raises(ConfigError, match="unknown 'colour'$"):
        open_backend('s3://bucket/run', storage_options=dict(colour='red'))


def test_a_misspelt_option_ends_a_run_before_its_first_step(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'endpoint'"):
        train(
            tmp_path,
            hooks=[
                dict(
                    type='DurableCheckpointHook',
                    out_dir='s3://bucket/run',
                    storage_options=dict(end_point='http://127.0.0.1:9'))
            ])


@pytest.mark.parametrize('name', [
    'endpoint', 'endpoint_url', 'aws_endpoint_url', 'aws_endpoint',
    'aws_endpoint_url_s3'
])
def test_every_name_of_the_endpoint_is_that_of_the_sweep_too(name):
    backend = open_backend(
        's3://bucket/run',
        storage_options={
            name: 'http://127.0.0.1:9',
            'aws_access_key_id': 'key',
            'aws_secret_access_key': 'secret',
            'default_region': 'eu-west-1'
        })
    requests = requests_to('bucket', backend._place.plain)
    assert requests.bucket_url == 'http://127.0.0.1:9/bucket'
    assert requests.region == 'eu-west-1'


@pytest.mark.parametrize('url, meant', [
    ('s3:/bucket/run', 's3://bucket/run'),
    ('s3//bucket/run', 's3://bucket/run'),
    ('s3:bucket/run', 's3://bucket/run'),
    ('S3://bucket/run', 's3://bucket/run'),
    ('s3:///run', "'s3:///run' names no bucket: .*'s3://bucket/run'"),
    ('s3://', "'s3://' names no bucket: .*'s3://bucket/prefix'"),
    ('gs:///', "names no bucket: .*'gs://bucket/prefix'"),
    ('s3:///key:hidden@run', 'names no bucket'),
    ('GS:/bucket', 'gs://bucket'),
    ('az:bucket', 'az://bucket'),
    ('s3:/key:hidden@bucket', 's3://bucket/prefix'),
])
def test_a_url_that_is_nearly_one_is_no_directory(tmp_path, monkeypatch, url,
                                                  meant):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=meant) as caught:
        open_backend(url)
    assert 'hidden' not in str(caught.value)
    with pytest.raises(ConfigError):
        find_resumable(url)
    with pytest.raises(ConfigError, match=meant):
        train(
            tmp_path / 'run',
            hooks=[dict(type='DurableCheckpointHook', out_dir=url)])
    assert not list(tmp_path.glob('[sSgGa][3sSz]*'))


@pytest.mark.parametrize('url, meant', [
    ('s4://bucket/run', 's3://bucket/run'),
    ('s33://bucket/run', 's3://bucket/run'),
    ('aws://bucket/run', 's3://bucket/run'),
    ('minio://key:hidden@bucket/run', 's3://bucket/run'),
    ('gcp://bucket/run', 'gs://bucket/run'),
    ('azure://box/run', 'az://box/run'),
    ('SFTP://host/run', 'sftp://host/run'),
])
def test_a_scheme_that_nobody_has_gets_the_nearest_one(url, meant, capsys):
    with pytest.raises(
            ConfigError, match=f'Did you mean {meant!r}.* Expected') as caught:
        open_backend(url)
    assert 'hidden' not in str(caught.value)
    assert main(['ls', url]) == 2
    assert f'did you mean {meant!r}? Expected' in capsys.readouterr().err


def test_a_scheme_that_is_like_none_gets_no_advice(capsys):
    with pytest.raises(ConfigError, match='not supported') as caught:
        open_backend('nowhere://bucket/run')
    assert 'Did you mean' not in str(caught.value)
    assert main(['ls', 'nowhere://bucket/run']) == 2
    assert 'did you mean' not in capsys.readouterr().err


@pytest.mark.parametrize('path', ['s3', 's3/run', './s3:/bucket', 'a/s3:b'])
def test_a_path_stays_a_path(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    open_backend(path).prepare()
    assert (tmp_path / path).is_dir()


# -- endpoints that do not answer ------------------------------------------


def refused(endpoint, **client_options):
    options = dict(
        endpoint=endpoint,
        region='us-east-1',
        access_key_id='key',
        secret_access_key='hidden',
        retry_secs=0.3,
        client_options=client_options)
    with pytest.raises(StorageError) as caught:
        open_backend('s3://bucket/run', storage_options=options).prepare()
    told = str(caught.value)
    assert 's3://bucket/run' in told and endpoint in told
    for error in (caught.value, caught.value.__cause__):
        for inside in ('hidden', 'Debug', 'retries', 'Error performing'):
            assert inside not in str(error)
    return told


def test_where_nobody_listens():
    with socket.create_server(('127.0.0.1', 0)) as closed:
        port = closed.getsockname()[1]
    told = refused(f'http://127.0.0.1:{port}')
    assert 'nobody listens there' in told
    assert 'Check the endpoint and its port' in told


def test_a_host_that_has_no_such_name():
    told = refused('http://no-such-host.invalid')
    assert 'name is not known' in told and 'how the endpoint' in told


def test_tls_with_a_server_that_has_none(s3_server):
    told = refused(s3_server.endpoint.replace('http:', 'https:'))
    assert 'speaks no TLS' in told and 'http:// one' in told


def test_a_server_that_says_nothing():
    with socket.create_server(('127.0.0.1', 0)) as silent:
        port = silent.getsockname()[1]
        told = refused(f'http://127.0.0.1:{port}', timeout='200ms')
    assert 'took too long' in told and 'whether the server runs' in told


@pytest.mark.parametrize('given', [
    dict(out_dir='s3:/bucket/run'),
    dict(mirror=dict(url='s3:/bucket/run')),
    dict(resume='s3:/bucket/run'),
    dict(out_dir='s3:///run'),
    dict(mirror=dict(url='s3:///run')),
])
def test_the_argument_is_named_when_the_hook_is_built(given):
    name = 'mirror.url' if 'mirror' in given else next(iter(given))
    with pytest.raises(ConfigError, match=f"{name}: .*'s3://bucket/run'"):
        DurableCheckpointHook(interval=1, **given)
