"""A training in a process of its own, which waits for a word to go on."""
import os
import subprocess
import sys
from contextlib import contextmanager

HERE = os.path.dirname(os.path.abspath(__file__))


class WaitingRun:
    """Started by a worker that prints ``TRAINING`` and then reads a line.

    Attributes:
        out (str): What it printed so far.
    """

    def __init__(self, worker, *arguments):
        self.process = subprocess.Popen(
            [sys.executable,
             os.path.join(HERE, worker), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, OMP_NUM_THREADS='1'),
            text=True)
        self.out = ''

    def wait(self, word='TRAINING'):
        """Wait for a line, by default until it trains; return the line."""
        for line in self.process.stdout:
            self.out += line
            if line.startswith(word):
                return line
        raise AssertionError(f'no {word}:\n{self.out}')

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """Let it go on to its end; return its exit code."""
        self.out += self.process.communicate('go on\n', timeout=180)[0]
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@contextmanager
def waiting_run(worker, *arguments):
    started = WaitingRun(worker, *arguments)
    try:
        yield started
    finally:
        started.close()
