"""Traps 17 to 38: storage, EMA, AMP, buffers, order. First stock, then ours.

Of those that other tests do not begin with stock; docs/traps.md has them all.
"""
import os
import warnings

import fake_petrel
import pytest
import torch
from checkpoint_files import equal
from foreign_files import stock_file
from mmcv.runner import Fp16OptimizerHook, Hook, dist_utils
from mmcv.runner.checkpoint import weights_to_cpu
from stock import as_since_1_3_16, scales_on_a_cpu, scales_with_torch
from torch import distributed as dist
from torch.utils.data import DataLoader, DistributedSampler
from toy import (QuickEvalHook, ToyData, ToyModel, make_loader, make_runner,
                 names, train)

from mmcv_ckpt_hooks import save_checkpoint
from mmcv_ckpt_hooks.distributed import average_float_buffers
from mmcv_ckpt_hooks.storage import open_backend
from mmcv_ckpt_hooks.testing import pavi

OURS = dict(type='DurableCheckpointHook')
BOTH = ['IterBasedRunner', 'IterBasedRunnerAmp']


def iter_config(steps, name='IterBasedRunner'):
    return dict(type=name, max_iters=steps)


# -- 17, 18 -----------------------------------------------------------------


@as_since_1_3_16
@pytest.mark.parametrize('url', ['pavi://project/model', 'gs://bucket/runs'])
def test_trap_17_an_out_dir_that_mmcv_does_not_know(tmp_path, url):
    # stock
    with pytest.raises(ValueError, match='is not supported'):
        train(
            tmp_path / 'stock',
            runner=iter_config(2),
            checkpoint_config=dict(interval=2, out_dir=url))
    # ours
    if url.startswith('gs'):
        pytest.importorskip('obstore', reason='pip install obstore')
        assert open_backend(url).capabilities.listing
        return
    for name in BOTH:
        with pavi.install(str(tmp_path / name)) as platform:
            train(
                tmp_path / 'ours' / name,
                runner=iter_config(2, name),
                hooks=[dict(interval=2, out_dir=url, **OURS)])
            model = os.path.join(platform.directory, 'project', 'model', name)
            assert 'iter_2.pth' in os.listdir(model)


@as_since_1_3_16
def test_trap_18_the_storage_is_not_asked_when_saving(tmp_path, monkeypatch):
    fake_petrel.install(monkeypatch)
    out, arguments = tmp_path / 'out', dict(backend='petrel')
    config = dict(
        interval=2,
        out_dir=str(out),
        max_keep_ckpts=1,
        file_client_args=arguments)
    # stock: saved here, and looked for there when one is to go
    train(
        tmp_path / 'stock',
        runner=iter_config(4),
        checkpoint_config=dict(config))
    assert names(out / 'stock') == ['iter_2.pth', 'iter_4.pth']
    assert fake_petrel.OBJECTS == {}
    # ours
    for name in BOTH:
        train(
            tmp_path / name,
            runner=iter_config(4, name),
            hooks=[dict(config, **OURS)])
        kept = [
            key for key in fake_petrel.OBJECTS
            if name in key.split('/') and key.endswith('.pth')
        ]
        assert kept == [str(out / name / 'iter_4.pth')]
        assert not (out / name).exists()


# -- 22 ---------------------------------------------------------------------


class Look(Hook):
    """The averages when training begins."""

    averages = None

    def before_train_iter(self, runner):
        if self.averages is None:
            self.averages = averages(runner.model.state_dict())


def averages(state):
    return {
        key: value.clone()
        for key, value in state.items() if key.startswith('ema_')
    }


def test_trap_22_a_resume_drops_the_averages(tmp_path):
    ema = dict(type='EMAHook', momentum=0.5)
    path = stock_file(tmp_path / 'run', 4, hooks=[ema])
    saved = averages(torch.load(path)['state_dict'])
    assert saved

    def first(name):
        look = Look()
        runner = make_runner(
            tmp_path / name, runner=iter_config(6, name), hooks=[ema, look])
        runner.resume(path, map_location='cpu')
        runner.run([make_loader()], [('train', 1)])
        return look.averages

    # stock: they begin anew, with the weights
    assert not equal(first('IterBasedRunner'), saved)
    # ours
    assert equal(first('IterBasedRunnerAmp'), saved)
    # and with the hook on any runner
    look = Look()
    train(
        tmp_path / 'hook',
        runner=iter_config(6),
        hooks=[ema, look, dict(interval=2, resume=path, **OURS)])
    assert equal(look.averages, saved)


# -- 23, 24 -----------------------------------------------------------------


def fp16_hook(scaler=None):
    with warnings.catch_warnings():
        # torch tells that there is no GPU
        warnings.simplefilter('ignore')
        hook = Fp16OptimizerHook(loss_scale='dynamic')
    hook.loss_scaler = scaler or hook.loss_scaler
    return hook


