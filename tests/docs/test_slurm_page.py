"""The script of docs/how-to/slurm-preemption.md, for which Slurm's part is
played: real processes, which get the signals that Slurm sends.
"""
import json
import os
import signal
import sys
from contextlib import suppress

import pytest
from doc_blocks import ROOT, blocks_of
from doc_stages import PROGRAMS
from slurm_part import Job
from toy import names

from mmcv_ckpt_hooks import verify_checkpoint

PAGE = 'docs/how-to/slurm-preemption.md'
STEPS = 8
TOOL = f'''
"""Trains a toy; waits in the third iteration where `hold` is there."""
import logging
import os
import sys

from mmcv import Config
from mmcv.runner import Hook
from toy import train


class Holds(Hook):

    def before_train_iter(self, runner):
        print('TRAINS', runner.iter + 1, flush=True)
        if runner.iter == 2 and os.path.exists('hold'):
            pipe = os.open('hold', os.O_RDWR)
            print('HELD', flush=True)
            os.read(pipe, 1)


def is_told(record):
    return record.levelno > logging.INFO or \\
        record.getMessage().startswith('Saved ')


told = logging.StreamHandler()
told.addFilter(is_told)
logging.getLogger('toy').addHandler(told)
train(
    sys.argv[3],
    runner=dict(type='IterBasedRunnerAmp', max_iters={STEPS}),
    checkpoint_config=dict(interval=2),
    hooks=[*Config.fromfile(sys.argv[1]).custom_hooks, Holds()])
'''


@pytest.fixture
def make_job(tmp_path):
    """The page's own script and config, with a toy for the tool."""
    made = []

    def make(signal_of_limit='USR1'):
        for block in blocks_of(PAGE):
            if block.file:
                path = tmp_path / block.file
                path.parent.mkdir(exist_ok=True)
                path.write_text(
                    block.text.replace('--signal=USR1',
                                       f'--signal={signal_of_limit}'))
        (tmp_path / 'configs' / 'unet.py').write_text('')
        (tmp_path / 'tools').mkdir()
        (tmp_path / 'tools' / 'train.py').write_text(TOOL)
        os.mkfifo(tmp_path / 'hold')
        paths = [str(PROGRAMS), os.environ['PATH']]
        modules = [str(ROOT), str(ROOT / 'tests')]
        job = Job(
            tmp_path / 'train.sh',
            dict(
                os.environ,
                PATH=os.pathsep.join(paths),
                PYTHON=sys.executable,
                PYTHONPATH=os.pathsep.join(modules),
                OMP_NUM_THREADS='1'))
        made.append(job)
        job.start()
        return job

    yield make
    for job in made:
        job.close()


class Held:
    """The training waits in its third iteration until it is let go."""

    def __init__(self, job):
        job.until(lambda: '\nHELD\n' in job.text)
        self._path = job.directory / 'hold'
        self._pipe = os.open(self._path, os.O_WRONLY)

    def go_on(self):
        # nobody reads it any more if the training was killed
        with suppress(BrokenPipeError):
            os.write(self._pipe, b'.')
        os.close(self._pipe)
        self._path.unlink()


def trained(job):
    return [
        int(line.split()[1]) for line in job.text.splitlines()
        if line.startswith('TRAINS')
    ]


def files(job):
    return names(job.directory / 'work_dirs' / 'unet')


def saved_at(job):
    history = job.directory / 'work_dirs' / 'unet' / 'checkpoints.log.jsonl'
    events = map(json.loads,
                 history.read_text().splitlines() if history.exists() else [])
    return [(event['iter'], event['trigger']) for event in events
            if event['event'] == 'save']


@pytest.mark.parametrize(
    'number, code',
    [
        # the time limit is near, by #SBATCH --signal
        (signal.SIGUSR1, 138),
        # preempted in a partition with a GraceTime: the step alone is told
        (signal.SIGTERM, 143),
    ])
def test_a_step_that_is_told_to_end_is_requeued_and_goes_on(
        make_job, number, code):
    job = make_job()
    held = Held(job)
    job.signal_step(number)
    held.go_on()
    assert job.end() == code, job.text
    assert job.asked == ['requeue 1']
    assert saved_at(job)[-1] == (3, 'signal')
    name = f'{signal.Signals(number).name}: '
    assert f'\n{name}saving after this iteration, then leaving\n' in job.text
    # the same script again
    job.start()
    assert job.end() == 0, job.text
    assert job.asked == ['requeue 1']
    # no iteration was lost, and none was made twice
    assert trained(job) == list(range(1, STEPS + 1))
    assert saved_at(job)[-1][0] == STEPS


def test_a_grace_that_is_too_short_costs_what_was_not_saved(make_job):
    job = make_job()
    Held(job)
    job.until(lambda: (2, 'interval') in saved_at(job))
    # at the end of the grace all are told, twice
    job.signal_step(signal.SIGTERM)
    job.signal_all(signal.SIGTERM)
    job.signal_step(signal.SIGKILL)
    assert job.end() == -signal.SIGTERM, job.text
    # Slurm requeues it by itself
    assert job.asked == []
    (job.directory / 'hold').unlink()
    job.start()
    assert job.end() == 0, job.text
    assert trained(job) == [1, 2, 3, 3, 4, 5, 6, 7, 8]
    for name in files(job):
        verify_checkpoint(job.directory / 'work_dirs' / 'unet' / name)


def test_a_job_that_is_cancelled_saves_and_is_not_requeued(make_job):
    job = make_job()
    held = Held(job)
    job.signal_all(signal.SIGTERM)
    held.go_on()
    assert job.end() == -signal.SIGTERM, job.text
    job.until_step_ends()
    assert job.asked == []
    assert saved_at(job)[-1] == (3, 'signal')


def test_a_signal_to_the_shell_alone_ends_the_job_unheard(make_job):
    job = make_job('B:USR1')
    held = Held(job)
    job.signal_shell(signal.SIGUSR1)
    assert job.end() == -signal.SIGUSR1, job.text
    assert 'saving' not in job.text and job.asked == []
    held.go_on()


def test_a_run_that_ends_or_fails_is_not_requeued(make_job):
    job = make_job()
    held = Held(job)
    job.signal_step(signal.SIGKILL)
    assert job.end() == 137
    assert job.asked == []
    held.go_on()
    job.start()
    assert job.end() == 0 and job.asked == []
