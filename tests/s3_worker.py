"""A process that writes to an object store until it is killed.

    python s3_worker.py COMMAND JSON

COMMAND: train, train_mirrored, train_waiting, train_raising, train_hanging or
upload.
"""
import json
import signal
import sys
import threading

from dying import Dies, tell_or_raise
from exact import drawing_run
from lock_worker import Wait
from mmcv.runner import Hook
from toy import train as train_toy

from mmcv_ckpt_hooks import holding
from mmcv_ckpt_hooks.storage import open_backend
from mmcv_ckpt_hooks.storage.object_store import ObjectStoreBackend


def train(work_dir, die_at, **given):
    drawing_run(work_dir, hooks=[Dies(die_at)], **given)


def train_mirrored(**given):
    """As :func:`train`; no copy comes to its end."""
    inner = ObjectStoreBackend.put

    def put(backend, name, write):

        def stuck(stream):
            stream.write(b'a beginning')
            threading.Event().wait()

        is_large = name.endswith(('.pth', '.distcp'))
        return inner(backend, name, stuck if is_large else write)

    ObjectStoreBackend.put = put
    train(**given)


def train_waiting(work_dir, waits_at, beat_secs, hook):
    """Stay in an iteration until a line comes, renewing the lease."""
    holding.BEAT_SECS = beat_secs
    train_toy(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        hooks=[hook, Wait(waits_at)])


class Raises(Hook):

    def after_train_iter(self, runner):
        if runner.iter == 2:
            raise RuntimeError('damaged')


def train_raising(work_dir, hook):
    train_toy(
        work_dir,
        runner=dict(type='IterBasedRunner', max_iters=6),
        hooks=[hook, Raises()])


def train_hanging(work_dir, hook):
    """As :func:`train_waiting`, but in the save of a checkpoint."""
    inner = ObjectStoreBackend.put

    def put(backend, name, write):

        def hang(stream):
            stream.write(b'a beginning')
            print('TRAINING', flush=True)
            threading.Event().wait()

        return inner(backend, name, hang if name.endswith('.pth') else write)

    ObjectStoreBackend.put = put
    signal.signal(signal.SIGINT, tell_or_raise)
    train_toy(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        hooks=[hook])


def upload(url, options):
    block = bytes(8 << 20)

    def write(stream):
        for _ in range(8):
            stream.write(block)
        print('UPLOADING', flush=True)
        sys.stdin.readline()

    open_backend(url, storage_options=options).put('iter_9.pth', write)


if __name__ == '__main__':
    dict(
        train=train,
        train_mirrored=train_mirrored,
        train_waiting=train_waiting,
        train_raising=train_raising,
        train_hanging=train_hanging,
        upload=upload)[sys.argv[1]](**json.loads(sys.argv[2]))
