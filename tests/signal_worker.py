"""A real training that waits where it is told; started by test_signals.py.

At each wait it prints WAIT and reads a line; what is sent to it meanwhile, it
has when it goes on.
"""
import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress

import torch
from dying import tell_or_raise
from mmcv.runner import Hook, epoch_based_runner, iter_based_runner
from stock import EvalHook
from torch.utils.data import DataLoader
from toy import ToyData, ToyModel, make_loader, make_runner

from mmcv_ckpt_hooks.storage.local import LocalBackend

GIVEN = json.loads(sys.argv[2])


def wait(where):
    print('WAIT', where, flush=True)
    sys.stdin.readline()


class Waits(Hook):
    """Waits in one event of one iteration."""

    def __init__(self, event, at):
        setattr(self, event, self.wait_at)
        self.event, self.at = event, at

    def wait_at(self, runner):
        if runner.iter == self.at:
            self.at = None
            for _ in range(GIVEN.get('waits', 1)):
                wait(self.event)

    def get_triggered_stages(self):
        return [self.event]


class Blocked(ToyData):
    """Never yields its fourth batch, as a disk that hangs."""

    def __getitem__(self, index):
        if index == 12:
            signal.pause()
        return super().__getitem__(index)


class Tells(Hook):
    """Tells when three iterations are finished."""

    def after_train_iter(self, runner):
        if runner.iter == 2:
            print('WAIT for data', flush=True)


class WaitingStep(torch.optim.SGD):
    """Waits in the middle of its second step."""

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        half = self.param_groups[0]['params'][0]
        with torch.no_grad():
            half.add_(1)
        if self.steps == 2:
            wait('step')
        super().step(closure)


def single_test(model, loader):
    """As mmseg's single_gpu_test, which calls no hook."""
    model.eval()
    results = []
    for number, data in enumerate(loader):
        if number == 1 and GIVEN['place'] == 'evaluation':
            wait('evaluation')
        with torch.no_grad():
            results.append(model(return_loss=False, **data))
    print('EVALUATED', flush=True)
    return results


def hang_in_writes():
    """Let the storage of checkpoints be one that hangs."""
    put = LocalBackend.put

    def hang(backend, name, write):

        def write_and_hang(stream):
            write(stream)
            # what is buffered goes to the file
            getattr(stream, '_file', stream).finish()
            print('WAIT writing', name, flush=True)
            # below python's own lock of stdin
            os.read(0, 1)

        return put(backend, name,
                   write_and_hang if name.endswith('.pth') else write)

    LocalBackend.put = hang


def build(work_dir):
    place = GIVEN['place']
    torch.manual_seed(0)
    model = ToyModel()
    waits = {
        'training': Waits('before_train_iter', 2),
        'last of epoch': Waits('before_train_iter', 3),
        'epoch end': Waits('after_epoch', 4),
        'val': Waits('before_val_iter', 4),
        'behind the save': Waits('after_train_iter', 7),
        'behind the epoch': Waits('after_train_epoch', 8),
        'data': Tells(),
    }
    runner = make_runner(
        work_dir,
        runner=GIVEN['runner'],
        model=model,
        optimizer=WaitingStep(model.parameters(), lr=0.01)
        if place == 'step' else None,
        log_interval=1,
        hooks=[
            dict(type='DurableCheckpointHook', **GIVEN.get('ours', {})),
        ])
    if place in waits:
        runner.register_hook(waits[place], priority='VERY_LOW')
    if GIVEN.get('evaluation'):
        runner.register_hook(
            EvalHook(
                DataLoader(ToyData(4, [0.5]), batch_size=1),
                test_fn=single_test,
                **GIVEN['evaluation']),
            priority='LOW')
    return runner


def train(runner):
    loader = make_loader(**GIVEN.get('loader', {}))
    if GIVEN['place'] == 'data':
        loader = DataLoader(Blocked(), batch_size=4, num_workers=2)
    workflow = [tuple(one) for one in GIVEN.get('workflow', [['train', 1]])]
    if GIVEN.get('goes_on'):
        # a notebook
        with suppress(KeyboardInterrupt):
            runner.run([loader] * len(workflow), workflow)
        print('WAIT caught', flush=True)
        for hook in runner.hooks:
            for saver in getattr(hook, '_savers', []):
                saver.wait()
        return
    try:
        runner.run([loader] * len(workflow), workflow)
    except BaseException as error:
        print('RAISED', type(error).__name__, runner.iter, flush=True)
        raise
    finally:
        print(
            'LEFT',
            [
                signal.getsignal(one).__name__ if callable(
                    signal.getsignal(one)) else int(signal.getsignal(one))
                for one in BEFORE
            ] == [
                one.__name__ if callable(one) else int(one)
                for one in BEFORE.values()
            ],
            len(runner.model._forward_pre_hooks),
            len(runner.optimizer._optimizer_step_pre_hooks),
            flush=True)


def main():
    for module in (epoch_based_runner, iter_based_runner):
        module.time.sleep = lambda seconds: wait('sleep') \
            if GIVEN['place'] == 'sleep' and \
            RUNNER.iter == GIVEN.get('sleeps_at', 4) else None
    if GIVEN['place'] == 'thread':
        thread = threading.Thread(target=train, args=(RUNNER, ))
        thread.start()
        thread.join()
        print('FINISHED', RUNNER.iter, flush=True)
        # behind python's part of a thread its C++ part ends, which aborts the
        # process if the interpreter is gone by then (torch 2.12)
        os._exit(0)
    else:
        train(RUNNER)
    print('FINISHED', RUNNER.iter, flush=True)


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    logging.basicConfig(stream=sys.stdout, format='%(message)s')
    # a shell's background job is deaf to it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if GIVEN.get('own_handler'):
        signal.signal(signal.SIGTERM,
                      lambda number, frame: print('CHAINED', flush=True))
    if GIVEN.get('tells_of_interrupts'):
        signal.signal(signal.SIGINT, tell_or_raise)
    if GIVEN.get('hangs'):
        hang_in_writes()
    BEFORE = {
        one: signal.getsignal(one)
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    }
    RUNNER = build(sys.argv[1])
    main()
