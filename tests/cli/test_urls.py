"""The commands on URLs; those of S3 on a real server."""
import json
import os
import uuid

import pytest
import torch
from folders import NEW_TORCH, with_another_value
from object_server import BUCKET, IDENTITIES
from toy import train

from mmcv_ckpt_hooks import save_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import AccessError
from mmcv_ckpt_hooks.storage import object_store, open_backend
from mmcv_ckpt_hooks.testing import pavi


@pytest.fixture
def as_user(monkeypatch, s3_server):
    """Take the credentials of one of the server's identities."""
    pytest.importorskip('obstore', reason='pip install obstore')

    def take(name):
        key, secret, _ = IDENTITIES[name]
        monkeypatch.setenv('AWS_ACCESS_KEY_ID', key)
        monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', secret)

    take('writer')
    return take


@pytest.fixture
def stored(tmp_path, s3_server, as_user):
    """URL of a finished run: ``iter_2``, ``_4`` (the best), ``_6``."""
    out_dir = f's3://{BUCKET}/{uuid.uuid4().hex}'
    train(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        evaluation=dict(
            scores=[.5, .7, .6], interval=2, by_epoch=False, save_best='mIoU'),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                out_dir=out_dir,
                storage_options=s3_server.options())
        ])
    return f'{out_dir}/run'


@pytest.fixture
def cli(s3_server, capsys):
    """Run a command; exit code, what it said and, with --json, what it is."""

    def run(*arguments):
        code = main([*arguments, f'--endpoint={s3_server.endpoint}'])
        out, err = capsys.readouterr()
        for _, secret, _ in IDENTITIES.values():
            assert secret not in out + err
        return code, json.loads(out) if '--json' in arguments else out, err

    return run


def put(url, options, name, content):
    open_backend(
        url, storage_options=options).put(name,
                                          lambda file: file.write(content))


def get(url, options, name):
    with open_backend(url, storage_options=options).open(name) as file:
        return file.read()


# -- as for files ----------------------------------------------------------


def test_ls_tells_what_a_resume_would_take(stored, cli):
    for url in (stored, f'{stored}/'):
        code, content, err = cli('ls', url, '--json')
        assert (code, err, content['ok']) == (0, '', True)
        assert (content['path'], content['directory']) == (url, stored)
        assert content['resume'] == content['latest'] == 'iter_6.pth'
        assert content['best']['mIoU']['score'] == .7
        assert {
            one['name']: one['flags']
            for one in content['checkpoints']
        } == {
            'iter_2.pth': [],
            'iter_4.pth': [],
            'best_mIoU_iter_4.pth': ['best mIoU', 'same as iter_4.pth'],
            'iter_6.pth': ['resume', 'latest'],
        }
    code, out, _ = cli('ls', stored)
    assert code == 0
    assert '3 checkpoints and 1 second name, ' in out
    assert "resume='auto' would take iter_6.pth, the newest of its run" in out


def test_verify_checks_the_newest_all_or_one(stored, cli):
    code, content, _ = cli('verify', stored, '--json')
    assert code == 0
    assert [one['path']
            for one in content['checked']] == [f'{stored}/iter_6.pth']
    code, out, _ = cli('verify', '--all', stored)
    assert code == 0
    assert out.splitlines()[-1].startswith('4 ok; ')
    code, content, _ = cli('verify', f'{stored}/iter_2.pth', '--json')
    one, = content['checked']
    assert (code, one['status'], one['same_as']) == (0, 'ok', '')
    assert one['digest'] and one['records'] > 5


def test_inspect_shows_a_checkpoint(stored, cli):
    code, content, _ = cli('inspect', f'{stored}/iter_4.pth', '--json')
    assert (code, content['path']) == (0, f'{stored}/iter_4.pth')
    assert content['meta']['iter'] == 4
    assert content['bytes'] > 20000 and content['digest']
    assert any(one['name'] == 'state_dict.first.weight'
               for one in content['tensors'])


