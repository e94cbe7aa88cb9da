"""The first field of a checkpoint is read without the rest, or not at all."""
import io
import json

import numpy as np
import pytest
import torch
from mmcv.runner import save_checkpoint as stock_save
from toy import make_loader, make_runner

from mmcv_ckpt_hooks.cli import choice, main
from mmcv_ckpt_hooks.errors import CorruptError, UnsafeCheckpointError
from mmcv_ckpt_hooks.glance import read_meta
from mmcv_ckpt_hooks.scanning import read_outline
from mmcv_ckpt_hooks.verification import open_archive


class Calls:
    """Is no plain value: a pickle of it calls what is not allowed."""

    def __reduce__(self):
        return print, ('executed', )


def saved(content, **kwargs):
    file = io.BytesIO()
    torch.save(content, file, **kwargs)
    return file


def glance(file):
    with open_archive(file, 'a.pth') as archive:
        return read_meta(archive, 'a.pth')


def test_meta_of_stock_is_that_of_the_whole(tmp_path):
    model = torch.nn.Linear(2, 2)
    meta = dict(epoch=1, iter=8, hook_msgs=dict(best=np.float64(.5)))
    stock_save(model, str(tmp_path / 'a.pth'), meta=meta)
    data = (tmp_path / 'a.pth').read_bytes()
    with open_archive(io.BytesIO(data), 'a.pth') as archive:
        whole = read_outline(archive, 'a.pth')['meta']
    found = glance(io.BytesIO(data))
    assert repr(found) == repr(whole) and found['iter'] == 8


@pytest.mark.parametrize(
    'content',
    [
        dict(a=torch.zeros(1)),
        dict(state_dict=dict(a=torch.zeros(1)), meta=dict(iter=1)),
        dict(meta=dict(iter=1), weights=dict(a=torch.zeros(1))),
        dict(meta=dict(iter=torch.zeros(1)), state_dict={}),
        dict(meta=[1], state_dict=dict(a=torch.zeros(1))),
        dict(meta=dict(iter=1), state_dict={}),
        [dict(meta=dict(iter=1), state_dict=dict(a=torch.zeros(1)))],
        # steps count otherwise in those of the plugin
        dict(
            meta=dict(iter=1),
            state_dict=dict(a=torch.zeros(1)),
            resume_state=dict(version=1)),
    ])
def test_what_does_not_begin_so_is_not_known(content):
    assert glance(saved(content)) is None


def test_what_is_refused_until_there_is_refused():
    content = dict(meta=dict(a=Calls()), state_dict=dict(a=torch.zeros(1)))
    with pytest.raises(UnsafeCheckpointError, match='print'):
        glance(saved(content))


def test_a_damaged_pickle_is_found():
    file = saved(dict(meta=dict(iter=1), state_dict=dict(a=torch.zeros(1))))
    data = bytearray(file.getvalue())
    place = data.index(b'state_dict')
    data[place] ^= 1
    with pytest.raises(CorruptError, match='CRC-32'):
        glance(io.BytesIO(bytes(data)))


def test_200_files_of_stock_mmcv_are_not_outlined_one_by_one(
        tmp_path, capsys, monkeypatch):
    make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunner', max_iters=8),
        hooks=(),
        checkpoint_config=dict(interval=2,
                               by_epoch=False)).run([make_loader(32)],
                                                    [('train', 1)])
    before = listed(capsys, tmp_path)
    outlined = []

    def read(archive, path):
        outlined.append(path)
        return read_outline(archive, path)

    monkeypatch.setattr(choice, 'read_outline', read)
    assert listed(capsys, tmp_path) == before
    # what a resume would take, and no other
    assert outlined == [before['resume']]
    assert len(before['checkpoints']) > 3
    monkeypatch.setattr(choice, 'read_meta', lambda archive, path: None)
    assert listed(capsys, tmp_path) == before
    assert len(outlined) > 3


def listed(capsys, directory):
    assert main(['ls', str(directory), '--json']) == 0
    return json.loads(capsys.readouterr().out)
