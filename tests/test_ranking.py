"""``keep=dict(best=...)`` and the other policies over real runs."""
import json
import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from foreign_files import stock_file
from toy import QuickEvalHook, make_loader, make_runner, names, train

from mmcv_ckpt_hooks.errors import ConfigError

OURS = dict(type='DurableCheckpointHook')
ITER = ['IterBasedRunner', 'IterBasedRunnerAmp']
EPOCH = ['EpochBasedRunner', 'EpochBasedRunnerAmp']


def runner_config(name, steps):
    if 'Iter' in name:
        return dict(type=name, max_iters=steps)
    return dict(type=name, max_epochs=steps)


def evaluation(scores, interval=2, **kwargs):
    return dict(
        dict(scores=scores, interval=interval, by_epoch=False), **kwargs)


def run(directory, steps, scores, keep, name='IterBasedRunnerAmp', **kwargs):
    """Train on, as a requeued job does."""
    options = dict(
        dict(interval=2, resume='auto', keep=keep), **kwargs.pop('ours', {}))
    return train(
        directory,
        runner=runner_config(name, steps),
        hooks=[dict(**options, **OURS)],
        evaluation=evaluation(scores, **kwargs))


def there(directory):
    """Names without the ending and without the pointer."""
    return [name[:-4] for name in names(directory) if name != 'latest.pth']


def catalog_of(directory):
    return json.loads((directory / 'checkpoints.json').read_text())


RISING_AND_FALLING = [.1, .6, .3, .8, .2, .5]

KEPT = [
    # keep, what is there after twelve steps, saved every two
    (dict(best=1), ['iter_12', 'iter_8']),
    (dict(best=2), ['iter_12', 'iter_4', 'iter_8']),
    (dict(best=3), ['iter_12', 'iter_4', 'iter_8']),
    (dict(best=4), ['iter_12', 'iter_4', 'iter_6', 'iter_8']),
    (dict(best=1, last=2), ['iter_10', 'iter_12', 'iter_8']),
    (dict(best=1, every=6), ['iter_12', 'iter_6', 'iter_8']),
    (dict(best=1, rule='less'), ['iter_12', 'iter_2']),
    (dict(best=1, last=-1), [f'iter_{n}' for n in (10, 12, 2, 4, 6, 8)]),
    (dict(every=4), ['iter_12', 'iter_4', 'iter_8']),
]


