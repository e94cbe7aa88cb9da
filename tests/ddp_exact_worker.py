"""One rank of a training that draws everywhere; started by test_ddp.py."""
import hashlib
import json
import logging
import os
import sys

import torch
from exact import DrawingData, drawing_loader, drawing_run
from launching import leave
from mmcv.runner import iter_based_runner
from stock import MMDistributedDataParallel
from torch import distributed as dist
from torch.utils.data import DistributedSampler


def wrapped(model):
    # else DDP lays its buckets out anew behind the first iteration, also of a
    # resumed run, and more than two ranks sum in another order
    return MMDistributedDataParallel(model, find_unused_parameters=True)


class Lines(logging.Handler):

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def tell(losses, lines, **more):
    """Print what rank 0 knows, and every rank's losses; end together."""
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, losses)
    if dist.get_rank() == 0:
        print('RESULT ' + json.dumps(
            dict(more, losses=gathered, log='\n'.join(lines.lines))))
    leave()


def main(work_dir, kill_at, seed):
    dist.init_process_group('gloo')
    iter_based_runner.time.sleep = lambda seconds: None
    lines = Lines()
    logging.getLogger('toy').addHandler(lines)
    state, losses = drawing_run(
        work_dir,
        9,
        kill_at or None,
        # ranks do not draw alike
        seed=seed + dist.get_rank(),
        wrap=wrapped,
        interval=2,
        loaders=[
            lambda: drawing_loader(
                2, sampler=DistributedSampler(DrawingData(), seed=3))
        ])
    digest = hashlib.sha256()
    for name, value in sorted(state['model'].items()):
        if 'running' not in name:  # every rank has its own
            digest.update(value.numpy().tobytes())
    tell(losses, lines, state=digest.hexdigest())


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
