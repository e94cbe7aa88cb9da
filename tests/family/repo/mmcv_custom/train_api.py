"""Data, network and the training, as the repos have them."""
import logging
import os
from collections import OrderedDict

import torch
from mmcv import runner as mmcv_runner
from mmcv.runner import HOOKS, Hook, build_optimizer, build_runner
from mmcv.utils import build_from_cfg
from torch import nn
from torch.utils.data import DataLoader, Dataset

try:
    import apex
except ImportError:
    apex = None


class Segmentor(nn.Module):
    """A backbone with dropout and norm, and a head."""

    def __init__(self):
        super().__init__()
        self.fp16_enabled = False
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(),
            nn.Dropout2d(0.1), nn.Conv2d(8, 2, 1))

    def forward(self, img, gt=None, return_loss=True):
        logits = self.layers(img)
        if not return_loss:
            return list(logits.argmax(1).cpu().numpy())
        return nn.functional.cross_entropy(logits.float(), gt)

    def train_step(self, data, optimizer, **kwargs):
        loss = self(**data)
        return dict(
            loss=loss,
            log_vars=OrderedDict(loss=loss.item()),
            num_samples=len(data['img']))


class Tiles(Dataset):

    CLASSES = ('background', 'bright')

    def __init__(self, size=16):
        generator = torch.Generator().manual_seed(1)
        self.images = torch.rand(size, 3, 8, 8, generator=generator)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        return dict(img=image, gt=(image.mean(0) > 0.5).long())

    def evaluate(self, results, logger=None, **kwargs):
        return dict(mIoU=0.1 * len(results))


@HOOKS.register_module()
class DieHook(Hook):
    """A node that is lost in the middle of a training."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner):
        if runner.iter + 1 == self.at:
            os._exit(9)


def train_segmentor(cfg):
    torch.manual_seed(cfg.seed)
    model = Segmentor()
    loader = DataLoader(Tiles(), batch_size=4, shuffle=True)
    optimizer = build_optimizer(model, cfg.optimizer)
    # use apex fp16 optimizer
    if cfg.optimizer_config.get('type') == 'DistOptimizerHook' and \
            cfg.optimizer_config.get('use_fp16', False) and apex is not None:
        model, optimizer = apex.amp.initialize(
            model, optimizer, opt_level='O1')
        for module in model.modules():
            if hasattr(module, 'fp16_enabled'):
                module.fp16_enabled = True
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    runner = build_runner(
        cfg.runner,
        default_args=dict(
            model=model,
            batch_processor=None,
            optimizer=optimizer,
            work_dir=cfg.work_dir,
            logger=logging.getLogger('repo'),
            meta=dict(config=cfg.pretty_text, seed=cfg.seed)))
    runner.register_training_hooks(cfg.lr_config, cfg.optimizer_config,
                                   cfg.checkpoint_config, cfg.log_config,
                                   cfg.get('momentum_config', None))
    eval_cfg = dict(cfg.evaluation)
    eval_cfg['by_epoch'] = 'IterBasedRunner' not in cfg.runner['type']
    if hasattr(mmcv_runner, 'EvalHook'):  # mmcv >= 1.3.1
        runner.register_hook(
            mmcv_runner.EvalHook(DataLoader(Tiles(4)), **eval_cfg),
            priority='LOW')
    for hook_cfg in cfg.get('custom_hooks', []):
        hook_cfg = dict(hook_cfg)
        priority = hook_cfg.pop('priority', 'NORMAL')
        runner.register_hook(build_from_cfg(hook_cfg, HOOKS), priority)
    if cfg.resume_from:
        runner.resume(cfg.resume_from)
    elif cfg.load_from:
        runner.load_checkpoint(cfg.load_from)
    runner.run([loader], cfg.workflow)
