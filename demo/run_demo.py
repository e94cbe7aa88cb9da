"""Train on a real image, kill the training half way, start it again.

    python demo/run_demo.py plain    # demo/train.py, plain mmcv
    python demo/run_demo.py mmseg    # mmsegmentation's own tools/train.py

The same command is run twice; the second run finds by itself where to go on.
Exits with 1 if the second run repeats work that was saved, or if the score at
the end is not that of a trained network.
"""
import argparse
import importlib.util
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POLL_SECS = 0.05
#: Longest that one training may take before the demo gives up.
LIMIT_SECS = 900
#: A network that learned nothing calls everything background: 0.40.
TRAINED_MIOU = 0.6
#: Log lines to show; the rest is in the file that the demo names.
SHOWN = re.compile(
    r'\d - \w+ - [A-Z]+ - .*(Iter ?\[|Iter\(val\)|DurableCheckpointHook'
    r'|[Cc]heckpoint |[Rr]esume|Best )|WARNING - |ERROR - '
    r'|^Traceback|^\w*Error')
NEXT_ITER = re.compile(r'Iter \[(\d+)/')


def plain_command():
    return [
        sys.executable, ROOT / 'demo' / 'train.py',
        ROOT / 'configs' / 'nuclei_fcn.py'
    ]


def mmseg_command():
    """mmsegmentation's tool as its wheel ships it, and tiles for it."""
    spec = importlib.util.find_spec('mmseg')
    if spec is None:
        sys.exit('mmsegmentation is not in this environment: `make '
                 'demo-mmseg` uses .venv')
    prepare = ROOT / 'demo' / 'prepare_tiles.py'
    subprocess.run([sys.executable, prepare, 'work_dirs/nuclei_tiles'],
                   cwd=ROOT,
                   check=True)
    tool = Path(spec.origin).parent / '.mim' / 'tools' / 'train.py'
    return [sys.executable, tool, ROOT / 'configs' / 'nuclei_fcn_mmseg.py']


class Training:
    """One training process; its output goes to a file, and in part here.

    Args:
        command (list): What to run.
        log (Path): Where all of its output goes.
    """

    def __init__(self, command, log):
        self.first_iter = None
        self._log = log
        variables = dict(os.environ, PYTHONUNBUFFERED='1')
        # Its own session, so that the data loader's workers go with it.
        self._process = subprocess.Popen([str(part) for part in command],
                                         cwd=ROOT,
                                         env=variables,
                                         stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT,
                                         start_new_session=True)
        self._reader = threading.Thread(target=self._show)
        self._reader.start()

    def _show(self):
        with open(self._log, 'ab') as log:
            for raw in self._process.stdout:
                log.write(raw)
                log.flush()
                line = raw.decode(errors='replace').rstrip().split('\r')[-1]
                self._note_first_iter(line)
                if SHOWN.search(line):
                    print('  | ' + short(line), flush=True)

    def _note_first_iter(self, line):
        match = NEXT_ITER.search(line)
        if match and self.first_iter is None:
            self.first_iter = int(match.group(1))

    def running(self):
        return self._process.poll() is None

    def kill(self):
        """SIGKILL to the process and its workers: nothing can clean up."""
        os.killpg(self._process.pid, signal.SIGKILL)
        return self.finish()

    def finish(self):
        """Wait for the end; the exit code, negative for a signal."""
        code = self._process.wait(timeout=LIMIT_SECS)
        self._reader.join()
        return code


def short(line):
    """A log line without what is the same in all, as wide as a terminal."""
    # once: a progress bar may come before, and the text may hold a time, too
    line = re.sub(r'^.*?(?=\d{4}-\d\d-\d\d \d\d:\d\d)', '', line, count=1)
    line = re.sub(r'^[\d-]+ ([\d:]+),\d+ - \w+ - (INFO - )?', r'\1 ', line)
    line = line.replace(f'{ROOT}/', '').replace('\t', ' ')
    return line if len(line) <= 110 else line[:107] + '...'


