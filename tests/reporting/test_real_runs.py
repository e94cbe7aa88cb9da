"""The report of real runs: what is on the page is what has happened."""
import datetime
import json
import shutil

import pytest
from mmcv.runner import Hook
from mmcv.utils import get_logger
from toy import make_loader, make_runner, train

from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.folders.layout import MANIFEST_NAME


def told(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main(['report', *map(str, arguments), '--json']) == code
    return json.loads(capsys.readouterr().out)


def older(run, directory):
    """A copy whose history tells of no begin and no end."""
    shutil.copytree(run, directory, symlinks=True)
    path = directory / 'checkpoints.log.jsonl'
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(''.join(
        line for line in lines
        if json.loads(line)['event'] not in ('start', 'end')))
    return directory


def test_each_start_has_how_far_it_came_and_how_it_ended(killed_run, capsys):
    content = told(capsys, killed_run)
    assert [(one['from_iter'], one['reached'], one['end'], one['repeated'])
            for one in content['starts']] == [(0, 5, 'killed', 1),
                                              (4, 7, 'signal', 0),
                                              (7, 8, 'finished', 0)]
    assert content['starts'][1]['signal'] == 'SIGTERM'
    assert len({one['lineage'] for one in content['starts']}) == 1


def test_times_of_logs_are_utc_whatever_the_clock_had(killed_run, tmp_path,
                                                      capsys):
    content = told(capsys, older(killed_run, tmp_path / 'run'))
    log = content['starts'][0]['log']
    local = datetime.datetime.strptime(log, '%Y%m%d_%H%M%S').replace(
        tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30)))
    assert content['starts'][0]['began'] == local.timestamp()
    assert not any('UTC' in note for note in content['notes'])


def test_without_the_text_the_json_tells_the_zone(killed_run, tmp_path,
                                                  capsys):
    before = told(capsys, killed_run)['starts']
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    for path in copied.glob('2*.log'):
        path.unlink()
    after = told(capsys, copied)['starts']
    assert [one['began'] for one in after] == [one['began'] for one in before]
    assert [one['reached'] for one in after] == [5, 7, 8]
    assert [one['end'] for one in after] == ['killed', 'signal', 'finished']


def test_saves_have_their_costs_and_whether_they_are_kept(killed_run, capsys):
    content = told(capsys, killed_run)
    lines = map(json.loads, (killed_run / 'checkpoints.log.jsonl').open())
    saves = [line for line in lines if line['event'] == 'save']
    assert [(one['iter'], one['blocked_secs'], one['durable_secs'])
            for one in content['saves']] == [(one['iter'], one['blocked_secs'],
                                              one['durable_secs'])
                                             for one in saves]
    there = {path.name for path in killed_run.glob('iter_*.pth')}
    assert {one['name'] for one in content['saves'] if one['kept']} == there


def test_the_bytes_at_the_end_are_those_on_the_disk(killed_run, capsys):
    content = told(capsys, killed_run)
    inodes = {
        path.stat().st_ino: path.stat().st_size
        for path in killed_run.glob('*.pth')
    }
    assert content['disk'][-1]['bytes'] == sum(inodes.values()) == \
        content['bytes']
    # a save comes before what it replaces goes
    assert content['disk'][-1]['most'] > content['disk'][-1]['bytes']


def test_the_curve_has_the_scores_and_marks_the_best(killed_run, capsys):
    curve, = told(capsys, killed_run)['metrics']
    assert curve['key'] == 'mIoU'
    assert curve['points'] == [[2, .5], [4, .7], [6, .6], [8, .65]]
    assert curve['best'] == [4, .7, 'best_mIoU_iter_4.pth']
    assert curve['given_up'] == []


def test_scores_of_a_run_that_evaluates_more_often_than_it_saves(
        tmp_path, capsys):
    for steps in (6, 10):
        train(
            tmp_path,
            loader=make_loader(64),
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            checkpoint_config=dict(interval=5),
            evaluation=dict(
                scores=[.5, .6],
                interval=2,
                by_epoch=False,
                save_best=steps == 6 and 'mIoU' or None),
            hooks=[dict(type='DurableCheckpointHook', resume='auto')])
    curve, = told(capsys, tmp_path)['metrics']
    assert [step for step, _ in curve['points']] == [2, 4, 6, 8, 10]
    assert curve['given_up'] == []


def test_steps_of_an_epoch_runner_are_counted_over_epochs(epoch_run, capsys):
    content = told(capsys, epoch_run)
    start, = content['starts']
    assert (start['reached'], start['end'], start['most']) == (8, 'finished',
                                                               8)
    loss, = content['losses']
    assert [step for step, _ in loss['points']] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_so_it_is_without_the_text(epoch_run, tmp_path, capsys):
    copied = tmp_path / 'run'
    shutil.copytree(epoch_run, copied, symlinks=True)
    for path in copied.glob('2*.log'):
        path.unlink()
    loss, = told(capsys, copied)['losses']
    assert [step for step, _ in loss['points']] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_run_without_history_says_what_is_not_known(killed_run, tmp_path,
                                                      capsys):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    (copied / 'checkpoints.log.jsonl').unlink()
    content = told(capsys, copied)
    assert any('no history' in note for note in content['notes'])
    # of the catalog: what is there, not what it cost
    assert [one['iter'] for one in content['saves']] == [4, 6, 8]
    assert all(one['blocked_secs'] is None for one in content['saves'])
    assert content['metrics'][0]['points']


