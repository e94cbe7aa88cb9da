"""One rank of a training whose checkpoints all ranks write.

    sharded_worker.py WORK_DIR JSON

The JSON has ``steps``, ``scene`` (``ddp``, ``fsdp2``, ``fsdp``, ``plain``),
``options`` of the hook, ``fault``: what befalls which ``rank`` in the
middle of its part of the save of which ``name``, ``refused``: a verb of the
place that fails on a ``rank`` at the start, ``alone_at``: in which iteration
all ranks get a signal, without reaching each other, ``memory``: how many
bytes are available, ``killed_copying``: in the copy of which file to the
mirror rank 0 is killed, and ``width`` of the model.
"""
import errno
import json
import logging
import os
import signal
import sys

import torch
from ddp_exact_worker import Lines, wrapped
from launching import leave
from mmcv.runner import Hook, iter_based_runner
from torch import distributed as dist
from toy import ToyModel, make_loader, make_runner
from zero_worker import digest_of

from mmcv_ckpt_hooks import stager
from mmcv_ckpt_hooks.errors import AccessError
from mmcv_ckpt_hooks.folders import sending
from mmcv_ckpt_hooks.sharded import board, sharding, state
from mmcv_ckpt_hooks.storage import block_file
from mmcv_ckpt_hooks.storage.local import LocalBackend


class WideModel(ToyModel):
    """So large that its parts lie on several ranks."""
    width = 64

    def __init__(self):
        super().__init__(width=self.width)


def spread_model(scene):
    if scene == 'plain':
        return WideModel()
    if scene == 'fsdp2':
        from torch.distributed.fsdp import fully_shard
        model = WideModel()
        mesh = dist.device_mesh.init_device_mesh('cpu',
                                                 (dist.get_world_size(), ))
        for part in (model.first, model.last):
            fully_shard(part, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    if scene == 'fsdp':
        from torch.distributed.fsdp import FullyShardedDataParallel

        class Fsdp(FullyShardedDataParallel):

            def train_step(self, data, optimizer, **kwargs):
                return WideModel.train_step(self, data, optimizer)

        return Fsdp(WideModel(), device_id=torch.device('cpu'))
    return wrapped(WideModel())


class Fault:
    """Strikes once, in the middle of a part."""

    def __init__(self, kind, rank, part=1, lost_secs=5.):
        self.kind = kind if rank == dist.get_rank() else ''
        self.left = part
        board.LOST_SECS = lost_secs
        write, put = state.ShardState.write_items, \
            block_file.BlockFile._put

        def write_items(state, stream, advance):
            self.left -= 1
            if self.left == 0 and self.kind in ('kill', 'stop'):
                stream.write(b'half')
                number = signal.SIGKILL if self.kind == 'kill' else \
                    signal.SIGSTOP
                os.kill(os.getpid(), number)
            return write(state, stream, advance)

        def put_block(file, data):
            # on the thread that writes behind the one that fills
            if self.left == 0 and self.kind == 'full':
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            put(file, data)

        state.ShardState.write_items = write_items
        block_file.BlockFile._put = put_block


def refuse(verb, rank):
    """Let a verb fail for what only the start writes."""
    inner = getattr(LocalBackend, verb)

    def refusing(files, name, *arguments):
        if name == 'checkpoints.probe' and dist.get_rank() == rank:
            raise AccessError(f'cannot {verb} {name}: Stale file handle')
        return inner(files, name, *arguments)

    setattr(LocalBackend, verb, refusing)


def die_copying(name):
    """Have a process killed in the middle of a copy to the mirror."""
    inner = sending._Sent.copy_of

    def copy_of(sent, one):

        def half(give):
            give(b'half')
            os.kill(os.getpid(), signal.SIGKILL)

        return half if one == name else inner(sent, one)

    sending._Sent.copy_of = copy_of


class Alone(Hook):
    """A signal comes when no rank can be reached any more."""

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner):
        if runner.iter == self.at:
            for hook in runner.hooks:
                if hasattr(hook, '_interrupts'):
                    hook._interrupts._agreement._give_up('test')
            os.kill(os.getpid(), signal.SIGTERM)


class Saved(Hook):
    """Waits for each save: what comes then is known by the next step."""
    comes = 'LOW'

    def after_train_iter(self, runner):
        for hook in runner.hooks:
            for saver in getattr(hook, '_savers', []):
                saver.wait()


def load_plainly(runner, folder):
    """Go on from a checkpoint as a program does that has only torch."""
    from torch.distributed.checkpoint import load
    from torch.distributed.checkpoint.state_dict import (
        get_state_dict, set_model_state_dict, set_optimizer_state_dict)
    model, optimizer = get_state_dict(runner.model, runner.optimizer)
    state = dict(state_dict=model, optimizer=dict(state=optimizer['state']))
    load(state, checkpoint_id=folder)
    set_model_state_dict(runner.model, state['state_dict'])
    set_optimizer_state_dict(
        runner.model,
        runner.optimizer,
        optim_state_dict=dict(
            state=state['optimizer']['state'],
            param_groups=optimizer['param_groups']))
    rest = torch.load(os.path.join(folder, 'rest.zip'))
    runner._iter = rest['meta']['iter']


def full(tree):
    """Return a state with every tensor whole."""
    if isinstance(tree, dict):
        return {key: full(value) for key, value in tree.items()}
    if hasattr(tree, 'full_tensor'):
        return tree.full_tensor()
    return tree


def main(work_dir, given):
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    iter_based_runner.time.sleep = lambda seconds: None
    lines = Lines()
    logging.getLogger('toy').addHandler(lines)
    logging.getLogger('toy').setLevel(logging.INFO)
    if 'fault' in given or 'alone_at' in given:
        # read while the run lasts
        logging.getLogger('toy').addHandler(logging.StreamHandler(sys.stdout))
    torch.manual_seed(0)
    WideModel.width = given.get('width', WideModel.width)
    model = spread_model(given.get('scene', 'ddp'))
    if 'fault' in given:
        Fault(**given['fault'])
    if 'refused' in given:
        refuse(**given['refused'])
    if 'killed_copying' in given:
        die_copying(given['killed_copying'])
    if 'memory' in given:
        for room in (sharding, stager):
            room.available_memory_bytes = lambda: given['memory']
    runner = make_runner(
        work_dir,
        model=model,
        seed=rank,
        runner=dict(type='IterBasedRunnerAmp', max_iters=given['steps']),
        checkpoint_config=dict(interval=2),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                format='dcp',
                **given.get('options', {})),
            *([Saved()] if given.get('waits', True) else []),
            *([Alone(given['alone_at'])] if 'alone_at' in given else [])
        ])
    if 'load' in given:
        load_plainly(runner, given['load'])
    runner.run([make_loader(seed_of_data=rank)], [('train', 1)])
    # parameters alone: each rank has buffers of its own
    state = {
        name.replace('module.', ''): full(one.detach())
        for name, one in runner.model.named_parameters()
    }
    optimizer = full(runner.optimizer.state_dict()['state'])
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, '\n'.join(lines.lines))
    if rank == 0:
        print(
            'RESULT',
            json.dumps(
                dict(
                    model=digest_of(state),
                    optimizer=digest_of(optimizer),
                    logs=gathered)))
    leave()


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    main(sys.argv[1], json.loads(sys.argv[2]))
