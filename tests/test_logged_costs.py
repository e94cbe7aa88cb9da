"""What saves cost, as mmcv's own logger hooks write it down."""
import json
import os
import signal
import sys
import time
from types import SimpleNamespace

import mmcv
import pytest
from mmcv.runner import (Hook, TensorboardLoggerHook, TextLoggerHook,
                         WandbLoggerHook)
from toy import make_loader, make_runner, train

from mmcv_ckpt_hooks import commit
from mmcv_ckpt_hooks.pruning import Pruner
from mmcv_ckpt_hooks.version import version_tuple

COSTS = ('ckpt/blocked_ms', 'ckpt/durable_s', 'ckpt/bytes')


class Log(TextLoggerHook):
    """mmcv's own, where ``log_config`` would put it."""
    comes = 'VERY_LOW'


def trained(work_dir,
            by_epoch,
            log_every,
            workflow=(('train', 1), ),
            ignore_last=True,
            **kwargs):
    """Train; return the lines of mmcv's JSON log and the saves in ours."""
    kind = dict(type='EpochBasedRunnerAmp', max_epochs=2) if by_epoch else \
        dict(type='IterBasedRunnerAmp', max_iters=8)
    # the save of an iteration is over when the loggers come
    ours = dict(
        type='DurableCheckpointHook',
        by_epoch=False,
        write=dict(background=False),
        **kwargs.pop('ours', dict(interval=3)))
    runner = make_runner(
        work_dir,
        runner=kind,
        hooks=[
            ours,
            Log(interval=log_every, by_epoch=by_epoch, ignore_last=ignore_last)
        ],
        **kwargs)
    runner.run([make_loader() for _ in workflow], list(workflow))
    log, = work_dir.glob('*.log.json')
    lines = [json.loads(line) for line in log.open()]
    events = map(json.loads, (work_dir / 'checkpoints.log.jsonl').open())
    return [line for line in lines if 'mode' in line], \
        [event for event in events if event['event'] == 'save']


def costs_in(lines):
    """By iterations, the costs that lines tell of; val lines have none."""
    assert not any(key in line for line in lines if line['mode'] == 'val'
                   for key in COSTS)
    return {
        line['iter']: tuple(line[key] for key in COSTS)
        for line in lines if COSTS[0] in line
    }


def as_logged(save):
    """A save of the history as mmcv rounds it."""
    return (round(save['blocked_secs'] * 1e3,
                  5), round(save['durable_secs'], 5), save['bytes'])


def test_the_next_train_line_has_what_a_save_has_cost(tmp_path):
    lines, saves = trained(tmp_path, by_epoch=False, log_every=2)
    assert [line['iter'] for line in lines] == [2, 4, 6, 8]
    assert [save['iter'] for save in saves] == [3, 6, 8]
    # each once, whichever iteration it was in
    found = costs_in(lines)
    assert sorted(found) == [4, 8]
    assert found[4] == pytest.approx(as_logged(saves[0]))
    assert found[8] == pytest.approx(as_logged(saves[1]))


@pytest.mark.parametrize('background', [False, True])
def test_the_line_of_a_save_has_the_seconds_of_the_loggers(
        tmp_path, caplog, monkeypatch, background):
    """They end when the checkpoint is durable, not when others are gone."""
    real, late, prune = time.monotonic, [0.], Pruner.prune

    def slow(self, committed=None):
        late[0] += 1000.
        return prune(self, committed)

    monkeypatch.setattr(Pruner, 'prune', slow)
    monkeypatch.setattr(commit, 'time',
                        SimpleNamespace(monotonic=lambda: real() + late[0]))
    train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                write=dict(background=background))
        ])
    event, = [
        json.loads(line)
        for line in (tmp_path / 'checkpoints.log.jsonl').open()
        if '"save"' in line
    ]
    assert 0 < event['durable_secs'] < 1000
    assert (event['blocked_secs'] > 1000) is not background
    line, = [one for one in caplog.messages if 'Saved checkpoint' in one]
    assert f' in {event["durable_secs"]:.3f} s' in line


