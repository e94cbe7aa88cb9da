"""What is said at the end of a run, from records alone."""
import pytest

from mmcv_ckpt_hooks.summary import PlaceContent, Summary
from mmcv_ckpt_hooks.tally import Tally, together
from mmcv_ckpt_hooks.types import CheckpointInfo


def save(trigger='interval', nbytes=2 * 10**6, blocked=.01, durable=.5, **kw):
    return dict(
        kw,
        trigger=trigger,
        bytes=nbytes,
        blocked_secs=blocked,
        durable_secs=durable)


def tally(*saves, **counts):
    made = Tally(**counts)
    for one in saves:
        made.hear('save', one)
    return made


def make(**changed):
    fields = dict(
        tally=tally(save(),
                    save(blocked=.03, durable=1.5, deleted=['iter_2.pth']),
                    save('signal', blocked=.02, durable=1.)),
        run_secs=10.,
        went_on_from='',
        places=[PlaceContent('/runs/a', 2, 0, 4 * 10**6)],
        newest=CheckpointInfo('iter_6.pth', 1, 6, 2 * 10**6),
        best=[],
        mirror=None,
        next_start='the same command goes on from iter_6.pth')
    return Summary(**dict(fields, **changed))


def rows(summary):
    head, *lines = summary.text().splitlines()
    assert all(line.startswith('  ') and line[9] == ' ' for line in lines)
    return head, {line[2:9].strip(): line[10:] for line in lines}


def test_the_block_adds_up_what_the_history_has():
    head, said = rows(make())
    assert head == 'What this run has saved in 10.0 s:'
    assert said == dict(
        saves='3 (interval 2, signal 1)',
        waited='0.060 s of training in all, 0.6% of its time; '
        '20.0 ms a save, at most 30.0 ms',
        wrote='6.00 MB at 2.0 MB/s; durable after 1.000 s, at most 1.500 s',
        deleted='1 name',
        there='2 checkpoints of this run, 4.00 MB, in /runs/a',
        newest='iter_6.pth: 1 epoch and 6 iterations',
        resume='the same command goes on from iter_6.pth')


def test_what_was_not_as_usual_is_in_it():
    head, said = rows(
        make(
            tally=tally(
                save(), failed=1, skipped=2, second_names=1, deleted=4),
            went_on_from='iter_4.pth',
            places=[
                PlaceContent('/runs/a', 1, 0, 10**6),
                PlaceContent('s3://b/a', 2, 1, 10**6)
            ],
            newest=CheckpointInfo('iter_6.pth', 0, 6, 0),
            best=[('best_mIoU_iter_4.pth', 'mIoU', .90741)],
            mirror='s3://m/a has all that it keeps'))
    assert head == 'What this run has saved in 10.0 s, since it went on ' \
        'from iter_4.pth:'
    assert said['saves'] == '1 (interval 1); 1 second name of one for the ' \
        "best; 1 failed; 2 skipped (backlog='skip')"
    assert said['deleted'] == '4 names'
    assert said['there'] == '1 checkpoint of this run, 1.00 MB, in /runs/a' \
        '; 2 checkpoints of this run and 1 second name, 1.00 MB, in s3://b/a'
    assert said['newest'] == 'iter_6.pth: 6 iterations'
    assert said['best'] == 'best_mIoU_iter_4.pth (mIoU 0.9074)'
    assert said['mirror'] == 's3://m/a has all that it keeps'


def test_of_nothing_there_are_no_means():
    _, said = rows(
        make(
            tally=tally(failed=2),
            newest=None,
            places=[PlaceContent('/runs/a', 0, 0, 0)]))
    assert sorted(said) == ['resume', 'saves', 'there']
    assert said['saves'] == 'none; 2 failed'


def test_a_clock_that_stands_still_divides_nothing():
    _, said = rows(make(tally=tally(save(durable=0.)), run_secs=0.))
    assert said['waited'].startswith('0.010 s of training in all; ')
    assert said['wrote'] == '2.00 MB; durable after 0.000 s, at most 0.000 s'


@pytest.mark.parametrize('event, deleted, second', [
    ('delete', 2, 0),
    ('link', 2, 1),
    ('scores', 2, 0),
])
def test_other_events_count_what_they_tell(event, deleted, second):
    made = tally()
    made.hear(event, dict(deleted=['a', 'b'], bytes=3, trigger='x'))
    assert (made.deleted, made.second_names, made.saves) == \
        (deleted, second, 0)


def test_several_places_are_added_up():
    whole = together([
        tally(save('interval', blocked=.5, durable=1.), failed=1),
        tally(
            save('best', blocked=.1, durable=2.),
            save('interval', blocked=.2, durable=.5, deleted=['x']),
            skipped=3)
    ])
    assert whole.triggers == dict(interval=2, best=1)
    assert whole.bytes == 6 * 10**6
    assert (whole.blocked_secs, whole.durable_secs) == (.8, 3.5)
    assert whole.longest_blocked_secs == .5
    assert whole.longest_durable_secs == 2.
    assert (whole.failed, whole.skipped, whole.deleted) == (1, 3, 1)
