"""Trainings in processes of their own that are killed."""
import json
import os
import signal
import subprocess
import sys

from mmcv.runner import Hook

HERE = os.path.dirname(os.path.abspath(__file__))


class Dies(Hook):
    """What no handler sees."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner):
        if runner.iter + 1 == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(worker, *arguments, **given):
    """Run a worker of this directory; the last argument is JSON of the rest.
    """
    done = subprocess.run(
        [sys.executable, f'{HERE}/{worker}', *arguments,
         json.dumps(given)],
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert done.returncode == -signal.SIGKILL, done.stdout.decode()


def tell_or_raise(number, frame, told=[]):
    """A handler of the user's, which leaves at the second interrupt."""
    if told:
        raise KeyboardInterrupt
    told.append(True)
    os.write(1, b'WAIT interrupted\n')
