"""The history has the begin of each start, and its end unless it was killed.
"""
import json
import signal
import uuid
from types import SimpleNamespace

import numpy as np
import pytest
from dying import run_until_killed
from launching import run_to_the_end
from lock_holder import sign
from mmcv.runner import Hook
from object_server import BUCKET
from stock import best_has_a_place
from test_signals import EPOCHS, ITERS, Run
from toy import make_loader, make_runner, train

from mmcv_ckpt_hooks.boundary import Boundary
from mmcv_ckpt_hooks.errors import LockedError
from mmcv_ckpt_hooks.guarded import GuardedHistory
from mmcv_ckpt_hooks.history import History, open_history
from mmcv_ckpt_hooks.start_events import StartEvents
from mmcv_ckpt_hooks.storage import open_backend

OURS = dict(type='DurableCheckpointHook')
KINDS = [
    ITERS, EPOCHS,
    dict(ITERS, type='IterBasedRunner'),
    dict(EPOCHS, type='EpochBasedRunner')
]
STOCK = KINDS[2:]


def events(directory):
    return History(str(directory)).read()


def bounds(directory):
    """What is said of each begin and end, without ids and times."""
    told = [
        event for event in events(directory)
        if event['event'] in ('start', 'end')
    ]
    assert all(event.pop('time').endswith('+00:00') for event in told)
    return [{
        key: value
        for key, value in event.items() if key != 'lineage'
    } for event in told]


def begin(iter=0, **more):
    return dict(dict(event='start', generation=0, epoch=0, iter=iter), **more)


def end(why, iter, **more):
    return dict(
        dict(event='end', generation=0, epoch=0, iter=iter, why=why), **more)


class Does(Hook):
    """Does something before an iteration, once."""

    def __init__(self, at, what):
        self.at, self.what = at, what

    def before_train_iter(self, runner):
        if runner.iter + 1 == self.at:
            self.at = None
            self.what(runner)


def raising(error):

    def what(runner):
        raise error

    return what


@pytest.mark.parametrize('kind', KINDS)
def test_a_run_and_its_resume_begin_and_finish(tmp_path, kind):
    ours = dict(OURS, interval=3, by_epoch=False, resume='auto')
    length = {key: kind.get(key) for key in ('max_epochs', 'max_iters')}
    length['max_iters'] = 8
    train(tmp_path, runner=kind, hooks=[dict(ours)])
    name, = {
        one['name']
        for one in events(tmp_path)
        if one['event'] == 'save' and one['iter'] == 8
    }
    train(tmp_path, runner=kind, hooks=[dict(ours)])
    assert bounds(tmp_path) == [
        begin(resumed_from=None, **length),
        end('finished', 8, epoch=2),
        begin(8, epoch=2, generation=1, resumed_from=name, **length),
        end('finished', 8, epoch=2, generation=1)
    ]
    # nothing is behind the end of a start, nor before its begin
    kinds = [one['event'] for one in events(tmp_path)]
    assert kinds == ['start', *['save'] * 3, 'end', 'start', 'end']
    assert len({one['lineage'] for one in events(tmp_path)}) == 1


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('exception', [True, False])
@pytest.mark.parametrize('error', [ValueError('x'), KeyboardInterrupt()])
def test_an_exception_is_an_end(tmp_path, kind, exception, error):
    runner = make_runner(
        tmp_path,
        runner=kind,
        hooks=[
            dict(
                OURS,
                interval=2,
                by_epoch=False,
                triggers=dict(exception=exception, signals=None)),
            Does(6, raising(error))
        ])
    with pytest.raises(type(error)):
        runner.run([make_loader()], [('train', 1)])
    told = bounds(tmp_path)[-1]
    assert told == end(
        'exception', 5, epoch=told['epoch'], exception=type(error).__name__)
    assert [one['event'] for one in events(tmp_path)].count('end') == 1
    assert events(tmp_path)[-1]['event'] == 'end'


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_end(tmp_path, kind, number):
    run = Run(tmp_path, 'training', kind).send(number)
    assert run.go_on().end() == 128 + number, run.text
    assert bounds(tmp_path)[1:] == [
        end('signal', 3, signal=signal.Signals(number).name)
    ]


