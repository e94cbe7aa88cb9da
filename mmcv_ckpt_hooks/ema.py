"""The weights of an EMAHook, mmcv's or mmdet's, across a resume.

Its buffers exist only after its ``before_run``, and at the ends of an epoch it
swaps them with the model's weights: a checkpoint saved inside an epoch holds
the weights as trained, one saved after it holds them swapped.

Source: mmcv v1.7.2, runner/hooks/ema.py:43-91; mmdet v2.28.2,
core/hook/ema.py:50-107.
"""
from typing import Any, Dict, Iterable, List, Mapping

from mmcv.runner.checkpoint import get_state_dict
from mmcv.runner.priority import get_priority

from .state import unwrapped

#: Of the buffers of an EMAHook.
_PREFIX = 'ema_'


def ema_hooks(runner: Any) -> List[Any]:
    """Return the runner's EMAHooks."""
    return averaging_hooks(runner.hooks)


def averaging_hooks(hooks: Iterable[Any]) -> List[Any]:
    """Return the EMAHooks; mmdet's are no subclasses of mmcv's."""
    return [hook for hook in hooks if hasattr(hook, '_swap_ema_parameters')]


def resume_for_hooks(runner: Any) -> None:
    """Resume as ``EMAHook(resume_from=...)`` asks, unless the run was.

    The hook itself would do so in its ``before_run``, when this run's own
    newest checkpoint was restored, and throw that away. On a stock runner it
    still does where nothing was restored.

    Args:
        runner (BaseRunner): About to run.
    """
    restored = getattr(runner, 'restored', None)
    for hook in ema_hooks(runner):
        if getattr(hook, 'checkpoint', None) is None:
            _tell_of_dropped(runner, hook)
            continue
        if restored is not None:
            runner.logger.info(
                f'{type(hook).__name__}(resume_from={hook.checkpoint!r}) is '
                f'passed over: this run goes on from {restored.name}')
        elif hasattr(runner, 'finished_steps'):
            runner.resume(hook.checkpoint)
        else:
            continue
        hook.checkpoint = None


def _tell_of_dropped(runner: Any, hook: Any) -> None:
    """Say that a stock runner was resumed before the buffers existed."""
    if hasattr(runner, 'finished_steps') or not runner.iter or \
            getattr(runner, 'restored', None) is not None:
        return
    name = type(hook).__name__
    runner.logger.warning(
        f'{type(runner).__name__} was resumed before {name} had its averages '
        '(--resume-from of the tool): those in the checkpoint, if there are '
        'any, were dropped, and begin anew from its weights. To keep them '
        'give the checkpoint to DurableCheckpointHook(resume=...), or take '
        'IterBasedRunnerAmp or EpochBasedRunnerAmp')


def has_averages(state_dict: Mapping[str, Any]) -> bool:
    """Whether weights were saved with the buffers of an EMAHook."""
    return any(_PREFIX + name.replace('.', '_') in state_dict
               for name in state_dict)


def swaps_behind_stock(runner: Any) -> bool:
    """Whether stock mmcv saves an epoch of this run before EMAHook swaps.

    Its CheckpointHook has the priority ``NORMAL`` and stands before all hooks
    of ``custom_hooks`` that have it, too.
    """
    normal = int(get_priority('NORMAL'))
    return any(
        getattr(hook, 'priority', 0) >= normal for hook in ema_hooks(runner))


def swaps_behind_evaluation(runner: Any) -> bool:
    """Whether mmcv saves the best of an epoch before EMAHook swaps.

    Its EvalHook does that; both may have the same priority.
    """
    hooks = list(runner.hooks)
    evaluates = [hooks.index(hook) for hook in hooks if _evaluates(hook)]
    return bool(evaluates) and any(
        hooks.index(hook) > min(evaluates) for hook in ema_hooks(runner))


def _evaluates(hook: Any) -> bool:
    # mmcv 1.3.0 has no EvalHook; the repos of its time have their own
    return hasattr(hook, 'evaluate') and hasattr(hook, 'dataloader')


def split_late(runner: Any, state_dict: Dict[str, Any]) -> Dict[str, Any]:
    """Take out what EMAHook's buffers will need, if they do not exist yet."""
    if not ema_hooks(runner):
        return {}
    own = get_state_dict(unwrapped(runner.model))
    return {
        name: state_dict.pop(name)
        for name in list(state_dict)
        if name.startswith(_PREFIX) and name not in own
    }


def restore_late(runner: Any, late: Mapping[str, Any], source: str) -> None:
    """Load what had no owner before the hooks' ``before_run``.

    Args:
        runner (BaseRunner): Its hooks' ``before_run`` were called.
        late (dict): Of :func:`split_late`.
        source (str): Name of the checkpoint, for the log.
    """
    own = get_state_dict(unwrapped(runner.model)) if late else {}
    for name, value in late.items():
        if name in own and own[name].shape == value.shape:
            own[name].copy_(value)
        else:
            runner.logger.warning(
                f'{source} holds {name}, which this model does not have: it '
                'was skipped')


def restore_when_ready(runner: Any, late: Mapping[str, Any], source: str,
                       inside: bool) -> None:
    """Finish a restore that happens inside ``before_run``.

    A hook's ``before_run`` comes before or after that of EMAHook.

    Args:
        runner (BaseRunner): A stock one.
        late (dict): Of :func:`split_late`.
        source (str): Name of the checkpoint, for the log.
        inside (bool): Whether it was saved inside an epoch.
    """
    for hook in ema_hooks(runner):
        if hasattr(hook, 'param_ema_buffer'):
            continue

        def before_run(runner: Any, make: Any = hook.before_run) -> None:
            make(runner)
            restore_late(runner, late, source)
            if inside:
                swap(runner)

        hook.before_run = before_run
        return
    if inside:
        swap(runner)


def swap(runner: Any) -> None:
    """Swap as at the end of an epoch; its start swaps back.

    Called once before an epoch begins with the state of a checkpoint that was
    saved inside one: else training would go on from the averaged weights.
    """
    for hook in ema_hooks(runner):
        hook._swap_ema_parameters()
