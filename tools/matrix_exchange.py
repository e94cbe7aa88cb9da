"""Write checkpoints in one cell of the version matrix, resume in another.

    python tools/matrix_exchange.py write FOLDER
    python tools/matrix_exchange.py resume FOLDER [FOLDER ...]

``write`` trains with stock runners and ours and notes what is in the
checkpoints; ``resume`` goes on from each, and fails where a counter or a bit
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
from mmcv_ckpt_hooks.folders.layout import MIN_TORCH
from mmcv_ckpt_hooks.version import version_tuple

OURS = dict(type='DurableCheckpointHook', resume='auto')
FOLDERS = dict(OURS, format='dcp')
#: Checkpoints by name: the runner, how many iterations or epochs it trains,
#: and the hook that saves; None for mmcv's alone.
CHECKPOINTS = dict(
    iter=('IterBasedRunnerAmp', 6, OURS),
    epoch=('EpochBasedRunnerAmp', 2, OURS),
    hook_iter=('IterBasedRunner', 6, OURS),
    hook_epoch=('EpochBasedRunner', 2, OURS),
    stock_iter=('IterBasedRunner', 6, None),
    stock_epoch=('EpochBasedRunner', 2, None),
    folder_iter=('IterBasedRunnerAmp', 6, FOLDERS),
    folder_epoch=('EpochBasedRunnerAmp', 2, FOLDERS))
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


def has_folders():
    """Whether this torch writes sharded checkpoints."""
    return version_tuple(torch.__version__) >= version_tuple(MIN_TORCH)


def train(folder, kind, steps, hook):
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
    if hook:
        runner.register_hook_from_cfg(dict(hook))
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
    for name, (kind, steps, hook) in CHECKPOINTS.items():
        if hook is FOLDERS and not has_folders():
            continue
        runner, _ = train(folder / name, kind, steps, hook)
        (folder / f'{name}.json').write_text(json.dumps(state(runner)))


def resume(folder):
    """Go on from all checkpoints of a cell; return what differs."""
    wrong = []
    for name, (kind, steps, hook) in CHECKPOINTS.items():
        notes = folder / f'{name}.json'
        if hook is FOLDERS and not notes.exists():
            continue  # its torch writes none
        noted = json.loads(notes.read_text())
        if hook is None or not has_folders():
            hook = OURS  # which resumes from folders, too
        with tempfile.TemporaryDirectory() as copy:
            place = Path(copy) / name
            shutil.copytree(str(folder / name), str(place), symlinks=True)
            runner, found = train(place, kind, steps + MORE, hook)
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
