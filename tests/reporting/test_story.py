"""Records to data, without a run: what histories and logs can say."""
import sys

import pytest

from mmcv_ckpt_hooks.best_scores import BestScore
from mmcv_ckpt_hooks.reporting.events import read_events
from mmcv_ckpt_hooks.reporting.headline import headline
from mmcv_ckpt_hooks.reporting.logs import read_logs
from mmcv_ckpt_hooks.reporting.starts import find_starts
from mmcv_ckpt_hooks.reporting.steps import Counting
from mmcv_ckpt_hooks.reporting.story import Facts, Resume, tell
from mmcv_ckpt_hooks.reporting.wordings import end_text, secs_text
from mmcv_ckpt_hooks.types import CheckpointInfo
from mmcv_ckpt_hooks.wording import size_text, time_text

#: 2026-11-28T00:00:00 of UTC.
MIDNIGHT = 1795824000


def save(iter, generation=0, started=0, deleted=(), lineage='a', **more):
    return dict(
        event='save',
        name=f'iter_{iter}.pth',
        iter=iter,
        epoch=0,
        digest=f'd{iter}{lineage}{generation}',
        lineage=lineage,
        generation=generation,
        started_iter=started,
        bytes=100,
        blocked_secs=.01,
        durable_secs=1.,
        deleted=list(deleted),
        **{
            'trigger': 'interval',
            'time': f'2026-11-28T00:{generation:02}:{iter % 60:02}+00:00',
            **more
        })


def scores(iter, value, **more):
    return dict(
        event='scores',
        iter=iter,
        lineage='a',
        metrics=dict(mIoU=value),
        **more)


def link(iter, generation=0):
    return dict(
        event='link',
        name=f'best_mIoU_iter_{iter}.pth',
        iter=iter,
        digest=f'd{iter}a{generation}',
        same_as=f'iter_{iter}.pth')


def logs(**files):
    """Logs by name (``_`` for the dot), each a text."""
    return read_logs((name.replace('_log', '.log').replace('at', ''),
                      iter(content.encode().splitlines(keepends=True)))
                     for name, content in files.items())


def test_starts_without_logs_end_by_what_the_saves_tell():
    story = tell(
        Facts(
            'run',
            events=[
                save(10),
                save(20),
                save(30, 1, 20, trigger='signal'),
                save(40, 2, 30, trigger='exception'),
                save(50, 3, 40, trigger='last'),
                save(50, 3, 40, trigger='best')
            ]))
    assert [(one.from_iter, one.reached, one.end)
            for one in story.starts] == [(0, 20, 'open'), (20, 30, 'signal'),
                                         (30, 40, 'exception'),
                                         (40, 50, 'finished')]


def test_the_last_start_may_still_run():
    assert [one.end for one in tell(Facts('run', events=[save(10)])).starts
            ] == ['open']


def test_a_signal_is_no_end_if_training_went_on_behind_its_save():
    """SIGUSR1 saves, and the run goes on."""
    events = [save(10, trigger='signal'), save(15), save(20, 1, 15)]
    assert tell(Facts('run', events=events)).starts[0].end == 'open'


@pytest.mark.parametrize('reached, end', [(12, 'open'), (14, 'killed')])
def test_killed_is_who_was_seen_behind_its_last_save(reached, end):
    """One of 12 iterations that saves every 6 ends with one of those."""
    lines = ''.join(f'{{"mode": "train", "epoch": 1, "iter": {step}}}\n'
                    for step in range(1, reached + 1))
    found = read_logs([('20261128_000000.log.json',
                        iter(lines.encode().splitlines()))])
    events = [save(6), save(12), save(18, 1, 12)]
    story = tell(Facts('run', events=events, logs=found))
    assert [one.end for one in story.starts] == [end, 'open']
    note, = [one for one in story.notes if 'no text log' in one]
    assert 'how many iterations starts were to make' in note
    assert 'may have finished, or been killed' in note


def test_a_start_that_saved_nothing_is_one():
    """As in a loop of crashes: only its log tells of it."""
    found = logs(
        at20261128_000000_log='2026-11-28 00:00:10,000 - x - INFO - Saved '
        'checkpoint iter_10.pth: 1.00 MB\n'
        '2026-11-28 00:00:10,000 - x - INFO - Iter [10/100]\tlr: 1\n',
        at20261128_000030_log='2026-11-28 00:00:31,000 - x - INFO - Resumed '
        'from run/iter_10.pth: 0 epochs and 10 iterations are finished\n'
        '2026-11-28 00:00:40,000 - x - INFO - Iter [15/100]\tlr: 1\n',
        at20261128_000058_log='2026-11-28 00:01:20,000 - x - INFO - Saved '
        'checkpoint iter_20.pth: 1.00 MB\n')
    events = [save(10), save(20, 1, 10)]
    story = tell(Facts('run', events=events, logs=found))
    assert [(one.from_iter, one.reached, one.saves, one.end, one.repeated)
            for one in story.starts] == [(0, 10, 1, 'killed', 0),
                                         (10, 15, 0, 'killed', 5),
                                         (10, 20, 1, 'open', 0)]
    assert {one.lineage for one in story.starts} == {'a'}