def test_a_signal_during_an_evaluation_is_one(tmp_path):
    evaluation = dict(scores=[.5], interval=4, by_epoch=False)
    run = Run(tmp_path, 'evaluation', evaluation=evaluation)
    assert run.send(signal.SIGTERM).go_on().end() == 143, run.text
    # the iteration before it is finished, though mmcv has not counted it
    assert bounds(tmp_path)[-1] == end('signal', 4, epoch=1, signal='SIGTERM')


@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_who_waits_for_nothing_has_none(tmp_path, kind):
    run = Run(
        tmp_path,
        'none',
        dict(ITERS, type=kind),
        hangs=True,
        tells_of_interrupts=True,
        ours=dict(interval=2))
    run.send(signal.SIGINT).send(signal.SIGINT)
    assert run.dies() == -signal.SIGINT, run.text
    assert [one['event'] for one in bounds(tmp_path)] == ['start']


@pytest.mark.parametrize('kind', STOCK)
def test_who_raises_outside_of_the_phases_has_no_end(tmp_path, kind):
    """Nobody is told of that; the next run finds it over."""

    class Raises(Hook):
        comes = 'LOWEST'

        def before_run(self, runner):
            raise ValueError

    runner = make_runner(tmp_path, runner=kind, hooks=[dict(OURS), Raises()])
    with pytest.raises(ValueError):
        runner.run([make_loader()], [('train', 1)])
    train(tmp_path, runner=kind, hooks=[dict(OURS)])
    assert [(one['event'], one.get('why'))
            for one in bounds(tmp_path)] == [('start', None), ('start', None),
                                             ('end', 'finished')]


def test_a_killed_start_has_none_and_the_next_one_begins(tmp_path):
    run_until_killed('report_worker.py', str(tmp_path), die_at=5)
    run_until_killed('report_worker.py', str(tmp_path), die_at=7)
    assert [(one['event'], one['iter'], one['generation'], one['resumed_from'])
            for one in bounds(tmp_path)] == [('start', 0, 0, None),
                                             ('start', 4, 1, 'iter_4.pth')]


@pytest.mark.parametrize('given, told', [(np.int64(8), 8), (8e0, 8)])
def test_a_length_of_a_stock_runner_may_be_any_number(tmp_path, given, told):
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunner', max_iters=given),
        hooks=[
            dict(OURS, interval=2, triggers=dict(exception=False)),
            Does(4, raising(ValueError()))
        ])
    with pytest.raises(ValueError):
        runner.run([make_loader()], [('train', 1)])
    assert bounds(tmp_path)[0]['max_iters'] == told


def test_a_length_without_an_end_is_not_known():
    """mmcv's own loop takes it."""
    recorded = []
    runner = SimpleNamespace(max_epochs=None, max_iters=float('inf'))
    saver = SimpleNamespace(
        catalog=SimpleNamespace(lineage='a', generation=0),
        record=lambda event, **values: recorded.append(values['max_iters']))
    StartEvents(runner, saver, lambda: Boundary(0, 0, started=True)).begin()
    assert recorded == [None]


def test_a_start_that_fails_has_neither(tmp_path):
    missing = dict(OURS, resume=str(tmp_path / 'iter_9.pth'))
    with pytest.raises(FileNotFoundError):
        train(tmp_path, hooks=[missing])
    assert not (tmp_path / 'checkpoints.log.jsonl').exists()


@pytest.mark.parametrize('kind', [ITERS, dict(ITERS, type='IterBasedRunner')])
def test_a_runner_that_runs_again_begins_and_ends_again(tmp_path, kind):
    runner = make_runner(tmp_path, runner=kind, hooks=[dict(OURS, interval=4)])
    runner.run([make_loader()], [('train', 1)])
    runner._max_iters = 12
    runner.run([make_loader()], [('train', 1)])
    assert [(one['event'], one['iter'])
            for one in bounds(tmp_path)] == [('start', 0), ('end', 8),
                                             ('start', 8), ('end', 12)]