def newest_committed(work_dir):
    """Finished iterations of the newest checkpoint in the catalog, or 0."""
    try:
        catalog = json.loads((work_dir / 'checkpoints.json').read_text())
    except OSError:
        return 0
    return max((entry['iter'] for entry in catalog['checkpoints']), default=0)


def run_until_killed(command, work_dir, half, log):
    """Run the training and kill it once ``half`` iterations are on disk."""
    training = Training(command, log)
    began = time.monotonic()
    try:
        while newest_committed(work_dir) < half:
            if not training.running():
                sys.exit('the training ended before it could be killed with '
                         f'exit code {training.finish()}; see {log}')
            if time.monotonic() - began > LIMIT_SECS:
                sys.exit(f'nothing was saved in {LIMIT_SECS} s; see {log}')
            time.sleep(POLL_SECS)
    finally:
        if training.running():
            training.kill()
    return newest_committed(work_dir)


def run_to_the_end(command, saved, log):
    """Run the training again; it must go on after iteration ``saved``."""
    training = Training(command, log)
    try:
        code = training.finish()
    finally:
        if training.running():
            training.kill()
    if code != 0:
        sys.exit(f'the training failed with exit code {code}; see {log}')
    if training.first_iter is None or training.first_iter <= saved:
        sys.exit(f'the second run began again at or before iteration {saved} '
                 f'although that was saved; see {log}')


def scores(work_dir):
    """Scores of all validations, oldest first, from the logs of both runs.

    Returns:
        list[float]: The mIoU of each.
    """
    found = []
    for path in sorted(work_dir.glob('*.log.json')):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry.get('mode') == 'val' and 'mIoU' in entry:
                found.append(entry['mIoU'])
    return found


def list_checkpoints(work_dir):
    command = Path(sys.executable).parent / 'mmcv-ckpt'
    shown = work_dir.relative_to(ROOT)
    print(f'\n$ mmcv-ckpt ls {shown}', flush=True)
    # mmcv 1.x warns at import that 2.x exists.
    quiet = dict(os.environ, PYTHONWARNINGS='ignore')
    subprocess.run([str(command), 'ls', str(shown)],
                   cwd=ROOT,
                   env=quiet,
                   check=True)


def say(began, text):
    print(f'\n[{time.monotonic() - began:4.0f} s] {text}', flush=True)


def demo(command, work_dir):
    began = time.monotonic()
    max_iters = runpy.run_path(str(command[-1]))['runner']['max_iters']
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    command = command + ['--work-dir', work_dir, '--seed', '0']
    log = work_dir / 'demo.log'
    half = max_iters // 2
    say(
        began, f'training for {max_iters} iterations; SIGKILL once iteration '
        f'{half} is saved (all output: {log.relative_to(ROOT)})')
    saved = run_until_killed(command, work_dir, half, log)
    say(
        began, f'killed; iteration {saved} is the newest on disk. The same '
        'command again:')
    run_to_the_end(command, saved, log)
    say(began, 'finished')
    list_checkpoints(work_dir)
    found = scores(work_dir)
    print(
        f'\nvalidation mIoU at the end {found[-1]:.4f}, best '
        f'{max(found):.4f}; resumed after iteration {saved}; '
        f'{time.monotonic() - began:.0f} s in all',
        flush=True)
    if found[-1] < TRAINED_MIOU:
        sys.exit(f'that is below {TRAINED_MIOU}: the network did not learn')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('tool', choices=['plain', 'mmseg'])
    if parser.parse_args().tool == 'plain':
        demo(plain_command(), ROOT / 'work_dirs' / 'nuclei_fcn')
    else:
        demo(mmseg_command(), ROOT / 'work_dirs' / 'nuclei_fcn_mmseg')


if __name__ == '__main__':
    main()