@pytest.mark.parametrize('keep, expected', KEPT, ids=str)
@pytest.mark.parametrize('stop', [None, 6])
def test_what_the_policies_unite_to(tmp_path, keep, expected, stop):
    """Without and with a resume in between."""
    if stop:
        run(tmp_path, stop, RISING_AND_FALLING[:stop // 2], keep)
    done = stop // 2 if stop else 0
    run(tmp_path, 12, RISING_AND_FALLING[done:], keep)
    assert there(tmp_path) == expected
    for name in expected:
        torch.load(tmp_path / f'{name}.pth')


@pytest.mark.parametrize('name', EPOCH)
def test_by_epoch_the_best_stay_as_well(tmp_path, name):
    run(tmp_path,
        5, [.1, .6, .3, .8, .2],
        dict(best=2),
        name,
        interval=1,
        by_epoch=True,
        ours=dict(interval=1))
    assert there(tmp_path) == ['epoch_2', 'epoch_4', 'epoch_5']


@pytest.mark.parametrize('name', ITER)
def test_evaluations_beside_the_grid_are_saved_if_they_rank(tmp_path, name):
    run(tmp_path,
        12, [.1, .6, .3, .8, .2, .5],
        dict(best=2),
        name,
        ours=dict(interval=12))
    assert there(tmp_path) == [
        'best_mIoU_iter_4', 'best_mIoU_iter_8', 'iter_12'
    ]
    meta = torch.load(tmp_path / 'best_mIoU_iter_4.pth')['meta']
    assert meta['iter'] == 4


def test_one_that_is_pushed_out_goes_after_the_better_one_is_there(
        tmp_path, monkeypatch):
    from mmcv_ckpt_hooks.storage.local import LocalBackend
    deleted = []
    delete = LocalBackend.delete

    def watched(self, name):
        deleted.append((name, there(tmp_path)))
        delete(self, name)

    monkeypatch.setattr(LocalBackend, 'delete', watched)
    run(tmp_path, 6, [.1, .6, .7], dict(best=1), ours=dict(interval=20))
    assert [name for name, _ in deleted
            ] == ['best_mIoU_iter_2.pth', 'best_mIoU_iter_4.pth']
    for name, before in deleted:
        step = int(name[len('best_mIoU_iter_'):-4])
        assert any(one.endswith(f'iter_{step + 2}') for one in before)


def test_after_the_last_evaluation_nothing_is_left_over(tmp_path):
    """The step pushed out goes at once, not with the next save."""
    run(tmp_path, 6, [.5, .1, .9], dict(best=1))
    assert there(tmp_path) == ['iter_6']


@pytest.mark.parametrize('save_best, expected', [
    ('mIoU', ['best_mIoU_iter_8', 'iter_12', 'iter_4', 'iter_8']),
    (None, ['iter_12', 'iter_2', 'iter_4', 'iter_8']),
])
def test_without_monitor_the_metric_of_save_best_counts(
        tmp_path, save_best, expected):
    """Else the first one: aAcc."""
    scores = [
        OrderedDict(aAcc=aAcc, mIoU=mIoU)
        for aAcc, mIoU in zip([.9, .8, .1, .7, .2, .3], RISING_AND_FALLING)
    ]
    run(tmp_path,
        12,
        scores,
        dict(best=2 if save_best else 3),
        save_best=save_best)
    assert there(tmp_path) == expected


def test_save_best_beside_the_grid_and_best_k_share_their_files(tmp_path):
    run(tmp_path,
        12,
        RISING_AND_FALLING,
        dict(best=3),
        save_best='mIoU',
        ours=dict(interval=12))
    # the 12th step ranks with the file that it has
    assert there(tmp_path) == [
        'best_mIoU_iter_4', 'best_mIoU_iter_8', 'iter_12'
    ]
    assert catalog_of(tmp_path)['best']['mIoU']['iter'] == 8


def test_several_metrics_with_a_rule_each(tmp_path):
    scores = [{
        'bbox/mAP': one,
        'mae': two,
        'IoU.cell': three
    } for one, two, three in [(.9, .9, .1), (.1, .1, .2), (.2, .5,
                                                           .9), (.3, .6, .3)]]
    keep = dict(best=1, monitor=['bbox/mAP', 'mae', 'IoU.cell'])
    run(tmp_path, 8, scores, keep, ours=dict(interval=8))
    assert there(tmp_path) == [
        'best_IoU.cell_iter_6', 'best_bbox_mAP_iter_2', 'best_mae_iter_4',
        'iter_8'
    ]


def test_broken_scores_have_no_rank(tmp_path):
    nan, inf = float('nan'), float('inf')
    run(tmp_path, 10, [nan, 0.0, inf, -.5, nan], dict(best=1))
    assert there(tmp_path) == ['iter_10', 'iter_4']


KINDS = {
    'array': np.array,
    'array of one': lambda score: np.array([score]),
    'tensor': torch.tensor,
    'tensor of one': lambda score: torch.tensor([[score]]),
}


@pytest.mark.parametrize('kind', sorted(KINDS))
@pytest.mark.parametrize('name', ITER)
def test_scores_in_arrays_and_tensors_rank(tmp_path, kind, name):
    scores = [dict(mIoU=KINDS[kind](one)) for one in (.5, .875, .25, .125)]
    run(tmp_path, 8, scores, dict(best=1), name, save_best='mIoU')
    assert there(tmp_path) == ['best_mIoU_iter_4', 'iter_4', 'iter_8']
    metrics = {
        info['name']: info['metrics']
        for info in catalog_of(tmp_path)['checkpoints']
    }
    assert metrics['iter_4.pth'] == dict(mIoU=.875)


def test_where_no_score_can_be_read_nothing_is_deleted(tmp_path, caplog):
    unread = dict(table='0.9', per_class=[.9, .8])
    run(tmp_path / 'one', 6, [unread], dict(best=1, monitor='mIoU'))
    assert there(tmp_path / 'one') == ['iter_2', 'iter_4', 'iter_6']
    assert caplog.text.count('gave no number (table, per_class)') == 3
    # nor are those of before, while it lasts
    scores = [dict(mIoU=.5), dict(mIoU=.4), unread, dict(mIoU=.6)]
    run(tmp_path / 'two', 7, scores, dict(best=1))
    assert there(tmp_path / 'two') == ['iter_2', 'iter_6', 'iter_7']
    run(tmp_path / 'three', 9, scores, dict(best=1))
    assert there(tmp_path / 'three') == ['iter_8', 'iter_9']


def test_an_evaluation_without_numbers_beside_one_that_ranks(tmp_path, caplog):
    runner = make_runner(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 7),
        hooks=[dict(interval=2, keep=dict(best=1, monitor='mIoU'), **OURS)])
    for scores in ([.1, .3, .2], [dict(table='0.9')]):
        runner.register_hook(
            QuickEvalHook(scores, interval=2, by_epoch=False), 'LOW')
    runner.run([make_loader()], [('train', 1)])
    assert there(tmp_path) == ['iter_4', 'iter_7']
    assert 'gave no number' not in caplog.text


# -- which metric ------------------------------------------------------------


@pytest.mark.parametrize('name', ITER + EPOCH)
@pytest.mark.parametrize('more', [{}, dict(monitor='mIuO')])
def test_without_an_evaluation_it_is_refused_before_training(
        tmp_path, name, more):
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 4),
        hooks=[dict(interval=2, keep=dict(best=2, **more), **OURS)])
    with pytest.raises(ConfigError, match='no EvalHook'):
        runner.run([make_loader()], [('train', 1)])
    assert runner.iter == 0 and names(tmp_path) == []


