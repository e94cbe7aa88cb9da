"""Checkpoints as other programs write them, in a few lines each."""
import os.path as osp

import torch
from mmcv.runner import EpochBasedRunner, IterBasedRunner
from mmcv.runner.checkpoint import get_state_dict, weights_to_cpu


def stock_file(directory, finished, cls=IterBasedRunner, meta=None, **kwargs):
    """What stock ``save_checkpoint`` writes after so many iterations."""
    runner = trained(cls, directory, finished, meta=meta, **kwargs)
    runner.run_until_saved()
    return runner.saved


def trained(cls, directory, steps, size=16, **kwargs):
    """A stock-like runner that saves in ``after_train_*`` of its last step."""
    from toy import make_loader, make_runner
    in_iters = issubclass(cls, IterBasedRunner)
    runner = make_runner(
        directory,
        runner=dict(
            type=cls,
            **({
                'max_iters': steps
            } if in_iters else {
                'max_epochs': steps
            })),
        checkpoint_config=dict(interval=steps, by_epoch=not in_iters),
        **kwargs)
    unit = 'iter' if in_iters else 'epoch'
    runner.saved = osp.join(str(directory), f'{unit}_{steps}.pth')
    runner.run_until_saved = lambda: runner.run([make_loader(size)], [('train',
                                                                       1)])
    return runner


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
