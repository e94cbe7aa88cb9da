"""One rank of a real gloo training; started by test_ddp.py."""
import os
import sys

import torch
from launching import leave
from mmcv.runner import epoch_based_runner, iter_based_runner
from stock import MMDistributedDataParallel
from torch import distributed as dist
from toy import QuickEvalHook, ToyModel, make_loader, make_runner


class Wrapped(MMDistributedDataParallel):
    """mmcv's wrapper; the toy model takes its batch as it is."""

    def train_step(self, data, optimizer, **kwargs):
        return self.module.train_step(data, optimizer, **kwargs)


def main(work_dir, max_iters, best_dir=None):
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    for module in (epoch_based_runner, iter_based_runner):
        module.time.sleep = lambda seconds: None
    torch.manual_seed(rank)
    model = Wrapped(ToyModel())
    runner = make_runner(
        work_dir,
        model=model,
        seed=rank,
        runner=dict(type='IterBasedRunnerAmp', max_iters=max_iters),
        checkpoint_config=dict(interval=2, sync_buffer=True),
        hooks=[dict(type='DurableCheckpointHook', resume='auto')])
    if rank == 0:  # as DistEvalHook, which evaluates on rank 0 alone
        runner.register_hook(
            QuickEvalHook([0.5, 0.6],
                          interval=2,
                          by_epoch=False,
                          save_best='mIoU',
                          out_dir=best_dir),
            priority='LOW')
    started = runner.iter
    runner.run([make_loader(seed_of_data=rank)], [('train', 1)])
    means = [buffer.tolist() for buffer in model.buffers()]
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, (means, runner.restored is not None))
    if rank == 0:
        print('RESULT', started, gathered[0] == gathered[1], runner.iter,
              [resumed for _, resumed in gathered])
    leave()


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
