"""What a lost catalog gets back from the history."""
import errno
import os
from dataclasses import replace

import pytest
from toy import names, train

from mmcv_ckpt_hooks import history
from mmcv_ckpt_hooks.errors import StorageError
from mmcv_ckpt_hooks.recovery import recovered
from mmcv_ckpt_hooks.types import CheckpointInfo

OURS = CheckpointInfo('iter_4.pth', 1, 4, 10, digest='d4', lineage='run')
BEST = CheckpointInfo(
    'best_mIoU_iter_4.pth',
    1,
    4,
    10,
    digest='d4',
    trigger='best',
    regular=False)
SCORES = dict(
    event='scores',
    lineage='run',
    iter=4,
    digests=['d4'],
    metrics=dict(mIoU=.5))
LINK = dict(
    event='link',
    name=BEST.name,
    digest='d4',
    lineage='run',
    generation=2,
    started_iter=1,
    same_as='iter_4.pth')
RECORD = dict(
    event='best',
    key='mIoU',
    score=.5,
    rule='greater',
    name=BEST.name,
    iter=4,
    lineage='run')


def test_scores_best_files_and_the_chosen_metric_come_back():
    auto = dict(event='auto_metric', lineage='run', key='mIoU')
    found = recovered([LINK, SCORES, RECORD, auto], [OURS, BEST])
    regular, best = found.checkpoints
    assert regular == replace(OURS, metrics=dict(mIoU=.5))
    assert best == replace(
        BEST,
        metrics=dict(mIoU=.5),
        lineage='run',
        generation=2,
        started_iter=1,
        same_as='iter_4.pth')
    assert [(one.lineage, one.key, one.score)
            for one in found.best] == [('run', 'mIoU', .5)]
    assert found.auto == dict(run='mIoU')
    assert found.count == 2


def test_a_later_evaluation_of_a_step_counts():
    again = dict(SCORES, metrics=dict(mIoU=.6, aAcc=.7))
    found = recovered([SCORES, again], [OURS])
    assert found.checkpoints[0].metrics == dict(mIoU=.6, aAcc=.7)


@pytest.mark.parametrize('change', [
    dict(lineage='another'),
    dict(digests=['of the file before']),
    dict(digests='d4'),
    dict(metrics=[.5]),
    dict(metrics=dict(mIoU='0.5', aAcc=None, a=True, b=float('nan'))),
    dict(lineage=None),
    dict(event='score'),
])
def test_scores_of_another_content_or_run_are_not_joined(change):
    found = recovered([dict(SCORES, **change)], [OURS])
    assert found.checkpoints == [OURS] and found.count == 0


@pytest.mark.parametrize('change', [
    dict(digest='of another file'),
    dict(digest=['d4']),
    dict(name=None),
    dict(name='best_mIoU_iter_8.pth'),
    dict(generation='2'),
    dict(lineage=None),
])
def test_a_best_file_that_is_not_the_one_stays_nobodys(change):
    """INVARIANT 3: it would be deleted as this run's."""
    found = recovered([dict(LINK, **change), RECORD], [BEST])
    assert found.checkpoints == [BEST] and found.best == []


@pytest.mark.parametrize('change', [dict(score='x'), dict(key=None)])
def test_a_record_that_was_edited_is_passed_over(change):
    found = recovered([LINK, dict(RECORD, **change)], [BEST])
    assert found.best == []


def test_a_copy_that_the_user_made_stays_the_users():
    copy = replace(OURS, name='mine.pth', lineage='')
    save = dict(LINK, event='save', name='iter_4.pth')
    assert recovered([save], [copy]).checkpoints == [copy]


# -- a history that cannot be read --------------------------------------------

UNREADABLE = [(PermissionError, errno.EACCES), (OSError, errno.EIO)]


@pytest.fixture
def lost(tmp_path):
    """A run whose catalog is gone; the best of its steps is not the last."""
    run(tmp_path, 6, [.5, .9, .1], keep=dict(last=-1), save_best='mIoU')
    (tmp_path / 'checkpoints.json').unlink()
    return tmp_path


def run(directory, steps, scores, keep=None, save_best=None):
    return train(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                resume='auto',
                keep=keep)
        ],
        evaluation=dict(
            scores=scores, interval=2, by_epoch=False, save_best=save_best))


def refuse(monkeypatch, kind, number):

    def refused(path, mode, **kwargs):
        if mode == 'rb':
            raise kind(number, os.strerror(number), path)
        return open(path, mode, **kwargs)

    monkeypatch.setattr(history, 'open', refused, raising=False)


@pytest.mark.parametrize('error', UNREADABLE)
def test_a_history_that_cannot_be_read_costs_scores_only(
        lost, monkeypatch, caplog, error):
    refuse(monkeypatch, *error)
    runner = run(lost, 8, [.2], keep=dict(last=1), save_best='mIoU')
    assert runner.restored.iter == 6 and runner.iter == 8
    # that nobody's best file is the best is not known, so it is not deleted
    assert names(lost) == ['best_mIoU_iter_4.pth', 'iter_8.pth', 'latest.pth']
    warned = [one for one in caplog.messages if 'cannot be read' in one]
    assert len(warned) == 1 and 'without the scores' in warned[0]
    assert 'Could not read the history' not in caplog.text


@pytest.mark.parametrize('error', UNREADABLE)
def test_it_stops_a_run_that_would_delete_the_best(lost, monkeypatch, error):
    refuse(monkeypatch, *error)
    before = names(lost)
    with pytest.raises(StorageError, match='or move it away'):
        run(lost, 8, [.2], keep=dict(last=1, best=1))
    assert names(lost) == before
    monkeypatch.undo()
    run(lost, 8, [.2], keep=dict(last=1, best=1))
    assert 'iter_4.pth' in names(lost)


def test_without_checkpoints_it_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / 'checkpoints.log.jsonl').write_text('{}\n')
    refuse(monkeypatch, *UNREADABLE[0])
    assert run(tmp_path, 2, [.2], keep=dict(best=1)).iter == 2
