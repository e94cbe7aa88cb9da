"""Which metrics an evaluation will give, before it has run.

Known for certain only where ``evaluate`` is that of a data set of mmseg 0.x,
mmdet 2.x or mmcls 0.x itself, in the form that every such version has. Who
overrides it may give any metric. Standard library only.
"""
from typing import (Any, Callable, Dict, Iterable, List, Mapping, Optional,
                    Sequence, Tuple)

from .monitors import (GREATER_KEYS, LESS_KEYS, did_you_mean, misspelt,
                       unknown_metric)
from .options import KeepOptions

_Options = Mapping[str, Any]
_Names = Callable[[Any, Sequence[str], _Options], Optional[Iterable[str]]]

_MMCV = 'mmcv.runner.hooks.evaluation.EvalHook.evaluate'
_COCO = 'mmdet.datasets.coco'
_COCO_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
_OF_CLASSES = {
    'mIoU': ('IoU', 'Acc'),
    'mDice': ('Dice', 'Acc'),
    'mFscore': ('Fscore', 'Precision', 'Recall'),
}


def metrics_of(eval_hook: Any) -> Optional[List[str]]:
    """Return the names of all metrics that an EvalHook will give.

    Args:
        eval_hook (EvalHook): Of the run.

    Returns:
        list[str] | None: None if they cannot be known for certain.

    Source: ``evaluate`` of mmseg v0.30.0, mmdet v2.28.2, mmcls v0.25.0.
    """
    dataset = getattr(getattr(eval_hook, 'dataloader', None), 'dataset', None)
    known = _KNOWN.get(_origin(dataset))
    if known is None or _origin(eval_hook) != _MMCV:
        return None
    names_of, default = known
    options = dict(getattr(eval_hook, 'eval_kwargs', None) or {})
    asked = options.pop('metric', default)
    asked = [asked] if isinstance(asked, str) else asked
    if not isinstance(asked, (list, tuple)) or \
            not all(isinstance(one, str) for one in asked):
        return None
    names = names_of(dataset, asked, options)
    return None if names is None else list(dict.fromkeys(names))


def refuse_unknown(keep: KeepOptions, eval_hooks: Sequence[Any]) -> None:
    """Refuse a metric that no evaluation of the run can give.

    Args:
        keep (KeepOptions): Of the run.
        eval_hooks (list[EvalHook]): Of the run, as they were built.

    Raises:
        ConfigError: If that is certain; else the first evaluation tells.
    """
    for option, key, hooks in _asked(keep, eval_hooks):
        known = [metrics_of(hook) for hook in hooks]
        names = dict.fromkeys(name for some in known for name in some or ())
        # without any, that is what is said
        if known and None not in known and key not in names:
            raise unknown_metric(key, list(names), option)


def doubts(keep: KeepOptions, eval_hooks: Sequence[Any],
           given_before: Iterable[str]) -> List[str]:
    """Say which metrics the first evaluation will probably not know.

    What evaluations of the run gave before is no proof: ``evaluation`` may
    have changed, and a score that was NaN is not recorded.

    Args:
        keep (KeepOptions): Of the run.
        eval_hooks (list[EvalHook]): Of the run, as they were built.
        given_before (iterable[str]): Metrics of the run's checkpoints.

    Returns:
        list[str]: A warning each.
    """
    before = sorted(given_before)
    said = []
    for option, key, hooks in _asked(keep, eval_hooks):
        if key in before or any(
                key in (metrics_of(hook) or ()) for hook in hooks):
            continue
        meant = misspelt(key, _usual(hooks))
        if before:
            why = 'is not among the metrics of this run so far' \
                f'{did_you_mean(key, before)} They are: {", ".join(before)}'
        elif meant is not None:
            why = f'looks like {meant!r} misspelt'
        else:
            continue
        said.append(f'{option}={key!r} {why}. If the first evaluation does '
                    'not give it, the run ends there')
    return said


def _asked(keep: KeepOptions,
           eval_hooks: Sequence[Any]) -> List[Tuple[str, str, Sequence[Any]]]:
    """By option the metrics that must be given, and who might give them."""
    asked: List[Tuple[str, str, Sequence[Any]]] = [
        ('evaluation.save_best', hook.key_indicator, [hook])
        for hook in eval_hooks if hook.save_best and hook.key_indicator
    ]
    asked += [('keep.monitor', key, eval_hooks) for key in keep.monitor or ()]
    return [one for one in asked if one[1] != 'auto']