def start(iter=0, generation=0, lineage='a', at='00:00', **more):
    return dict(
        event='start',
        lineage=lineage,
        generation=generation,
        epoch=0,
        iter=iter,
        **{
            'time': f'2026-11-28T00:{at}+00:00',
            'max_iters': 100,
            **more
        })


def end(why, iter, generation=0, lineage='a', at='00:59', **more):
    return dict(
        event='end',
        why=why,
        lineage=lineage,
        generation=generation,
        epoch=0,
        iter=iter,
        time=f'2026-11-28T00:{at}+00:00',
        **more)


def ends(*events):
    """Where each start began, how far it came, how it ended."""
    story = tell(Facts('run', events=events))
    return [(one.from_iter, one.reached, one.saves,
             end_text(one).split('; last')[0]) for one in story.starts]


def test_begins_and_ends_of_the_history_count():
    events = [
        start(),
        save(10),
        end('finished', 12),
        start(10, 1, at='01:00'),
        save(20, 1, 10),
        start(20, 2, at='02:00'),
        end('signal', 25, 2, at='02:30', signal='SIGTERM'),
        start(20, 2, at='03:00'),
        save(30, 2, 20, time=None),
        end('exception', 31, 2, at='03:30', exception='KeyError'),
        start(31, 3, at='04:00')
    ]
    killed = 'killed, or ended unrecorded after 20 iterations'
    assert ends(*events) == [
        (0, 12, 1, 'finished after 12 iterations; 2 iterations done again'),
        (10, 20, 1, killed),
        (20, 25, 0, 'left on SIGTERM after 25 iterations; 5 iterations done '
         'again'), (20, 31, 1, 'ended by KeyError after 31 iterations'),
        (31, 31, 0, 'still running, or killed after 31 iterations')
    ]


def test_a_start_that_saved_nothing_is_told_from_the_next():
    """Both have one generation: that counts starts which have saved."""
    story = tell(
        Facts(
            'run',
            events=[
                start(at='00:00'),
                save(10, time='2026-11-28T00:00:10+00:00'),
                start(10, 1, at='01:00'),
                start(10, 1, at='02:00'),
                save(20, 1, 10, time='2026-11-28T00:02:20+00:00'),
                end('finished', 20, 1, at='02:30')
            ]))
    assert [(one.generation, one.saves, one.end)
            for one in story.starts] == [(0, 1, 'killed'), (None, 0, 'killed'),
                                         (1, 1, 'finished')]


def test_a_clock_that_was_set_back_moves_no_save_to_another_start():
    """The order of the lines is that of what happened."""
    events = [
        start(10, 1, at='05:00'),
        start(10, 1, at='09:00'),
        save(20, 1, 10, time='2026-11-28T00:05:20+00:00')
    ]
    assert sorted(one[2:] for one in ends(*events)) == [
        (0, 'killed, or ended unrecorded after 10 iterations'),
        (1, 'still running, or killed after 20 iterations')
    ]


def test_who_began_anew_did_again_what_saved_nothing():
    """Each has an id of its own, of which nothing else is known."""
    found = logs(
        at20261128_000000_log='2026-11-28 00:00:10,000 - x - INFO - Iter '
        '[7/100]\tlr: 1\n')
    events = [start(lineage='b'), start(at='01:00'), save(10, 0)]
    story = tell(Facts('run', events=events, logs=found))
    assert [(one.lineage, one.reached, one.repeated, one.end)
            for one in story.starts] == [('a', 7, 7, 'killed'),
                                         ('a', 10, 0, 'open')]


def test_a_save_of_the_catalog_is_of_the_start_that_had_begun():
    """The history lost its line."""
    info = CheckpointInfo(
        'iter_15.pth',
        0,
        15,
        100,
        created_at='2026-11-28T00:01:30+00:00',
        lineage='a',
        generation=1,
        started_iter=10,
        digest='x')
    events = [
        start(10, 1, at='00:00'),
        start(10, 1, at='01:00'),
        start(15, 2, at='02:00')
    ]
    story = tell(Facts('run', events=events, checkpoints=[info]))
    assert [(one.from_iter, one.reached, one.saves)
            for one in story.starts] == [(10, 10, 0), (10, 15, 1), (15, 15, 0)]


