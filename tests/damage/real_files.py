"""Directories of real runs, ours and stock mmcv's, as bytes by name."""
import torch
from mmcv.runner import EMAHook, Hook
from toy import train

from mmcv_ckpt_hooks.catalog import CATALOG_NAME

#: Two checkpoints each: the newest is the one that gets damaged.
NEWEST = {
    'ours, iterations': 'iter_8.pth',
    'ours, epochs': 'epoch_2.pth',
    'stock, iterations': 'iter_8.pth',
    'stock, epochs': 'epoch_2.pth'
}

SCALES = hasattr(torch.amp, 'GradScaler')  # torch < 2.3: on a GPU only


class ScalerHook(Hook):
    """Holds a loss scaler as mmcv's fp16 hook does; works without a GPU."""

    def __init__(self):
        self.loss_scaler = torch.amp.GradScaler('cpu')
        self.loss_scaler.scale(torch.ones(1))

    def before_run(self, runner):
        # as Fp16OptimizerHook leaves it in the files of stock mmcv
        runner.meta.setdefault(
            'fp16', {})['loss_scaler'] = self.loss_scaler.state_dict()


def run_directory(directory, kind):
    """Train so that a checkpoint holds all that one may hold.

    Returns:
        dict[str, bytes]: Every file of the work dir; links as their content.
    """
    by_epoch = 'epochs' in kind
    name = 'EpochBasedRunner' if by_epoch else 'IterBasedRunner'
    every = 1 if by_epoch else 4
    ours = kind.startswith('ours')
    train(
        directory,
        runner={
            'type': name + ('Amp' if ours else ''),
            f'max_{"epoch" if by_epoch else "iter"}s': 2 * every
        },
        hooks=[EMAHook()] + [ScalerHook() for _ in range(SCALES)] +
        [dict(type='DurableCheckpointHook')] * ours,
        checkpoint_config=dict(interval=every, by_epoch=by_epoch),
        evaluation=dict(
            scores=[.5, .6],
            interval=every,
            by_epoch=by_epoch,
            save_best='mIoU'),
        meta=dict(seed=1, config='model = dict()\n', exp_name='toy.py'))
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert NEWEST[kind] in files
    assert (CATALOG_NAME in files) == ours
    return files


def held(checkpoint):
    """What a test wants to see in a checkpoint before it damages it."""
    meta = checkpoint['meta']
    return dict(
        optimizer=bool(checkpoint['optimizer']['state']),
        ema=any('ema' in key for key in checkpoint['state_dict']),
        amp=bool(checkpoint.get('amp') or meta.get('fp16')) or not SCALES,
        messages=bool(meta.get('hook_msgs')))
