"""One rank of a real training that is stopped; started by test_ranks.py."""
import errno
import hashlib
import json
import logging
import os
import random
import signal
import sys
import threading
import time

import numpy as np
import torch
from ddp_exact_worker import wrapped
from exact import DrawingData, DrawingModel, Recorder, drawing_loader
from mmcv.runner import Hook, iter_based_runner
from stock import DistEvalHook
from torch import distributed as dist
from torch.utils.data import DataLoader, DistributedSampler
from toy import ToyData, make_runner

from mmcv_ckpt_hooks.storage.local import LocalBackend

GIVEN = json.loads(sys.argv[2])


class Raises(Hook):
    """Raises at the start of the sixth iteration, on some ranks."""

    def before_train_iter(self, runner):
        if runner.iter == 5 and runner.rank in GIVEN.get('raises', []):
            raise ValueError('a broken image')


class Sends(Hook):
    """Sends itself a signal in the last iteration, on one rank."""

    def send(self, runner):
        if runner.iter == 8 and runner.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)


class Interrupts(Hook):
    """Sends SIGINT to every rank in the sixth iteration."""

    def before_train_iter(self, runner):
        if runner.iter == 5:
            os.kill(os.getpid(), signal.SIGINT)


def hang_in_writes():
    """Let the storage of checkpoints be one that hangs."""
    put = LocalBackend.put

    def hang(backend, name, write):
        if name.endswith('.pth'):
            print('WRITES', flush=True)
            threading.Event().wait()
        return put(backend, name, write)

    LocalBackend.put = hang


class Step(torch.optim.AdamW):
    """Fails in its sixth step, if told to."""

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        if self.steps == 6 and GIVEN.get('fails_in_step'):
            raise ValueError('half a step')
        return super().step(closure)


class Validates(Hook):
    """Tells of the first iteration of a val phase."""

    def before_val_iter(self, runner):
        if runner.inner_iter == 1:
            print('EVALUATES', flush=True)


def evaluate(model, loader, **kwargs):
    """Draws; ends, or not."""
    model.eval()
    print('EVALUATES', flush=True)
    if dist.get_rank() == GIVEN.get('hangs'):
        signal.pause()  # a disk
    count = 0
    while count < 2 or GIVEN.get('endless'):
        count += 1
        with torch.no_grad():
            model.module(torch.rand(2, 4))
    return []


def no_link(source, link, **kwargs):
    raise OSError(errno.ENOSPC, 'No space left on device', link)


def ours_of(rank):
    """The hook's options; those of one rank may be wrong."""
    ours = dict(GIVEN.get('ours', {}))
    if rank == GIVEN.get('wrong_mirror_on'):
        # by no metric
        ours['mirror'] = dict(ours['mirror'], keep=dict(best=1))
    return ours


def build(work_dir, rank, seed):
    if GIVEN.get('own_disks'):
        work_dir = os.path.join(work_dir, f'node_{rank}', 'run')
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    model = DrawingModel()
    if not GIVEN.get('norm', True):
        # DDP fails in the backward, when BatchNorm has moved
        model.layers[1] = torch.nn.Identity()
        # mmcv 1.3.1 sends buffers also of a model without any, and fails
        model.register_buffer('still', torch.zeros(1))
    model = wrapped(model)
    runner = make_runner(
        work_dir,
        model=model,
        seed=seed,
        optimizer=Step(model.parameters(), lr=0.01),
        runner=dict(type=GIVEN.get('type', 'IterBasedRunnerAmp'), max_iters=9),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=100,
                resume='auto',
                **ours_of(rank)),
            Raises(),
            Validates()
        ])
    if rank in GIVEN.get('evaluate_on', []):
        runner.register_hook(
            DistEvalHook(
                DataLoader(ToyData(2, [0.5])),
                test_fn=evaluate,
                interval=4,
                by_epoch=False,
                broadcast_bn_buffer=GIVEN['evaluate_on'] == [0, 1]),
            priority='LOW')
    if GIVEN.get('hangs_in_writes'):
        hang_in_writes()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        runner.register_hook(Interrupts())
    if 'sends' in GIVEN:
        sends = Sends()
        setattr(sends, GIVEN['sends'], sends.send)
        runner.register_hook(sends, priority='VERY_LOW')
    recorder = Recorder()
    # before the evaluation of its iteration
    runner.register_hook(recorder)
    return runner, recorder


def main():
    logging.basicConfig(stream=sys.stdout, format='%(message)s')
    iter_based_runner.time = type('Time', (), dict(time=time.time))
    iter_based_runner.time.sleep = lambda seconds: None
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    if rank == 0 and GIVEN.get('links') is False:
        os.symlink = no_link
    runner, recorder = build(sys.argv[1], rank, GIVEN.get('seed', 1) + rank)
    logging.getLogger('toy').setLevel(logging.INFO)
    loader = drawing_loader(sampler=DistributedSampler(DrawingData(), seed=3))
    workflow = [tuple(one) for one in GIVEN.get('workflow', [['train', 1]])]
    try:
        runner.run([loader] * len(workflow), workflow)
    finally:
        digest = hashlib.sha256()
        for _, value in sorted(runner.model.state_dict().items()):
            digest.update(value.numpy().tobytes())
        losses = {
            key: value
            for key, value in recorder.losses.items() if isinstance(key, int)
        }
        print(
            'RESULT ' +
            json.dumps(dict(state=digest.hexdigest(), losses=losses)),
            flush=True)
        if not isinstance(sys.exc_info()[1], KeyboardInterrupt):
            # a thread of gloo that comes too late for the interpreter's end
            # aborts; one that waits for a rank which hangs never ends
            dist.destroy_process_group()


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    main()