@pytest.mark.parametrize('kind', STOCK)
def test_a_stock_runner_that_raised_may_run_again(tmp_path, kind):
    runner = make_runner(
        tmp_path,
        runner=kind,
        hooks=[dict(OURS), Does(4, raising(ValueError()))])
    with pytest.raises(ValueError):
        runner.run([make_loader()], [('train', 1)])
    runner.run([make_loader()], [('train', 1)])
    assert [(one['event'], one.get('why'))
            for one in bounds(tmp_path)] == [('start', None),
                                             ('end', 'exception'),
                                             ('start', None),
                                             ('end', 'finished')]


def test_two_hooks_have_each_its_own(tmp_path):
    """Whichever of them ends the run."""

    def interrupt(runner):
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit):
        train(
            tmp_path / 'run',
            hooks=[
                dict(OURS),
                dict(OURS, out_dir=str(tmp_path / 'b')),
                Does(4, interrupt)
            ])
    for place in (tmp_path / 'run', tmp_path / 'b' / 'run'):
        assert [(one['event'], one.get('signal'))
                for one in bounds(place)] == [('start', None),
                                              ('end', 'SIGTERM')]


def test_two_ranks_have_one(tmp_path):
    ranks = run_to_the_end('agreement_worker.py', tmp_path,
                           'signal on one rank')
    assert [one.returncode for one in ranks] == [143, 143]
    assert [(one['event'], one['iter'])
            for one in bounds(tmp_path)] == [('start', 0), ('end', 4)]


def test_a_second_signal_waits_for_no_end(tmp_path):
    """Of a store that is away, it would."""

    def hurry(runner):
        ours, = [hook for hook in runner.hooks if hasattr(hook, 'drain')]
        ours._interrupts.watch.hurries = True

    train(tmp_path, hooks=[dict(OURS, interval=4), Does(8, hurry)])
    assert [one['event'] for one in bounds(tmp_path)] == ['start']


@pytest.mark.parametrize('kind', [ITERS, dict(ITERS, type='IterBasedRunner')])
def test_who_catches_the_second_signal_may_run_again(tmp_path, kind):
    """As in a notebook."""

    def hurry(runner):
        ours, = [hook for hook in runner.hooks if hasattr(hook, 'drain')]
        ours._interrupts.watch.hurries = True
        raise KeyboardInterrupt

    runner = make_runner(
        tmp_path, runner=kind, hooks=[dict(OURS, interval=4),
                                      Does(6, hurry)])
    with pytest.raises(KeyboardInterrupt):
        runner.run([make_loader()], [('train', 1)])
    assert [one['event'] for one in bounds(tmp_path)] == ['start']
    runner.run([make_loader()], [('train', 1)])
    assert [(one['event'], one.get('why'))
            for one in bounds(tmp_path)] == [('start', None), ('start', None),
                                             ('end', 'finished')]


def test_an_end_that_is_interrupted_keeps_no_place(tmp_path, monkeypatch):
    """It waits for no copy, and the next start may write to both."""
    interrupt = KeyboardInterrupt()
    for steps in (8, 12):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(StartEvents, 'end', raising(interrupt))
            train(
                tmp_path / 'run',
                runner=dict(ITERS, max_iters=steps),
                hooks=[
                    dict(
                        OURS,
                        interval=4,
                        resume='auto',
                        mirror=dict(url=str(tmp_path / 'mirror')))
                ])
        lock = json.loads((tmp_path / 'run/checkpoints.lock').read_text())
        assert lock['beat'] is None


