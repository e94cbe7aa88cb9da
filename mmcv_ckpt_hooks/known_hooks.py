"""Hooks whose code was read: they write to no parameter between two steps."""
from typing import Any, Dict, FrozenSet, Optional

_OWN = 'mmcv_ckpt_hooks.'
_BASE = 'mmcv.runner.hooks.hook'

#: By the package that they come from; forks of these packages have others.
#: Read in mmcv 1.3.0 to 1.7.2, mmsegmentation 0.30.0, mmdetection 2.28.2,
#: mmclassification 0.25.0. ``ClosureHook`` calls what it is given.
_READ: Dict[str, FrozenSet[str]] = {
    'mmcv.runner.hooks.':
    frozenset(
        ('CheckpointHook', 'ClearMLLoggerHook', 'CosineAnnealingLrUpdaterHook',
         'CosineAnnealingMomentumUpdaterHook', 'CosineRestartLrUpdaterHook',
         'CyclicLrUpdaterHook', 'CyclicMomentumUpdaterHook', 'DistEvalHook',
         'DistSamplerSeedHook', 'DvcliveLoggerHook', 'EMAHook',
         'EmptyCacheHook', 'EvalHook', 'ExpLrUpdaterHook',
         'FixedLrUpdaterHook', 'FlatCosineAnnealingLrUpdaterHook',
         'Fp16OptimizerHook', 'GradientCumulativeFp16OptimizerHook',
         'GradientCumulativeOptimizerHook', 'Hook', 'InvLrUpdaterHook',
         'IterTimerHook', 'LinearAnnealingLrUpdaterHook',
         'LinearAnnealingMomentumUpdaterHook', 'LoggerHook', 'LrUpdaterHook',
         'MlflowLoggerHook', 'MomentumUpdaterHook', 'NeptuneLoggerHook',
         'OneCycleLrUpdaterHook', 'OneCycleMomentumUpdaterHook',
         'OptimizerHook', 'PaviLoggerHook', 'PolyLrUpdaterHook',
         'ProfilerHook', 'SegmindLoggerHook', 'StepLrUpdaterHook',
         'StepMomentumUpdaterHook', 'SyncBuffersHook', 'TensorboardLoggerHook',
         'TextLoggerHook', 'WandbLoggerHook')),
    'mmseg.core.':
    frozenset(('DistEvalHook', 'EvalHook', 'MMSegWandbHook')),
    'mmdet.core.':
    frozenset(('BaseEMAHook', 'CheckInvalidLossHook', 'DistEvalHook',
               'DistOptimizerHook', 'EvalHook', 'ExpMomentumEMAHook',
               'LinearMomentumEMAHook', 'MMDetWandbHook', 'MemoryProfilerHook',
               'SetEpochInfoHook', 'SyncNormHook', 'SyncRandomSizeHook',
               'YOLOXLrUpdaterHook', 'YOLOXModeSwitchHook')),
    'mmcls.core.':
    frozenset(('ClassNumCheckHook', 'CosineAnnealingCooldownLrUpdaterHook',
               'DistEvalHook', 'DistOptimizerHook', 'EvalHook',
               'MMClsWandbHook', 'PreciseBNHook')),
}
#: Those of them that step the optimizer, and nothing but it.
_STEPPERS = frozenset(
    ('OptimizerHook', 'GradientCumulativeOptimizerHook', 'Fp16OptimizerHook',
     'GradientCumulativeFp16OptimizerHook', 'DistOptimizerHook'))
#: Methods that run between the save and the next step.
_BETWEEN = ('before_iter', 'after_iter', 'before_train_iter',
            'after_train_iter')


def doubt(runner: Any) -> Optional[str]:
    """Say who might write to parameters between two steps; None if nobody.

    Args:
        runner (BaseRunner): With all its hooks.
    """
    if isinstance(runner.optimizer, dict):
        return 'there are several optimizers'
    steppers = [
        hook for hook in runner.hooks
        if type(hook).__name__ in _STEPPERS and _is_read(type(hook))
    ]
    if len(steppers) != 1:
        return 'more than one hook steps the optimizer' if steppers else \
            'no known hook steps the optimizer'
    for hook in runner.hooks:
        if _may_write(hook):
            name = type(hook).__name__
            return f'nobody knows what {name} does between two steps ' \
                "(write=dict(staging='overlap') if it writes to no parameter)"
    return None


def _may_write(hook: Any) -> bool:
    for name in _BETWEEN:
        given = vars(hook).get(name)
        if given is not None and \
                not getattr(given, '__module__', '').startswith(_OWN):
            return True
    kind = type(hook)
    if _is_read(kind):
        return False
    # also where a method that was read calls another that was not
    base = next((one for one in kind.__mro__ if one.__module__ == _BASE), None)
    return any(
        getattr(kind, name, None) is not getattr(base, name, None)
        for name in _BETWEEN)


def _is_read(kind: type) -> bool:
    if kind.__module__.startswith(_OWN):
        return True
    return any(
        kind.__module__.startswith(package) and kind.__name__ in names
        for package, names in _READ.items())