def test_a_run_without_logs_says_what_is_not_known(killed_run, tmp_path,
                                                   capsys):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    for path in copied.glob('2*'):
        path.unlink()
    content = told(capsys, copied)
    assert any('no logs' in note for note in content['notes'])
    assert [one['reached'] for one in content['starts']] == [4, 7, 8]
    # they may lie elsewhere
    content = told(capsys, copied, '--logs', killed_run)
    assert [one['reached'] for one in content['starts']] == [5, 7, 8]


def test_without_logs_the_history_tells_how_each_start_ended(
        killed_run, tmp_path, capsys):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    for path in copied.glob('2*'):
        path.unlink()
    content = told(capsys, copied)
    assert [(one['from_iter'], one['reached'], one['end'], one['signal'],
             one['most'])
            for one in content['starts']] == [(0, 4, 'killed', '', 8),
                                              (4, 7, 'signal', 'SIGTERM', 8),
                                              (7, 8, 'finished', '', 8)]
    begins = [one['began'] for one in content['starts']]
    assert None not in begins and begins == sorted(begins)
    # the end of one is before the begin of the next
    assert content['starts'][1]['points'][-1][0] <= begins[2]
    note, = [one for one in content['notes'] if 'no logs' in one]
    assert 'began' not in note and 'recorded end' not in note
    assert 'how far one that was killed had come' in note


@pytest.mark.parametrize('logs, ends', [(True, 'finished'), (False, 'open')])
def test_a_history_of_an_older_version_tells_less(tmp_path, capsys, logs,
                                                  ends):
    """It ended with a save of the interval."""
    run = tmp_path / 'run'
    run.mkdir()
    train(
        run,
        runner=dict(type='IterBasedRunnerAmp', max_iters=8),
        log_interval=1,
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=4,
                write=dict(background=False))
        ])
    copied = older(run, tmp_path / 'older')
    for path in copied.glob('2*'):
        path.unlink()
    if logs:
        (copied / '20261128_000000.log').write_text(
            '2026-11-28 00:00:00,100 - x - INFO - workflow: [], max: 8 iters\n'
            '2026-11-28 00:00:01,100 - x - INFO - Iter [8/8]\tlr: 1\n')
    assert told(capsys, run)['starts'][0]['end'] == 'finished'
    content = told(capsys, copied)
    assert content['starts'][-1]['end'] == ends
    assert any('without a recorded end' in note
               for note in content['notes']) is not logs


def test_an_exception_is_told_with_its_type(tmp_path, capsys):

    class Raises(Hook):

        def before_train_iter(self, runner):
            if runner.iter == 5:
                raise FloatingPointError

    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=8),
        hooks=[dict(type='DurableCheckpointHook', interval=2),
               Raises()])
    with pytest.raises(FloatingPointError):
        runner.run([make_loader(64)], [('train', 1)])
    start, = told(capsys, tmp_path)['starts']
    assert (start['end'], start['error'], start['reached']) == \
        ('exception', 'FloatingPointError', 5)


def test_a_torn_tail_is_left_out(killed_run, tmp_path, capsys):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    before = told(capsys, copied)
    with open(copied / 'checkpoints.log.jsonl', 'ab') as file:
        file.write(b'{"event": "save", "ite')
    log, = sorted(copied.glob('*.log.json'))[-1:]
    with open(log, 'ab') as file:
        file.write(b'{"mode": "tr')
    after = told(capsys, copied)
    assert after['saves'] == before['saves']
    assert 'Lines that could not be read: 1.' in after['notes']


@pytest.mark.parametrize('metrics', ['NaN', 'Infinity', '"high"', '1e400'])
def test_a_score_that_is_no_number_is_no_point(killed_run, tmp_path, capsys,
                                               metrics):
    copied = tmp_path / 'run'
    shutil.copytree(killed_run, copied, symlinks=True)
    before = told(capsys, copied)['metrics']
    with open(copied / 'checkpoints.log.jsonl', 'a') as file:
        file.write('{"event": "scores", "iter": 9, "metrics": {"mIoU": '
                   f'{metrics}}}}}\n')
    assert told(capsys, copied)['metrics'] == before


def test_a_run_of_stock_mmcv_has_what_its_logs_tell(tmp_path, capsys):
    """It has no history, and its checkpoints tell no time."""
    logger = get_logger('stock', log_file=f'{tmp_path}/20261128_010203.log')
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunner', max_iters=8),
        log_interval=1,
        checkpoint_config=dict(interval=4),
        evaluation=dict(scores=[.5, .7], interval=4, by_epoch=False))
    runner.logger, runner.timestamp = logger, '20261128_010203'
    runner.run([make_loader(64)], [('train', 1)])
    content = told(capsys, tmp_path)
    start, = content['starts']
    assert (start['from_iter'], start['reached'], start['end']) == (0, 8,
                                                                    'finished')
    assert any('time zone' in note for note in content['notes'])
    assert content['resume']['taken'] == 'iter_8.pth'
    assert content['saves'] == []
    lines = (tmp_path / '20261128_010203.log.json').read_text()
    if '"mode": "val"' not in lines:
        pytest.skip('scores are in the lines of training, as mmcv 1.3.1 does')
    curve, = content['metrics']
    assert (curve['key'], curve['points']) == ('mIoU', [[4, .5], [8, .7]])


def test_a_folder_that_lacks_its_last_file_is_told(tmp_path, capsys):
    """A run that starts there stops with an error, and does not begin."""
    folder = tmp_path / 'iter_4.dcp'
    folder.mkdir()
    (folder / MANIFEST_NAME).write_text('{}')
    content = told(capsys, tmp_path)
    assert content['resume']['stops_at'] == 'iter_4.dcp'
    assert any('has no .metadata' in note for note in content['notes'])