def test_a_history_that_begins_without_begins_goes_on_with_them():
    events = [
        save(10),
        save(20, 1, 10, trigger='last'),
        start(20, 2, at='02:00'),
        save(30, 2, 20)
    ]
    story = tell(Facts('run', events=events))
    assert [(one.end, one.is_recorded)
            for one in story.starts] == [('open', False), ('finished', False),
                                         ('open', True)]
    assert any('without a recorded end' in one for one in story.notes)


@pytest.mark.parametrize('event', [
    start(iter='many'),
    start(lineage=7),
    start(generation=-1),
    end('tired', 3),
    end(None, 3),
    end('finished', 1 << 80),
])
def test_begins_and_ends_that_cannot_be_are_left_out(event):
    story = tell(Facts('run', events=[start(), event]))
    assert [one.end for one in story.starts] == ['open']
    assert 'Lines that could not be read: 1.' in story.notes


def test_an_end_of_nobody_is_none():
    assert ends(end('finished', 8), save(10)) == [
        (0, 10, 1, 'no end is recorded after 10 iterations')
    ]


@pytest.mark.parametrize('hours', [-11, 0, 5.75, 14])
def test_where_nothing_was_saved_begins_tell_the_zone(hours):
    """A loop of crashes: each start is one."""
    ahead, found = int(hours * 3600), {}
    events = []
    for minute in range(4):
        at = MIDNIGHT + 60 * minute
        events.append(
            start(at=f'{minute:02}:05', lineage=str(minute), max_iters=None))
        found[f'at{time_text(at + ahead, "%Y%m%d_%H%M%S")}_log'] = \
            f'{time_text(at + 9 + ahead)},000 - x - INFO - Iter [1/9]\tlr: 1\n'
    story = tell(Facts('run', events=events, logs=logs(**found)))
    assert [(one.reached, one.most, one.end) for one in story.starts
            ] == [(1, 9, 'killed')] * 3 + [(1, 9, 'open')]
    assert not any('zone' in note for note in story.notes)


def test_a_log_without_a_begin_tells_no_zone():
    """It is older than the events; by both the nearest to UTC would win."""
    ahead, found = 8 * 3600, {}
    for step, at in enumerate((MIDNIGHT, MIDNIGHT - 8 * 3600 - 100), 1):
        found[f'at{time_text(at + ahead, "%Y%m%d_%H%M%S")}_log'] = \
            f'{time_text(at + 9 + ahead)},000 - x - INFO - Iter [{step}/9]\n'
    events = [start(at='00:05', max_iters=None)]
    story = tell(Facts('run', events=events, logs=logs(**found)))
    assert [(one.began, one.reached) for one in story.starts
            if one.is_recorded] == [(MIDNIGHT + 5, 1)]


def test_a_log_tells_of_a_signal_whose_end_was_not_recorded():
    """The grace was over, or the store away."""
    found = logs(
        at20261128_000000_log='2026-11-28 00:00:20,000 - x - INFO - Saved '
        'checkpoint iter_10.pth (signal): 1.00 MB\n2026-11-28 00:00:20,000 '
        '- x - INFO - SIGTERM: training ends after 10 iterations; x stands\n')
    story = tell(
        Facts(
            'run',
            events=[start(), save(10),
                    start(10, 1, at='01:00')],
            logs=found))
    assert [(one.end, one.signal)
            for one in story.starts] == [('signal', 'SIGTERM'), ('open', '')]


@pytest.mark.parametrize('hours', [-11, 0, 5.75, 14])
def test_the_zone_of_a_log_is_that_of_its_saves(hours):
    ahead = int(hours * 3600)
    wall = time_text(MIDNIGHT + 10 + ahead)
    begin = time_text(MIDNIGHT + ahead, '%Y%m%d_%H%M%S')
    found = logs(
        **{
            f'at{begin}_log':
            f'{wall},000 - x - INFO - Saved checkpoint iter_10.pth: 1 MB\n'
            f'{wall},000 - x - ERROR - broken\n'
        })
    story = tell(Facts('run', events=[save(10)], logs=found))
    assert story.starts[0].began == MIDNIGHT
    assert [one.at for one in story.troubles] == [MIDNIGHT + 10]


