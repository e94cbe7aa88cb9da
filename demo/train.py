"""Train the demo's network: a tool as repos on mmcv 1.x have one.

    python demo/train.py configs/nuclei_fcn.py --work-dir work_dirs/nuclei_fcn

Nothing in it is special to mmcv_ckpt_hooks, which the config brings in.
"""
import argparse
import logging
import os
import random
import time

import numpy as np
import torch
from mmcv import Config, DictAction, mkdir_or_exist
from mmcv.parallel import MMDataParallel
from mmcv.runner import EvalHook, build_optimizer, build_runner
from mmcv.utils import get_logger
from nuclei import DATASETS, MODELS
from torch.utils.data import DataLoader


def parse_args():
    parser = argparse.ArgumentParser(description='Train the demo network')
    parser.add_argument('config', help='path of the config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings that replace those of the config, as key=value')
    return parser.parse_args()


def read_config(args):
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    return cfg


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


def build_loader(dataset, cfg, training):
    workers = cfg.data.workers_per_gpu
    return DataLoader(
        dataset,
        batch_size=cfg.data.samples_per_gpu if training else 1,
        shuffle=training,
        drop_last=training,
        num_workers=workers if training else 0,
        persistent_workers=training and workers > 0)


def build_training(cfg, logger, timestamp):
    """The runner with its hooks, and the loader to run it on."""
    train_set = DATASETS.build(cfg.data.train)
    model = MODELS.build(cfg.model)
    model.CLASSES = train_set.CLASSES
    if torch.cuda.is_available():
        model = model.cuda()
    model = MMDataParallel(model, device_ids=[0])
    runner = build_runner(
        cfg.runner,
        default_args=dict(
            model=model,
            optimizer=build_optimizer(model, cfg.optimizer),
            work_dir=cfg.work_dir,
            logger=logger,
            meta=dict(config=cfg.pretty_text, seed=cfg.seed)))
    runner.timestamp = timestamp
    runner.register_training_hooks(cfg.lr_config, cfg.optimizer_config,
                                   cfg.checkpoint_config, cfg.log_config)
    val_loader = build_loader(DATASETS.build(cfg.data.val), cfg, False)
    runner.register_hook(
        EvalHook(val_loader, **cfg.evaluation), priority='LOW')
    runner.register_custom_hooks(cfg.get('custom_hooks'))
    return runner, build_loader(train_set, cfg, True)


def main():
    args = parse_args()
    cfg = read_config(args)
    cfg.seed = args.seed
    set_seed(args.seed)
    mkdir_or_exist(cfg.work_dir)
    timestamp = time.strftime('%Y%m%d_%H%M%S')
    logger = get_logger('nuclei', os.path.join(cfg.work_dir,
                                               f'{timestamp}.log'),
                        logging.INFO)
    runner, loader = build_training(cfg, logger, timestamp)
    runner.run([loader], cfg.workflow)


if __name__ == '__main__':
    main()
