"""``verify`` and ``inspect`` of what ``convert`` and ``publish`` write."""
import json
import os
import subprocess
import sys
import uuid

import pytest
from object_server import BUCKET, IDENTITIES
from toy import ToyModel, train

from mmcv_ckpt_hooks.cli import main


@pytest.fixture(scope='module')
def flat(tmp_path_factory):
    """A checkpoint of a run, converted."""
    directory = tmp_path_factory.mktemp('run')
    train(
        directory / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[dict(type='DurableCheckpointHook', interval=2)])
    path = directory / 'a.safetensors'
    assert main(['convert', str(directory / 'run/iter_2.pth'), str(path)]) == 0
    return path


@pytest.fixture
def foreign(tmp_path):
    """A file of another program."""
    library = pytest.importorskip('safetensors.torch')
    path = tmp_path / 'b.safetensors'
    library.save_file(
        dict(ToyModel().state_dict()), str(path), dict(note='mine'))
    return path


def asked(capsys, *arguments):
    capsys.readouterr()
    code = main([*map(str, arguments), '--json'])
    out, _ = capsys.readouterr()
    content = json.loads(out)
    assert content['exit_code'] == code
    return code, content


def test_a_converted_file_is_verified(flat, capsys):
    code, content = asked(capsys, 'verify', flat)
    [one] = content['checked']
    assert code == 0 and one['status'] == 'ok' and one['note'] == ''
    assert one['bytes'] == content['bytes'] == flat.stat().st_size
    assert one['records'] == 29 and one['digest'].startswith('sha256-header:')
    assert main(['verify', str(flat)]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith(f'ok           {flat}: 29 records, ') and '/s' in out
    # only what ls shows is noted
    assert os.listdir(str(flat.parent)).count('checkpoints.verified.json') == 0


def test_a_flipped_bit_in_it_is_damage(flat, tmp_path, capsys):
    data = bytearray(flat.read_bytes())
    data[-1] ^= 1
    path = tmp_path / 'a.safetensors'
    path.write_bytes(bytes(data))
    code, content = asked(capsys, 'verify', path, flat)
    assert code == 1
    assert [one['status'] for one in content['checked']] == ['damaged', 'ok']
    assert content['checked'][0]['error'] == 'CorruptError'
    path.write_bytes(bytes(data[:-1]))
    assert asked(capsys, 'verify', path)[1]['error'] == 'TruncatedError'
    assert asked(capsys, 'verify', tmp_path / 'gone.safetensors')[0] == 2


def test_of_another_programs_file_it_says_that_it_has_no_checksums(
        foreign, capsys):
    code, content = asked(capsys, 'verify', foreign)
    [one] = content['checked']
    assert code == 0 and 'it has no checksums' in one['note']
    assert one['records'] == 0 and one['digest'] == ''
    assert main(['verify', str(foreign)]) == 0
    assert 'it has no checksums' in capsys.readouterr().out
    foreign.write_bytes(foreign.read_bytes() + b'0')
    code, content = asked(capsys, 'verify', foreign)
    assert code == 1 and 'belong to no tensor' in content['problem']


def test_inspect_shows_what_it_shows_of_the_pth(flat, capsys):
    code, content = asked(capsys, 'inspect', flat)
    assert code == 0 and content['note'] == ''
    assert content['metadata'] == dict(format='pt')
    expected = asked(capsys, 'inspect', flat.parent / 'run/iter_2.pth')[1]
    for key in ('fields', 'meta', 'tensors'):
        assert content[key] == expected[key]
    assert main(['inspect', str(flat)]) == 0
    out, _ = capsys.readouterr()
    assert 'metadata.format: pt' in out and 'meta.iter: 2' in out


def test_inspect_shows_the_file_of_another_program(foreign, capsys):
    code, content = asked(capsys, 'inspect', foreign)
    assert code == 0 and content['metadata'] == dict(note='mine')
    assert 'it has no checksums' in content['note']
    assert {
        one['name']: one['shape']
        for one in content['tensors']
    } == {
        f'state_dict.{name}': list(one.shape)
        for name, one in ToyModel().state_dict().items()
    }
    assert main(['inspect', str(foreign)]) == 0
    out, _ = capsys.readouterr()
    assert 'it has no checksums' in out and 'metadata.note: mine' in out


def test_inspect_tells_types_that_torch_does_not_have(tmp_path, capsys):
    header = json.dumps({
        'w': dict(dtype='F4', shape=[6], data_offsets=[0, 3])
    }).encode()
    path = tmp_path / 'a.safetensors'
    path.write_bytes(len(header).to_bytes(8, 'little') + header + b'012')
    code, content = asked(capsys, 'inspect', path)
    assert code == 0 and content['tensors'] == [
        dict(name='state_dict.w', dtype='F4', shape=[6], bytes=3)
    ]
    path.write_bytes(path.read_bytes()[:-1])
    assert asked(capsys, 'inspect', path)[0] == 1


@pytest.mark.parametrize('command', ['verify', 'inspect'])
def test_neither_torch_nor_numpy_is_needed(flat, command):
    script = ('import sys\n'
              'sys.modules["torch"] = sys.modules["numpy"] = None\n'
              'from mmcv_ckpt_cli import main\n'
              'sys.exit(main(sys.argv[1:]))')
    subprocess.run([sys.executable, '-c', script, command,
                    str(flat)],
                   check=True,
                   stdout=subprocess.DEVNULL)


def test_of_a_bucket(flat, s3_server, capsys, monkeypatch):
    pytest.importorskip('obstore', reason='pip install obstore')
    key, secret, _ = IDENTITIES['writer']
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', key)
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', secret)
    at = f'--endpoint={s3_server.endpoint}', '--region=us-east-1'
    source = flat.parent / 'run/iter_2.pth'
    url = f's3://{BUCKET}/{uuid.uuid4().hex}/a.safetensors'
    assert main(['convert', str(source), url, *at]) == 0
    code, content = asked(capsys, 'verify', url, *at)
    assert code == 0 and content['checked'][0]['records'] == 29
    found = asked(capsys, 'inspect', url, *at)[1]
    assert found['tensors'] == asked(capsys, 'inspect', flat)[1]['tensors']
