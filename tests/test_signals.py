"""Real processes and real signals: nothing of a finished step is lost."""
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from toy import names, train

from mmcv_ckpt_hooks import verify_checkpoint

HERE = os.path.dirname(os.path.abspath(__file__))
ITERS = dict(type='IterBasedRunnerAmp', max_iters=8)
EPOCHS = dict(type='EpochBasedRunnerAmp', max_epochs=2)


class Run:
    """A training in a process of its own, in a group of its own."""

    def __init__(self, work_dir, place, runner=ITERS, **given):
        given = dict(given, place=place, runner=runner)
        worker = os.path.join(HERE, 'signal_worker.py')
        self.process = subprocess.Popen(
            [sys.executable, worker,
             str(work_dir),
             json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True)
        self.lines = []

    def until(self, word):
        """Read lines up to the one that begins with a word."""
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith(word):
                return
        raise AssertionError(f'no {word}:\n{self.text}')

    def send(self, number, group=False):
        """Send a signal while it waits."""
        self.until('WAIT')
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self

    def go_on(self):
        self.process.stdin.write('\n')
        self.process.stdin.flush()
        return self

    def end(self):
        """Return the exit code."""
        out, _ = self.process.communicate(timeout=120)
        self.lines.append(out)
        return self.process.returncode

    def dies(self):
        """As :meth:`end`; its stdin stays open, so what hangs hangs on."""
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.end()

    @property
    def text(self):
        return ''.join(self.lines)


def files(directory):
    return [name for name in names(directory) if name != 'latest.pth']


def saved(path):
    verify_checkpoint(str(path))
    return torch.load(str(path), map_location='cpu', weights_only=False)


def logged(text, mode='train'):
    """Numbers of the text log's iterations."""
    return [
        json.loads(line)['iter'] for line in text.splitlines()
        if line.startswith('{') and json.loads(line).get('mode') == mode
    ]


@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143),
                                          (signal.SIGINT, 130)])
@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_a_run_that_is_told_to_end_saves_the_running_iteration(
        tmp_path, number, code, kind):
    runner = dict(ITERS, type=kind)
    run = Run(tmp_path, 'training', runner).send(number).go_on()
    assert run.end() == code, run.text
    assert files(tmp_path) == ['iter_3.pth']
    assert saved(tmp_path / 'iter_3.pth')['meta']['iter'] == 3
    assert 'Traceback' not in run.text.partition('RAISED')[2].partition(
        'LEFT')[0]
    assert 'RAISED SystemExit' in run.text
    # handlers, the model and the optimizer are as before
    assert 'LEFT True 0 0' in run.text
    log, = tmp_path.glob('*.log.json')
    assert logged(log.read_text()) == [1, 2, 3]
    again = Run(tmp_path, 'none', runner, ours=dict(resume='auto'))
    assert again.end() == 0, again.text
    assert 'FINISHED 8' in again.text
    assert 'LEFT True 0 0' in again.text
    log = sorted(tmp_path.glob('*.log.json'))[-1]
    assert logged(log.read_text())[-5:] == [4, 5, 6, 7, 8]


@pytest.mark.parametrize('number, said', [
    (signal.SIGTERM, 'SIGTERM: saving after this iteration, then leaving\n'),
    (signal.SIGINT, 'SIGINT: saving after this iteration, then leaving; '
     'Ctrl-C again leaves at once\n'),
    (signal.SIGUSR1, 'SIGUSR1: saving after this iteration\n'),
])
def test_a_signal_is_answered_at_once_on_stderr(tmp_path, number, said):
    run = Run(tmp_path, 'training').send(number)
    # training still waits where it was
    run.until(said)
    run.go_on().end()
    assert run.text.count(said) == 1
    assert 'iter_3.pth' in run.text.partition(said)[2]


