"""Slurm's part in a job: starts the batch shell, signals it and its step.

    python slurm_part.py train.sh

does what `sbatch` does, and waits for it: the job comes near its time limit
when it has saved for the first time, and is requeued if it asks for that.

Who gets which signal was seen on Slurm 22.05.8: the page of the how-to on it
has the table. ``slurm/`` has the programs that a script calls.
"""
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = Path(__file__).parent / 'slurm'
LIMIT_SECS = 120.
_LOOK_SECS = .02


class Job:
    """One job, to be started, and started again when it is requeued.

    Args:
        script (Path): Of sbatch. It runs in its directory.
        environment (dict): Variables.
    """

    def __init__(self, script, environment):
        self.script = Path(script)
        self.directory = self.script.parent.absolute()
        part = self.directory / '.slurm'
        part.mkdir(exist_ok=True)
        self._step, self._asked = part / 'step', part / 'asked'
        self._shell = None
        path = os.pathsep.join([str(PROGRAMS), environment['PATH']])
        self._environment = dict(
            environment, PATH=path, SLURM_JOB_ID='1', SLURM_PART=str(part))
        given = dict(
            re.findall(r'^#SBATCH --([a-z-]+)=(.*)$', self.script.read_text(),
                       re.MULTILINE))
        name = given['output'].replace('%x', given['job-name'])
        self.output = self.directory / name.replace('%j', '1')
        self._mode = 'ab' if given.get('open-mode') == 'append' else 'wb'

    @property
    def text(self):
        """What was printed by all starts."""
        return self.output.read_text() if self.output.exists() else ''

    @property
    def asked(self):
        """What the script told scontrol, one line each."""
        return self._asked.read_text().splitlines() \
            if self._asked.exists() else []

    def start(self):
        with suppress(FileNotFoundError):
            self._step.unlink()
        with open(self.output, self._mode) as output:
            self._shell = subprocess.Popen(
                ['bash', str(self.script.absolute())],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True)

    def until(self, holds):
        """Wait until something holds, while the job runs."""
        deadline = time.monotonic() + LIMIT_SECS
        while not holds():
            if self._shell.poll() is not None:
                raise AssertionError(f'the job has ended:\n{self.text}')
            if time.monotonic() > deadline:
                raise AssertionError(f'it never came:\n{self.text}')
            time.sleep(_LOOK_SECS)

    def signal_step(self, number):
        """Signal what srun has started, and all that this has."""
        os.killpg(int(self._step.read_text()), number)

    def signal_shell(self, number):
        """Signal the batch shell alone (``--signal=B:``)."""
        os.kill(self._shell.pid, number)

    def signal_all(self, number):
        """Signal the step, the shell and its srun."""
        self.signal_step(number)
        os.killpg(self._shell.pid, number)

    def end(self):
        """Wait for its end; return the exit code, negative for a signal."""
        return self._shell.wait(LIMIT_SECS)

    def until_step_ends(self):
        """Wait for what is no child of ours, and may outlive the shell."""
        number = int(self._step.read_text())
        deadline = time.monotonic() + LIMIT_SECS
        while is_there(number):
            assert time.monotonic() < deadline, self.text
            time.sleep(_LOOK_SECS)

    def close(self):
        """End what is left of it."""
        for find in (lambda: int(self._step.read_text()),
                     lambda: self._shell.pid):
            with suppress(OSError, ValueError, AttributeError):
                os.killpg(find(), signal.SIGKILL)
        if self._shell is not None:
            self._shell.wait()


def is_there(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def main(script):
    job = Job(script, dict(os.environ))
    try:
        job.start()
        job.until(lambda: 'Saved checkpoint' in job.text)
        job.signal_step(signal.SIGUSR1)
        job.end()
        if job.asked:
            job.start()
            job.end()
    finally:
        job.close()
    print('Submitted batch job 1')


if __name__ == '__main__':
    main(sys.argv[1])
