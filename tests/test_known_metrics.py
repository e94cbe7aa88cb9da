"""What is known of an evaluation before it has run, and what is refused."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy import QuickEvalHook, make_loader, make_runner, names

from mmcv_ckpt_hooks.errors import ConfigError
from mmcv_ckpt_hooks.known_metrics import metrics_of

OURS = dict(type='DurableCheckpointHook')
CLASSES = ('background', 'nucleus')


def hook_of(dataset, scores=(.5, ), **kwargs):
    """An EvalHook whose inference is left out, of that data set."""
    hook = QuickEvalHook(scores, interval=2, by_epoch=False, **kwargs)
    hook.dataloader = SimpleNamespace(dataset=dataset)
    return hook


# -- the same as what the repos give ------------------------------------------


def mmseg_data():
    mmseg = pytest.importorskip('mmseg.datasets')
    data = object.__new__(mmseg.CustomDataset)
    data.CLASSES = CLASSES
    return data, [tuple(torch.tensor([3., 4.]) for _ in range(4))]


def mmseg_cityscapes():
    mmseg = pytest.importorskip('mmseg.datasets')
    data = object.__new__(mmseg.CityscapesDataset)
    data.CLASSES = CLASSES
    return data, mmseg_data()[1]


def mmcls_data(name='BaseDataset', labels=(0, 1, 5)):
    mmcls = pytest.importorskip('mmcls.datasets')

    class Data(getattr(mmcls, name)):

        def __init__(self):
            pass

        def load_annotations(self):
            return []

        def get_gt_labels(self):
            return np.array(labels)

    scores = np.random.default_rng(0).random((3, 6))
    return Data(), [row[None] for row in scores]


def mmcls_labels():
    return mmcls_data('MultiLabelDataset', np.eye(3, 6, dtype=int))


def boxes():
    return np.array([[0, 0, 9, 9, .9]], dtype=np.float32)


def mmdet_data(name='CustomDataset'):
    mmdet = pytest.importorskip('mmdet.datasets')

    class Data(getattr(mmdet, name)):
        CLASSES, year = CLASSES, 2012

        def __init__(self):
            pass

        def __len__(self):
            return 1

        def get_ann_info(self, index):
            return dict(bboxes=boxes()[:, :4], labels=np.array([0]))

    return Data(), [[boxes(), np.zeros((0, 5), np.float32)]]


def mmdet_voc():
    return mmdet_data('VOCDataset')


def mmdet_coco(directory):
    pytest.importorskip('pycocotools')
    mmdet = pytest.importorskip('mmdet.datasets')
    path = directory / 'coco.json'
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=1, width=9, height=9, file_name='1.png')],
                annotations=[
                    dict(
                        id=1,
                        image_id=1,
                        category_id=1,
                        bbox=[0, 0, 9, 9],
                        area=81,
                        iscrowd=0)
                ],
                categories=[
                    dict(id=number, name=name)
                    for number, name in enumerate(CLASSES, 1)
                ])))

    class Data(mmdet.CocoDataset):
        pass

    Data.CLASSES = CLASSES
    return Data(
        str(path), [],
        test_mode=True), [[boxes(), np.zeros((0, 5), np.float32)]]


REAL = [
    (mmseg_data, dict()),
    (mmseg_data, dict(metric='mDice')),
    (mmseg_data, dict(metric=['mFscore', 'mIoU'])),
    (mmseg_cityscapes, dict()),
    (mmseg_cityscapes, dict(metric=['mDice'])),
    (mmcls_data, dict()),
    (mmcls_data, dict(metric_options=dict(topk=(1, 2)))),
    (mmcls_data,
     dict(
         metric=['accuracy', 'f1_score', 'support'],
         metric_options=dict(topk=1))),
    (mmcls_labels, dict()),
    (mmcls_labels, dict(metric=['mAP', 'CF1', 'OR'])),
    (mmdet_data, dict()),
    (mmdet_data, dict(metric=['mAP'], iou_thr=[.5, .75])),
    (mmdet_voc, dict(metric='mAP')),
    (mmdet_coco, dict()),
    (mmdet_coco, dict(metric=['bbox'])),
    (mmdet_coco, dict(metric='bbox', metric_items=['mAP', 'AR@100'])),
    (mmdet_coco, dict(metric='bbox', metric_items='mAP_75')),
]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('make, options', REAL)
def test_what_is_known_is_what_the_repo_gives(tmp_path, make, options):
    data, results = make(tmp_path) if make is mmdet_coco else make()
    given = data.evaluate(results, logger='silent', **options)
    numbers = {name for name, one in given.items() if not isinstance(one, str)}
    known = metrics_of(hook_of(data, **options))
    assert set(known) == numbers and len(known) == len(numbers)


def unknown_metric():
    return mmseg_data()[0], dict(metric='mIuO')


def no_classes():
    data, _ = mmseg_data()
    data.CLASSES = None
    return data, {}


def own_evaluate():
    data, _ = mmseg_data()

    class Own(type(data)):

        def evaluate(self, results, **kwargs):
            return dict(super().evaluate(results, **kwargs), mIuO=.5)

    data.__class__ = Own
    return data, {}


def evaluate_on_the_object():
    data, _ = mmseg_data()
    data.evaluate = lambda results, **kwargs: dict(mIuO=.5)
    return data, {}


def thresholds():
    return mmcls_data()[0], dict(metric_options=dict(thrs=(.1, .2)))


def proposals():
    coco = pytest.importorskip('mmdet.datasets').CocoDataset
    return object.__new__(coco), dict(metric=['bbox', 'proposal'])


def own_inner():
    coco = pytest.importorskip('mmdet.datasets').CocoDataset

    class Own(coco):

        def evaluate_det_segm(self, *args, **kwargs):
            return dict(anything=.5)

    return object.__new__(Own), {}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('make', [
    unknown_metric, no_classes, own_evaluate, evaluate_on_the_object,
    thresholds, proposals, own_inner
])
def test_what_may_be_anything_is_not_known(make):
    data, options = make()
    assert metrics_of(hook_of(data, **options)) is None


def test_a_hook_that_evaluates_in_its_own_way_may_give_anything():

    class Own(QuickEvalHook):

        def evaluate(self, runner, results):
            runner.log_buffer.output['mIuO'] = .5

    data, _ = mmseg_data()
    hook = Own([.5], interval=2, by_epoch=False)
    hook.dataloader = SimpleNamespace(dataset=data)
    assert metrics_of(hook) is None


# -- at the start of a run ----------------------------------------------------


def runner_with(directory, hooks, keep=None, steps=2, name=None, **ours):
    runner = make_runner(
        directory,
        runner=dict(type=name or 'IterBasedRunnerAmp', max_iters=steps),
        hooks=[dict(interval=2, keep=keep, **ours, **OURS)])
    for hook in hooks:
        runner.register_hook(hook, 'LOW')
    return runner


def run(*args, **kwargs):
    runner = runner_with(*args, **kwargs)
    runner.run([make_loader()], [('train', 1)])
    return runner


@pytest.mark.parametrize('name', ['IterBasedRunner', 'IterBasedRunnerAmp'])
@pytest.mark.parametrize('keep, hook, option', [
    (dict(best=1, monitor='mIuO', rule='greater'), dict(), 'keep.monitor'),
    (None, dict(save_best='mIuO', rule='greater'), 'evaluation.save_best'),
    (dict(best=1), dict(save_best='mIuO',
                        rule='greater'), 'evaluation.save_best'),
])
def test_a_metric_that_cannot_come_is_refused_before_training(
        tmp_path, name, keep, hook, option):
    data, _ = mmseg_data()
    runner = runner_with(tmp_path, [hook_of(data, **hook)], keep, name=name)
    with pytest.raises(ConfigError) as caught:
        runner.run([make_loader()], [('train', 1)])
    for word in (f"{option}='mIuO'", "did you mean 'mIoU'?",
                 'aAcc, mIoU, mAcc, IoU.background, IoU.nucleus'):
        assert word in str(caught.value)
    assert runner.iter == 0 and names(tmp_path) == []
    assert not (tmp_path / 'checkpoints.lock').exists()


@pytest.mark.parametrize('key', ['mIoU', 'aAcc', 'IoU.nucleus', 'Acc.nucleus'])
def test_one_that_comes_is_not(tmp_path, caplog, key):
    data, results = mmseg_data()
    hook = hook_of(data, save_best=key, rule='greater')
    hook.test_fn = lambda model, loader: results
    hook._do_evaluate = lambda runner: hook.evaluate(runner, results)
    keep = dict(best=1, monitor=key, rule='greater')
    assert run(tmp_path, [hook], keep).iter == 2
    assert f'best_{key}_iter_2.pth' in names(tmp_path)
    assert 'does not give it' not in caplog.text


def test_beside_a_hook_that_may_give_anything_it_is_not_refused(tmp_path):
    data, results = mmseg_data()
    known = hook_of(data)
    known._do_evaluate = lambda runner: known.evaluate(runner, results)
    anything = QuickEvalHook([dict(score=.5)], interval=2, by_epoch=False)
    keep = dict(best=1, monitor='score', rule='greater')
    assert run(tmp_path, [known, anything], keep).iter == 2


@pytest.mark.parametrize('key, meant', [
    ('mIuO', 'mIoU'),
    ('miou', 'mIoU'),
    ('aACC', 'aAcc'),
    ('gIoU', None),
    ('IoU', None),
    ('AUC', None),
    ('AP', None),
    ('bbox_mAP', None),
    ('mIoU', None),
])
@pytest.mark.parametrize('option', ['keep.monitor', 'evaluation.save_best'])
def test_what_looks_misspelt_is_warned_of(tmp_path, caplog, key, meant,
                                          option):
    """It may be right: the data set is not known."""
    by_hook = option == 'evaluation.save_best'
    hook = QuickEvalHook(
        [{
            key: .5
        }],
        interval=2,
        by_epoch=False,
        **(dict(save_best=key, rule='greater') if by_hook else {}))
    keep = None if by_hook else dict(best=1, monitor=key, rule='greater')
    assert run(tmp_path, [hook], keep).iter == 2
    warned = [
        record.message for record in caplog.records
        if 'does not give it' in record.message
    ]
    if meant is None:
        assert warned == []
    else:
        assert len(warned) == 1
        assert f'{option}={key!r} looks like {meant!r}' in warned[0]


def quick(score, **kwargs):
    return QuickEvalHook([score], interval=2, by_epoch=False, **kwargs)


def test_a_resume_compares_with_what_the_run_has_given(tmp_path, caplog):
    """A warning: `evaluation` may give more than before."""
    run(tmp_path, [quick(dict(bbox_mAP=.5, time=1))])
    keep = dict(best=1, monitor='segm_mAP')
    both = quick(dict(bbox_mAP=.5, segm_mAP=.4))
    assert run(tmp_path, [both], keep, steps=4, resume='auto').iter == 4
    assert caplog.text.count('does not give it') == 1
    assert "keep.monitor='segm_mAP' is not among the metrics of this run so " \
        "far, did you mean 'bbox_mAP'? They are: bbox_mAP, time" in caplog.text
    caplog.clear()
    again = quick(dict(bbox_mAP=.5, segm_mAP=.4))
    run(tmp_path, [again], keep, steps=6, resume='auto')
    assert 'does not give it' not in caplog.text


def test_a_new_run_does_not_compare_with_another(tmp_path, caplog):
    run(tmp_path, [quick(dict(bbox_mAP=.5))])
    run(tmp_path, [quick(dict(segm_mAP=.4))],
        dict(best=1, monitor='segm_mAP'),
        steps=4)
    assert 'does not give it' not in caplog.text


def test_an_unknown_save_best_has_its_hint_at_the_first_evaluation(tmp_path):
    scores = dict(mIoU=.5, aAcc=.6, table='a text')
    with pytest.raises(ConfigError) as caught:
        run(tmp_path, [quick(scores, save_best='mIu', rule='greater')])
    assert str(caught.value) == (
        "evaluation.save_best='mIu' is not among the metrics of the "
        "evaluation, did you mean 'mIoU'? There are: mIoU, aAcc")
