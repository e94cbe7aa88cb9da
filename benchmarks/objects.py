"""Saves to an object store and back, against plain clients of the same server.

The server is that of the tests, with its data in memory where there is room. A
plain client moves the bytes of one array, back into memory that was there
before and into new memory; ours writes as many bytes as a checkpoint, with all
its CRC-32, and back into new tensors that were verified.
"""
import contextlib
import math
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from parts import SETTINGS, durable

HERE = os.path.dirname(os.path.abspath(__file__))
#: Where the server has its data if they fit there.
_MEMORY = '/dev/shm'
#: Clients and sizes of their parts (bytes).
PLAIN = (('obstore', 8 << 20), ('obstore', 16 << 20), ('boto3', 8 << 20),
         ('s3fs', 8 << 20))
_ROUNDS = 3
#: Layers of the model that is trained: 252 MB.
_LAYERS = 20


def add_objects(workers, result):
    """Rates of each client in turn, then what training waits."""
    from importlib import util
    found = result['objects'] = dict(rates={}, waits={}, rounds=_ROUNDS)
    with _server(result['bytes']) as server:
        for _ in range(_ROUNDS):
            for name, part_bytes in PLAIN:
                if not util.find_spec(name):
                    continue
                title = f'{name}, parts of {part_bytes >> 20} MiB'
                one = workers.run(
                    f'objects: {title}',
                    kind='plain',
                    client=name,
                    part_bytes=part_bytes,
                    bytes=result['bytes'],
                    options=server.options())
                if one:
                    found['rates'].setdefault(title, []).append(one)
            one = workers.run(
                'objects: ours', kind='objects', options=server.options())
            if one:
                found['rates'].setdefault('ours', []).append(one)
        _add_waits(workers, found, server)


def _add_waits(workers, found, server):
    """The same training, saved to the disk and to the server."""
    spec = dict(kind='train', layers=_LAYERS, saves=4, **SETTINGS['free'])
    base = workers.run(
        'objects: training without saves',
        owner='none',
        busy=1,
        quiet=3,
        **dict(spec, saves=1))
    if base is None:
        return
    for name, more in (('disk', {}), ('s3',
                                      dict(
                                          out_dir='s3://checkpoints/bench',
                                          max_keep_ckpts=2,
                                          storage_options=server.options()))):
        way = durable(staging='overlap')
        way['hook'].update(more)
        # so that every save ends beside the steps that are for it
        busy = math.ceil((8. if more else 2.) / base['step'])
        one = workers.run(
            f'objects: training saves to {name}, 4 saves in steps of '
            f'{busy}+3',
            busy=busy,
            quiet=3,
            **spec,
            **way)
        if one:
            found['waits'][name] = dict(
                blocked=one['blocked'], met=one['met'], durable=one['durable'])


@contextlib.contextmanager
def _server(nbytes):
    sys.path.insert(0, os.path.join(HERE, '..', 'tests'))
    from object_server import object_server
    place = None
    if os.path.isdir(_MEMORY):
        # what is replaced stays until the server cleans up
        needed = nbytes * (_ROUNDS + 1) * (len(PLAIN) + 1)
        if shutil.disk_usage(_MEMORY).free > needed and \
                _available_bytes() > needed + 6 * nbytes:
            place = _MEMORY
    with tempfile.TemporaryDirectory(dir=place) as directory, \
            object_server(directory) as server:
        yield server


def _available_bytes():
    from growth import available_bytes
    return available_bytes()


def plain(spec):
    """A plain client moves one array up and down."""
    import object_clients
    object_clients.PART_BYTES = spec['part_bytes']
    return object_clients.measure(spec['client'], spec['options'],
                                  spec['bytes'] >> 20 << 20)


def objects(spec):
    """Write the state as a checkpoint, from a staged copy, and read it."""
    import torch
    import workload
    from object_clients import peak_kib

    from mmcv_ckpt_hooks.copying import StagingBuffer
    from mmcv_ckpt_hooks.loading import load_mapped
    from mmcv_ckpt_hooks.serialization import write_checkpoint
    from mmcv_ckpt_hooks.staging import reference
    from mmcv_ckpt_hooks.storage import open_backend
    from mmcv_ckpt_hooks.verification import verify_file
    model, optimizer = workload.make_state(spec['layers'])
    tree = dict(
        meta={},
        state_dict=dict(model.state_dict()),
        optimizer=optimizer.state_dict())
    staged = StagingBuffer().copy(reference(tree))
    del model, optimizer, tree
    backend = open_backend(
        's3://checkpoints/ours', storage_options=spec['options'])
    backend.prepare()
    backend.put('first.pth', lambda stream: stream.write(bytes(1 << 20)))
    found = {}

    def up():
        return backend.put('a.pth',
                           lambda file: write_checkpoint(file, staged, {}))

    def down():
        with backend.open('a.pth') as file:
            return verify_file(file, 'a.pth')

    def load():
        with backend.open('a.pth') as file:
            return load_mapped(file, 'a.pth')

    for what, call in (('up', up), ('down', down), ('down_new', load)):
        Path('/proc/self/clear_refs').write_text('5')
        before, begun = peak_kib(), time.perf_counter()
        answer = call()
        secs = time.perf_counter() - begun
        found[f'{what}_mb_s'] = staged.nbytes / 1e6 / secs
        found[f'{what}_peak_mib'] = (peak_kib() - before) / 1024
    # the tensors themselves, as the array of a plain client
    found['down_new_peak_mib'] -= staged.nbytes / (1 << 20)
    loaded = reference(answer)
    for one, other in zip(loaded.storages, staged.storages):
        if not torch.equal(one.flatten(), other.flatten()):
            raise SystemExit('what was read is not what was written')
    return found
