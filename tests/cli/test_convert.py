"""``mmcv-ckpt convert``: between .pth, .safetensors and .dcp."""
import errno
import json
import os
import shutil
import uuid

import numpy as np
import pytest
import torch
from checkpoint_files import equal, torch_written
from folders import NEW_TORCH
from lock_holder import another
from mmcv.runner import load_checkpoint
from object_server import BUCKET, IDENTITIES
from toy import ToyModel, make_runner, train

from mmcv_ckpt_hooks import verify_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.converting import read_source, write_file
from mmcv_ckpt_hooks.errors import ConfigError, TruncatedError
from mmcv_ckpt_hooks.flat_files import reading
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.testing import MemoryBackend

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


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


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
    # nothing has the name of a checkpoint, and nothing is left of it
    left = {path.name for path in tmp_path.rglob('*') if path.is_file()}
    assert left == {'a.safetensors'}


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
    # it is said before minutes of reading
    damaged = tmp_path / 'iter_9.pth'
    damaged.write_bytes(source.read_bytes()[:-9])
    code, _, err = convert(capsys, damaged, target)
    assert code == 2 and 'a.safetensors exists: give another name' in err


def test_a_run_that_comes_first_is_not_overwritten(source, tmp_path,
                                                   monkeypatch, capsys):
    """Who looks before minutes of work has to look again behind them."""
    target = tmp_path / 'iter_8.pth'
    put = LocalBackend.put

    def late(files, name, write):
        size = put(files, name, write)
        target.write_bytes(b'of a run')
        return size

    convert(capsys, source, tmp_path / 'a.safetensors')
    monkeypatch.setattr(LocalBackend, 'put', late)
    code, _, err = convert(capsys, tmp_path / 'a.safetensors', target)
    assert code == 2 and 'iter_8.pth exists: give another name' in err
    assert target.read_bytes() == b'of a run'
    assert names_in(tmp_path) == ['a.safetensors', 'iter_8.pth']


def test_where_there_are_no_links(source, tmp_path, monkeypatch, capsys):

    def none(*given):
        raise OSError(errno.EPERM, 'Operation not permitted')

    monkeypatch.setattr(os, 'link', none)
    assert convert(capsys, source, tmp_path / 'a.safetensors')[0] == 0
    assert names_in(tmp_path) == ['a.safetensors']


@NEW_TORCH
def test_no_folder_is_written_beside_a_run(source, tmp_path, capsys):
    shutil.copy(
        str(source.parent / 'checkpoints.json'),
        str(tmp_path / 'checkpoints.json'))
    with another(tmp_path, 'acquire'):
        code, content, err = convert(capsys, source, tmp_path / 'iter_8.dcp')
    assert (code, content['error']) == (2, 'LockedError'), err
    assert convert(capsys, source, tmp_path / 'iter_8.dcp')[0] == 0


def test_elsewhere_nothing_is_overwritten_or_left_either(source):
    opened = read_source(
        LocalBackend(str(source.parent)), source.name, str(source))

    class Locked(MemoryBackend):
        """Tells whether runs are kept out while a file is written."""
        seen = {}

        def put(self, name, write):
            if name.endswith('.pth'):
                self.seen[name] = 'checkpoints.lock' in self.files
            return super().put(name, write)

    class Late(MemoryBackend):
        """Where another comes first while it is written."""

        def put(self, name, write):
            self.files[name] = b'of a run'
            return super().put(name, write)

    class Damaging(MemoryBackend):

        def put(self, name, write):
            size = super().put(name, write)
            self.files[name] = self.files[name][:-1]
            return size

    late, damaging = Late(), Damaging()
    with pytest.raises(ConfigError, match='b.safetensors exists'):
        write_file(opened, late, 'b.safetensors')
    assert late.files == {'b.safetensors': b'of a run'}
    with pytest.raises(TruncatedError):
        write_file(opened, damaging, 'b.safetensors')
    assert damaging.files == {}
    locked = Locked()
    write_file(opened, locked, 'b.pth')
    locked.files['checkpoints.json'] = b'{}'
    write_file(opened, locked, 'c.pth')
    assert locked.seen == {'b.pth': False, 'c.pth': True}


def test_a_type_that_this_torch_lacks_is_said(tmp_path, capsys):
    header = json.dumps({
        'w': dict(dtype='F4', shape=[2], data_offsets=[0, 1])
    }).encode()
    flat = tmp_path / 'a.safetensors'
    flat.write_bytes(len(header).to_bytes(8, 'little') + header + b'0')
    code, _, err = convert(capsys, flat, tmp_path / 'b.pth')
    assert code == 2 and 'is of the type F4, which torch' in err


def test_too_little_memory_is_said(source, tmp_path, monkeypatch, capsys):
    convert(capsys, source, tmp_path / 'a.safetensors')

    def none(*given, **more):
        raise RuntimeError('DefaultCPUAllocator: not enough memory')

    monkeypatch.setattr(reading, 'descriptor', lambda file: None)
    monkeypatch.setattr(torch, 'empty', none)
    code, content, err = convert(capsys, tmp_path / 'a.safetensors',
                                 tmp_path / 'b.pth')
    assert (code, content['error']) == (2, 'MemoryError')
    assert 'a.safetensors: no memory for ' in err and 'Traceback' not in err


def test_an_empty_text_of_numpy_comes_back(tmp_path, capsys):
    path, again = tmp_path / 'a.pth', tmp_path / 'b.pth'
    meta = dict(text=np.str_(''), data=np.bytes_(b''))
    path.write_bytes(
        torch_written(dict(meta=meta, state_dict=ToyModel().state_dict())))
    assert convert(capsys, path, tmp_path / 'a.safetensors')[0] == 0
    assert convert(capsys, tmp_path / 'a.safetensors', again)[0] == 0
    found = torch.load(str(again), weights_only=False)['meta']
    assert found == meta and type(found['text']) is np.str_


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