def test_a_signal_inside_a_step_waits_for_its_end(tmp_path):
    run = Run(tmp_path, 'step').send(signal.SIGTERM).go_on()
    assert run.end() == 143, run.text
    interrupted = saved(tmp_path / 'iter_2.pth')
    again = Run(tmp_path / 'other', 'step', dict(ITERS, max_iters=2))
    again.until('WAIT')
    assert again.go_on().end() == 0
    whole = saved(tmp_path / 'other' / 'iter_2.pth')
    for name, value in whole['state_dict'].items():
        assert torch.equal(value, interrupted['state_dict'][name])


def test_a_request_to_save_does_not_end_the_run(tmp_path):
    run = Run(tmp_path, 'training').send(signal.SIGUSR1).go_on()
    assert run.end() == 0, run.text
    assert 'Saved checkpoint iter_3.pth (signal): ' in run.text
    # off the grid: kept until the next one of the grid
    assert files(tmp_path) == ['iter_8.pth']
    assert 'FINISHED 8' in run.text


def test_a_step_of_the_grid_is_saved_once(tmp_path):
    run = Run(tmp_path, 'training', ours=dict(interval=3)).send(signal.SIGTERM)
    assert run.go_on().end() == 143, run.text
    assert files(tmp_path) == ['iter_3.pth']
    assert run.text.count('Saved checkpoint') == 1
    history = (tmp_path / 'checkpoints.log.jsonl').read_text()
    assert '"trigger": "interval"' in history


def test_a_second_interrupt_leaves_at_once(tmp_path):
    run = Run(tmp_path, 'training', waits=2).send(signal.SIGINT).go_on()
    run.send(signal.SIGINT)
    # nothing lets it go on but the signal
    assert run.end() == -signal.SIGINT, run.text
    assert 'RAISED KeyboardInterrupt 2' in run.text
    assert '\nSIGINT: leaving at once; no checkpoint of this run stands\n' \
        in run.text
    assert files(tmp_path) == []


@pytest.mark.parametrize('is_here', [True, False])
def test_a_second_interrupt_before_a_save_says_what_was_there(
        tmp_path, is_here):
    work_dir, hook = tmp_path / 'run', dict(type='DurableCheckpointHook')
    train(work_dir, runner=dict(ITERS, max_iters=2), hooks=[hook])
    given, told = 'auto', 'iter_2.pth, which was there at the start,'
    if not is_here:
        work_dir.rename(tmp_path / 'before')
        given = str(tmp_path / 'before' / 'iter_2.pth')
        told = 'what it was resumed from'
    run = Run(work_dir, 'training', waits=2, ours=dict(resume=given))
    run.send(signal.SIGINT).go_on().send(signal.SIGINT)
    assert run.end() == -signal.SIGINT, run.text
    assert f'\nSIGINT: leaving at once; {told} stands\n' in run.text


def test_a_second_interrupt_says_what_stands(tmp_path):
    run = Run(
        tmp_path,
        'training',
        waits=2,
        ours=dict(interval=1,
                  write=dict(background=False))).send(signal.SIGINT)
    run.go_on().send(signal.SIGINT)
    assert run.end() == -signal.SIGINT, run.text
    assert '\nSIGINT: leaving at once; iter_2.pth, the last one committed, ' \
        'stands\n' in run.text


BEST = dict(interval=2, by_epoch=False, save_best='mIoU')


@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_a_best_one_stands_where_it_is_the_only_one(tmp_path, kind):
    run = Run(
        tmp_path,
        'training',
        dict(ITERS, type=kind),
        waits=2,
        evaluation=BEST,
        ours=dict(interval=50)).send(signal.SIGINT)
    run.go_on().send(signal.SIGINT)
    assert run.end() == -signal.SIGINT, run.text
    assert '\nSIGINT: leaving at once; best_mIoU_iter_2.pth, the last one ' \
        'committed, stands\n' in run.text
    assert files(tmp_path) == ['best_mIoU_iter_2.pth']