def test_a_rule_that_cannot_be_told_is_refused_before_training(tmp_path):
    with pytest.raises(ConfigError, match='keep.rule'):
        run(tmp_path, 4, [.5], dict(best=1, monitor='clap'))
    assert names(tmp_path) == []


@pytest.mark.parametrize('name', ITER)
def test_an_unknown_metric_is_told_at_the_first_evaluation(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, 8, [dict(mIoU=.5, aAcc=float('nan'))],
            dict(best=1, monitor='miou'), name)
    for word in ("'miou'", "did you mean 'mIoU'", 'aAcc, mIoU'):
        assert word in str(caught.value)
    # the step was saved before
    assert 'iter_2.pth' in names(tmp_path)
    assert 'iter_4.pth' not in names(tmp_path)


def test_a_metric_of_the_second_evaluation_is_known(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 6),
        hooks=[dict(interval=2, keep=dict(best=1, monitor='aAcc'), **OURS)])
    for key, scores in (('mIoU', [.1, .2, .3]), ('aAcc', [.8, .9, .1])):
        results = [{key: score} for score in scores]
        runner.register_hook(
            QuickEvalHook(results, interval=2, by_epoch=False), 'LOW')
    runner.run([make_loader()], [('train', 1)])
    assert there(tmp_path) == ['iter_4', 'iter_6']


def test_the_metrics_of_two_save_best_both_rank(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[dict(interval=2, keep=dict(best=2), **OURS)])
    for key, scores in (('mIoU', [.9, .8, .1, .1]), ('aAcc', [.1, .2, .9,
                                                              .3])):
        results = [{key: score} for score in scores]
        runner.register_hook(
            QuickEvalHook(results, interval=2, by_epoch=False, save_best=key),
            'LOW')
    runner.run([make_loader()], [('train', 1)])
    assert there(tmp_path) == [
        'best_aAcc_iter_6', 'best_mIoU_iter_2', 'iter_2', 'iter_4', 'iter_6',
        'iter_8'
    ]


