"""One rank of two that want different things; started by test_agreement.py."""
import os
import signal
import sys

import torch
from ddp_worker import Wrapped
from mmcv.runner import Hook, epoch_based_runner, iter_based_runner
from torch import distributed as dist
from toy import ToyModel, make_loader, make_runner

SCENE, WORK_DIR = sys.argv[2], sys.argv[1]


class Does(Hook):
    """Does something at the start of one iteration on one rank."""

    def __init__(self, rank, at, what):
        self.rank, self.at, self.what = rank, at, what

    def before_train_iter(self, runner):
        if runner.rank == self.rank and runner.iter == self.at:
            self.what(runner)


def ask_by_file(runner):
    open(os.path.join(WORK_DIR, 'SAVE'), 'w').close()
    for hook in runner.hooks:
        if hasattr(hook, '_schedule'):
            hook._schedule._looked_at -= 10


def send(number):
    return lambda runner: os.kill(os.getpid(), number)


def wait_for_death(runner):
    """Until the other rank's end has closed the connection."""
    store = os.path.join(WORK_DIR, 'pid')
    pid = int(open(store).read())
    while True:
        try:
            with open(f'/proc/{pid}/stat') as file:
                if file.read().rpartition(')')[2].split()[0] == 'Z':
                    return
        except OSError:
            return


def die(runner):
    with open(os.path.join(WORK_DIR, 'pid'), 'w') as file:
        file.write(str(os.getpid()))
    dist.barrier()
    os._exit(9)


SCENES = {
    'signal on one rank': [Does(1, 2, send(signal.SIGTERM))],
    'signals at different times':
    [Does(0, 1, send(signal.SIGTERM)),
     Does(1, 2, send(signal.SIGTERM))],
    'request on one rank': [Does(1, 2, send(signal.SIGUSR1))],
    'file': [Does(0, 2, ask_by_file)],
    'clock': [],
    'dead': [
        Does(1, 2, die),
        Does(0, 2, lambda runner: dist.barrier()),
        Does(0, 3, wait_for_death),
        Does(0, 5, send(signal.SIGTERM))
    ],
}


def main():
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    for module in (epoch_based_runner, iter_based_runner):
        module.time.sleep = lambda seconds: None
    model = ToyModel()
    triggers = dict(secs=1e-9) if SCENE == 'clock' and rank == 1 else {}
    runner = make_runner(
        WORK_DIR,
        # without a wrapper nothing else keeps the ranks together
        model=model if SCENE == 'dead' else Wrapped(model),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=100,
                # makes every save collective
                sync_buffer=SCENE != 'dead',
                triggers=triggers),
            *SCENES[SCENE]
        ])
    runner.run([make_loader(seed_of_data=rank)], [('train', 1)])
    print('FINISHED', flush=True)


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    main()
