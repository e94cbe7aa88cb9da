"""The repo's tool; like theirs it imports ``mmcv_custom`` at the top."""
import argparse
import time
import types

import mmcv_custom
from mmcv import Config
from mmcv.runner import epoch_based_runner, iter_based_runner

# mmcv's runners sleep for 1 to 2 s where an epoch begins and ends
epoch_based_runner.time = iter_based_runner.time = types.SimpleNamespace(
    **{
        **vars(time), 'sleep': lambda secs: None
    })


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    parser.add_argument('--work-dir')
    parser.add_argument('--resume-from')
    parser.add_argument('--load-from')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    cfg = Config.fromfile(args.config)
    cfg.work_dir, cfg.seed = args.work_dir, args.seed
    cfg.resume_from, cfg.load_from = args.resume_from, args.load_from
    mmcv_custom.train_segmentor(cfg)


if __name__ == '__main__':
    main()