def test_a_best_one_that_is_newer_than_the_regular_ones_stands(tmp_path):
    """``latest.pth`` leads to the regular one all the same."""
    run = Run(
        tmp_path,
        'behind the save',
        evaluation=dict(BEST, interval=8),
        ours=dict(interval=3, save_last=False)).send(signal.SIGTERM)
    assert run.go_on().end() == 143, run.text
    assert 'training ends after 8 iterations; best_mIoU_iter_8.pth, the ' \
        'last one committed, stands' in run.text
    assert 'goes on from {}/best_mIoU_iter_8.pth'.format(tmp_path) in run.text
    assert os.readlink(str(tmp_path / 'latest.pth')) == 'iter_6.pth'


def unfinished(directory):
    return [one.name for one in directory.iterdir() if '.tmp-' in one.name]


@pytest.mark.parametrize('background', [True, False])
@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_a_second_interrupt_does_not_wait_for_what_is_written(
        tmp_path, kind, background):
    run = Run(
        tmp_path,
        'training',
        dict(ITERS, type=kind),
        hangs=True,
        ours=dict(write=dict(background=background))).send(signal.SIGINT)
    # its save hangs until the process is gone
    run.go_on().send(signal.SIGINT)
    assert run.dies() == -signal.SIGINT, run.text
    assert 'RAISED KeyboardInterrupt' in run.text
    assert files(tmp_path) == []
    assert len(unfinished(tmp_path)) == int(background)
    again = Run(tmp_path, 'none', dict(ITERS, type=kind))
    assert again.end() == 0, again.text
    assert files(tmp_path) == ['iter_8.pth']
    assert unfinished(tmp_path) == []


@pytest.mark.parametrize('max_iters', [2, 3])
def test_a_second_interrupt_finds_an_older_save_under_way(tmp_path, max_iters):
    """The end of the run waits for it, or the next save."""
    run = Run(
        tmp_path,
        'none',
        dict(ITERS, max_iters=max_iters),
        hangs=True,
        tells_of_interrupts=True,
        ours=dict(interval=2))
    # the second when the first has been seen
    run.send(signal.SIGINT).send(signal.SIGINT)
    assert run.dies() == -signal.SIGINT, run.text
    assert files(tmp_path) == []


def test_a_second_interrupt_that_is_caught_lets_the_save_go_on(tmp_path):
    run = Run(tmp_path, 'training', hangs=True, goes_on=True)
    run.send(signal.SIGINT).go_on().send(signal.SIGINT).until('WAIT caught')
    assert files(tmp_path) == []
    assert run.go_on().end() == 0, run.text
    assert files(tmp_path) == ['iter_3.pth']


def test_a_second_sigterm_changes_nothing(tmp_path):
    run = Run(tmp_path, 'training', waits=2).send(signal.SIGTERM).go_on()
    run.send(signal.SIGTERM)
    assert run.go_on().end() == 143, run.text
    assert files(tmp_path) == ['iter_3.pth']


def test_a_handler_that_was_there_before_is_called_too(tmp_path):
    run = Run(tmp_path, 'training', own_handler=True).send(signal.SIGTERM)
    assert run.go_on().end() == 143, run.text
    assert run.text.count('CHAINED') == 1
    assert 'LEFT True 0 0' in run.text


def test_a_signal_that_is_switched_off_behaves_as_ever(tmp_path):
    run = Run(
        tmp_path,
        'training',
        ours=dict(triggers=dict(signals=dict(SIGTERM=None)))).send(
            signal.SIGTERM)
    assert run.end() == -signal.SIGTERM
    assert files(tmp_path) == []


@pytest.mark.parametrize('persistent', [False, True])
@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143),
                                          (signal.SIGINT, 130)])