def test_a_damaged_checkpoint_is_found(stored, cli, s3_server):
    content = bytearray(get(stored, s3_server.options(), 'iter_6.pth'))
    content[len(content) // 3] ^= 1
    put(stored, s3_server.options(), 'iter_6.pth', bytes(content))
    code, content, _ = cli('verify', '--all', stored, '--json')
    assert (code, content['error']) == (1, 'CorruptError')
    assert content['problem'] == '3 ok, 1 damaged'
    put(stored, s3_server.options(), 'iter_6.pth', b'PK\x03')
    code, content, _ = cli('ls', stored, '--json')
    assert (code, content['resume']) == (0, 'iter_4.pth')
    assert cli('inspect', f'{stored}/iter_6.pth')[0] == 1


def test_a_stored_file_that_could_run_code_is_not_loaded(
        stored, cli, s3_server):
    from checkpoint_files import Payload, torch_written
    put(stored, s3_server.options(), 'iter_9.pth',
        torch_written(dict(a=Payload(os.mkdir, 'nowhere'))))
    assert cli('verify', f'{stored}/iter_9.pth')[0] == 3
    assert cli('inspect', f'{stored}/iter_9.pth')[0] == 3


# -- what is not there, and what is refused --------------------------------


def test_what_is_missing_is_told(stored, cli):
    code, content, err = cli('inspect', f'{stored}/iter_9.pth', '--json')
    assert (code, content['error']) == (2, 'MissingCheckpointError')
    assert f'{stored}/iter_9.pth' in err
    code, content, _ = cli('verify', f'{stored}/iter_9.pth', '--json')
    assert (code, content['error']) == (2, 'MissingCheckpointError')
    code, content, _ = cli('verify', f'{stored}/nothing', '--json')
    assert (code, content['error']) == (2, 'MissingCheckpointError')
    # a prefix without objects is an empty one
    code, out, err = cli('ls', f'{stored}/nothing')
    assert (code, err) == (0, '')
    first, hint = out.splitlines()
    assert first == f'No checkpoints in {stored}/nothing'
    # the URL of a config is one level too high
    assert 'last level of its work dir' in hint


def test_above_runs_ls_says_where_they_are(stored, cli, s3_server):
    above = stored.rpartition('/')[0]
    options = s3_server.options()
    put(f'{above}/empty', options, 'notes.txt', b'')
    for url in (above, f'{above}/'):
        code, out, err = cli('ls', url)
        assert (code, err) == (0, '')
        assert out.splitlines()[-1] == (
            f'But there are some in {stored}: name that one')
    for number in range(6):
        put(f'{above}/a{number}', options, 'iter_1.pth', b'')
    _, out, _ = cli('ls', above)
    shown = ', '.join(f'{above}/a{number}' for number in range(5))
    assert out.splitlines()[-1] == (
        f'But there are some in {shown}, ...: name one of them')


def test_a_folder_that_may_not_be_read_is_no_hint(stored, cli, monkeypatch):
    from mmcv_ckpt_hooks.cli import elsewhere

    def refused(url, options):
        raise AccessError('403')

    monkeypatch.setattr(elsewhere, 'folders', refused)
    code, out, err = cli('ls', stored.rpartition('/')[0])
    assert (code, err) == (0, '') and 'there are some' not in out


def test_so_it_does_for_fsspec(capsys):
    pytest.importorskip('fsspec')
    above = f'memory://{uuid.uuid4().hex}'
    put(f'{above}/run', None, 'iter_1.pth', b'')
    put(f'{above}/empty', None, 'notes.txt', b'')
    assert main(['ls', above]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == f'But there are some in {above}/run: name that one'


@pytest.mark.parametrize('command, name', [('ls', ''), ('verify', ''),
                                           ('verify', '/iter_6.pth'),
                                           ('inspect', '/iter_6.pth')])
@pytest.mark.parametrize('who', ['stranger', 'nobody'])
def test_a_refusal_is_no_missing_checkpoint(stored, cli, as_user, monkeypatch,
                                            who, command, name):
    if who == 'nobody':
        monkeypatch.setenv('AWS_ACCESS_KEY_ID', 'NOBODY')
    else:
        as_user(who)
    code, content, err = cli(command, stored + name, '--json')
    assert (code, content['error']) == (2, 'AccessError')
    assert '403' in err and 'Check the credentials' in err
    assert 'o checkpoint' not in err


def test_who_may_only_read_reads(stored, cli, as_user):
    as_user('reader')
    assert cli('ls', stored)[0] == 0
    assert cli('verify', stored)[0] == 0


def test_a_bucket_that_is_not_there_is_told(cli, as_user):
    code, content, _ = cli('ls', 's3://no-such-bucket/run', '--json')
    assert (code, content['error']) == (2, 'MissingPlaceError')
    assert 'name of the bucket' in content['problem']


def test_the_catalog_of_a_url_is_not_repaired(stored, cli, s3_server):
    before = get(stored, s3_server.options(), 'checkpoints.json')
    code, content, _ = cli('verify', '--repair-catalog', stored, '--json')
    assert (code, content['error']) == (2, 'ConfigError')
    assert f'is for local directories, but {stored} is a URL' in \
        content['problem']
    assert get(stored, s3_server.options(), 'checkpoints.json') == before


def test_a_file_is_no_directory(stored, cli):
    code, content, _ = cli('ls', f'{stored}/iter_6.pth', '--json')
    assert (code, content['error']) == (2, 'ConfigError')
    assert 'is a file, expected a directory' in content['problem']
    code, content, _ = cli('inspect', stored, '--json')
    assert (code, content['error']) == (2, 'ConfigError')


# -- the options -----------------------------------------------------------


def test_storage_options_are_those_of_a_run(stored, s3_server, monkeypatch,
                                            capsys):
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.delenv(name)
    options = json.dumps(s3_server.options())
    assert main(['ls', stored, '--storage-options', options]) == 0
    code = main([
        'verify', stored, '--storage-options', options, '--endpoint',
        'http://127.0.0.1:9'
    ])
    out, err = capsys.readouterr()
    assert code == 2 and '127.0.0.1:9' in err  # it goes before the other


@pytest.mark.parametrize('given', ['{', '[]', 'secret-of-mine', '"a"'])
def test_storage_options_that_are_none(given, capsys):
    assert main(['ls', 's3://bucket/run', '--storage-options', given]) == 2
    err = capsys.readouterr().err
    assert 'must be a JSON object' in err and 'secret' not in err


@pytest.mark.parametrize('url', ['pavi://a/b', 'gs://a/b', 'az://a/b'])
def test_an_endpoint_is_of_an_s3_server(url, capsys):
    assert main(['ls', url, '--endpoint=http://host']) == 2
    assert '--endpoint is for s3:// only' in capsys.readouterr().err


@pytest.mark.parametrize('url', ['s3:/bucket/run', 'S3://bucket/run'])
@pytest.mark.parametrize('command', ['ls', 'verify', 'inspect'])
def test_what_was_meant_as_a_url_is_told(command, url, capsys):
    assert main([command, url]) == 2
    assert "did you mean 's3://bucket/run'" in capsys.readouterr().err


def test_of_http_it_is_said_what_to_do(capsys):
    assert main(['ls', 'https://host/run']) == 2
    assert capsys.readouterr().err == (
        'mmcv-ckpt: mmcv-ckpt reads no https:// URL, where nothing can be '
        'listed: download the file and give its path. A bucket is '
        's3://BUCKET/PREFIX, its server --endpoint URL. A run takes the URL '
        'of a file as resume or load_from, and reads it with mmcv\n')


@pytest.mark.parametrize('scheme', ['http', 'nowhere'])
@pytest.mark.parametrize('command', ['ls', 'verify', 'inspect'])
def test_a_url_that_nothing_serves(command, scheme, capsys):
    name = 'run' if command == 'ls' else 'iter_1.pth'
    assert main([command, f'{scheme}://host/{name}']) == 2
    assert f'reads no {scheme}:// URL' in capsys.readouterr().err


def test_local_paths_need_no_options(run_dir, capsys):
    assert main(['verify', str(run_dir), '--endpoint=http://host']) == 0


# -- what is read ----------------------------------------------------------


class CountingClient:
    """obstore, but what is fetched is counted."""

    def __init__(self, client):
        self._client = client
        self.requests = []

    def __getattr__(self, name):
        return getattr(self._client, name)

    def get(self, store, name, options=None):
        self.requests.append((name, (options or {}).get('range')))
        return self._client.get(store, name, options=options)

    @property
    def bytes(self):
        return sum(stop - start for _, (start, stop) in self.requests)


@pytest.fixture
def client(monkeypatch, as_user):
    counting = CountingClient(object_store.import_client('s3://'))
    monkeypatch.setattr(object_store, 'import_client', lambda url: counting)
    return counting


def test_inspect_of_a_large_file_fetches_its_ends(s3_server, client, cli):
    url = f's3://{BUCKET}/{uuid.uuid4().hex}'
    model = torch.nn.Sequential(*(torch.nn.Linear(300, 300)
                                  for _ in range(60)))
    save_checkpoint(
        model, f'{url}/iter_1.pth', storage_options=s3_server.options())
    del client.requests[:]
    code, content, _ = cli('inspect', f'{url}/iter_1.pth', '--json')
    assert code == 0 and len(content['tensors']) == 120
    assert content['bytes'] > 20 << 20
    # the beginning, the zip directory, the pickle
    assert len(client.requests) <= 4
    assert client.bytes < 512 << 10


def test_ls_reads_no_content(stored, client, cli):
    assert cli('ls', stored)[0] == 0
    # the catalog, the pointer; of what a resume takes and of the copies the
    # beginning and the end
    assert len(client.requests) <= 8


# -- sharded checkpoints ---------------------------------------------------


@NEW_TORCH
def test_folders_are_pushed_listed_checked_and_converted(
        tmp_path, cli, as_user):
    work_dir, url = tmp_path / 'run', f's3://{BUCKET}/{uuid.uuid4().hex}'
    train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[
            dict(type='DurableCheckpointHook', interval=2, format='dcp'),
        ])
    code, told, _ = cli('push', str(work_dir), url, '--json')
    assert code == 0
    assert [one['status'] for one in told['checkpoints']] == ['copied'] * 2
    code, told, _ = cli('ls', url, '--json')
    assert code == 0 and told['resume'] == 'iter_4.dcp'
    assert [one['name']
            for one in told['checkpoints']] == ['iter_2.dcp', 'iter_4.dcp']
    nbytes = sum(path.stat().st_size
                 for path in (work_dir / 'iter_4.dcp').iterdir())
    assert told['checkpoints'][1]['bytes'] == nbytes
    assert told['latest'] == 'iter_4.dcp'
    code, told, _ = cli('verify', '--all', url, '--json')
    assert code == 0 and [one['status']
                          for one in told['checked']] == ['ok'] * 2
    for given in (f'{url}/iter_4.dcp', f'{url}/iter_4.dcp/'):
        assert cli('verify', given)[0] == 0
        code, told, _ = cli('inspect', given, '--json')
        assert code == 0 and 'first.weight' in str(told['tensors'])
    file, again = tmp_path / 'iter_4.pth', f'{url}/again.dcp'
    assert cli('convert', f'{url}/iter_4.dcp', str(file))[0] == 0
    assert torch.load(file)['meta']['iter'] == 4
    assert cli('convert', str(file), again)[0] == 0
    code, told, _ = cli('verify', again, '--json')
    assert code == 0 and told['checked'][0]['status'] == 'ok'
    assert 'is not empty' in cli('convert', str(file), again)[2]


@NEW_TORCH
def test_a_damaged_folder_is_named(tmp_path, s3_server, cli, as_user):
    work_dir, url = tmp_path / 'run', f's3://{BUCKET}/{uuid.uuid4().hex}'
    train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[
            dict(type='DurableCheckpointHook', interval=2, format='dcp'),
        ])
    assert cli('push', str(work_dir), url)[0] == 0
    inside, options = f'{url}/iter_4.dcp', s3_server.options()
    part = '__0_0.distcp'
    put(inside, options, part, with_another_value(get(inside, options, part)))
    code, out, _ = cli('verify', '--all', url)
    assert code == 1 and 'iter_4.dcp/__0_0.distcp' in out
    assert cli('verify', f'{url}/iter_2.dcp')[0] == 0
    # what is not there is not damaged
    code, _, err = cli('verify', f'{url}/iter_9.dcp')
    assert code == 2 and 'iter_9.dcp is not there' in err


