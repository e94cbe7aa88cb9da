"""A small real training run: model, data, runner; nothing of it is faked."""
import logging
from collections import OrderedDict

import torch
from mmcv.runner import build_runner
from stock import EvalHook
from torch import nn
from torch.utils.data import DataLoader, Dataset

import mmcv_ckpt_hooks  # noqa: F401  registers the hooks


class ToyModel(nn.Module):
    """Convolution-free model with BatchNorm; mmcv's training interface."""

    CLASSES = ('background', 'nucleus')
    PALETTE = [[0, 0, 0], [255, 255, 255]]

    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Linear(4, width)
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, 2)

    def forward(self, x, return_loss=False, **kwargs):
        return self.last(torch.relu(self.norm(self.first(x))))

    def train_step(self, data, optimizer, **kwargs):
        loss = nn.functional.cross_entropy(self(data['x']), data['y'])
        return dict(
            loss=loss,
            log_vars=OrderedDict(loss=float(loss)),
            num_samples=len(data['y']))

    def val_step(self, data, optimizer=None, **kwargs):
        return self.train_step(data, optimizer, **kwargs)


class ToyData(Dataset):
    """Separable points; ``evaluate`` returns scores given in advance."""

    def __init__(self, size=16, scores=(), seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(size, 4, generator=generator)
        self.y = (self.x[:, 0] > 0).long()
        self.scores = list(scores)
        self.evaluations = 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return dict(x=self.x[index], y=self.y[index])

    def evaluate(self, results, logger=None, **kwargs):
        score = self.scores[self.evaluations % len(self.scores)]
        self.evaluations += 1
        return score if isinstance(score, dict) else dict(mIoU=score)


class QuickEvalHook(EvalHook):
    """mmcv's EvalHook; only the inference is left out."""

    def __init__(self, scores, **kwargs):
        data = ToyData(2, scores)
        super().__init__(
            DataLoader(data, batch_size=1),
            test_fn=lambda model, loader: [],
            **kwargs)


def make_logger(name='toy'):
    """A logger whose records caplog sees."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    return logger


def make_loader(size=16, batch_size=4, seed_of_data=0, **kwargs):
    data = ToyData(size, seed=seed_of_data)
    return DataLoader(data, batch_size=batch_size, **kwargs)


def make_runner(work_dir,
                runner=None,
                hooks=(),
                checkpoint_config=None,
                evaluation=None,
                optimizer=None,
                optimizer_config=None,
                model=None,
                meta=None,
                seed=0,
                log_interval=None,
                lr_config=None,
                momentum_config=None):
    """Build a runner as mmseg's ``train_segmentor`` does."""
    torch.manual_seed(seed)
    model = ToyModel() if model is None else model
    if optimizer is None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    built = build_runner(
        runner or dict(type='IterBasedRunnerAmp', max_iters=8),
        default_args=dict(
            model=model,
            optimizer=optimizer,
            work_dir=str(work_dir),
            logger=make_logger(),
            meta={} if meta is None else meta))
    log_config = None if log_interval is None else dict(
        interval=log_interval, hooks=[dict(type='TextLoggerHook')])
    built.register_training_hooks(
        dict(lr_config or dict(policy='fixed')),
        dict() if optimizer_config is None else optimizer_config,
        checkpoint_config,
        log_config,
        momentum_config=momentum_config and dict(momentum_config))
    if evaluation is not None:
        built.register_hook(QuickEvalHook(**evaluation), priority='LOW')
    for hook in hooks:
        if isinstance(hook, dict):
            built.register_hook_from_cfg(dict(hook))
        else:
            # below NORMAL it comes behind the save
            built.register_hook(hook, getattr(hook, 'comes', 'NORMAL'))
    return built


def train(work_dir, loader=None, workflow=None, **kwargs):
    """Build a runner and run it."""
    runner = make_runner(work_dir, **kwargs)
    runner.run([make_loader() if loader is None else loader], workflow
               or [('train', 1)])
    return runner


def names(directory):
    """Sorted names of what ends in .pth."""
    return sorted(path.name for path in directory.iterdir()
                  if path.name.endswith('.pth'))
