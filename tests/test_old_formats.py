"""Files of torch < 1.6 and < 0.4: no checksums, so trust is asked for."""
import io
import pickle
import struct
import tarfile

import pytest
import torch
from foreign_files import stock_file
from mmcv.runner import IterBasedRunner
from toy import make_runner, train

from mmcv_ckpt_hooks import verify_checkpoint
from mmcv_ckpt_hooks.errors import (CorruptError, IntegrityError,
                                    UnverifiableError)
from mmcv_ckpt_hooks.loading import load_checkpoint

OURS = dict(type='DurableCheckpointHook', interval=4)
BOTH = pytest.mark.parametrize('name',
                               ['IterBasedRunnerAmp', 'IterBasedRunner'])


def run(directory, steps, name='IterBasedRunnerAmp', **options):
    return train(
        directory,
        runner=dict(type=name, max_iters=steps),
        hooks=[dict(OURS, resume='auto', **options)])


def old_file(directory, name='iter_4.pth'):
    """A file of a real run of stock mmcv, in the format of torch < 1.6."""
    content = torch.load(stock_file(directory, 4, IterBasedRunner))
    torch.save(content, directory / name, _use_new_zipfile_serialization=False)
    return str(directory / name)


def tar_file(tree):
    """As torch < 0.4 wrote it; the tree holds no tensors."""
    stream = io.BytesIO()
    members = [('storages', [0, []]), ('tensors', [0]), ('pickle', [tree])]
    with tarfile.open(fileobj=stream, mode='w:') as tar:
        for name, values in members:
            data = b''.join(pickle.dumps(value, 2) for value in values)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@BOTH
def test_an_old_file_alone_is_an_error_that_says_what_to_do(tmp_path, name):
    path = old_file(tmp_path)
    with pytest.raises(UnverifiableError, match='torch < 1.6'):
        verify_checkpoint(path)
    with pytest.raises(IntegrityError, match='trust_checkpoint=True'):
        run(tmp_path, 8, name)
    with pytest.raises(UnverifiableError, match='trust_checkpoint=True'):
        make_runner(tmp_path).resume(path)


@BOTH
def test_with_trust_a_run_goes_on_from_it(tmp_path, name):
    old_file(tmp_path)
    runner = run(tmp_path, 8, name, trust_checkpoint=True)
    assert runner.restored.iter == 4 and runner.iter == 8
    verify_checkpoint(str(tmp_path / 'iter_8.pth'))  # saved again


@BOTH
def test_beside_others_it_is_passed_over_with_the_reason(
        tmp_path, caplog, name):
    run(tmp_path, 4, name)
    old_file(tmp_path / 'other')
    (tmp_path / 'iter_6.pth').write_bytes(
        (tmp_path / 'other' / 'iter_4.pth').read_bytes())
    runner = run(tmp_path, 8, name)
    assert runner.restored.iter == 4
    told = [
        one.getMessage() for one in caplog.records
        if one.getMessage().startswith('Not resuming from iter_6.pth')
    ]
    # the run's own come first: it is only told of when it would be taken
    assert all('torch < 1.6' in line for line in told)


def test_a_tar_file_is_recognised(tmp_path):
    path = tmp_path / 'iter_4.pth'
    path.write_bytes(tar_file(dict(meta=dict(iter=3), state_dict={})))
    with pytest.raises(UnverifiableError, match='torch < 0.4'):
        verify_checkpoint(str(path))
    with open(path, 'rb') as file:
        with pytest.raises(UnverifiableError):
            load_checkpoint(file, str(path))
        try:
            loaded = load_checkpoint(file, str(path), trust=True)
        except CorruptError as error:
            pytest.skip(f'this torch reads none: {error}')
    assert loaded == dict(meta=dict(iter=3), state_dict={})


def test_damage_of_a_trusted_old_file_is_an_integrity_error(tmp_path):
    content = bytearray(tar_file(dict(meta=dict(iter=3), state_dict={})))
    struct.pack_into('<Q', content, 600, 1 << 60)
    for damaged in (bytes(content[:700]), bytes(content[:512]),
                    tar_file(None)[:1024]):
        path = tmp_path / 'a.pth'
        path.write_bytes(damaged)
        with open(path, 'rb') as file:
            with pytest.raises(IntegrityError):
                load_checkpoint(file, str(path), trust=True)
