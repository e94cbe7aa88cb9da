"""The training that is measured: a real mmcv runner over linear layers.

AdamW doubles what a model weighs twice over: a state is three times the
parameters. 61 layers of 1024x1024 make 768 MB.
"""
import logging
import os
import time
from collections import OrderedDict

import torch
from mmcv.runner import build_runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

import mmcv_ckpt_hooks  # noqa: F401  registers the hooks

WIDTH = 1024


class Stack(nn.Module):
    """Residual linear layers.

    Args:
        layers (int): How many.
        width (int): Of each.
        idle_secs (float): If not 0 only the first layer is trained, and the
            rest of a step is so long a sleep: a CPU that waits for a GPU.
        on_step (callable): Called at the beginning of each step.
    """

    def __init__(self,
                 layers,
                 width=WIDTH,
                 idle_secs=0.,
                 on_step=lambda: None):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(width, width) for _ in range(layers))
        self.idle_secs = idle_secs
        self.on_step = on_step

    def forward(self, x):
        layers = self.layers
        if self.idle_secs:
            layers = layers[:1]
            time.sleep(self.idle_secs)
        for layer in layers:
            x = x + layer(x) / len(self.layers)
        return x

    def train_step(self, data, optimizer=None, **kwargs):
        self.on_step()
        data = data.to(next(self.parameters()).device)
        loss = self(data).square().mean()
        return dict(
            loss=loss,
            log_vars=OrderedDict(loss=loss.item()),
            num_samples=len(data))


class Noise(Dataset):
    """So many samples that no run begins with them again."""

    def __init__(self, batch, width):
        self.samples = torch.randn(batch, width)

    def __len__(self):
        return 1 << 30

    def __getitem__(self, index):
        return self.samples[index % len(self.samples)]


def make_state(layers, device='cpu', **kwargs):
    """A model and an AdamW that has made one step over all of it."""
    torch.manual_seed(0)
    model = Stack(layers, **kwargs).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return model, optimizer


def make_loader(batch, width=WIDTH):
    return DataLoader(Noise(batch, width), batch_size=batch)


def make_logger():
    logger = logging.getLogger('bench')
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def make_runner(spec, model, optimizer, max_iters):
    """Build runner and hooks from configs, as a tool does.

    Args:
        spec (dict): ``work_dir``; ``runner``, a name, and ``hook`` and
            ``checkpoint_config``, dicts, where they are wanted.
    """
    work_dir = spec['work_dir']
    os.makedirs(work_dir, exist_ok=True)
    runner = build_runner(
        dict(type=spec.get('runner', 'IterBasedRunner'), max_iters=max_iters),
        default_args=dict(
            model=model,
            optimizer=optimizer,
            work_dir=work_dir,
            logger=make_logger(),
            meta=dict()))
    hook = spec.get('hook')
    runner.register_training_hooks(
        lr_config=dict(policy='fixed'),
        optimizer_config=dict(),
        checkpoint_config=spec.get('checkpoint_config'),
        custom_hooks_config=[dict(hook)] if hook else None)
    return runner