def test_bytes_are_those_of_names_that_are_there():
    events = [
        save(10),
        link(10),
        save(20, deleted=['iter_10.pth']),
        save(30, deleted=['iter_20.pth', 'best_mIoU_iter_10.pth', 'unknown'])
    ]
    assert [(one.bytes, one.most)
            for one in tell(Facts('run', events=events)).disk] == [(100, 100),
                                                                   (200, 200),
                                                                   (100, 300)]
    # in a store a second name is a copy
    assert [
        one.bytes
        for one in tell(Facts('run', is_local=False, events=events)).disk
    ] == [200, 200, 100]


def test_a_name_that_is_saved_again_counts_once():
    events = [save(10), save(10, 1, 5)]
    assert tell(Facts('run', events=events)).disk[-1].bytes == 100


def test_a_clock_that_was_set_back_draws_nothing_backwards():
    events = [save(10), save(20, time='2025-01-01T00:00:00+00:00')]
    times = [one.at for one in tell(Facts('run', events=events)).disk]
    assert times == sorted(times)


def test_what_was_given_up_is_no_point_of_the_curve():
    events = [
        save(10),
        scores(10, .5),
        save(20),
        scores(20, .9),
        save(15, 1, 10),
        scores(20, .6)
    ]
    curve, = tell(Facts('run', lineage='a', events=events)).curves
    assert curve.points == [(10, .5), (20, .6)]
    assert curve.given_up == [[(20, .9)]]


def points_and_given_up(*events):
    curve, = tell(Facts('run', lineage='a', events=events)).curves
    return [step for step, _ in curve.points], [[step for step, _ in one]
                                                for one in curve.given_up]


def every_four(first, last):
    return [scores(step, .5) for step in range(first, last + 1, 4)]


def test_scores_between_a_resume_and_its_first_save_count():
    """Of who evaluates more often than it saves; lines name no start."""
    assert points_and_given_up(*every_four(4, 8), save(10),
                               *every_four(12, 16), save(20, 1, 10),
                               *every_four(20, 36), save(40, 2, 20),
                               scores(40, .5), scores(44, .5),
                               save(48, 3, 40,
                                    trigger='last')) == (list(range(4, 45,
                                                                    4)), [])


def test_so_they_do_if_the_start_before_has_evaluated_the_same_steps():
    """Killed after the evaluation at 28; the next one began at 20."""
    events = [
        save(20),
        scores(24, .1),
        scores(28, .1),
        scores(24, .5),
        scores(28, .5),
        save(30, 1, 20)
    ]
    assert points_and_given_up(*events) == ([24, 28], [[24, 28]])
    curve, = tell(Facts('run', lineage='a', events=events)).curves
    assert {value for _, value in curve.points} == {.5}


def test_a_start_that_saved_nothing_gives_up_scores_as_well():
    assert points_and_given_up(
        save(20), scores(24, .1), scores(28, .1), scores(24,
                                                         .5)) == ([24], [[28]])


def test_a_score_that_is_joined_to_a_checkpoint_is_of_its_start():
    """A mirror copies the newest first, and has no others."""
    joined = [
        save(40, 1, 20),
        scores(40, .5, digests=['d40a1']),
        save(20),
        scores(20, .5, digests=['d20a0']),
        save(30),
        scores(30, .1, digests=['d30a0'])
    ]
    assert points_and_given_up(*joined) == ([20, 40], [[30]])


def test_the_head_has_the_best_that_is_there():
    info = CheckpointInfo('iter_10.pth', 0, 10, 100, metrics=dict(mIoU=.5))
    facts = Facts(
        'run',
        checkpoints=[info],
        best=dict(mIoU=BestScore('mIoU', .5, 'greater', 'iter_10.pth', 10)),
        resume=Resume('iter_10.pth'))
    _, best, cost, resume = headline(tell(facts))
    assert (best.answer, best.more) == ('mIoU 0.5',
                                        ['iter_10.pth, 10 iterations'])
    assert cost.answer == '0 saves, costs unknown'
    assert (resume.answer, resume.mood) == ('iter_10.pth', 'good')


def test_the_head_says_if_the_best_is_gone():
    best = dict(event='best', key='mIoU', rule='greater')
    facts = Facts('run', events=[scores(10, .5), scores(20, .4), best])
    there, answer, _, resume = headline(tell(facts))
    assert answer.answer == 'mIoU 0.5'
    assert answer.more == ['at 10 iterations; no checkpoint of it is here']
    assert there.answer == 'No checkpoints'
    assert resume.answer == 'would start anew'


