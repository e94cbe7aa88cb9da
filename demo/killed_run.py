"""Make the run of docs/report.md: 400 iterations in five starts.

    python demo/killed_run.py work_dirs/nuclei

Two starts end by SIGKILL, one is left on SIGTERM, one ends by an error inside
of an iteration, and the last one finishes. Exits with 1 if one ends otherwise.
"""
import argparse
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Behind which logged iteration a start gets which signal; the exit code.
STARTS = [
    (95, signal.SIGKILL, -signal.SIGKILL),
    (115, signal.SIGKILL, -signal.SIGKILL),
    (205, signal.SIGTERM, 128 + signal.SIGTERM),
    (None, None, 1),
    (None, None, 0),
]
#: The iteration that fails in the start which no signal ends.
FAILS_AT = 297
LOGGED = re.compile(r'Iter \[(\d+)/')


def run(work_dir, at, number, code):
    """Run one start, until it has ended as it is to end."""
    failing = ['--cfg-options', f'custom_hooks.1.at={FAILS_AT}'] \
        if code == 1 else []
    command = [
        sys.executable, HERE / 'train.py', HERE / 'killed_run_config.py',
        '--work-dir', work_dir, *failing
    ]
    # its own session, so that the data loader's workers go with it
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        universal_newlines=True)
    said = []
    for line in process.stdout:
        said.append(line)
        found = LOGGED.search(line)
        if at is not None and found and int(found.group(1)) >= at:
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            at = None
    if process.wait() != code:
        sys.exit(f'{"".join(said)}\nthis start ended with exit code '
                 f'{process.returncode}, expected {code}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('work_dir', type=Path, help='a new directory')
    work_dir = parser.parse_args().work_dir
    work_dir.mkdir(parents=True)
    for number, start in enumerate(STARTS, 1):
        run(work_dir, *start)
        print(
            f'start {number} of {len(STARTS)} has ended as it was to end',
            flush=True)


if __name__ == '__main__':
    main()
