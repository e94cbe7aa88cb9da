"""One rank of a training that something befalls; for test_many_ranks.py.

    many_ranks_worker.py WORK_DIR JSON

The JSON has ``scene``, and may have ``options`` of the hook, ``optimizer``
(``zero``), ``from``: what each rank gives to ``runner.resume``, by rank, and
``struck``: which one dies or stops at a save, 1 if it does not say so.
"""
import errno
import json
import logging
import os
import signal
import sys
import threading

import torch
from ddp_exact_worker import Lines, wrapped
from launching import leave
from mmcv.runner import Hook, iter_based_runner
from stock import ABOVE_NORMAL
from torch import distributed as dist
from toy import QuickEvalHook, ToyModel, make_loader, make_runner
from zero_worker import zero

from mmcv_ckpt_hooks import agreement
from mmcv_ckpt_hooks.compat import default_store
from mmcv_ckpt_hooks.sharded import state
from mmcv_ckpt_hooks.storage.local import LocalBackend

GIVEN = json.loads(sys.argv[2])
SCENE = GIVEN['scene']
STEPS = 6
COLLECTIVES = ('all_reduce', 'all_gather', 'all_gather_object', 'barrier',
               'broadcast', 'broadcast_object_list', 'new_group')


class Finished(Hook):
    """Tells all ranks of a finished iteration."""
    comes = 'LOW'

    def after_train_iter(self, runner):
        default_store().add(f'finished {runner.iter + 1}', 1)


def wait_for(iteration):
    """Wait until all ranks have finished it; else the test hangs."""
    store = default_store()
    while store.add(f'finished {iteration}', 0) < dist.get_world_size():
        threading.Event().wait(0.01)


def before_each_write(act):
    """Call ``act(name)`` in the middle of what a rank writes.

    ``name`` is that of a checkpoint file, None for a rank's part of a folder.
    """
    put, write_items = LocalBackend.put, state.ShardState.write_items

    def putting(files, name, write):

        def half(stream):
            stream.write(b'')
            act(name)
            return write(stream)

        return put(files, name, half if name.endswith('.pth') else write)

    def writing(self, stream, advance):
        act(None)
        return write_items(self, stream, advance)

    LocalBackend.put = putting
    state.ShardState.write_items = writing


def other():
    """Process of the other rank."""
    return int(default_store().get(f'pid {1 - dist.get_rank()}'))


def fill_disk(name):
    if name == 'iter_4.pth':
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def strike(number, name, whom=other):
    """Send a signal in the middle of the second save."""

    def act(written):
        if written == name:
            os.kill(whom(), number)

    return act


class Strikes(Hook):
    """Sends a rank a signal when it is about to save for the second time."""

    def __init__(self, number, rank):
        self.number = number
        self.rank = rank

    def after_train_iter(self, runner):
        if runner.rank == self.rank and runner.iter + 1 == 4:
            os.kill(os.getpid(), self.number)


def note_collectives():
    """Return a list that gets the name of each, and whose thread it was."""
    noted = []

    def noting(call):

        def call_it(*args, **kwargs):
            noted.append((call.__name__, threading.current_thread()
                          is threading.main_thread()))
            return call(*args, **kwargs)

        return call_it

    for name in COLLECTIVES:
        setattr(dist, name, noting(getattr(dist, name)))
    return noted


def prepare():
    """Let happen what the scene is about."""
    if SCENE == 'slow disks':
        # each rank's, of all saves but the last
        before_each_write(lambda name: wait_for(5) if name != 'iter_6.pth' and
                          default_store().add('finished 6', 0) == 0 else None)
    elif SCENE == 'full disk':
        before_each_write(fill_disk)
    elif SCENE in ('other killed', 'other stopped'):
        number = signal.SIGKILL if 'killed' in SCENE else signal.SIGSTOP
        before_each_write(strike(number, 'iter_4.pth'))
    elif SCENE == 'writer killed':
        before_each_write(strike(signal.SIGKILL, 'iter_4.pth', os.getpid))


def main(work_dir):
    logging.basicConfig(stream=sys.stdout, format='%(message)s')
    logging.getLogger('toy').setLevel(logging.INFO)
    lines = Lines()
    logging.getLogger('toy').addHandler(lines)
    iter_based_runner.time.sleep = lambda seconds: None
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    default_store().set(f'pid {rank}', str(os.getpid()))
    agreement.COMMIT_SECS = GIVEN.get('commit_secs', agreement.COMMIT_SECS)
    prepare()
    noted = note_collectives()
    model = wrapped(ToyModel())
    optimizer = None
    if GIVEN.get('optimizer') == 'zero':
        optimizer = zero(model.parameters(), lr=0.01)
    runner = make_runner(
        GIVEN.get('work_dirs', [work_dir] * 9)[rank],
        model=model,
        seed=rank,
        optimizer=optimizer,
        runner=dict(type='IterBasedRunnerAmp', max_iters=STEPS),
        hooks=[
            dict(
                dict(type='DurableCheckpointHook', interval=2),
                **GIVEN.get('options', {})),
            Finished()
        ])
    if SCENE in ('dies at a save', 'stops at a save'):
        number = signal.SIGKILL if 'dies' in SCENE else signal.SIGSTOP
        runner.register_hook(
            Strikes(number, GIVEN.get('struck', 1)), priority=ABOVE_NORMAL)
    if rank == 0 and GIVEN.get('evaluates'):
        runner.register_hook(
            QuickEvalHook([0.5, 0.6],
                          interval=2,
                          by_epoch=False,
                          save_best='mIoU'),
            priority='LOW')
    source = GIVEN.get('from', [None] * 9)[rank]
    if source is not None:
        runner.resume(source)
    runner.run([make_loader(seed_of_data=rank)], [('train', 1)])
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered,
                           dict(noted=noted, log='\n'.join(lines.lines)))
    if rank == 0:
        print('RESULT ' + json.dumps(gathered), flush=True)
    leave()


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    main(sys.argv[1])