@scales_with_torch
def test_trap_23_half_precision_needs_a_meta(tmp_path):

    def run(name):
        runner = make_runner(
            tmp_path / name,
            runner=iter_config(2, name),
            optimizer_config=fp16_hook())
        runner.meta = None
        runner.run([make_loader()], [('train', 1)])
        return runner

    # stock
    with pytest.raises(TypeError):
        run('IterBasedRunner')
    # ours
    assert run('IterBasedRunnerAmp').iter == 2


@scales_with_torch
@scales_on_a_cpu
def test_trap_23_a_file_of_a_cpu_stops_a_run_on_a_gpu(tmp_path):
    path = stock_file(
        tmp_path / 'cpu', 4, optimizer_config=fp16_hook(), meta={})
    content = torch.load(path)
    assert content['meta']['fp16'] == dict(loss_scaler={})

    def run(name, meta):
        runner = make_runner(
            tmp_path / name,
            runner=iter_config(6, name),
            optimizer_config=fp16_hook(torch.amp.GradScaler('cpu')),
            meta=meta)
        runner.resume(path, map_location='cpu')
        runner.run([make_loader()], [('train', 1)])
        return runner

    # stock: EpochBasedRunner.resume puts the file's meta into the runner
    with pytest.raises(RuntimeError, match='empty'):
        run('IterBasedRunner', meta=dict(content['meta']))
    # ours
    assert run('IterBasedRunnerAmp', meta={}).iter == 6


def test_trap_24_a_copy_that_is_none(tmp_path):
    model = torch.nn.Linear(4, 4)
    # stock: who saves in the background saves what training made meanwhile
    state = weights_to_cpu(dict(model.state_dict()))
    assert state['weight'].data_ptr() == model.weight.data_ptr()
    # ours: a step behind the save is not in it
    path = str(tmp_path / 'a.pth')
    before = model.weight.detach().clone()
    save_checkpoint(model, path)
    with torch.no_grad():
        model.weight.add_(1)
    assert torch.equal(torch.load(path)['state_dict']['weight'], before)


# -- 27 ---------------------------------------------------------------------


def test_trap_27_numbers_that_cannot_be_averaged(monkeypatch):
    """As on two ranks that have the same."""

    def of_two(tensor):
        tensor.mul_(2)

    monkeypatch.setattr(dist, 'all_reduce', of_two)
    for name, answer in (('is_initialized', True), ('get_rank', 0),
                         ('get_world_size', 2)):
        monkeypatch.setattr(dist, name, lambda answer=answer: answer)
    norm = torch.nn.BatchNorm1d(2)
    norm(torch.rand(4, 2))
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    # stock
    with pytest.raises(RuntimeError, match="can't be cast to"):
        dist_utils.allreduce_params(list(norm.buffers()))
    norm.load_state_dict(before)
    # ours
    average_float_buffers(norm.buffers())
    assert equal(dict(norm.state_dict()), before)


# -- 34, 38 -----------------------------------------------------------------


class NumberedData(ToyData):

    def __getitem__(self, index):
        return dict(super().__getitem__(index), index=index)


class NumberedModel(ToyModel):
    """Notes the samples of each iteration."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def train_step(self, data, optimizer, **kwargs):
        self.seen.append(data['index'].tolist())
        return super().train_step(data, optimizer, **kwargs)


def order_of(directory, name, steps, resume=None):
    data, model = NumberedData(), NumberedModel()
    loader = DataLoader(
        data,
        batch_size=4,
        sampler=DistributedSampler(data, num_replicas=1, rank=0, seed=3))
    runner = make_runner(
        directory,
        runner=iter_config(steps, name),
        model=model,
        checkpoint_config=dict(interval=4))
    if resume:
        runner.resume(str(directory / resume), map_location='cpu')
    runner.run([loader], [('train', 1)])
    return model.seen


@as_since_1_3_16
def test_trap_34_a_resumed_run_sees_the_first_pass_again(tmp_path):
    for name in BOTH:
        whole = order_of(tmp_path / name, name, 8)
        assert whole[:4] != whole[4:]
        resumed = order_of(tmp_path / name, name, 8, resume='iter_4.pth')
        if name == 'IterBasedRunner':
            # stock: the first pass, and a step more than is left (trap 1)
            assert resumed == whole[:5]
        else:
            assert resumed == whole[4:]


class PlainEvalHook(QuickEvalHook):
    """Puts the model into eval mode, as ``single_gpu_test``."""

    def evaluate(self, runner, results):
        runner.model.eval()
        return super().evaluate(runner, results)


def test_trap_38_an_evaluation_by_iteration_ends_the_training_mode(tmp_path):
    """mmcv#2199."""

    def modes(name):
        found = []

        class Note(Hook):

            def before_train_iter(self, runner):
                found.append(runner.model.training)

        train(
            tmp_path / name,
            runner=dict(type=name, max_epochs=1),
            hooks=[PlainEvalHook([.5], interval=2, by_epoch=False),
                   Note()])
        return found

    # stock: BatchNorm and dropout of the rest of the epoch
    assert modes('EpochBasedRunner') == [True, True, False, False]
    # ours
    assert modes('EpochBasedRunnerAmp') == [True] * 4