def test_of_several_saves_the_last_is_told(tmp_path):
    lines, saves = trained(
        tmp_path, by_epoch=False, log_every=8, ours=dict(interval=2))
    assert [save['iter'] for save in saves] == [2, 4, 6, 8]
    assert costs_in(lines)[8] == pytest.approx(as_logged(saves[2]))


def test_the_last_line_of_an_epoch_tells_them(tmp_path):
    lines, saves = trained(
        tmp_path, by_epoch=True, log_every=3, ignore_last=False)
    assert [save['iter'] for save in saves] == [3, 6, 8]
    # of epoch 1, its third iteration is saved behind its line
    assert list(costs_in(lines)) == [4, 3]


@pytest.mark.parametrize('by_epoch, log_every', [(False, 2), (True, 2),
                                                 (True, 100)])
def test_the_lines_stay_what_they_are(tmp_path, by_epoch, log_every):
    evaluation = dict(
        scores=[.1, .2, .3, .4],
        interval=1 if by_epoch else 3,
        by_epoch=by_epoch)
    with_ours, _ = trained(
        tmp_path / 'a', by_epoch, log_every, evaluation=evaluation)
    # nothing is saved before the end
    without, _ = trained(
        tmp_path / 'b',
        by_epoch,
        log_every,
        evaluation=evaluation,
        ours=dict(interval=100))
    assert bool(costs_in(with_ours)) == (log_every == 2)

    def kinds(lines):
        return [(line['mode'], line['epoch'], line['iter'],
                 sorted(set(line) - set(COSTS))) for line in lines]

    assert kinds(with_ours) == kinds(without)


@pytest.mark.parametrize('log_every, modes', [(2, {'train', 'val'}),
                                              (100, {'val'})])
def test_val_phases_of_the_workflow_tell_nothing(tmp_path, log_every, modes):
    lines, _ = trained(
        tmp_path,
        by_epoch=True,
        log_every=log_every,
        workflow=(('train', 1), ('val', 1)))
    assert {line['mode'] for line in lines} == modes
    assert bool(costs_in(lines)) == ('train' in modes)


def test_without_loggers_nothing_is_put_into_the_buffer(tmp_path):
    seen = []

    class Look(TextLoggerHook):
        comes = 'LOWEST'

        def before_run(self, runner):
            """Nothing is logged."""

        def after_train_iter(self, runner):
            seen.append(dict(runner.log_buffer.output))

        def log(self, runner):
            """As well."""

    train(
        tmp_path,
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                write=dict(background=False)),
            Look(interval=100, by_epoch=False, ignore_last=True)
        ])
    assert seen == [{}] * 8


def costs_by_step(rows, steps):
    """Of rows of (tag, value, step), what tells of costs, by step."""
    found = {}
    for tag, value, step in rows:
        if 'ckpt/' in tag:
            # nothing of it is a score
            assert tag.startswith('train/')
            found.setdefault(step, {})[tag[len('train/'):]] = value
    assert all(set(one) == set(COSTS) for one in found.values())
    assert list(found) == steps
    return [tuple(found[step][key] for key in COSTS) for step in steps]


def run_with(work_dir, by_epoch, *loggers):
    """Train with a save and an evaluation now and then."""
    runner = make_runner(
        work_dir,
        runner=dict(type='EpochBasedRunnerAmp', max_epochs=2)
        if by_epoch else dict(type='IterBasedRunnerAmp', max_iters=8),
        evaluation=dict(scores=[.1, .2], interval=3, by_epoch=False),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=3,
                by_epoch=False,
                write=dict(background=False))
        ])
    for logger in loggers:
        runner.register_hook(logger, priority='VERY_LOW')
    runner.run([make_loader()], [('train', 1)])
    events = map(json.loads, (work_dir / 'checkpoints.log.jsonl').open())
    return [(event['blocked_secs'] * 1e3, event['durable_secs'],
             event['bytes']) for event in events if event['event'] == 'save']


