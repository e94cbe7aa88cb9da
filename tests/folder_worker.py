"""One rank of a run that goes on from a folder, or from a file.

    folder_worker.py SOURCE WORK_DIR SCENE

Scenes: ``train``: with DDP, up to step 8; ``fsdp``, ``columns`` and ``flat``:
resumed only, with weights that are spread over the ranks by rows, by columns
or as FSDP flattens them, ``flat-counted`` with another optimizer,
``flat-refused``: what an error leaves;
``auto-8``: trained to step 8 in WORK_DIR, from what is there, and sharded;
``zero``: with an optimizer that is spread over the ranks; ``away``: rank 1
does not see SOURCE; ``damaged``: what each rank says.
"""
import json
import os
import sys

import torch
from ddp_exact_worker import wrapped
from launching import leave
from mmcv.runner import iter_based_runner
from torch import distributed as dist
from toy import ToyModel, make_loader, make_runner
from zero_worker import digest_of, zero

from mmcv_ckpt_hooks.errors import CheckpointError

AMP = dict(type='IterBasedRunnerAmp', max_iters=8)


class Counted(torch.optim.SGD):
    """Counts its steps in a number, as optimizers of other programs do."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr, momentum=0.9)

    def step(self, closure=None):
        super().step(closure)
        for state in self.state.values():
            state['step'] = state.get('step', 0) + 1


def spread(model, scene):
    if scene.startswith('flat'):
        from torch.distributed.fsdp import FullyShardedDataParallel
        return FullyShardedDataParallel(model, device_id=torch.device('cpu'))
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor
    mesh = init_device_mesh('cpu', (dist.get_world_size(), ))
    if scene == 'fsdp':
        from torch.distributed.fsdp import fully_shard
        fully_shard(model.first, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    for module in model.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            place = Shard(1 if value.dim() > 1 else 0)
            setattr(
                module, name,
                torch.nn.Parameter(
                    distribute_tensor(value.detach(), mesh, [place])))
    return model


def whole(tree):
    """A tree with all of what is spread over the ranks."""
    if isinstance(tree, dict):
        return {key: whole(value) for key, value in tree.items()}
    if hasattr(tree, 'full_tensor'):
        return tree.full_tensor()
    return tree


def resumed(source, work_dir, scene):
    model = spread(ToyModel(), scene)
    kind = Counted if scene == 'flat-counted' else torch.optim.AdamW
    runner = make_runner(
        work_dir,
        runner=AMP,
        model=model,
        optimizer=kind(model.parameters(), lr=0.01))
    said = []
    runner.logger.warning = said.append
    if scene == 'flat-refused':
        return refused_by(runner, source)
    runner.resume(source)
    if scene.startswith('flat'):
        return dict(flat(runner), said=said)
    part = next(iter(runner.optimizer.state.values()))['exp_avg']
    return dict(
        part=type(part).__name__,
        held=part.to_local().numel(),
        iter=runner.iter,
        model=digest_of(whole(dict(model.state_dict()))),
        optimizer=digest_of(whole(runner.optimizer.state_dict()['state'])))


def refused_by(runner, source):

    def state():
        return [one.detach().tolist() for one in runner.model.parameters()]

    before = state()
    try:
        runner.resume(source)
    except CheckpointError as error:
        return dict(
            text=str(error),
            same=before == state(),
            held=len(runner.optimizer.state))
    return dict(text='')


def gathered_state(source, work_dir):
    model = wrapped(ToyModel())
    runner = make_runner(
        work_dir,
        runner=AMP,
        model=model,
        optimizer=zero(model.parameters(), lr=0.01))
    runner.resume(source)
    runner.optimizer.consolidate_state_dict(0)
    return dict(optimizer=dist.get_rank() == 0
                and digest_of(runner.optimizer.state_dict()['state']))


def flat(runner):
    from torch.distributed.checkpoint import state_dict as torchs
    options = torchs.StateDictOptions(full_state_dict=True)
    weights, state = torchs.get_state_dict(
        runner.model, runner.optimizer, options=options)
    names = [name for name, _ in ToyModel().named_parameters()]
    return dict(
        iter=runner.iter,
        lr=state['param_groups'][0]['lr'],
        steps=[float(one.get('step', 0)) for one in state['state'].values()],
        model=digest_of(dict(weights)),
        optimizer=digest_of({
            number: dict(state['state'][name])
            for number, name in enumerate(names)
        }))


def trained(work_dir, steps, **options):
    model = wrapped(ToyModel())
    runner = make_runner(
        work_dir,
        runner=dict(AMP, max_iters=steps),
        model=model,
        hooks=[dict(type='DurableCheckpointHook', **options)])
    runner.run([make_loader(seed_of_data=dist.get_rank())], [('train', 1)])
    return dict(
        iter=runner.iter,
        restored=runner.restored and runner.restored.name,
        model=digest_of({
            name: value
            for name, value in model.state_dict().items()
            if 'running' not in name  # every rank has its own
        }),
        optimizer=digest_of(runner.optimizer.state_dict()['state']))


def refused(source, work_dir):
    runner = make_runner(
        work_dir, runner=AMP, model=wrapped(ToyModel()), seed=1)
    before = digest_of(dict(runner.model.state_dict()))
    try:
        runner.resume(source)
    except CheckpointError as error:
        return dict(
            error=type(error).__name__,
            text=str(error),
            same=before == digest_of(dict(runner.model.state_dict())))
    return dict(error='')


def main(source, work_dir, scene):
    dist.init_process_group('gloo')
    iter_based_runner.time.sleep = lambda seconds: None
    if scene == 'away' and dist.get_rank() == 1:
        source = os.path.join('/not', 'mounted', os.path.basename(source))
    if scene == 'train':
        found = trained(work_dir, 8, interval=100, resume=source)
    elif scene.startswith('auto'):
        found = trained(
            work_dir, int(scene[-1]), interval=2, resume='auto', format='dcp')
    elif scene == 'zero':
        found = gathered_state(source, work_dir)
    elif scene in ('fsdp', 'columns') or scene.startswith('flat'):
        found = resumed(source, work_dir, scene)
    else:
        found = refused(source, work_dir)
    gathered = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, found)
    if dist.get_rank() == 0:
        print('RESULT ' + json.dumps(gathered))
    leave()


if __name__ == '__main__':
    torch.set_num_threads(1)
    torch.manual_seed(0)
    main(*sys.argv[1:])