def _usual(eval_hooks: Sequence[Any]) -> List[str]:
    usual = [*GREATER_KEYS, *LESS_KEYS]
    for hook in eval_hooks:
        usual += getattr(hook, 'greater_keys', None) or ()
        usual += getattr(hook, 'less_keys', None) or ()
    return usual


def _origin(owner: Any) -> str:
    """Where ``evaluate`` of an object is written; empty if nobody knows."""
    if 'evaluate' in getattr(owner, '__dict__', {}):
        return ''  # put on the object itself
    function = getattr(type(owner), 'evaluate', None)
    return f'{getattr(function, "__module__", "")}.' \
        f'{getattr(function, "__qualname__", "")}'


def _of_mmseg(dataset: Any, asked: Sequence[str],
              options: _Options) -> Optional[Iterable[str]]:
    classes = getattr(dataset, 'CLASSES', None)
    if classes is None or not set(asked) <= set(_OF_CLASSES):
        return None
    kinds = [kind for one in asked for kind in _OF_CLASSES[one]]
    return [
        'aAcc', *(f'm{kind}' for kind in kinds),
        *(f'{kind}.{name}' for kind in kinds for name in classes)
    ]


def _of_coco(dataset: Any, asked: Sequence[str],
             options: _Options) -> Optional[Iterable[str]]:
    items = options.get('metric_items') or _COCO_ITEMS
    items = [items] if isinstance(items, str) else items
    inner = getattr(type(dataset), 'evaluate_det_segm', None)
    if not set(asked) <= {'bbox', 'segm'} or \
            getattr(inner, '__module__', _COCO) != _COCO:
        return None
    return [f'{one}_{item}' for one in asked for item in items]


def _of_mmdet(dataset: Any, asked: Sequence[str],
              options: _Options) -> Optional[Iterable[str]]:
    thresholds = options.get('iou_thr', 0.5)
    if isinstance(thresholds, float):
        thresholds = [thresholds]
    if list(asked) != ['mAP'] or not isinstance(thresholds, list) or \
            not all(isinstance(one, float) for one in thresholds):
        return None
    return ['mAP', *(f'AP{int(one * 100):02d}' for one in thresholds)]


def _of_mmcls(dataset: Any, asked: Sequence[str],
              options: _Options) -> Optional[Iterable[str]]:
    how = options.get('metric_options') or {}
    single = {'precision', 'recall', 'f1_score', 'support'}
    if not isinstance(how, dict) or how.get('thrs') is not None or \
            not set(asked) <= {'accuracy', *single}:
        return None
    top = how.get('topk', (1, 5))
    accuracies = [f'accuracy_top-{k}' for k in top] \
        if isinstance(top, tuple) else ['accuracy']
    return [
        name for one in asked
        for name in (accuracies if one == 'accuracy' else [one])
    ]


def _of_multi_label(dataset: Any, asked: Sequence[str],
                    options: _Options) -> Optional[Iterable[str]]:
    known = {'mAP', 'CP', 'CR', 'CF1', 'OP', 'OR', 'OF1'}
    return asked if set(asked) <= known else None


#: By where ``evaluate`` is written: what it gives, and its default metric.
_KNOWN: Dict[str, Tuple[_Names, str]] = {
    f'{where}.evaluate': (names, default)
    for where, names, default in (
        ('mmseg.datasets.custom.CustomDataset', _of_mmseg, 'mIoU'),
        # for other metrics than 'cityscapes' that of its base
        ('mmseg.datasets.cityscapes.CityscapesDataset', _of_mmseg, 'mIoU'),
        (f'{_COCO}.CocoDataset', _of_coco, 'bbox'),
        ('mmdet.datasets.custom.CustomDataset', _of_mmdet, 'mAP'),
        ('mmdet.datasets.voc.VOCDataset', _of_mmdet, 'mAP'),
        ('mmcls.datasets.base_dataset.BaseDataset', _of_mmcls, 'accuracy'),
        ('mmcls.datasets.multi_label.MultiLabelDataset', _of_multi_label,
         'mAP'),
    )
}
