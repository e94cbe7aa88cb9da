"""Processes for the measurements, one at a time."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))


class Workers:
    """Runs workers, one at a time, each in an empty directory.

    Args:
        directory (str): Where they write.
        common (dict): What all specs have.
        without_isal (bool): Whether they do as if it was not installed.
            Default: False.
    """

    def __init__(self, directory, common, without_isal=False):
        self.directory = tempfile.mkdtemp(prefix='bench-', dir=directory)
        self.failures = []
        self._common = common
        self._began = time.monotonic()
        self._server = None
        path = [os.path.dirname(HERE)]
        if os.environ.get('PYTHONPATH'):
            path.append(os.environ['PYTHONPATH'])
        self._environ = dict(os.environ, PYTHONPATH=os.pathsep.join(path))
        if without_isal:
            self._environ['BENCH_WITHOUT_ISAL'] = '1'

    def run(self, title, keep=None, **spec):
        """Run one worker.

        Args:
            title (str): Shown while it runs.
            keep (str): Name of the directory if it is to be kept.

        Returns:
            dict | None: What it found; None if it failed.
        """
        elapsed = time.monotonic() - self._began
        print(f'{elapsed:5.0f} s  {title}', file=sys.stderr, flush=True)
        work_dir = os.path.join(self.directory, keep or 'work')
        answer = os.path.join(self.directory, 'answer.json')
        spec = {**self._common, 'work_dir': work_dir, **spec}
        errors = os.path.join(self.directory, 'errors')
        failed = self._call(spec, answer, errors)
        if keep is None:
            shutil.rmtree(work_dir, ignore_errors=True)
        os.sync()  # what one has left to write is not for the next
        if failed:
            with open(errors, errors='replace') as file:
                said = file.read().strip().split('\n')[-1]
            self.failures.append(f'{title}: {said}')
            print(f'{"":9}failed: {said}', file=sys.stderr, flush=True)
            return None
        with open(answer) as file:
            return json.load(file)

    def _call(self, spec, answer, errors):
        """Run one spec; returns whether it failed."""
        if spec['device'] != 'cpu':  # CUDA does not survive a fork
            with open(errors, 'wb') as file:
                return subprocess.call(
                    self._command(json.dumps(spec), answer),
                    env=self._environ,
                    stdout=file,
                    stderr=file)
        if self._server is None:
            self._server = subprocess.Popen(
                self._command('--serve'),
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                universal_newlines=True)
        print(
            json.dumps([spec, answer, errors]),
            file=self._server.stdin,
            flush=True)
        said = self._server.stdout.readline()
        if not said:
            raise SystemExit('The process that makes the workers has ended: '
                             'does `import torch, mmcv.runner` work?')
        return int(said)

    def _command(self, *arguments):
        worker = os.path.join(HERE, 'worker.py')
        return [sys.executable, '-W', 'ignore', worker, *arguments]

    def close(self):
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()
        shutil.rmtree(self.directory)
