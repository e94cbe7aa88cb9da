"""Slurm's part in a job: starts the batch shell, signals it and its step.

    python slurm_part.py train.sh

does what `sbatch` does, and waits for it: the job comes near its time limit
when it has saved for the first time, and is requeued if it asks for that.

Who gets which signal was seen on Slurm 22.05.8: the page of the how-to on it
has the table. ``slurm/`` has the programs that a script calls.
"""
import os
import re
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

PROGRAMS = Path(__file__).parent / 'slurm'
LIMIT_SECS = 120.
_PART_BYTES = 1 << 16


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
        self._output = None
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
        if self._output is not None:
            self._output.take()
        return self.output.read_text() if self.output.exists() else ''

    @property
    def asked(self):
        """What the script told scontrol, one line each."""
        return self._asked.read_text().splitlines() \
            if self._asked.exists() else []

    def start(self):
        with suppress(FileNotFoundError):
            self._step.unlink()
        self._close_output()
        ours, theirs = os.pipe()
        self._output = Output(ours, self.output, self._mode)
        try:
            self._shell = subprocess.Popen(
                ['bash', str(self.script.absolute())],
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.STDOUT,
                start_new_session=True)
        finally:
            os.close(theirs)

    def until(self, holds):
        """Wait until something holds: each line of the job may bring it."""
        if not self._output.wait(holds):
            raise AssertionError(f'it never came:\n{self.text}')

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
        assert self._output.end(), self.text

    def close(self):
        """End what is left of it."""
        for find in (lambda: int(self._step.read_text()),
                     lambda: self._shell.pid):
            with suppress(OSError, ValueError, AttributeError):
                os.killpg(find(), signal.SIGKILL)
        if self._shell is not None:
            self._shell.wait()
        self._close_output()

    def _close_output(self):
        if self._output is not None:
            self._output.close()
            self._output = None


class Output:
    """What a job prints, copied from its pipe to its file.

    Args:
        pipe (int): To read from; at its end all that had it are gone.
        path (Path): Of the file.
        mode (str): In which that is opened.
    """

    def __init__(self, pipe, path, mode):
        os.set_blocking(pipe, False)
        self._pipe, self._file = pipe, open(path, mode)
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._copy)
        self._thread.start()

    def _copy(self):
        while not self._ended:
            select.select([self._pipe], [], [])
            self.take()

    def take(self):
        """Copy all that was printed by now."""
        with self._changed:
            with suppress(BlockingIOError):
                while not self._ended:
                    part = os.read(self._pipe, _PART_BYTES)
                    self._ended = not part
                    self._file.write(part)
            self._file.flush()
            self._changed.notify_all()

    def wait(self, holds):
        """Wait until something holds; return whether it does."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or holds(), LIMIT_SECS)
        return holds()

    def end(self):
        """Wait for the end; return whether it came."""
        self._thread.join(LIMIT_SECS)
        return self._ended

    def close(self):
        self._thread.join()
        os.close(self._pipe)
        self._file.close()


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
