"""How saves scale with the ranks: one file, a folder of all, plain DCP.

Every rank is a process that trains the same model under DDP over gloo; a step
is mostly a sleep, as beside a GPU: else four ranks on two cores would measure
the cores.

    python ranks.py SPEC RESULT   (one rank; started by the worker)
"""
import json
import os
import shutil
import subprocess
import sys
import time

from parts import SETTINGS, durable

HERE = os.path.dirname(os.path.abspath(__file__))
WORLDS = (1, 2, 4)
#: Layers of the model: 252 MB.
LAYERS = 20
#: How a run saves, and what the table calls it.
WAYS = {
    'pth': "ours, format='pth'",
    'dcp': "ours, format='dcp'",
    'dcp.save': 'torch.distributed.checkpoint save',
}
_SAVES = 4
#: Ordinary steps after those beside a save.
_QUIET = 3
#: So long a save may take to be written (seconds).
_BUSY_SECS = 2.5


def add_ranks(workers, result):
    """Each way with each number of ranks, one after the other."""
    found = result['ranks'] = dict(layers=LAYERS, saves=_SAVES, runs={})
    for world_size in WORLDS:
        for way in WAYS:
            spec = dict(
                SETTINGS['idle'],
                kind='ranks',
                layers=LAYERS,
                world_size=world_size,
                way=way)
            title = f'ranks: {world_size}, {WAYS[way]}'
            one = workers.run(title, keep='ranks', **spec)
            if one:
                found['runs'].setdefault(way, {})[str(world_size)] = one
            if one and way != 'dcp.save':
                again = workers.run(
                    f'{title}, resumed', keep='ranks', resumes=True, **spec)
                for rank, resumed in zip(one, again or []):
                    rank['opened'] = resumed['opened']
            shutil.rmtree(
                os.path.join(workers.directory, 'ranks'), ignore_errors=True)


def ranks(spec):
    """Start the ranks; return what each has found, by rank."""
    sys.path.insert(0, os.path.join(HERE, '..', 'tests'))
    from launching import free_ports
    port, = free_ports(1)
    os.makedirs(spec['work_dir'], exist_ok=True)
    answers, processes = [], []
    for rank in range(spec['world_size']):
        answers.append(os.path.join(spec['work_dir'], f'answer_{rank}.json'))
        command = [sys.executable, '-W', 'ignore', __file__]
        environ = dict(
            os.environ,
            RANK=str(rank),
            WORLD_SIZE=str(spec['world_size']),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
            OMP_NUM_THREADS='1')
        processes.append(
            subprocess.Popen(
                command + [json.dumps(spec), answers[-1]], env=environ))
    if any([one.wait() for one in processes]):
        raise SystemExit('a rank failed')
    found = []
    for answer in answers:
        with open(answer) as file:
            found.append(json.load(file))
    return found


def rank_of(spec):
    """Train on one rank with saves; what they cost it."""
    import torch
    import workload
    from mmcv.parallel import MMDistributedDataParallel
    from timing import Commits, Observer, Plan, Stamps, Waits, costs
    from torch import distributed as dist
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    stamps = Stamps(lambda: None, _written_bytes)
    model, optimizer = workload.make_state(
        spec['layers'], idle_secs=spec['idle_secs'], on_step=stamps.add)
    # those that a step passes over would be reduced all the same
    for layer in model.layers[1:]:
        layer.requires_grad_(False)
    plan = Plan(_SAVES, round(_BUSY_SECS / spec['idle_secs']), _QUIET)
    resumes = spec.get('resumes', False)
    runner = workload.make_runner(
        _config(spec, plan.interval), MMDistributedDataParallel(model),
        optimizer, plan.iters + 4 * resumes)
    owner, peer = 'mmcv_ckpt_hooks', None
    if spec['way'] == 'dcp.save':
        owner, peer = __name__, _PlainSave(spec['work_dir'], plan.interval)
        runner.register_hook(peer)
    waits = Waits(owner, lambda: None)
    runner.register_hook(Observer(waits, stamps), priority='LOWEST')
    commits = Commits()
    runner.logger.addHandler(commits)
    waits.watch_start(runner)
    begun = time.perf_counter()
    runner.run([workload.make_loader(spec['batch'])], [('train', 1)])
    if resumes:
        return _end(dict(opened=stamps.begun[0] - begun))
    done = peer.at if peer else commits.at
    found = costs(plan, stamps, waits, done[:_SAVES])
    found['written'] = [
        stamps.values[plan.beside(save)[-1] + 1] -
        stamps.values[plan.beside(save)[0]] for save in range(_SAVES)
    ]
    return _end(found)


def _end(found):
    from torch import distributed as dist
    dist.barrier()
    dist.destroy_process_group()
    return found


def _config(spec, interval):
    if spec['way'] == 'dcp.save':
        return spec
    way = durable()
    way['hook'].update(interval=interval, format=spec['way'], resume='auto')
    return dict(spec, runner='IterBasedRunnerAmp', **way)


def _PlainSave(work_dir, interval):
    """A hook that has all ranks call ``torch.distributed.checkpoint.save``.
    """
    from mmcv.runner import Hook
    from torch.distributed import checkpoint

    class PlainSave(Hook):
        at = []

        def after_train_iter(self, runner):
            if not self.every_n_iters(runner, interval):
                return
            state = dict(
                state_dict=runner.model.module.state_dict(),
                optimizer=runner.optimizer.state_dict(),
                meta=dict(iter=runner.iter + 1))
            checkpoint.save(
                state,
                checkpoint_id=os.path.join(work_dir,
                                           f'iter_{runner.iter + 1}'))
            self.at.append(time.perf_counter())

    return PlainSave()


def _written_bytes():
    """Bytes that this process has had written to a disk."""
    with open('/proc/self/io') as file:
        lines = dict(line.split(': ') for line in file)
    return int(lines['write_bytes'])


def show_ranks(result):
    from report import form, mean, median, table
    found = result['ranks']
    size = found['layers'] * 3 * 4 * (1024 * 1024 + 1024) / 1e6
    print(f'### Ranks on one machine, a state of {size:.0f} MB\n')
    rows = []
    for way, runs in found['runs'].items():
        for world_size, one in runs.items():
            rows.append([
                WAYS[way], world_size,
                form(max(mean(rank['blocked']) for rank in one) * 1e3, 1),
                form(median(one[0]['durable'])), ', '.join(
                    form(median(rank['written']) / 1e6, 0) for rank in one),
                form(max(rank['opened']
                         for rank in one), 2) if 'opened' in one[0] else '-'
            ])
    table([
        'what', 'ranks', 'blocked (ms), mean, of the slowest rank',
        'durable (s)', 'MB written by each rank',
        'resumed, until the first step begins (s)'
    ], rows)


if __name__ == '__main__':
    import warnings
    warnings.filterwarnings('ignore', message='On January 1, 2023, MMCV')
    with open(sys.argv[2], 'w') as output:
        json.dump(rank_of(json.loads(sys.argv[1])), output)