# -- other places ----------------------------------------------------------


def test_pavi_is_read_by_its_catalog(tmp_path, capsys):
    with pavi.install(str(tmp_path / 'platform')):
        train(
            tmp_path / 'run',
            hooks=[
                dict(
                    type='DurableCheckpointHook',
                    interval=4,
                    out_dir='pavi://project/model')
            ])
        url = 'pavi://project/model/run'
        assert main(['ls', url, '--json']) == 0
        content = json.loads(capsys.readouterr().out)
        assert content['resume'] == 'iter_8.pth'
        assert main(['verify', '--all', url]) == 0
        assert main(['inspect', f'{url}/iter_4.pth']) == 0
        capsys.readouterr()
        # what cannot be listed is not called empty
        assert main(['ls', 'pavi://project/other']) == 2
        assert "does not support 'listing'" in capsys.readouterr().err


def test_without_its_package_a_url_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(__import__('sys').modules, 'obstore', None)
    assert main(['ls', 's3://bucket/run']) == 2
    assert "pip install 'mmcv_ckpt_hooks[s3]'" in capsys.readouterr().err


def test_prune_deletes_in_a_bucket(cli, stored):
    code, content, _ = cli('prune', stored, '--last=1', '--json')
    assert code == 0 and content['done'] is False
    code, out, _ = cli('prune', stored, '--last=1', '--yes')
    assert code == 0 and '2 of 4 checkpoints deleted' in out
    _, content, _ = cli('ls', stored, '--json')
    assert [one['name'] for one in content['checkpoints']
            ] == ['best_mIoU_iter_4.pth', 'iter_6.pth']
    assert content['resume'] == 'iter_6.pth'


def test_pull_copies_from_a_bucket(cli, stored, tmp_path):
    code, content, _ = cli('pull', stored, str(tmp_path / 'there'), '--newest',
                           '--json')
    assert code == 0
    code, out, _ = cli('pull', stored, str(tmp_path / 'there'))
    assert code == 0 and 'copied   iter_2.pth: ' in out
    assert '3 copied, 1 skipped, 0 failed' in out
    code, out, _ = cli('verify', '--all', str(tmp_path / 'there'))
    assert code == 0 and '4 ok' in out
