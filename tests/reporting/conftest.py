"""What the tests of the report share: real runs, of which one was killed."""
import json
import os
import signal
import subprocess
import sys

import pytest
from dying import HERE, run_until_killed


def train(directory, returns=0, **given):
    """Train in a process of its own, whose clock is not UTC's."""
    worker = [sys.executable, f'{HERE}/report_worker.py', str(directory)]
    done = subprocess.run([*worker, json.dumps(given)],
                          env=dict(
                              os.environ,
                              OMP_NUM_THREADS='1',
                              TZ='Asia/Kolkata'),
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == returns, done.stdout.decode()


@pytest.fixture(scope='session')
def killed_run(tmp_path_factory):
    """Killed after 5 iterations, left on SIGTERM after 7, ended after 8.

    Saved every 2, the last 2 kept; to be read, not to be changed.
    """
    directory = tmp_path_factory.mktemp('killed') / 'nuclei'
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TZ', 'Asia/Kolkata')
        run_until_killed(
            'report_worker.py', str(directory), scores=[.5, .7], die_at=5)
    train(directory, 128 + signal.SIGTERM, scores=[.6], term_at=7)
    train(directory, scores=[.65])
    return directory


@pytest.fixture(scope='session')
def epoch_run(tmp_path_factory):
    """Of two epochs of four iterations, without an evaluation."""
    directory = tmp_path_factory.mktemp('epochs') / 'run'
    directory.mkdir()
    train(directory, epochs=2)
    return directory
