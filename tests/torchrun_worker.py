"""One rank of a training that torchrun has started, and starts again.

    torchrun_worker.py WORK_DIR JSON

The JSON has ``steps``, ``options`` of the hook, and ``killed``: by rank the
iteration behind which it is killed, in the first start alone.
"""
import json
import logging
import os
import sys

import torch
from ddp_exact_worker import Lines, tell, wrapped
from dying import Dies
from exact import DrawingData, drawing_loader, drawing_run
from mmcv.runner import Hook, iter_based_runner
from torch import distributed as dist
from torch.utils.data import DistributedSampler
from zero_worker import digest_of


class Committed(Hook):
    """Waits for each save: what is killed behind it leaves it complete."""

    def after_train_iter(self, runner):
        for hook in runner.hooks:
            for saver in getattr(hook, '_savers', []):
                saver.wait()


def main(work_dir, given):
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    iter_based_runner.time.sleep = lambda seconds: None
    lines = Lines()
    logging.getLogger('toy').addHandler(lines)
    is_first = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') == '0'
    killed = given.get('killed', {}) if is_first else {}
    state, losses = drawing_run(
        work_dir,
        given['steps'],
        # ranks, and starts, do not draw alike
        seed=2 * rank + is_first,
        wrap=wrapped,
        interval=2,
        options=given.get('options'),
        hooks=[Committed(), Dies(killed.get(str(rank)))] if killed else [],
        loaders=[
            lambda: drawing_loader(
                2, sampler=DistributedSampler(DrawingData(), seed=3))
        ])
    # every rank has running statistics of its own
    weights = {
        name: value
        for name, value in state['model'].items() if 'running' not in name
    }
    tell(
        losses,
        lines,
        model=digest_of(weights),
        optimizer=digest_of(state['optimizer']['state']))


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    main(sys.argv[1], json.loads(sys.argv[2]))
