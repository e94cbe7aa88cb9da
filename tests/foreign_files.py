"""Checkpoints as other programs write them, in a few lines each."""
import os.path as osp

import torch
from mmcv.runner import EpochBasedRunner, IterBasedRunner
from mmcv.runner.checkpoint import get_state_dict, weights_to_cpu
from toy import train


def stock_file(directory, steps, cls=IterBasedRunner, **kwargs):
    """Train so many steps; return the path of the last step's file."""
    by_epoch = not issubclass(cls, IterBasedRunner)
    unit = 'epoch' if by_epoch else 'iter'
    train(
        directory,
        runner={
            'type': cls,
            f'max_{unit}s': steps
        },
        checkpoint_config=dict(interval=steps, by_epoch=by_epoch),
        **kwargs)
    return osp.join(str(directory), f'{unit}_{steps}.pth')


class BeitRunner(IterBasedRunner):
    """BEiT's ``IterBasedRunnerAmp``: counts finished, no symlink.

    ``meta.update(self.meta)`` comes last, so that a resumed run writes the
    counters of the file that it was resumed from (trap 2).
    """
    amp = None

    def save_checkpoint(self,
                        out_dir,
                        filename_tmpl='iter_{}.pth',
                        meta=None,
                        save_optimizer=True,
                        create_symlink=False):
        meta = dict(epoch=self.epoch + 1, iter=self.iter + 1)
        if self.meta is not None:
            meta.update(self.meta)
        write_apex(self, osp.join(out_dir,
                                  filename_tmpl.format(self.iter + 1)), meta)


class UniFormerRunner(EpochBasedRunner):
    """UniFormer's ``EpochBasedRunnerAmp``, with the same wrong order."""
    amp = None

    def save_checkpoint(self,
                        out_dir,
                        filename_tmpl='epoch_{}.pth',
                        save_optimizer=True,
                        meta=None,
                        create_symlink=True):
        meta = dict(epoch=self.epoch + 1, iter=self.iter)
        if self.meta is not None:
            meta.update(self.meta)
        write_apex(self, osp.join(out_dir,
                                  filename_tmpl.format(self.epoch + 1)), meta)


def write_apex(runner, path, meta):
    """The family's ``save_checkpoint``: four fields, ``amp`` among them."""
    checkpoint = dict(
        meta=meta, state_dict=weights_to_cpu(get_state_dict(runner.model)))
    checkpoint['optimizer'] = runner.optimizer.state_dict()
    if runner.amp is not None:
        checkpoint['amp'] = runner.amp
    torch.save(checkpoint, path)
