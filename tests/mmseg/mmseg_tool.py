"""mmsegmentation's own ``tools/train.py``, unmodified, as a subprocess."""
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mmcv_ckpt_hooks

HERE = Path(__file__).parent
BASE_CONFIG = HERE / 'tiny_unet.py'
TIMEOUT_SECS = 180
_TAIL_LINES = 60


def find_tool(name='train.py'):
    """Return a tool of the installed mmsegmentation; None without one."""
    found = importlib.util.find_spec('mmseg')
    if found is None or found.origin is None:
        return None  # the latter: no package, only this folder
    return Path(found.origin).parent / '.mim' / 'tools' / name


class Tool:
    """Starts training runs below one directory, which holds the tiles.

    Args:
        root (Path): A run ``name`` has its work dir in ``root/name`` unless
            told otherwise, and beside it ``name.py`` (its config),
            ``name.out`` (what it printed) and ``name.json`` (the probe's).
    """

    def __init__(self, root):
        self.root = root
        self._started = []

    def start(self,
              name,
              config,
              *arguments,
              work_dir=None,
              base=BASE_CONFIG,
              through=(),
              **environment):
        """Start a run.

        Args:
            name (str): Of the run.
            config (str): What follows after ``_base_ = [...]``.
            *arguments: Further ones of the tool.
            work_dir (Path, optional): Default: None, which means an own one.
            base (Path): The config to inherit from.
            through (list): Arguments of python that start the tool, on
                several ranks; empty for the tool itself. Default: ().
            **environment: Further environment variables.

        Returns:
            Run: Under way.
        """
        path = self.root / f'{name}.py'
        path.write_text(f'_base_ = [{str(base)!r}]\n{config}')
        work_dir = work_dir or self.root / name
        before = set(work_dir.glob('*.log.json'))
        command = [
            sys.executable, *(through or [find_tool()]), path, '--work-dir',
            work_dir, '--seed', '0', *arguments
        ]
        output = self.root / f'{name}.out'
        report = self.root / f'{name}.json'
        with open(output, 'wb') as out:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.root,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment(PROBE_REPORT=report, **environment),
                # the workers of its data loaders end with it
                start_new_session=True)
        run = Run(name, process, work_dir, output, report, before)
        run.ranks_are_elsewhere = bool(through)
        self._started.append(run)
        return run

    def run(self, name, config, *arguments, **options):
        """Run to the end."""
        return self.start(name, config, *arguments, **options).succeed()

    def close(self):
        """End what still runs."""
        for run in self._started:
            run.kill()

    def _environment(self, **extra):
        source = Path(mmcv_ckpt_hooks.__file__).parent.parent
        paths = [str(source), str(HERE / 'stubs')]
        return {
            **os.environ,
            'PYTHONPATH': os.pathsep.join(paths),
            'CUDA_VISIBLE_DEVICES': '',
            # the tests run two at a time on two cores
            'OMP_NUM_THREADS': '1',
            **{
                key: str(value)
                for key, value in extra.items()
            },
        }


