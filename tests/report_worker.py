"""A real training with all logs of mmcv in its work dir, for the report.

Arguments: the work dir, and JSON: ``scores``, ``die_at`` (an iteration at
which nothing is said any more), ``term_at`` (at which it gets SIGTERM),
``epochs`` (by epoch, and how many).
"""
import json
import os
import signal
import sys
import time

import toy
from dying import Dies
from mmcv.runner import Hook
from mmcv.utils import get_logger


class Terminated(Hook):

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


def main(work_dir, scores=(), die_at=None, term_at=None, epochs=None):
    stamp = time.strftime('%Y%m%d_%H%M%S')
    # as mmseg's and mmdet's train.py
    logger = get_logger('toy', log_file=f'{work_dir}/{stamp}.log')
    toy.make_logger = lambda: logger
    dies = Dies(die_at)
    dies.comes = 'VERY_LOW'  # behind the loggers
    kind = dict(type='IterBasedRunnerAmp', max_iters=8) if epochs is None \
        else dict(type='EpochBasedRunnerAmp', max_epochs=epochs)
    runner = toy.make_runner(
        work_dir,
        runner=kind,
        log_interval=1,
        meta=dict(seed=0),
        checkpoint_config=dict(
            interval=2 if epochs is None else 1, max_keep_ckpts=2),
        evaluation=scores
        and dict(scores=scores, interval=2, by_epoch=False, save_best='mIoU')
        or None,
        hooks=[
            Terminated(term_at),
            dict(
                type='DurableCheckpointHook',
                resume='auto',
                write=dict(background=False)), dies
        ])
    runner.timestamp = stamp
    runner.run([toy.make_loader(16 if epochs else 64)], [('train', 1)])


if __name__ == '__main__':
    main(sys.argv[1], **json.loads(sys.argv[2]))