def test_the_head_says_why_nothing_can_be_resumed():
    info = CheckpointInfo('iter_10.pth', 0, 10, 100)
    facts = Facts(
        'run',
        checkpoints=[info],
        problems={'iter_10.pth': 'cut off'},
        resume=Resume(None, 'iter_10.pth', {'iter_10.pth': 'cut off'}))
    there, _, _, resume = headline(tell(facts))
    assert there.more == [
        '1 checkpoint cannot be used, or not as they are: see the table'
    ]
    assert (resume.answer, resume.more,
            resume.mood) == ('would stop with an error at iter_10.pth',
                             ['iter_10.pth: cut off'], 'bad')


def test_copies_of_a_mirror_are_not_waited_for():
    event = {**save(10), 'blocked_secs': 0.}
    cost = headline(tell(Facts('run', events=[event])))[2]
    assert cost.answer == '1 save, none of them waited for'


@pytest.mark.parametrize('secs, said', [(.0113, '11.3 ms'), (0., '0 ms'),
                                        (1.5, '1.5 s'), (59.99, '60 s'),
                                        (4000, '1 h 7 min'), (7200, '2 h'),
                                        (200000, '2 d 7 h')])
def test_times_are_said_as_one_reads_them(secs, said):
    assert secs_text(secs) == said


def test_sizes_are_said_as_in_the_log():
    assert [size_text(one) for one in (0, 999, 868785, 742_118_300)
            ] == ['0 B', '999 B', '868.8 kB', '742.1 MB']


def test_a_line_with_a_time_that_cannot_be_moves_no_other():
    """The seconds of the next one count for both."""
    lines = ''.join(
        f'{{"mode": "train", "epoch": 1, "iter": {iter}, "time": {time}}}\n'
        for iter, time in [(1, 2), (2, 1e12), (3, 2), (4, -1e12), (5, 3)])
    found = logs(**{'at20261128_000000_log.json': lines})
    start, = tell(Facts('run', logs=found)).starts
    assert start.points == [(MIDNIGHT + 2, 1), (MIDNIGHT + 6, 3),
                            (MIDNIGHT + 12, 5)]


@pytest.mark.parametrize('bad', [1, 3])
def test_a_line_with_a_time_that_cannot_be_leaves_the_zone(bad):
    """No line of a text tells: the saves do, by the seconds of iterations."""
    lines = ''.join(f'{{"mode": "train", "epoch": 1, "iter": {iter}, "time": '
                    f'{1e12 if iter == bad else 1}}}\n'
                    for iter in range(1, 11))
    found = logs(**{'at20261128_053000_log.json': lines})
    story = tell(Facts('run', events=[save(10)], logs=found))
    assert [one.began for one in story.starts] == [MIDNIGHT]


def test_of_many_starts_each_has_its_log():
    """A loop of crashes; nothing looks at all logs for each of them."""
    count = 300
    found = logs(
        **{
            f'at{time_text(MIDNIGHT + 60 * one, "%Y%m%d_%H%M%S")}_log.json':
            '{"mode": "train", "epoch": 1, "iter": 1}\n'
            for one in range(count)
        })
    # two saved nothing
    events = [
        save(
            one,
            one,
            time=time_text(MIDNIGHT + 60 * one + 30, '%Y-%m-%dT%H:%M:%S'))
        for one in range(count) if one not in (7, 8)
    ]
    starts, calls = counted_calls(events, found)
    assert [one.log for one in starts] == [one.name for one in found]
    assert [one.saves for one in starts].count(0) == 2
    assert calls < 300 * count


def test_starts_without_a_log_of_their_own_pass_over_no_others():
    """Logs that somebody has deleted, of a run that went on for long."""
    count = 300
    found = logs(
        **{
            f'at{time_text(MIDNIGHT + one, "%Y%m%d_%H%M%S")}_log.json':
            '{"mode": "train", "epoch": 1, "iter": 1}\n'
            for one in range(count)
        })
    events = [
        save(one, one, time='2026-11-28T01:00:00') for one in range(3 * count)
    ]
    starts, calls = counted_calls(events, found)
    assert [bool(one.log) for one in starts].count(True) == count
    assert calls < 300 * count


def counted_calls(events, found):
    """Return the starts, and how many functions were called for them."""
    saves, calls = read_events(events).saves, 0

    def count_calls(frame, event, argument):
        nonlocal calls
        calls += event in ('call', 'c_call')

    sys.setprofile(count_calls)
    try:
        starts = find_starts([], saves, found, {}, Counting(False, 0))
    finally:
        sys.setprofile(None)
    return starts, calls