@pytest.mark.filterwarnings('ignore:Since `eval_res`')
@pytest.mark.parametrize('save_best', ['mIoU', None])
def test_a_metric_that_is_missing_once_is_no_error(tmp_path, save_best):
    scores = [dict(mIoU=.5), {}, dict(mIoU=.4)]
    if save_best is None:
        scores.insert(2, dict(aAcc=.5))
    runner = run(
        tmp_path,
        2 * len(scores),
        scores,
        dict(best=1, monitor='mIoU'),
        save_best=save_best)
    assert runner.iter == 2 * len(scores)
    assert 'iter_2' in there(tmp_path)


def test_also_at_the_first_evaluation_of_a_resumed_run(tmp_path):
    keep = dict(best=1, monitor='mIoU')
    run(tmp_path, 4, [.9, .5], keep)
    run(tmp_path, 8, [dict(aAcc=.1), dict(mIoU=.6)], keep)
    assert there(tmp_path) == ['iter_2', 'iter_8']


@pytest.mark.parametrize('save_best', [None, 'auto'])
@pytest.mark.parametrize('lost', [False, True])
def test_auto_means_the_same_after_a_resume(tmp_path, save_best, lost):
    """The data set's first metric may be another then."""

    def scores(order, values):
        return [
            OrderedDict((key, mIoU if key == 'mIoU' else 1 - mIoU)
                        for key in order) for mIoU in values
        ]

    keep = dict(best=1)
    run(tmp_path,
        4,
        scores(['mIoU', 'aAcc'], [.5, .9]),
        keep,
        save_best=save_best)
    if lost:
        os.unlink(tmp_path / 'checkpoints.json')
    run(tmp_path,
        8,
        scores(['aAcc', 'mIoU'], [.1, .2]),
        keep,
        save_best=save_best)
    best = ['best_mIoU_iter_4'] if save_best else []
    assert there(tmp_path) == best + ['iter_4', 'iter_8']


def test_a_run_that_asks_for_the_best_later_loses_none_before(tmp_path):
    """Which metric counts is not known until it evaluates."""
    run(tmp_path, 6, [.5, .9, .1], None)
    run(tmp_path, 10, [.2, .3], dict(best=1))
    assert there(tmp_path) == ['iter_10', 'iter_4']


# -- a budget ----------------------------------------------------------------


def test_a_budget_keeps_as_many_as_fit(tmp_path, caplog):
    size = os.path.getsize(
        train(
            tmp_path / 'one',
            hooks=[dict(interval=2, **OURS)],
            runner=runner_config('IterBasedRunnerAmp', 2)).work_dir +
        '/iter_2.pth')
    keep = dict(bytes=int(size * 3.5))
    work = tmp_path / 'work'
    run(work, 6, [.5, .1, .1], keep, save_best='mIoU')
    run(work, 12, [.1, .1, .1], keep, save_best='mIoU')
    # the best one is the only name of its content by then
    assert there(work) == ['best_mIoU_iter_2', 'iter_10', 'iter_12']
    assert 'more than keep.bytes' not in caplog.text


def test_what_must_be_kept_is_kept_over_budget_and_that_is_said(
        tmp_path, caplog):
    run(tmp_path, 12, RISING_AND_FALLING, dict(best=2, bytes='1KB'))
    assert there(tmp_path) == ['iter_12', 'iter_4', 'iter_8']
    assert caplog.text.count('more than keep.bytes (0.00 MB)') == 1


# -- off the grid ------------------------------------------------------------


def ask_at(directory, step):
    """A hook that asks for a save by file after a step."""
    from mmcv.runner import Hook

    class Ask(Hook):

        def after_train_iter(self, runner):
            if runner.iter + 1 == step:
                (directory / 'SAVE').touch()
                for hook in runner.hooks:
                    if hasattr(hook, '_schedule'):
                        hook._schedule._looked_at -= 10

    return Ask()


