"""Runners that save ``apex.amp``'s state, and the hook that scales with it."""
import os.path as osp

import torch
from mmcv.runner import (HOOKS, RUNNERS, EpochBasedRunner, IterBasedRunner,
                         OptimizerHook)
from mmcv.runner.checkpoint import get_state_dict, weights_to_cpu

try:
    from apex import amp
except ImportError:
    print('apex is not installed')


def save_checkpoint(runner, path, meta):
    checkpoint = dict(
        meta=meta,
        state_dict=weights_to_cpu(get_state_dict(runner.model)),
        optimizer=runner.optimizer.state_dict(),
        amp=amp.state_dict())
    torch.save(checkpoint, path)


@RUNNERS.register_module()
class IterBasedRunnerAmp(IterBasedRunner):

    def save_checkpoint(self,
                        out_dir,
                        filename_tmpl='iter_{}.pth',
                        meta=None,
                        save_optimizer=True,
                        create_symlink=False):
        meta = dict(epoch=self.epoch + 1, iter=self.iter + 1)
        meta.update(self.meta or {})
        path = osp.join(out_dir, filename_tmpl.format(self.iter + 1))
        save_checkpoint(self, path, meta)

    def resume(self,
               checkpoint,
               resume_optimizer=True,
               map_location='default'):
        checkpoint = self.load_checkpoint(checkpoint, map_location='cpu')
        self._epoch = checkpoint['meta']['epoch']
        self._iter = checkpoint['meta']['iter']
        self._inner_iter = checkpoint['meta']['iter']
        self.optimizer.load_state_dict(checkpoint['optimizer'])
        if 'amp' in checkpoint:
            amp.load_state_dict(checkpoint['amp'])


@RUNNERS.register_module()
class EpochBasedRunnerAmp(EpochBasedRunner):

    def save_checkpoint(self,
                        out_dir,
                        filename_tmpl='epoch_{}.pth',
                        save_optimizer=True,
                        meta=None,
                        create_symlink=True):
        meta = dict(epoch=self.epoch + 1, iter=self.iter)
        meta.update(self.meta or {})
        path = osp.join(out_dir, filename_tmpl.format(self.epoch + 1))
        save_checkpoint(self, path, meta)


@HOOKS.register_module()
class DistOptimizerHook(OptimizerHook):

    def __init__(self,
                 update_interval=1,
                 grad_clip=None,
                 coalesce=True,
                 bucket_size_mb=-1,
                 use_fp16=False):
        self.grad_clip = grad_clip
        self.update_interval = update_interval
        self.use_fp16 = use_fp16

    def before_run(self, runner):
        runner.optimizer.zero_grad()

    def after_train_iter(self, runner):
        runner.outputs['loss'] /= self.update_interval
        if self.use_fp16:
            with amp.scale_loss(runner.outputs['loss'],
                                runner.optimizer) as scaled_loss:
                scaled_loss.backward()
        else:
            runner.outputs['loss'].backward()
        if self.every_n_iters(runner, self.update_interval):
            if self.grad_clip is not None:
                self.clip_grads(runner.model.parameters())
            runner.optimizer.step()
            runner.optimizer.zero_grad()