class Run:
    """One run of the tool; see :class:`Tool`."""

    #: whether a launcher has given its ranks sessions of their own
    ranks_are_elsewhere = False

    def __init__(self, name, process, work_dir, output, report, before):
        self.name = name
        self.work_dir = work_dir
        self._process = process
        self._output = output
        self._report = report
        self._before = before
        self._ended = False

    # -- while it runs -----------------------------------------------------

    def succeed(self):
        """Wait for the end, which must be a good one."""
        return self._expect_status(0, 'to end well')

    def fail(self):
        """Wait for the end, which must be an error of the tool."""
        return self._expect_status(1, 'to fail')

    def die(self):
        """Wait until it kills itself."""
        return self._expect_status(-signal.SIGKILL, 'to be killed')

    def kill_when(self, condition, what):
        """Kill the process with SIGKILL as soon as a condition holds."""
        deadline = time.monotonic() + TIMEOUT_SECS
        while not condition():
            if self._process.poll() is not None:
                raise AssertionError(
                    self._complaint(f'it ended before {what}'))
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(self._complaint(f'never: {what}'))
            time.sleep(0.005)
        os.kill(self._process.pid, signal.SIGKILL)
        return self.die()

    def kill(self):
        """Kill what is left of it and of its workers, once."""
        if self._ended:
            return
        self._ended = True
        if self.ranks_are_elsewhere and self._process.poll() is None:
            self._process.terminate()  # it ends them
            self._process.wait(TIMEOUT_SECS)
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def _expect_status(self, status, what):
        try:
            self._process.wait(TIMEOUT_SECS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                self._complaint(
                    f'still running after {TIMEOUT_SECS} s')) from None
        if self._process.returncode != status:
            raise AssertionError(
                self._complaint(
                    f'expected {what}, got status {self._process.returncode}'))
        self.kill()
        return self

    def _complaint(self, what):
        tail = '\n'.join(self.text.splitlines()[-_TAIL_LINES:])
        return f'run {self.name}: {what}; the end of its output:\n{tail}'

    # -- what it left ------------------------------------------------------

    @property
    def text(self):
        """All that it printed."""
        return self._output.read_text(errors='replace')

    def lines(self, part):
        """Return the lines of its output that contain a text."""
        return [line for line in self.text.splitlines() if part in line]

    @property
    def saved(self):
        """Names in its 'Saved checkpoint' lines, in order."""
        mark = 'Saved checkpoint '
        return [
            line.split(mark)[1].split(':')[0].split()[0]
            for line in self.lines(mark)
        ]

    @property
    def probe(self):
        """What ``stubs/train_probe.py`` counted."""
        return json.loads(self._report.read_text())

    @property
    def catalog(self):
        return read_catalog(self.work_dir)

    def checkpoints(self):
        """Paths of what ends in .pth, but for the link to the newest."""
        return sorted(
            path for path in self.work_dir.glob('*.pth')
            if path.name != 'latest.pth')

    def names(self):
        return {path.name for path in self.checkpoints()}

    def records(self):
        """mmcv's JSON log of this run: one dict a line, the first left out."""
        new = set(self.work_dir.glob('*.log.json')) - self._before
        assert len(new) == 1, self._complaint(f'JSON logs: {new}')
        records = [json.loads(line) for line in new.pop().open()]
        return [record for record in records if 'mode' in record]

    def training(self):
        """Iterations that it trained, each to its line of the JSON log."""
        lines = [line for line in self.records() if line['mode'] == 'train']
        return {line['iter']: line for line in lines}

    def scores(self):
        """Iterations after which it evaluated, each to its mIoU."""
        scores, finished = {}, 0
        for line in self.records():
            if line['mode'] == 'train':
                finished = line['iter']
            else:  # its 'iter' counts images
                scores[finished] = line['mIoU']
        return scores

    def copy(self, name):
        """Copy its work dir, as it is now, beside it."""
        target = self.work_dir.parent / name
        shutil.copytree(self.work_dir, target, symlinks=True)
        return target


def read_catalog(work_dir):
    """Return ``checkpoints.json``, its list turned into a dict by name."""
    content = json.loads((work_dir / 'checkpoints.json').read_text())
    content['checkpoints'] = {
        info['name']: info
        for info in content['checkpoints']
    }
    return content


def committed(work_dir):
    """Return the step of the newest regular checkpoint in the catalog."""
    if not (work_dir / 'checkpoints.json').exists():
        return 0
    infos = read_catalog(work_dir)['checkpoints'].values()
    return max((info['iter'] for info in infos if info['regular']), default=0)


def on_disk(work_dir):
    """Return the steps of the regular checkpoints, oldest first.

    A killed run's catalog may lack the newest and list a deleted one.
    """
    return sorted(int(path.stem[5:]) for path in work_dir.glob('iter_*.pth'))
