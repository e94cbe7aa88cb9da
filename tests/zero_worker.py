"""One rank of a training with a ZeroRedundancyOptimizer, or a plain one.

    zero_worker.py WORK_DIR STEPS KILL_AT SCENE

Scenes: ``zero``; ``plain``: AdamW; ``raises``: an exception is a trigger.
"""
import hashlib
import logging
import os
import sys

import torch
from ddp_exact_worker import Lines, tell, wrapped
from exact import DrawingData, drawing_loader, drawing_run
from mmcv.runner import iter_based_runner
from torch import distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.utils.data import DistributedSampler


def digest_of(tree):
    digest = hashlib.sha256()

    def add(value):
        if isinstance(value, dict):
            for key in sorted(value, key=str):
                digest.update(str(key).encode())
                add(value[key])
        elif isinstance(value, torch.Tensor):
            digest.update(value.contiguous().numpy().tobytes())
        else:
            digest.update(repr(value).encode())

    add(tree)
    return digest.hexdigest()


def zero(parameters, **options):
    return ZeroRedundancyOptimizer(
        parameters, optimizer_class=torch.optim.AdamW, **options)


def main(work_dir, steps, kill_at, scene):
    dist.init_process_group('gloo')
    iter_based_runner.time.sleep = lambda seconds: None
    lines = Lines()
    logging.getLogger('toy').addHandler(lines)
    options = dict(max_keep_ckpts=9)
    if scene == 'raises':
        options['triggers'] = dict(exception=True)
    state, losses = drawing_run(
        work_dir,
        steps,
        kill_at or None,
        seed=dist.get_rank(),
        wrap=wrapped,
        interval=2,
        make_optimizer=torch.optim.AdamW if scene == 'plain' else zero,
        options=options,
        loaders=[
            lambda: drawing_loader(
                sampler=DistributedSampler(DrawingData(), seed=3))
        ])
    weights = {
        name: value
        for name, value in state['model'].items()
        if 'running' not in name  # every rank has its own
    }
    tell(
        losses,
        lines,
        model=digest_of(weights),
        # rank 0 alone has all of it
        optimizer=state['optimizer']
        and digest_of(state['optimizer']['state']))


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
