"""A training that draws random numbers wherever a training can.

Dropout and BatchNorm in the model; augmentation from python's, numpy's and
torch's generators; a shuffled order. Run in one go, or cut off and continued,
it must end with the same bits and the same loss at every iteration.
"""
import random
from collections import OrderedDict
from contextlib import contextmanager

import numpy as np
import torch
from mmcv.runner import Hook
from stock import ABOVE_NORMAL
from torch import distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset
from toy import make_runner

from mmcv_ckpt_hooks.optimizers import spread

SIZE, BATCH = 22, 4  # five full batches and a smaller one


class DrawingModel(nn.Module):
    """Dropout, BatchNorm, and a term from numpy's global generator."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(8, 2))

    def forward(self, x, **kwargs):
        return self.layers(x)

    def train_step(self, data, optimizer=None, **kwargs):
        noise = np.random.rand() + random.random() if self.training else 1.
        loss = noise * nn.functional.cross_entropy(self(data['x']), data['y'])
        return dict(
            loss=loss,
            log_vars=OrderedDict(loss=loss.item()),
            num_samples=len(data['y']))

    def val_step(self, data, optimizer=None, **kwargs):
        torch.rand(3)  # a validation that draws
        return self.train_step(data, optimizer, **kwargs)


class DrawingData(Dataset):
    """Augments with all three generators."""

    def __init__(self, size=SIZE):
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(size, 4, generator=generator)
        self.y = (self.x[:, 0] > 0).long()
        self.flag = np.array([index % 2 for index in range(size)])  # mmdet

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        scale = random.uniform(0.5, 2.) * np.random.uniform(0.5, 2.)
        return dict(x=self.x[index] * scale + torch.rand(4), y=self.y[index])


class SameData(DrawingData):
    """One sample again and again: no position in it matters."""

    def __init__(self):
        super().__init__(24)

    def __getitem__(self, index):
        return dict(x=self.x[0], y=self.y[0])


class Killed(Exception):
    """What the process of a real run would not have survived."""


class Recorder(Hook):
    """The loss of every iteration, and a kill after one of them.

    Those of validations have keys of finished iterations and their number.
    """

    def __init__(self, kill_at=None):
        self.losses = {}
        self.kill_at = kill_at
        self.validations = []

    def after_val_iter(self, runner):
        self.validations.append(runner.iter)
        key = runner.iter, self.validations.count(runner.iter)
        self.losses[key] = runner.outputs['loss'].item()

    def after_train_iter(self, runner):
        self.losses[runner.iter + 1] = runner.outputs['loss'].item()
        if runner.iter + 1 == self.kill_at:
            raise Killed


def drawing_loader(workers=0, size=SIZE, **kwargs):
    if 'sampler' not in kwargs and 'batch_sampler' not in kwargs:
        kwargs.setdefault('shuffle', True)
    if 'batch_sampler' not in kwargs:
        kwargs.setdefault('batch_size', BATCH)
    return DataLoader(DrawingData(size), num_workers=workers, **kwargs)


@contextmanager
def ended_workers():
    """End the workers that a kill leaves behind.

    As a part of cyclic garbage their queues end first, and torch waits 5 s for
    each worker.
    """
    made, get_iterator = [], DataLoader._get_iterator

    def recorded(loader):
        made.append(get_iterator(loader))
        return made[-1]

    DataLoader._get_iterator = recorded
    try:
        yield
    finally:
        DataLoader._get_iterator = get_iterator
        for iterator in made:
            if hasattr(iterator, '_shutdown_workers'):
                iterator._shutdown_workers()


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def last_state(optimizer):
    """Of an optimizer that is spread over ranks, for rank 0."""
    if spread(optimizer):
        optimizer.consolidate_state_dict(0)
        return optimizer.state_dict() if dist.get_rank() == 0 else None
    return optimizer.state_dict()


def drawing_run(work_dir,
                steps,
                kill_at=None,
                seed=0,
                loaders=None,
                workflow=None,
                interval=3,
                hooks=(),
                early_hooks=(),
                make_hooks=list,
                wrap=None,
                runner_type='IterBasedRunnerAmp',
                sample_seeds=True,
                by_epoch=False,
                optimizer_config=None,
                options=None,
                make_optimizer=torch.optim.AdamW,
                **kwargs):
    """Run, or continue, a training; returns its last state and its losses.

    ``steps`` are iterations or, on an epoch runner, epochs. ``seed`` is that
    of the process: a resumed one has another. ``options`` are further ones of
    the hook.
    """
    seed_all(seed)
    loaders = [drawing_loader()] if loaders is None else \
        [make() for make in loaders]
    model = DrawingModel()
    if wrap is not None:
        model = wrap(model)
    ours = dict(sample_seeds=sample_seeds) if 'Amp' in runner_type else {}
    limit = 'max_epochs' if 'Epoch' in runner_type else 'max_iters'
    runner = make_runner(
        work_dir,
        model=model,
        optimizer=make_optimizer(model.parameters(), lr=0.01),
        optimizer_config=optimizer_config,
        seed=seed,
        runner=dict(type=runner_type, **{limit: steps}, **ours),
        hooks=[
            {
                **dict(
                    type='DurableCheckpointHook',
                    interval=interval,
                    by_epoch=by_epoch,
                    resume='auto',
                    # as SIGKILL: what stops it here saves nothing
                    triggers=dict(exception=False)),
                **(options or {})
            },
            *hooks,
            *make_hooks()
        ],
        **kwargs)
    for hook in early_hooks:
        runner.register_hook(hook, priority=ABOVE_NORMAL)
    recorder = Recorder(kill_at)
    runner.register_hook(recorder, priority='VERY_LOW')
    try:
        with ended_workers():
            runner.run(loaders, workflow or [('train', 1)])
    except Killed:
        pass
    state = dict(
        model={
            name: value.clone()
            for name, value in model.state_dict().items()
        },
        optimizer=last_state(runner.optimizer))
    return state, recorder.losses
