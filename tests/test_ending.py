"""The end of a run says once what it has saved, whatever ended it."""
import json
import logging
import os
import re
import signal
import threading
from contextlib import suppress

import pytest
from mmcv.runner import Hook
from stock import best_has_a_place
from test_signals import EPOCHS, ITERS, Run
from toy import QuickEvalHook, make_loader, make_runner, names, train

from mmcv_ckpt_hooks.errors import OutOfSpaceError
from mmcv_ckpt_hooks.storage import local

OURS = dict(type='DurableCheckpointHook')
HEAD = 'What this run has saved in '
KINDS = [
    ITERS, EPOCHS,
    dict(ITERS, type='IterBasedRunner'),
    dict(EPOCHS, type='EpochBasedRunner')
]


@pytest.fixture
def info(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def blocks(info):
    return [
        one.getMessage() for one in info.records
        if one.getMessage().startswith(HEAD)
    ]


def rows(text):
    return {
        line[2:9].strip(): line[10:]
        for line in text.splitlines() if line.startswith('  ')
    }


def only(info):
    block, = blocks(info)
    return rows(block)


def saves(work_dir):
    events = map(json.loads, (work_dir / 'checkpoints.log.jsonl').open())
    return [event for event in events if event['event'] == 'save']


class Raises(Hook):
    """Raises before the sixth iteration."""

    def __init__(self, error):
        self._error = error

    def before_train_iter(self, runner):
        if runner.iter == 5:
            raise self._error


@pytest.mark.parametrize('kind', KINDS)
def test_it_says_what_history_and_directory_have(tmp_path, info, kind):
    train(
        tmp_path,
        runner=kind,
        hooks=[
            dict(
                OURS,
                interval=3,
                by_epoch=False,
                max_keep_ckpts=1,
                resume='auto'),
            QuickEvalHook([.5, .4],
                          interval=3,
                          by_epoch=False,
                          save_best='mIoU'),
        ])
    said, events = only(info), saves(tmp_path)
    by_trigger = {}
    for event in events:
        trigger = event['trigger']
        by_trigger[trigger] = by_trigger.get(trigger, 0) + 1
    counts = ', '.join(f'{key} {by_trigger[key]}'
                       for key in sorted(by_trigger))
    assert said['saves'] == f'3 ({counts}); 1 second name of one for the best'
    waited = sum(event['blocked_secs'] for event in events)
    assert said['waited'].startswith(f'{waited:.3f} s of training in all, ')
    longest = max(event['blocked_secs'] for event in events)
    assert said['waited'].endswith(f'at most {longest * 1e3:.1f} ms')
    written = sum(event['bytes'] for event in events)
    durable = sum(event['durable_secs'] for event in events)
    assert f'{written / 1000:.1f} kB at {written / 1e6 / durable:.1f} MB/s; ' \
        f'durable after {durable / 3:.3f} s' in said['wrote']
    # the first one is the best: its content stays under that name
    there = [one for one in names(tmp_path) if one != 'latest.pth']
    assert len(there) == 2
    size = sum((tmp_path / name).stat().st_size for name in there)
    assert said['there'] == f'2 checkpoints of this run, ' \
        f'{size / 1000:.1f} kB, in {tmp_path}'
    assert said['deleted'] == '2 names'
    best, = [one for one in there if one.startswith('best_')]
    assert said['best'] == f'{best} (mIoU 0.5000)'
    newest, = [one for one in there if one != best]
    assert said['newest'] == f'{newest}: 2 epochs and 8 iterations'
    assert said['resume'] == f'the same command goes on from {newest}, ' \
        'where nothing is left to train'


def test_a_second_name_that_goes_is_a_name(tmp_path, info):
    """What was saved is all there, and yet something was deleted."""
    train(
        tmp_path,
        hooks=[
            dict(OURS, interval=2),
            QuickEvalHook([.5, .7, .6, .6],
                          interval=2,
                          by_epoch=False,
                          save_best='mIoU'),
        ])
    said = only(info)
    assert said['saves'].startswith('4 (')
    assert said['saves'].endswith('; 2 second names of them for the best')
    assert said['there'].startswith('4 checkpoints of this run and 1 second '
                                    'name, ')
    assert said['deleted'] == '1 name'


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('exception', [True, False])
@pytest.mark.parametrize('error', [ValueError('x'), KeyboardInterrupt()])
def test_an_exception_ends_with_it(tmp_path, info, kind, exception, error):
    runner = make_runner(
        tmp_path,
        runner=kind,
        hooks=[
            dict(
                OURS,
                interval=2,
                by_epoch=False,
                resume='auto',
                triggers=dict(exception=exception, signals=None)),
            Raises(error)
        ])
    with pytest.raises(type(error)):
        runner.run([make_loader()], [('train', 1)])
    said = only(info)
    newest = max((one for one in names(tmp_path) if one != 'latest.pth'),
                 key=lambda name: int(re.findall(r'\d+', name)[-1]))
    saved = exception and isinstance(error, ValueError)
    assert ('exception 1' in said['saves']) is saved
    assert said['resume'] == f'the same command goes on from {newest}'


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_it(tmp_path, kind, number):
    run = Run(
        tmp_path, 'training', kind, ours=dict(resume='auto')).send(number)
    assert run.go_on().end() == 128 + number, run.text
    assert run.text.count(HEAD) == 1
    said = rows(run.text.partition(HEAD)[2].partition('RAISED')[0])
    assert said['saves'] == '1 (signal 1)'
    name = f'{"epoch_0_" * ("Epoch" in kind["type"])}iter_3.pth'
    assert said['resume'] == f'the same command goes on from {name}'
    again = Run(tmp_path, 'none', kind, ours=dict(resume='auto'))
    assert again.end() == 0, again.text
    assert f'Resumed from {tmp_path}/{name}' in again.text
    assert f', since it went on from {name}:' in again.text
    # of this start alone
    assert '  saves   1 (last 1)\n' in again.text


@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_an_end_that_waits_for_nothing_says_nothing(tmp_path, kind):
    runner = dict(ITERS, type=kind)
    run = Run(
        tmp_path,
        'none',
        runner,
        hangs=True,
        tells_of_interrupts=True,
        ours=dict(interval=2))
    # the second when the first has been seen
    run.send(signal.SIGINT).send(signal.SIGINT)
    assert run.dies() == -signal.SIGINT, run.text
    assert HEAD not in run.text


def test_a_runner_that_runs_again_says_it_again(tmp_path, info):
    for kind in (ITERS, dict(ITERS, type='IterBasedRunner')):
        info.clear()
        runner = make_runner(
            tmp_path / kind['type'],
            runner=kind,
            hooks=[dict(OURS, interval=4, resume='auto')])
        runner.run([make_loader()], [('train', 1)])
        runner._max_iters = 12
        runner.run([make_loader()], [('train', 1)])
        first, second = map(rows, blocks(info))
        assert first['saves'] == '2 (interval 2)'
        assert second['saves'] == '3 (interval 3)'


@best_has_a_place
def test_a_start_that_fails_says_nothing(tmp_path, info):
    with suppress(Exception):
        train(
            tmp_path,
            hooks=[
                dict(OURS),
                QuickEvalHook([.5],
                              interval=1,
                              by_epoch=False,
                              save_best='mIoU',
                              out_dir='pavi://a/b')
            ])
    assert not blocks(info)


def test_failed_saves_and_what_made_room_are_counted(tmp_path, info,
                                                     monkeypatch):
    fill = local.fill_file

    def full(path, *arguments):
        if '.iter_6.pth' in path:
            raise OutOfSpaceError('no space left on the small disk')
        return fill(path, *arguments)

    monkeypatch.setattr(local, 'fill_file', full)
    train(tmp_path, hooks=[dict(OURS, interval=2, max_keep_ckpts=2)])
    said = only(info)
    assert said['saves'] == '3 (interval 3); 1 failed'
    # iter_2.pth, for the one that failed all the same
    assert said['deleted'] == '1 name'
    events = (tmp_path / 'checkpoints.log.jsonl').read_text()
    assert '{"deleted": ["iter_2.pth"], "event": "delete", "iter": 6}' in \
        events


def test_what_was_skipped_is_counted(tmp_path, info, monkeypatch):
    goes_on, put = threading.Event(), local.LocalBackend.put

    class GoesOn(Hook):
        comes = 'VERY_LOW'

        def after_train_iter(self, runner):
            if runner.iter == 3:
                goes_on.set()

    def slow(self, name, write):
        assert not name.endswith('.pth') or goes_on.wait(60)
        return put(self, name, write)

    monkeypatch.setattr(local.LocalBackend, 'put', slow)
    train(
        tmp_path,
        runner=dict(ITERS, max_iters=5),
        hooks=[
            dict(
                OURS, interval=2, save_last=False, write=dict(backlog='skip')),
            GoesOn()
        ])
    assert only(info)['saves'] == "1 (interval 1); 1 skipped (backlog='skip')"


@pytest.mark.parametrize('given, said', [
    (dict(), "only when told to: resume='auto' goes on from {}/iter_8.pth"),
    (dict(resume='auto'),
     'the same command goes on from iter_8.pth, where nothing is left to '
     'train'),
    (dict(save_last=False, resume='auto'), 'there is nothing to go on from'),
])
def test_what_the_next_start_does_is_true(tmp_path, info, given, said):
    train(tmp_path, hooks=[dict(OURS, **given)])
    assert only(info)['resume'] == said.format(tmp_path)
    info.clear()
    train(tmp_path, hooks=[dict(OURS, **given)])
    assert ('Resumed from' in info.text) == ('goes on from iter_8.pth,'
                                             in said)


def test_a_path_is_begun_with_until_the_run_has_saved(tmp_path, info):
    train(tmp_path / 'first', hooks=[dict(OURS)])
    path = os.path.join(str(tmp_path), 'first', 'iter_8.pth')
    ours = dict(OURS, resume=path, save_last=False)
    train(tmp_path / 'a', runner=dict(ITERS, max_iters=9), hooks=[dict(ours)])
    assert blocks(info)[-1].endswith(f'the same command begins with {path} '
                                     'again')
    train(
        tmp_path / 'a',
        runner=dict(ITERS, max_iters=9),
        hooks=[dict(ours, interval=9)])
    assert rows(blocks(info)[-1])['resume'].startswith(
        'the same command goes on from iter_9.pth')


def test_the_mirror_is_told_of(tmp_path, info):
    ours = dict(OURS, interval=4, mirror=dict(url=str(tmp_path / 'm')))
    train(tmp_path / 'run', hooks=[dict(ours)])
    assert only(info)['mirror'] == f'{tmp_path}/m/run has all that it keeps'


def test_a_second_name_takes_nothing(tmp_path, info):
    train(
        tmp_path,
        hooks=[
            dict(OURS, interval=4),
            QuickEvalHook([.5, .4],
                          interval=4,
                          by_epoch=False,
                          save_best='mIoU')
        ])
    size = sum(
        (tmp_path / f'iter_{step}.pth').stat().st_size for step in (4, 8))
    assert only(info)['there'] == '2 checkpoints of this run and 1 second ' \
        f'name, {size / 1000:.1f} kB, in {tmp_path}'


@best_has_a_place
def test_best_ones_of_another_place_count(tmp_path, info):
    train(
        tmp_path / 'run',
        hooks=[
            dict(OURS, interval=8),
            QuickEvalHook([.5, .6],
                          interval=4,
                          by_epoch=False,
                          save_best='mIoU',
                          out_dir=str(tmp_path / 'best'))
        ])
    said = only(info)
    assert said['saves'] == '3 (best 2, interval 1)'
    assert said['there'].count('1 checkpoint of this run') == 2
    assert said['there'].endswith(f'in {tmp_path}/best/run')
    assert said['best'] == 'best_mIoU_iter_8.pth (mIoU 0.6000)'