def test_loader_workers_neither_save_nor_stop_the_iteration(
        tmp_path, number, code, persistent):
    """Ctrl-C, and some schedulers, signal workers as well."""
    loader = dict(num_workers=2, persistent_workers=persistent)
    run = Run(tmp_path, 'training', loader=loader).send(number, group=True)
    assert run.go_on().end() == code, run.text
    assert files(tmp_path) == ['iter_3.pth']
    assert run.text.count('LEFT') == 1


@pytest.mark.parametrize('kind', [
    'IterBasedRunnerAmp', 'IterBasedRunner', 'EpochBasedRunnerAmp',
    'EpochBasedRunner'
])
def test_workers_that_die_while_training_waits_for_data_cost_nothing(
        tmp_path, kind):
    runner = dict(EPOCHS if 'Epoch' in kind else ITERS, type=kind)
    run = Run(tmp_path, 'data', runner).send(signal.SIGTERM, group=True)
    assert run.end() == 143, run.text
    name, = files(tmp_path)
    assert name == ('epoch_0_iter_3.pth' if 'Epoch' in kind else 'iter_3.pth')
    assert saved(tmp_path / name)['meta']['iter'] == 3
    assert 'LEFT True 0 0' in run.text
    log, = tmp_path.glob('*.log.json')
    assert logged(log.read_text()) == [1, 2, 3]
    history = (tmp_path / 'checkpoints.log.jsonl').read_text()
    assert '"trigger": "signal"' in history


def test_workers_end_with_the_run(tmp_path):
    run = Run(
        tmp_path, 'training', loader=dict(num_workers=2)).send(signal.SIGTERM)
    assert run.go_on().end() == 143, run.text
    with pytest.raises(ProcessLookupError):
        os.killpg(run.process.pid, 0)


EVALUATION = dict(interval=2, by_epoch=False)


@pytest.mark.parametrize('interval, expected', [(2, 'interval'),
                                                (100, 'signal')])
@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_a_run_that_is_told_to_end_does_not_evaluate_to_the_end(
        tmp_path, kind, interval, expected):
    run = Run(
        tmp_path,
        'evaluation',
        dict(ITERS, type=kind),
        evaluation=EVALUATION,
        ours=dict(interval=interval)).send(signal.SIGTERM)
    assert run.go_on().end() == 143, run.text
    assert 'EVALUATED' not in run.text
    assert files(tmp_path) == ['iter_2.pth']
    assert run.text.count('Saved checkpoint') == 1
    assert saved(tmp_path / 'iter_2.pth')['meta']['iter'] == 2
    assert f'"trigger": "{expected}"' in (tmp_path /
                                          'checkpoints.log.jsonl').read_text()
    assert 'LEFT True 0 0' in run.text


def test_a_request_to_save_is_answered_during_an_evaluation(tmp_path):
    run = Run(
        tmp_path,
        'evaluation',
        dict(ITERS, max_iters=2),
        evaluation=EVALUATION,
        ours=dict(save_last=False)).send(signal.SIGUSR1)
    assert run.go_on().end() == 0, run.text
    before, _, after = run.text.partition('EVALUATED')
    assert 'Saved checkpoint iter_2.pth' in before
    assert 'Saved' not in after


def test_a_signal_in_the_validation_of_the_workflow(tmp_path):
    run = Run(
        tmp_path, 'val', workflow=[['train', 4], ['val',
                                                  2]]).send(signal.SIGTERM)
    assert run.go_on().end() == 143, run.text
    assert files(tmp_path) == ['iter_4.pth']
    assert saved(tmp_path / 'iter_4.pth')['meta']['iter'] == 4


