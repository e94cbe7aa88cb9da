"""Which direction of a metric is better."""
import pytest
from stock import EvalHook
from toy import QuickEvalHook

from mmcv_ckpt_hooks.errors import ConfigError
from mmcv_ckpt_hooks.monitors import (GREATER_KEYS, LESS_KEYS, Monitor,
                                      infer_rule, unknown_metric)

KNOWN_TO_MMCV = [
    'acc', 'accuracy_top-1', 'top5', 'AR@100', 'auc', 'precision', 'mAP',
    'mDice', 'mIoU', 'mAcc', 'aAcc', 'MIOU', 'bbox_mAP', 'bbox/mAP',
    'segm_mAP_50', 'Acc.person', 'loss', 'val_loss', 'Loss', 'acc_loss',
    'mPrecision'
]

knows_them_all = pytest.mark.skipif(
    not hasattr(EvalHook, '_default_greater_keys'),
    reason='mmcv < 1.3.8 knows fewer metrics')


@knows_them_all
@pytest.mark.parametrize('key', KNOWN_TO_MMCV)
def test_what_mmcv_can_tell_is_told_alike(key):
    hook = QuickEvalHook([1], save_best=key, by_epoch=False)
    assert infer_rule(key) == hook.rule


@knows_them_all
def test_the_keys_are_those_of_mmcv():
    assert list(GREATER_KEYS) == EvalHook._default_greater_keys
    assert list(LESS_KEYS) == EvalHook._default_less_keys


@pytest.mark.parametrize('key, rule', [
    ('IoU.person', 'greater'),
    ('Dice.cell', 'greater'),
    ('mFscore', 'greater'),
    ('mRecall', 'greater'),
    ('bbox/AP50', 'greater'),
    ('segm_AP', 'greater'),
    ('f1', 'greater'),
    ('PSNR', 'greater'),
    ('MAE', 'less'),
    ('depth/rmse', 'less'),
    ('EPE', 'less'),
    ('mean_error', 'less'),
])
def test_more_is_told_than_mmcv_can(key, rule):
    with pytest.raises(ValueError, match='Cannot infer'):
        QuickEvalHook([1], save_best=key, by_epoch=False)
    assert infer_rule(key) == rule


@pytest.mark.parametrize('key', ['score_x', 'params', 'iou_error', 'clap'])
def test_what_cannot_be_told_is_refused(key):
    with pytest.raises(ConfigError, match='keep.rule'):
        infer_rule(key)


def test_the_keys_of_the_runs_evalhook_count():
    assert infer_rule('params', ['x'], ['PARAMS']) == 'less'
    assert infer_rule('mIoU', [], ['miou']) == 'less'


@pytest.mark.parametrize('value, goodness', [
    (0.0, 0.0),
    (.5, .5),
    (float('nan'), None),
    (float('inf'), None),
    (-float('inf'), None),
    (None, None),
])
def test_a_score_that_cannot_be_compared_is_none(value, goodness):
    metrics = {} if value is None else dict(mIoU=value)
    assert Monitor('mIoU', 'greater').goodness(metrics) == goodness
    lesser = Monitor('mIoU', 'less').goodness(metrics)
    assert lesser == (None if goodness is None else -goodness)


@pytest.mark.parametrize('key, hint', [
    ('mIou', 'mIoU'),
    ('miou', 'mIoU'),
    ('iou.cell', 'IoU.cell'),
    ('bbox_map', 'bbox/mAP'),
])
def test_an_unknown_metric_is_told_with_the_nearest(key, hint):
    error = unknown_metric(key, ['aAcc', 'mIoU', 'IoU.cell', 'bbox/mAP'])
    assert f'did you mean {hint!r}?' in str(error)
    assert 'aAcc, mIoU, IoU.cell, bbox/mAP' in str(error)


def test_without_a_near_one_those_there_are_are_told():
    assert 'did you' not in str(unknown_metric('xyz', ['aAcc']))
    assert 'none' in str(unknown_metric('xyz', []))
