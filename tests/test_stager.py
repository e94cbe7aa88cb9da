"""Where the system refuses memory for a copy, or to pin it."""
import errno
import os
from types import SimpleNamespace

import pytest
import torch
from toy import make_loader, make_runner, names

from mmcv_ckpt_hooks import copying, image
from mmcv_ckpt_hooks.loading import load_checkpoint

REFUSALS = {
    'of_the_system': OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    'of_the_process': MemoryError(),
}


@pytest.fixture(params=REFUSALS)
def refused(request, monkeypatch):
    """No image gets memory; returns the sizes that were asked for."""
    asked = []

    def refuse(nbytes):
        asked.append(nbytes)
        raise REFUSALS[request.param]

    monkeypatch.setattr(copying, 'FileImage', refuse)
    return asked


def test_without_memory_for_a_copy_checkpoints_are_written_at_once(
        tmp_path, caplog, refused):
    hook = dict(type='DurableCheckpointHook', interval=1, max_keep_ckpts=-1)
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[hook])
    weights = []
    step = runner.optimizer.step

    def recorded(*args, **kwargs):
        step(*args, **kwargs)
        weights.append(runner.model.first.weight.detach().clone())

    runner.optimizer.step = recorded
    runner.run([make_loader()], [('train', 1)])
    assert len(refused) >= 4
    assert names(tmp_path)[:4] == [f'iter_{n}.pth' for n in (1, 2, 3, 4)]
    for number, expected in enumerate(weights, 1):
        path = tmp_path / f'iter_{number}.pth'
        with open(path, 'rb') as file:
            saved = load_checkpoint(file, path.name)
        assert torch.equal(saved['state_dict']['first.weight'], expected)
    told = [one for one in caplog.messages if 'No memory' in one]
    assert len(told) == 1
    assert told[0].endswith('checkpoints are written while training waits')


# -- pinning ----------------------------------------------------------------


class Cuda:
    """The CUDA runtime, which remembers an error until a kernel starts."""

    def __init__(self, status):
        self.status = status
        self.asked = self.last_error = 0

    def register(self, address, nbytes, flags):
        self.asked += 1
        self.last_error = self.status
        return self.status

    def ones(self, *size, device):
        error, self.last_error = self.last_error, 0
        if error:
            raise RuntimeError(f'CUDA error {error}')
        return torch.zeros(*size)


@pytest.fixture
def cuda(monkeypatch):

    def make(status):
        made = Cuda(status)
        binding = SimpleNamespace(
            cudaHostRegister=made.register, cudaHostUnregister=lambda _: 0)
        monkeypatch.setattr(torch.cuda, 'cudart', lambda: binding)
        monkeypatch.setattr(torch, 'ones', made.ones)
        return made

    return make


@pytest.mark.parametrize('status', [1, 2])
def test_memory_that_may_not_be_pinned_is_asked_for_once(cuda, status):
    memory, runtime = image.FileImage(4096), cuda(status)
    for _ in range(3):
        memory.pin()
    assert runtime.asked == 1
    # else the next kernel of training would be said to have failed
    assert not runtime.last_error
    memory.unpin()


def test_pinned_memory_is_pinned_once(cuda):
    memory, runtime = image.FileImage(4096), cuda(0)
    memory.pin()
    memory.pin()
    assert runtime.asked == 1
    memory.unpin()
    memory.pin()
    assert runtime.asked == 2
