"""Other runs that have a directory: real processes, and other machines."""
import multiprocessing
import os
import signal
import uuid
from contextlib import contextmanager
from dataclasses import replace

from mmcv_ckpt_hooks.lease import LockFile, decode, encode, this_run
from mmcv_ckpt_hooks.run_lock import RunLock

NAME = 'checkpoints.lock'
_fork = multiprocessing.get_context('fork')


def signed(directory):
    """The run that the lock file names."""
    return decode((directory / NAME).read_bytes())


def sign(directory, **fields):
    """Have the lock file name a run that is not on this machine."""
    run = replace(
        this_run(os.stat(directory).st_dev, True), **{
            'host': 'node7',
            'pid': 41,
            'boot': 'that of node7',
            'writer': f'41-{uuid.uuid4().hex[:8]}',
            **fields
        })
    (directory / NAME).write_bytes(encode(run))
    return run


def beat(directory):
    """Do what the run does that the lock file names."""
    file = LockFile(str(directory / NAME))
    file.write_beat(signed(directory).beat + 1)
    file.close()


class Process:
    """Another process that does as it is told.

    Args:
        directory (Path): Where it takes the lock.
    """

    def __init__(self, directory):
        self._ours, theirs = _fork.Pipe()
        self._process = _fork.Process(
            target=_obey, args=(directory, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.pid = self._process.pid

    def ask(self, order):
        """Return what came of an order; an error as its text."""
        self._ours.send(order)
        assert self._ours.poll(60), f'no answer to {order!r}'
        return self._ours.recv()

    def signal(self, number):
        os.kill(self.pid, number)

    def join(self):
        # a timeout would wait for its forked children, too
        self._process.join()

    def end(self):
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._ours.close()


def _obey(directory, pipe):
    lock = RunLock(str(directory), NAME, lambda line: None)
    orders = dict(
        acquire=lock.acquire,
        check=lock.check,
        release=lock.release,
        beat=lambda: lock._holding.beat(),
        fork=_fork_child)
    while True:
        order = pipe.recv()
        try:
            pipe.send(orders[order]())
        except Exception as error:  # told to who asked
            pipe.send(f'{type(error).__name__}: {error}')


def _fork_child():
    """A data loader worker: has all descriptors, and outlives the trainer."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    return pid


@contextmanager
def another(directory, *orders):
    """Another process, which has obeyed some orders already."""
    process = Process(directory)
    try:
        for order in orders:
            answer = process.ask(order)
            assert answer is None, answer
        yield process
    finally:
        process.end()