@pytest.mark.parametrize('by_epoch', [False, True])
def test_tensorboard_gets_them(tmp_path, by_epoch):
    loading = pytest.importorskip(
        'tensorboard.backend.event_processing.event_file_loader',
        reason='pip install tensorboard')
    saves = run_with(tmp_path, by_epoch,
                     TensorboardLoggerHook(interval=2, by_epoch=by_epoch))
    path, = (tmp_path / 'tf_logs').iterdir()
    rows = [(value.tag, value.tensor.float_val[0], event.step)
            for event in loading.EventFileLoader(str(path)).Load()
            for value in event.summary.value]
    found = costs_by_step(rows, [4, 8])
    assert found == [pytest.approx(one) for one in saves[:2]]
    # the scores of an evaluation stay what they are
    assert {step for tag, _, step in rows if tag == 'val/mIoU'} == {3, 6}


@pytest.mark.parametrize('by_epoch', [False, True])
def test_wandb_gets_them(tmp_path, monkeypatch, by_epoch):
    given = []
    service = SimpleNamespace(
        init=lambda **kwargs: None,
        log=lambda values, step, commit: given.append((values, step)),
        join=lambda: None,
        Artifact=lambda **kwargs: SimpleNamespace(add_file=lambda path: None),
        log_artifact=lambda artifact: None)
    monkeypatch.setitem(sys.modules, 'wandb', service)
    saves = run_with(tmp_path, by_epoch,
                     WandbLoggerHook(interval=2, by_epoch=by_epoch))
    rows = [(tag, value, step) for values, step in given
            for tag, value in values.items()]
    assert costs_by_step(rows,
                         [4, 8]) == [pytest.approx(one) for one in saves[:2]]
    scored = {step for tag, _, step in rows if tag == 'val/mIoU'}
    # that of mmcv 1.3.1 logs the others in the lines of training
    assert scored == {3, 6} or version_tuple(mmcv.__version__) < (1, 3, 18)


@pytest.mark.parametrize('intervals, lines', [
    ((4, 2), ([4, 8], [4, 8])),
    ((2, 4), ([4, 8], [4, 8])),
    ((8, 2), ([8], [4, 8])),
    ((5, 4), ([5], [4, 5, 8])),
])
def test_loggers_of_other_intervals_get_them_as_well(tmp_path, intervals,
                                                     lines):
    """Whoever averages has those behind it log, and not those before."""
    seen = []

    class Notes(TextLoggerHook):

        def log(self, runner):
            if COSTS[0] in runner.log_buffer.output:
                seen.append((self, runner.iter + 1))

    loggers = [Notes(interval=one, by_epoch=False) for one in intervals]
    run_with(tmp_path, False, *loggers)
    assert tuple([at for one, at in seen if one is logger]
                 for logger in loggers) == lines


def test_the_last_line_of_a_run_that_a_signal_ends_has_them(tmp_path):

    class Asks(Hook):

        def before_train_iter(self, runner):
            if runner.iter == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    runner = make_runner(
        tmp_path,
        hooks=[
            dict(type='DurableCheckpointHook'),
            Asks(),
            Log(interval=2, by_epoch=False)
        ])
    with pytest.raises(SystemExit):
        runner.run([make_loader()], [('train', 1)])
    log, = tmp_path.glob('*.log.json')
    lines = [json.loads(line) for line in log.open()]
    events = map(json.loads, (tmp_path / 'checkpoints.log.jsonl').open())
    save, = [event for event in events if event['event'] == 'save']
    lines = [line for line in lines if 'mode' in line]
    assert [line['iter'] for line in lines] == [2, 3]
    assert costs_in(lines) == {3: pytest.approx(as_logged(save))}
