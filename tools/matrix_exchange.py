"""Write checkpoints in one cell of the version matrix, resume in another.

    python tools/matrix_exchange.py write FOLDER
    python tools/matrix_exchange.py resume FOLDER [FOLDER ...]

``write`` trains with the runners that this mmcv has and notes what is in the
files; ``resume`` goes on from each of them, and fails where a counter or a bit
of weights or optimizer differs from what was noted.
"""
import argparse
import hashlib
import json
import logging
import shutil
import sys
import tempfile
import time
import types
import warnings
from collections import OrderedDict
from pathlib import Path

import torch
from mmcv.runner import (Hook, build_runner, epoch_based_runner,
                         iter_based_runner)
from torch import nn
from torch.utils.data import DataLoader, Dataset

import mmcv_ckpt_hooks  # noqa: F401  registers its classes

#: Files by name: the runner, what is trained, and where it is saved.
FILES = dict(
    iter=('IterBasedRunnerAmp', 6, True),
    epoch=('EpochBasedRunnerAmp', 2, True),
    hook_iter=('IterBasedRunner', 6, True),
    hook_epoch=('EpochBasedRunner', 2, True),
    stock_iter=('IterBasedRunner', 6, False),
    stock_epoch=('EpochBasedRunner', 2, False))
#: Steps that a resume makes besides.
MORE = 2


class Model(nn.Module):
    """Norm and dropout: buffers and generators belong to the state."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(8, 2))

    def train_step(self, data, optimizer, **kwargs):
        loss = nn.functional.cross_entropy(self.layers(data['x']), data['y'])
        return dict(
            loss=loss,
            log_vars=OrderedDict(loss=loss.item()),
            num_samples=len(data['y']))


class Points(Dataset):

    def __init__(self):
        self.x = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return dict(x=self.x[index], y=int(self.x[index, 0] > 0))


class Looker(Hook):
    """Notes what the first step begins with."""

    def __init__(self, found):
        self.found = found

    def before_train_iter(self, runner):
        if not self.found:
            self.found.update(state(runner))


def state(runner):
    return dict(
        iter=runner.iter,
        weights=digest(runner.model.state_dict()),
        optimizer=digest(runner.optimizer.state_dict()['state']))


def train(folder, kind, steps, ours):
    """Train so many steps, the newest checkpoint of the folder first."""
    torch.manual_seed(0)
    model = Model()
    unit = 'epochs' if kind.startswith('Epoch') else 'iters'
    arguments = dict(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=0.01),
        work_dir=str(folder),
        logger=logging.getLogger('matrix'),
        meta={})
    runner = build_runner(
        dict([('type', kind), (f'max_{unit}', steps)]), arguments)
    runner.register_training_hooks(
        dict(policy='fixed'), dict(),
        dict(interval=steps, by_epoch=unit == 'epochs'))
    if ours:
        runner.register_hook_from_cfg(
            dict(type='DurableCheckpointHook', resume='auto'))
    found = {}
    runner.register_hook(Looker(found), priority='VERY_LOW')
    runner.run([DataLoader(Points(), batch_size=4, shuffle=True)],
               [('train', 1)])
    return runner, found


def digest(tree):
    """SHA-256 of the tensors and numbers of a tree, in its order."""
    summed = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            # floats and integers alike
            summed.update(value.detach().double().numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                summed.update(str(key).encode())
                add(value[key])
        else:
            summed.update(repr(value).encode())

    add(tree)
    return summed.hexdigest()


def write(folder):
    for name, (kind, steps, ours) in FILES.items():
        runner, _ = train(folder / name, kind, steps, ours)
        (folder / f'{name}.json').write_text(json.dumps(state(runner)))


def resume(folder):
    """Go on from all files of a cell; return what differs."""
    wrong = []
    for name, (kind, steps, _) in FILES.items():
        noted = json.loads((folder / f'{name}.json').read_text())
        with tempfile.TemporaryDirectory() as copy:
            place = Path(copy) / name
            shutil.copytree(str(folder / name), str(place), symlinks=True)
            runner, found = train(place, kind, steps + MORE, True)
        wrong += [
            f'{folder.name}/{name}: {key} is {found.get(key)}, was {value}'
            for key, value in noted.items() if found.get(key) != value
        ]
        expected = noted['iter'] * (steps + MORE) // steps
        if runner.iter != expected:
            wrong.append(f'{folder.name}/{name}: ended at {runner.iter}, '
                         f'expected {expected}')
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('action', choices=['write', 'resume'])
    parser.add_argument('folders', nargs='+', type=Path)
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    # mmcv's runners sleep for 1 to 2 s where an epoch begins and ends
    quick = types.SimpleNamespace(**{**vars(time), 'sleep': lambda secs: None})
    epoch_based_runner.time = iter_based_runner.time = quick
    if args.action == 'write':
        for folder in args.folders:
            write(folder)
        return
    wrong = [one for folder in args.folders for one in resume(folder)]
    print('\n'.join(wrong) or f'{len(args.folders)} cells: the same')
    sys.exit(bool(wrong))


if __name__ == '__main__':
    main()
