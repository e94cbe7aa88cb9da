"""``mmcv-ckpt convert``: between .pth, .safetensors and .dcp."""
import json
import os
import uuid

import pytest
import torch
from checkpoint_files import equal, torch_written
from folders import NEW_TORCH
from mmcv.runner import load_checkpoint
from object_server import BUCKET, IDENTITIES
from toy import ToyModel, make_runner, train

from mmcv_ckpt_hooks import verify_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.storage.local import LocalBackend

AMP = dict(type='IterBasedRunnerAmp', max_iters=6)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A file of a run that can go on exactly."""
    directory = tmp_path_factory.mktemp('run')
    train(
        directory,
        runner=dict(AMP, max_iters=4),
        hooks=[dict(type='DurableCheckpointHook', interval=4)])
    return directory / 'iter_4.pth'


def convert(capsys, *arguments):
    capsys.readouterr()
    code = main(['convert', *map(str, arguments), '--json'])
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content['exit_code'] == code
    return code, content, err


def test_all_of_a_run_comes_back_from_safetensors(source, tmp_path, capsys):
    flat, again = tmp_path / 'a.safetensors', tmp_path / 'iter_4.pth'
    code, content, _ = convert(capsys, source, flat)
    assert code == 0 and content['left_out'] == [] and content['note'] == ''
    code, content, _ = convert(capsys, flat, again)
    assert code == 0
    # names, sizes and CRC-32 of all that is in them, also of the pickle
    assert content['digest'] == verify_checkpoint(str(source)).digest
    assert equal(
        torch.load(str(again), weights_only=True),
        torch.load(str(source), weights_only=True))


def test_a_run_goes_on_exactly_from_what_came_back(source, tmp_path, capsys):
    again = tmp_path / 'iter_4.pth'
    convert(capsys, source, tmp_path / 'a.safetensors')
    convert(capsys, tmp_path / 'a.safetensors', again)
    found = [
        train(
            tmp_path / name,
            runner=AMP,
            hooks=[dict(type='DurableCheckpointHook', resume=str(path))])
        for name, path in (('one', source), ('other', again))
    ]
    assert found[0].restored.iter == found[1].restored.iter == 4
    assert equal(found[0].model.state_dict(), found[1].model.state_dict())
    assert equal(found[0].optimizer.state_dict(),
                 found[1].optimizer.state_dict())


@NEW_TORCH
def test_the_ring_of_three_formats(source, tmp_path, capsys):
    steps = [source, 'a.dcp', 'b.safetensors', 'c.pth', 'd.safetensors',
             'e.dcp', 'f.pth']  # yapf: disable
    steps = [tmp_path / one for one in steps]
    for one, other in zip(steps, steps[1:]):
        code, content, err = convert(capsys, one, other)
        assert code == 0 and not content['left_out'], err
    for path in (steps[3], steps[6]):
        runner = make_runner(tmp_path / path.stem, runner=AMP, seed=5)
        runner.resume(str(path))
        assert runner.iter == 4
        found = torch.load(str(path), weights_only=True)
        expected = torch.load(str(source), weights_only=True)
        assert equal(found['state_dict'], expected['state_dict'])
        for key, state in expected['optimizer']['state'].items():
            assert equal(
                dict(sorted(found['optimizer']['state'][key].items())),
                dict(sorted(state.items())))
        assert equal(found['resume_state'], expected['resume_state'])


def test_others_read_the_weights(source, tmp_path, capsys):
    library = pytest.importorskip('safetensors.torch')
    flat = tmp_path / 'a.safetensors'
    assert convert(capsys, source, flat)[0] == 0
    weights = library.load_file(str(flat))
    expected = torch.load(str(source), weights_only=True)['state_dict']
    assert equal({name: weights[name] for name in expected}, dict(expected))
    assert any(name.startswith('optimizer.state.0.') for name in weights)
    model = ToyModel()
    library.load_model(model, str(flat), strict=False)
    assert equal(dict(model.state_dict()), dict(expected))


def test_stock_mmcv_reads_what_was_made_of_a_file_of_others(tmp_path, capsys):
    library = pytest.importorskip('safetensors.torch')
    weights = ToyModel().state_dict()
    library.save_file(
        dict(weights), str(tmp_path / 'a.safetensors'), dict(format='pt'))
    code, content, _ = convert(capsys, tmp_path / 'a.safetensors',
                               tmp_path / 'b.pth')
    assert code == 0 and 'it has no checksums' in content['note']
    model = ToyModel()
    load_checkpoint(model, str(tmp_path / 'b.pth'), strict=True)
    assert equal(dict(model.state_dict()), dict(weights))
    verify_checkpoint(str(tmp_path / 'b.pth'))


def test_a_bare_state_dict_keeps_its_names(tmp_path, capsys):
    library = pytest.importorskip('safetensors.torch')
    path = tmp_path / 'backbone.pth'
    path.write_bytes(torch_written(ToyModel().state_dict()))
    convert(capsys, path, tmp_path / 'a.safetensors')
    found = library.load_file(str(tmp_path / 'a.safetensors'))
    assert {*found} == {*ToyModel().state_dict()}


def test_what_people_read(source, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    memory = torch.arange(8.)
    (tmp_path / 'a.pth').write_bytes(
        torch_written(dict(state_dict=dict(a=memory[:5], b=memory[4:]))))
    assert main(['convert', 'a.pth', 'a.safetensors']) == 0
    out, _ = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith('a.safetensors: ')
    assert first.endswith(' B, 2 tensors')
    assert second == 'left out: that 1 tensor had memory in common with ' \
        'others, as other parts of it'


@pytest.mark.parametrize('damage, kind', [
    (lambda data: data[:-1], 'TruncatedError'),
    (lambda data: data[:-1] + bytes([data[-1] ^ 1]), 'CorruptError'),
    (lambda data: b'\xff' * 8 + data[8:], 'CorruptError'),
])
def test_of_a_damaged_source_nothing_is_written(source, tmp_path, capsys,
                                                damage, kind):
    flat = tmp_path / 'a.safetensors'
    convert(capsys, source, flat)
    flat.write_bytes(damage(flat.read_bytes()))
    before = sorted(os.listdir(str(tmp_path)))
    code, content, err = convert(capsys, flat, tmp_path / 'b.pth')
    assert code == 1 and content['error'] == kind
    assert str(flat) in err and 'Traceback' not in err
    assert sorted(os.listdir(str(tmp_path))) == before


@pytest.mark.parametrize('end', [
    'safetensors', 'pth',
    pytest.param('dcp', marks=NEW_TORCH)])  # yapf: disable
def test_what_is_not_there_as_it_was_written_is_no_success(
        source, tmp_path, monkeypatch, capsys, end):
    begin = tmp_path / 'a.safetensors'
    convert(capsys, source, begin)
    put = LocalBackend.put

    def damaging(files, name, write):
        size = put(files, name, write)
        if name in ('.metadata', 'manifest.json', 'rest.zip'):
            return size
        # inside the data of the last tensor, or of the first
        at = size - 1 if end == 'safetensors' else 70
        with open(os.path.join(files.url, name), 'r+b') as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
        return size

    monkeypatch.setattr(LocalBackend, 'put', damaging)
    code, content, _ = convert(capsys,
                               source if end == 'safetensors' else begin,
                               tmp_path / f'b.{end}')
    assert code == 1 and content['error'] == 'CorruptError'


def test_what_cannot_be_held_is_refused_in_words(tmp_path, capsys):
    path = tmp_path / 'a.pth'
    path.write_bytes(
        torch_written(
            dict(state_dict=dict(w=torch.ones(1, dtype=torch.complex128)))))
    code, _, err = convert(capsys, path, tmp_path / 'a.safetensors')
    assert code == 2 and 'safetensors cannot hold state_dict.w of type ' \
        'torch.complex128: convert to .pth' in err
    quantized = torch.quantize_per_tensor(torch.ones(2), .1, 0, torch.qint8)
    path.write_bytes(torch_written(dict(state_dict=dict(w=quantized))))
    code, _, err = convert(capsys, path, tmp_path / 'a.safetensors')
    assert code == 3 and 'Traceback' not in err
    assert os.listdir(str(tmp_path)) == ['a.pth']


class Mine:
    """Of a class that only its own program knows."""


def test_the_advice_for_a_file_that_needs_trust_is_that_of_a_command(
        tmp_path, capsys):
    path, new = tmp_path / 'a.pth', tmp_path / 'new.pth'
    path.write_bytes(
        torch_written(
            dict(meta=dict(a=Mine()), state_dict=ToyModel().state_dict())))
    code, content, err = convert(capsys, path, tmp_path / 'a.safetensors')
    assert (code, content['error']) == (3, 'UnsafeCheckpointError')
    advice = '"mmcv-ckpt convert" executes nothing in a file. If you trust ' \
        'who made this one, have Python write its weights anew, ' \
        "torch.save(torch.load(FILE, weights_only=False)['state_dict'], " \
        'NEW), and give it NEW'
    assert content['problem'].endswith(advice) and advice in err
    assert 'trust_checkpoint' not in err
    # as it says
    torch.save(torch.load(str(path), weights_only=False)['state_dict'], new)
    assert convert(capsys, new, tmp_path / 'a.safetensors')[0] == 0


def test_nothing_is_replaced(source, tmp_path, capsys):
    target = tmp_path / 'a.safetensors'
    target.write_bytes(b'mine')
    code, _, err = convert(capsys, source, target)
    assert code == 2 and 'a.safetensors exists: give another name' in err
    assert target.read_bytes() == b'mine'


def test_to_a_bucket_and_back(source, tmp_path, s3_server, capsys,
                              monkeypatch):
    pytest.importorskip('obstore', reason='pip install obstore')
    key, secret, _ = IDENTITIES['writer']
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', key)
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', secret)
    at = f'--endpoint={s3_server.endpoint}', '--region=us-east-1'
    flat = f's3://{BUCKET}/{uuid.uuid4().hex}/a.safetensors'
    code, _, err = convert(capsys, source, flat, *at)
    assert code == 0, err
    code, content, err = convert(capsys, flat, tmp_path / 'b.pth', *at)
    assert code == 0, err
    assert content['digest'] == verify_checkpoint(str(source)).digest
    code, _, err = convert(capsys, flat, flat.replace('/a.', '/b.'), *at)
    assert code == 2 and 'would be one' in err
