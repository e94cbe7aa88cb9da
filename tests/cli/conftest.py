"""What the tests of the command line share."""
import contextlib
import os
import shutil
import threading

import pytest
from toy import make_loader, train

from mmcv_ckpt_hooks.catalog import CATALOG_NAME
from mmcv_ckpt_hooks.lease import lock_name
from mmcv_ckpt_hooks.run_lock import RunLock


@pytest.fixture(scope='session')
def finished_run(tmp_path_factory):
    """Directory of a finished run; to be copied, not to be changed."""
    directory = tmp_path_factory.mktemp('finished')
    train(
        directory,
        # one epoch: mmcv sleeps between two
        loader=make_loader(32),
        checkpoint_config=dict(interval=2),
        evaluation=dict(
            scores=[.5, .7, .6, .65],
            interval=2,
            by_epoch=False,
            save_best='mIoU'),
        hooks=[dict(type='DurableCheckpointHook')])
    return directory


@pytest.fixture
def run_dir(finished_run, tmp_path):
    """A copy of it: ``iter_2``, ``_4`` (the best), ``_6``, ``_8``."""
    directory = tmp_path / 'run'
    shutil.copytree(finished_run, directory, symlinks=True)
    best = directory / 'best_mIoU_iter_4.pth'
    best.unlink()
    os.link(directory / 'iter_4.pth', best)
    return directory


@contextlib.contextmanager
def live_run_in(directory):
    """Have a run write there meanwhile, on a thread of its own."""
    lock = RunLock(str(directory), lock_name(CATALOG_NAME), print)
    held, over = threading.Event(), threading.Event()

    def hold():
        lock._thread = threading.current_thread()
        lock.acquire()
        held.set()
        over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()
        lock.release()


@pytest.fixture
def live_run():
    """The function above."""
    return live_run_in