@pytest.mark.parametrize('keep, expected', [
    (None, ['iter_4', 'iter_8']),
    (dict(last=-1), ['iter_4', 'iter_8']),
    (dict(best=1), ['iter_6', 'iter_8']),
])
def test_one_off_the_grid_goes_unless_a_policy_keeps_it(
        tmp_path, caplog, keep, expected):
    runner = make_runner(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        evaluation=evaluation([.1, .9, .2], interval=3),
        hooks=[
            ask_at(tmp_path, 6),
            dict(interval=4, keep=keep, **OURS),
        ])
    runner.run([make_loader()], [('train', 1)])
    assert not (tmp_path / 'SAVE').exists()
    assert 'Saved checkpoint iter_6.pth (file): ' in caplog.text
    for on_grid in ('iter_4', 'iter_8'):
        assert f'Saved checkpoint {on_grid}.pth: ' in caplog.text
    assert there(tmp_path) == expected


@pytest.mark.parametrize('keep, save_best', [
    (dict(best=1), None),
    (dict(best=2, last=1), None),
    (None, 'mIoU'),
    (dict(best=1), 'mIoU'),
])
def test_every_deletion_is_told_and_in_the_history(tmp_path, caplog, keep,
                                                   save_best):
    """Also of what a score has cost, which comes behind the save."""
    run(tmp_path, 12, RISING_AND_FALLING, keep, save_best=save_best)
    events = [
        json.loads(line)
        for line in (tmp_path / 'checkpoints.log.jsonl').open()
    ]
    made = {
        event['name']
        for event in events if event['event'] in ('save', 'link')
    }
    deleted = [
        name for event in events if event['event'] in ('save', 'delete')
        for name in event['deleted']
    ]
    assert len(set(deleted)) == len(deleted) > 0
    assert made - set(deleted) == {f'{name}.pth' for name in there(tmp_path)}
    after = [event for event in events if event['event'] == 'delete']
    assert after
    for event in after:
        steps = event['iter']
        assert f'Deleted {", ".join(event["deleted"])}: nothing keeps that ' \
            f'since the scores at {steps} iterations' in caplog.messages
    told = [one for one in caplog.messages if 'eleted' in one]
    for name in deleted:
        assert sum(name in one.partition('eleted')[2] for one in told) == 1


# -- whose files -------------------------------------------------------------


def test_stocks_files_are_neither_ranked_nor_deleted(tmp_path):
    """INVARIANT 3."""
    stock_file(tmp_path, 1)
    os.rename(stock_file(tmp_path, 5), tmp_path / 'best_mIoU_iter_5.pth')
    run(tmp_path,
        12,
        RISING_AND_FALLING,
        dict(best=1, bytes=1),
        ours=dict(resume=None))
    assert there(tmp_path) == [
        'best_mIoU_iter_5', 'iter_1', 'iter_12', 'iter_8'
    ]


@pytest.mark.parametrize('damage', ['lost', 'damaged', 'kept'])
@pytest.mark.parametrize('save_best', ['mIoU', None])
@pytest.mark.parametrize('grid', [2, 5])
def test_the_best_survive_a_lost_catalog(tmp_path, damage, save_best, grid):
    """The history says which scores the files have, and whose they are."""

    def train_on(directory, damage):
        keep, ours = dict(best=2), dict(interval=grid)
        run(directory,
            10, [.1, .9, .3, .8, .2],
            keep,
            save_best=save_best,
            ours=ours)
        path = directory / 'checkpoints.json'
        if damage == 'lost':
            path.unlink()
        elif damage == 'damaged':
            path.write_text('{"checkpoints": [')
        runner = run(
            directory, 16, [.4, .85, .3], keep, save_best=save_best, ours=ours)
        return runner.meta['hook_msgs'].get('best_score')

    score = train_on(tmp_path / damage, damage)
    assert score == (.9 if save_best else None)
    assert train_on(tmp_path / 'kept', 'kept') == score
    assert there(tmp_path / damage) == there(tmp_path / 'kept')
    assert any(name.endswith('_4') for name in there(tmp_path / damage))
