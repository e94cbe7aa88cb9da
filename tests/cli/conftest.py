"""What the tests of the command line share."""
import os
import shutil

import pytest
from toy import make_loader, train


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
