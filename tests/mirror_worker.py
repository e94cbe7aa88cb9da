"""A run that is ended by a signal while its mirror takes nothing.

    python mirror_worker.py WORK_DIR MIRROR SIGNAL

SIGNAL comes again when the run waits for the mirror.
"""
import os
import signal
import sys
import threading

from mmcv.runner import Hook
from toy import train

from mmcv_ckpt_hooks import mirror
from mmcv_ckpt_hooks.mirroring import MirrorPlace


class Signalled(Hook):

    def __init__(self, number):
        self.number = number

    def after_train_iter(self, runner):
        if runner.iter == 2:
            os.kill(os.getpid(), self.number)


def stuck(place, *args, **kwargs):
    threading.Event().wait()


def again(copies):
    print('WAITING', flush=True)
    os.kill(os.getpid(), NUMBER)


if __name__ == '__main__':
    work_dir, root, name = sys.argv[1:]
    NUMBER = getattr(signal, name)
    MirrorPlace.add = stuck
    mirror._SAID_FIRST_SECS = 0.
    mirror.Mirror._say_progress = again
    train(
        work_dir,
        hooks=[
            Signalled(NUMBER),
            dict(
                type='DurableCheckpointHook',
                interval=2,
                mirror=dict(url=root))
        ])