@best_has_a_place
def test_neither_is_in_the_history_of_a_mirror_or_of_the_best(tmp_path):
    train(
        tmp_path / 'run',
        evaluation=dict(
            scores=[.5, .6],
            interval=4,
            by_epoch=False,
            save_best='mIoU',
            out_dir=str(tmp_path / 'best')),
        hooks=[
            dict(OURS, interval=4, mirror=dict(url=str(tmp_path / 'mirror')))
        ])
    assert len(bounds(tmp_path / 'run')) == 2
    for other in ('mirror', 'best'):
        assert events(tmp_path / other / 'run')
        assert not bounds(tmp_path / other / 'run')


def test_a_history_that_cannot_be_written_ends_no_run(tmp_path, caplog):
    (tmp_path / 'checkpoints.log.jsonl').mkdir(parents=True)
    runner = train(tmp_path, hooks=[dict(OURS)])
    assert runner.iter == 8
    assert (tmp_path / 'iter_8.pth').is_file()
    assert caplog.text.count('Could not write the history') == 1


def test_who_has_lost_the_place_adds_nothing(tmp_path):
    """It was stopped, and another run has begun there."""

    def lose(runner):
        sign(tmp_path)

    runner = make_runner(
        tmp_path, hooks=[dict(OURS, save_last=False),
                         Does(8, lose)])
    runner.run([make_loader()], [('train', 1)])
    assert [one['event'] for one in events(tmp_path)] == ['start']


def test_a_history_is_asked_of_before_every_event(tmp_path):
    lost = LockedError('another run has it')

    def check():
        raise lost

    history = GuardedHistory(History(str(tmp_path)), check)
    with pytest.raises(PermissionError, match='no more that of') as caught:
        history.append('end')
    assert caught.value.__cause__ is lost
    assert history.read() == []


def test_each_is_one_request_to_a_store(tmp_path, s3_server, proxy):
    pytest.importorskip('obstore', reason='pip install obstore')
    out_dir = f's3://{BUCKET}/{uuid.uuid4().hex}'
    options = dict(s3_server.options(), endpoint=proxy.endpoint)
    train(
        tmp_path / 'run',
        hooks=[
            dict(OURS, interval=4, out_dir=out_dir, storage_options=options)
        ])
    place = open_backend(f'{out_dir}/run', storage_options=options)
    asked = [
        line.split()[0] for line in proxy.lines
        if 'checkpoints.log.jsonl' in line
    ]
    # read for the catalog, for the block at the start, and for the first event
    assert asked == ['GET'] * 3 + ['PUT'] * 4
    assert [one['event'] for one in open_history(place).read()
            ] == ['start', 'save', 'save', 'end']


def test_a_store_that_is_away_at_the_end_ends_no_run(tmp_path, s3_server,
                                                     proxy, caplog):
    pytest.importorskip('obstore', reason='pip install obstore')
    out_dir = f's3://{BUCKET}/{uuid.uuid4().hex}'
    options = dict(s3_server.options(), endpoint=proxy.endpoint, retry_secs=.5)

    runner = train(
        tmp_path / 'run',
        hooks=[
            dict(
                OURS,
                interval=4,
                save_last=False,
                out_dir=out_dir,
                storage_options=options),
            Does(8, lambda runner: proxy.stop())
        ])
    assert runner.iter == 8
    assert caplog.text.count('Could not write the history') == 1
    place = open_backend(f'{out_dir}/run', storage_options=s3_server.options())
    assert [one['event'] for one in open_history(place).read()][0] == 'start'


def test_a_lost_catalog_is_rebuilt_beside_them(tmp_path, caplog):
    given = dict(
        evaluation=dict(
            scores=[.5, .6], interval=4, by_epoch=False, save_best='mIoU'),
        hooks=[dict(OURS, interval=4, resume='auto')])
    train(tmp_path, **given)
    (tmp_path / 'checkpoints.json').unlink()
    given['hooks'] = [dict(OURS, interval=4, resume='auto')]
    train(tmp_path, **given)
    assert 'Checkpoints with scores from the history: 3' in caplog.text
