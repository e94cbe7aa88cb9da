"""One rank of two that want different things; started by test_agreement.py."""
import logging
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


class Groups:
    """Which groups saves and wishes go over, and how many there are."""

    def __init__(self):
        self.own = True
        for name in 'all_reduce', 'all_gather', 'all_gather_object':
            setattr(dist, name, self.noted(getattr(dist, name)))

    def begin(self, runner):
        # what a start gathers goes over training's group
        self.own = True

    def noted(self, send):

        def noting(*args, **kwargs):
            # averaged buffers are training's
            if send.__name__ != 'all_reduce' or kwargs.get('async_op'):
                self.own = self.own and kwargs.get('group') is not None
            return send(*args, **kwargs)

        return noting

    def left(self):
        # before torch 2.0 in a global of the module
        world = getattr(dist.distributed_c10d, '_world', None)
        groups = dist.distributed_c10d._pg_map if world is None else \
            world.pg_map
        return f'{len(groups)} {self.own}'


SCENES = {
    'signal on one rank': [Does(1, 2, send(signal.SIGTERM))],
    'signals at different times':
    [Does(0, 1, send(signal.SIGTERM)),
     Does(1, 2, send(signal.SIGTERM))],
    'request on one rank': [Does(1, 2, send(signal.SIGUSR1))],
    'file': [Does(0, 2, ask_by_file)],
    'clock': [],
    'again': [Does(1, 10, send(signal.SIGTERM))],
    'dead': [
        Does(1, 2, die),
        Does(0, 2, lambda runner: dist.barrier()),
        Does(0, 3, wait_for_death),
        Does(0, 5, send(signal.SIGTERM))
    ],
}


def main():
    logging.basicConfig(stream=sys.stdout, format='%(message)s')
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    for module in (epoch_based_runner, iter_based_runner):
        module.time.sleep = lambda seconds: None
    groups = Groups()
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
            *SCENES[SCENE],
            Does(rank, 0, groups.begin),
            Does(rank, 8, groups.begin)
        ])
    try:
        runner.run([make_loader(seed_of_data=rank)], [('train', 1)])
        if SCENE == 'again':
            print('LEFT', groups.left(), flush=True)
            runner._max_iters = 16
            runner.run([make_loader(seed_of_data=rank)], [('train', 1)])
    finally:
        print('LEFT', groups.left(), flush=True)
    print('FINISHED', flush=True)
    if SCENE != 'dead':
        dist.destroy_process_group()


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    main()