@pytest.mark.parametrize('kind', ['EpochBasedRunnerAmp', 'EpochBasedRunner'])
@pytest.mark.parametrize('place, name', [
    ('training', 'epoch_0_iter_3.pth'),
    ('last of epoch', 'epoch_1_iter_4.pth'),
    ('sleep', 'epoch_1_iter_4.pth'),
])
def test_where_an_epoch_ends_the_names_and_counters_are_right(
        tmp_path, kind, place, name):
    runner = dict(EPOCHS, type=kind)
    run = Run(tmp_path, place, runner).send(signal.SIGTERM).go_on()
    assert run.end() == 143, run.text
    assert files(tmp_path) == [name]
    meta = saved(tmp_path / name)['meta']
    assert (meta['epoch'], meta['iter']) == (int(name[6]), int(name[13]))
    repeats = kind == 'EpochBasedRunner' and place == 'training'
    assert ('repeats the epoch' in run.text) == repeats
    again = Run(tmp_path, 'none', runner, ours=dict(resume='auto'))
    assert again.end() == 0, again.text
    assert 'FINISHED 8' in again.text


LAST = [('Iter', 'behind the save'), ('Iter', 'sleep'),
        ('Epoch', 'behind the save'), ('Epoch', 'behind the epoch'),
        ('Epoch', 'sleep')]


@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143),
                                          (signal.SIGINT, 130)])
@pytest.mark.parametrize('suffix', ['BasedRunnerAmp', 'BasedRunner'])
@pytest.mark.parametrize('unit, place', LAST)
def test_a_signal_behind_the_last_step_ends_the_process(
        tmp_path, unit, suffix, place, number, code):
    runner = dict(EPOCHS if unit == 'Epoch' else ITERS, type=unit + suffix)
    run = Run(tmp_path, place, runner, sleeps_at=8).send(number).go_on()
    assert run.end() == code, run.text
    name, = files(tmp_path)
    assert name == ('epoch_2.pth' if unit == 'Epoch' else 'iter_8.pth')
    assert run.text.count('Saved checkpoint') == 1
    assert f'training ends after 8 iterations; {name}' in run.text
    assert 'RAISED SystemExit' in run.text
    assert 'LEFT True 0 0' in run.text
    log, = tmp_path.glob('*.log.json')
    assert len(logged(log.read_text())) == 8


@pytest.mark.parametrize('number, code', [(signal.SIGTERM, 143),
                                          (signal.SIGUSR1, 0)])
def test_a_signal_behind_the_last_step_saves_what_the_grid_left(
        tmp_path, number, code):
    run = Run(
        tmp_path, 'sleep', sleeps_at=8,
        ours=dict(save_last=False)).send(number)
    assert run.go_on().end() == code, run.text
    assert files(tmp_path) == ['iter_8.pth']
    assert saved(tmp_path / 'iter_8.pth')['meta']['iter'] == 8


def test_an_epoch_of_the_grid_is_saved_once(tmp_path):
    run = Run(
        tmp_path, 'last of epoch', EPOCHS,
        ours=dict(interval=1)).send(signal.SIGTERM)
    assert run.go_on().end() == 143, run.text
    assert files(tmp_path) == ['epoch_1.pth']


def test_on_another_thread_nothing_is_installed(tmp_path):
    run = Run(tmp_path, 'thread')
    assert run.end() == 0, run.text
    assert run.text.count('Signals do not save') == 1
    assert 'LEFT True 0 0' in run.text


def test_a_stock_run_that_raised_leaves_no_deaf_process(tmp_path):
    program = f'''
import os, signal, sys
sys.path.insert(0, {HERE!r})
from mmcv.runner import Hook
from toy import train
class Fails(Hook):
    def before_train_iter(self, runner):
        if runner.iter == 2:
            raise ValueError('stop')
try:
    train({str(tmp_path)!r}, runner=dict(type='IterBasedRunner', max_iters=4),
          hooks=[dict(type='DurableCheckpointHook'), Fails()])
except ValueError:
    pass
print('SENDS', flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print('DEAF', flush=True)
'''
    done = subprocess.run([sys.executable, '-c', program],
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          text=True,
                          timeout=120)
    assert 'SENDS' in done.stdout, done.stdout
    assert 'DEAF' not in done.stdout
    assert done.returncode == -signal.SIGTERM
