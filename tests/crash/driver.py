"""Starts training runs in forks of one process, and kills them."""
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from recording import HERE, build, environment

_STARTED_ELSEWHERE = os.path.dirname(HERE)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        killed (bool): By SIGKILL; else it came to its end.
        digest (str): Of model and optimizer at the end; '' if killed.
    """
    killed: bool
    digest: str


class Driver:
    """One process that has imported torch and mmcv; a fork of it a run.

    Args:
        errors (str): File for what the runs print.
    """

    def __init__(self, errors):
        self._errors_path = errors
        self._errors = open(errors, 'ab')
        self._process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, 'training.py')],
            env=dict(
                environment(build()),
                OMP_NUM_THREADS='1',
                PYTHONPATH=os.pathsep.join(
                    [HERE, _STARTED_ELSEWHERE, *filter(None, sys.path)])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            universal_newlines=True)
        assert self._process.stdout.readline() == 'ready\n', self._printed()

    def begin(self, directory, log, **request):
        """Start a run; :meth:`end` has its outcome.

        Args:
            directory (str): Work dir.
            log (str): For what is recorded.
            request (dict): ``run`` (arguments of ``training.train``), and
                ``at``, ``when``, ``torn_bytes`` (see ``Recorder.arm``) or
                ``after_secs``. ``watched``: the directory to record, if it is
                not the work dir. ``ranks``: how many, and ``rank``: which of
                them is killed.
        """
        line = json.dumps(
            dict(
                dict(watched=str(directory)),
                directory=str(directory),
                log=str(log),
                **request))
        self._process.stdin.write(line + '\n')
        self._process.stdin.flush()

    def end(self):
        """Wait for the run's end.

        Raises:
            AssertionError: If it ended in another way than by being killed
                or finishing.
        """
        answer = json.loads(self._process.stdout.readline())
        assert not answer['hung'], \
            f'ranks {answer["hung"]} hang: {self._printed()}'
        status = answer['status']
        killed = os.WIFSIGNALED(status) and \
            os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0, f'status {status}: {self._printed()}'
        return Outcome(killed, answer['digest'])

    def run(self, directory, log, **request):
        """Begin and end."""
        self.begin(directory, log, **request)
        return self.end()

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _printed(self):
        with open(self._errors_path, errors='replace') as file:
            return file.read()[-3000:]
