"""The benchmark's own arithmetic, and that it sees what it has to."""
import inspect
import os
import subprocess
import sys

import pytest
from mmcv.runner import BaseRunner, CheckpointHook, Hook
from toy import make_loader, make_runner

BENCHMARKS = os.path.join(os.path.dirname(__file__), '..', 'benchmarks')


@pytest.fixture
def timing(monkeypatch):
    monkeypatch.setattr(sys, 'path', [BENCHMARKS] + sys.path)
    import timing
    return timing


class Recorded:
    """What a run would have noted."""

    def __init__(self, begun, spans=()):
        self.begun = begun
        self.cpu = [0.] * len(begun)
        self.spans = list(spans)

    def steps(self):
        return [b - a for a, b in zip(self.begun, self.begun[1:])]


def test_plan_tells_steps_beside_a_save_from_ordinary_ones(timing):
    plan = timing.Plan(saves=2, busy=3, quiet=2)
    assert plan.interval == 5 and plan.iters == 14
    # the fifth iteration, of index 4, ends with the first save
    assert list(plan.beside(0)) == [4, 5, 6]
    assert list(plan.beside(1)) == [9, 10, 11]
    assert plan.ordinary() == [2, 3, 7, 8, 12, 13]


def test_costs_of_a_save(timing):
    plan = timing.Plan(saves=1, busy=2, quiet=2)
    # seven steps: the one of index 3 ends with a save, the next is slowed
    begun = [0., 10., 20., 30., 46., 58., 68., 78.]
    # every step has an event of 1, the save takes 5 more, the step after 0.5
    spans = [(at + 9, 1.) for at in begun[:3] + begun[5:7]]
    spans += [(39., 6.), (55., 1.5), (-3., 2.), (79., 3.)]
    found = timing.costs(plan, Recorded(begun), Recorded([], spans), [50.])
    assert found['step'] == 10 and found['event'] == 1
    assert found['start'] == 2 and found['end'] == 3
    assert found['blocked'] == [5.5]
    assert found['added'] == [8.] and found['wall'] == [8.]
    assert found['durable'] == [11.] and found['late'] == 0


def test_a_save_that_outlasts_its_steps_is_late(timing):
    plan = timing.Plan(saves=1, busy=2, quiet=2)
    begun = [float(10 * index) for index in range(8)]
    found = timing.costs(plan, Recorded(begun), Recorded([], [(39., 1.)]),
                         [51.])
    assert found['late'] == 1 and found['durable'] == [12.]


class Seen(Hook):
    """Which of what the optimizer calls before a step is timed."""

    def __init__(self):
        self.timed = []

    def after_train_iter(self, runner):
        self.timed.append([
            hasattr(call, 'is_timed')
            for call in runner.optimizer._optimizer_step_pre_hooks.values()
        ])


def test_events_of_our_hooks_and_of_the_optimizer_are_timed(timing, tmp_path):
    runner = make_runner(
        str(tmp_path),
        runner=dict(type='IterBasedRunner', max_iters=4),
        optimizer_config=dict(),
        hooks=[dict(type='DurableCheckpointHook', interval=2)])
    waits, stamps = timing.Waits('mmcv_ckpt_hooks', int), timing.Stamps(int)
    seen = Seen()
    runner.register_hook(seen)
    runner.register_hook(timing.Observer(waits, stamps), priority='LOWEST')
    waits.watch_start(runner)
    runner.run([make_loader()], [('train', 1)])
    ours = [
        hook for hook in runner.hooks
        if type(hook).__module__.startswith('mmcv_ckpt_hooks')
    ]
    assert len(ours) == 3  # the one that saves, and its companions
    assert all(hasattr(hook.after_train_iter, 'is_timed') for hook in ours)
    assert seen.timed == [[True]] * 4
    assert len(stamps.begun) == 1  # the end; a model notes the beginnings


def test_stock_is_watched_by_its_module(timing, tmp_path):
    runner = make_runner(str(tmp_path), checkpoint_config=dict(interval=2))
    waits = timing.Waits('mmcv.runner.hooks.checkpoint', lambda: None)
    waits.watch(runner)
    watched = [
        hook for hook in runner.hooks
        if hasattr(hook.after_train_iter, 'is_timed')
    ]
    assert [type(hook) for hook in watched] == [CheckpointHook]


def test_best_of_raw_writes_is_of_medians(monkeypatch):
    monkeypatch.setattr(sys, 'path', [BENCHMARKS] + sys.path)
    from floors import best_write
    turns = [
        dict(
            writes=[[1, 1, True, secs], [8, 2, False, 2.], [8, 2, True, None]])
        for secs in (1., 3., 4.)
    ]
    assert best_write(turns) == (2., 'buffered, 2 threads, 8 MiB blocks')


@pytest.mark.skipif(
    'custom_hooks_config'
    not in inspect.signature(BaseRunner.register_training_hooks).parameters,
    reason='the benchmarks hand custom_hooks_config to mmcv')
def test_the_command_line_is_timed_against_its_floors(tmp_path):
    program = os.path.join(BENCHMARKS, 'command_line.py')
    size = ['--checkpoints', '2', '--turns', '1', '--layers', '1']
    done = subprocess.run([sys.executable, program, *size, '--dir', tmp_path],
                          stdout=subprocess.PIPE,
                          universal_newlines=True,
                          check=True,
                          timeout=300)
    first, _, _, _, *rows = done.stdout.splitlines()
    assert first.startswith('2 checkpoints, 4 MB; the large one 13 MB; load ')
    assert [row.split(' | ')[0] for row in rows] == [
        '| python -c pass', '| read all zip directories', '| ls',
        '| ls, catalog lost', '| ls, of stock mmcv', '| prune --last 3',
        '| cat of all', '| verify --all', '| cat of the large one',
        '| verify of the large one'
    ]
    assert os.listdir(str(tmp_path)) == []
