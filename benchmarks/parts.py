"""The parts of a benchmark: which workers run, and in which order.

Each part adds to one dict of builtin values, which is also what ``--json``
writes and what report.py reads.
"""
import json
import math
import os
import shutil

import floors

#: What goes on beside the saves.
SETTINGS = dict(
    free=dict(cores=2, threads=1, batch=16),
    full=dict(cores=2, threads=2, batch=64),
    idle=dict(cores=2, threads=1, batch=16, idle_secs=0.1),
    gpu=dict(batch=64))


def durable(**write):
    """The spec of a run with our hook."""
    return dict(
        owner='mmcv_ckpt_hooks',
        hook=dict(
            type='DurableCheckpointHook',
            by_epoch=False,
            save_last=False,
            write=write))


#: How a run saves.
WAYS = dict(
    none=dict(owner='none'),
    stock=dict(
        owner='mmcv.runner.hooks.checkpoint',
        checkpoint_config=dict(by_epoch=False, save_last=False)),
    copy=durable(staging='copy'),
    overlap=durable(staging='overlap'),
    sync=durable(background=False))


def never():
    """Our hook in a run that saves nothing and needs no buffers."""
    way = durable(background=False)
    way['hook']['interval'] = 10**9
    return way


def add_floor(workers, result, short):
    """One more turn of raw writes."""
    turn = workers.run(
        'raw writes', kind='raw', bytes=result['bytes'], short=short)
    if turn:
        result['floor_turns'].append(turn)
        result['floor'], result['floor_way'] = floors.best_write(
            result['floor_turns'])


def train(workers, result, setting, way, saves, busy=1, quiet=3, **more):
    """One training run, added to the others of its setting and way."""
    name = more.pop('name', way)
    spec = {**SETTINGS[setting], **WAYS.get(way, {}), **more}
    found = workers.run(
        f'{setting}: {name}, {saves} saves in steps of {busy}+{quiet}',
        kind='train',
        saves=saves,
        busy=busy,
        quiet=quiet,
        **spec)
    runs = result['runs'].setdefault(setting, {}).setdefault(name, [])
    if found:
        runs.append(found)
    return found


def train_in_time(workers, result, setting, way, saves, busy, **more):
    """A run between whose saves there are ordinary steps.

    Where a save was not written before those began, it is done again with
    more steps.
    """
    quiet = max(2, busy // 3)
    found = train(workers, result, setting, way, saves, busy, quiet, **more)
    if found and found['late']:
        longest = max(secs for secs in found['durable'] if secs is not None)
        busy = math.ceil(1.5 * longest / found['step']) + 1
        result['runs'][setting][more.get('name', way)].remove(found)
        train(workers, result, setting, way, saves, busy, quiet, **more)


def ways_of(result):
    """Stock and ours, as far as this version has them."""
    return ['stock'] + result['versions']['stagings']


def add_saves(workers, result, setting, saves, ways, pinned=False, **more):
    """Runs of one setting: without saves first, then each way."""
    base = train(workers, result, setting, 'none', 1, pinned=pinned, **more)
    if base is None:
        return
    # the first floor is a guess of how long a save is written
    busy = max(3, math.ceil(3 * result['floor'] / base['step']))
    for way in ways:
        if way == 'never':
            train(workers, result, setting, way, 1, **never(), **more)
            continue
        profile = setting == 'gpu' and way != 'stock'
        train_in_time(
            workers,
            result,
            setting,
            way,
            saves,
            busy,
            profile=profile,
            **more)


def add_peers(workers, result, saves, names):
    """The same run, saved by others."""
    step = result['runs']['free']['none'][-1]['step']
    busy = max(3, math.ceil(6 * result['floor'] / step))
    for name in names:
        train_in_time(
            workers,
            result,
            'free',
            'none',
            saves,
            busy,
            name=name,
            peer=name,
            owner='peers')


def add_memory(workers, result, names):
    """Peaks, each in a process of its own."""
    for name in ['none'] + names:
        way = WAYS.get(name) or dict(WAYS['none'], peer=name, owner='peers')
        found = workers.run(
            f'memory: {name}',
            kind='train',
            saves=2,
            busy=4,
            quiet=2,
            returns_memory=True,
            **SETTINGS['free'],
            **way)
        if found:
            result['memory'].setdefault(name, []).append(found['peak'])


def add_flat_memory(workers, result, saves=50):
    """Many small saves in one run: memory after each."""
    for way in result['versions']['stagings'] + ['sync']:
        spec = json.loads(json.dumps(WAYS[way]))
        spec['hook']['max_keep_ckpts'] = 2
        spec['layers'] = 4
        found = workers.run(
            f'memory: {way}, {saves} small saves',
            kind='train',
            saves=saves,
            busy=3,
            quiet=1,
            returns_memory=True,
            **SETTINGS['free'],
            **spec)
        if found:
            result['flat'][way] = found['rss']


def add_resume(workers, result, turns):
    """Stock's file by stock, ours by ours; cached, and from the disk.

    And what it takes to read the file, whoever does it.
    """
    made, step = dict(stock='stock', ours='copy'), 2
    for who, way in made.items():
        workers.run(
            f'resume: a checkpoint of {who}',
            keep=who,
            kind='train',
            saves=1,
            busy=1,
            quiet=1,
            **SETTINGS['free'],
            **WAYS[way])
    ours = durable()
    ours['hook'].update(interval=10**9, resume='auto')
    ours.update(runner='IterBasedRunnerAmp')
    for turn in range(turns):
        for cache in ('cached', 'disk'):
            for who in (*made, 'read'):
                owner = 'ours' if who == 'read' else who
                path = os.path.join(workers.directory, owner,
                                    f'iter_{step}.pth')
                if not os.path.exists(path):
                    continue
                prepare_cache(path, cache == 'cached')
                found = workers.run(
                    f'resume: {who}, {cache}',
                    keep=owner,
                    kind='read' if who == 'read' else 'resume',
                    max_iters=step + 4,
                    **SETTINGS['free'],
                    **(ours if who == 'ours' else dict(path=path)))
                if found:
                    result['resume'].setdefault(cache, {}).setdefault(
                        who, []).append(found)
    for who in made:
        shutil.rmtree(os.path.join(workers.directory, who), ignore_errors=True)


def prepare_cache(path, cached):
    """Have a file in the page cache, or not."""
    with open(path, 'rb', buffering=0) as file:
        os.fsync(file.fileno())
        if cached:
            while file.read(8 << 20):
                pass
        elif hasattr(os, 'posix_fadvise'):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def add_function(workers, result, saves):
    result['function'] = workers.run(
        'save_checkpoint, stock and ours',
        kind='function',
        saves=saves,
        cores=2)
