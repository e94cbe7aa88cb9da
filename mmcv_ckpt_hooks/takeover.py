"""Taking over the stock CheckpointHook, and putting ours in its place."""
import os
from dataclasses import fields
from typing import Any, Callable, Dict, List, Mapping, Optional

from mmcv.runner import (CheckpointHook, EpochBasedRunner, Hook,
                         IterBasedRunner, IterTimerHook, LoggerHook)
from mmcv.runner.priority import get_priority

from .ema import averaging_hooks
from .errors import ConfigError
from .names_elsewhere import LATER
from .options import CheckpointOptions
from .storage import scheme_of
from .storage.names import same_place
from .wording import nearest

_INHERITED = ('interval', 'by_epoch', 'save_optimizer', 'out_dir',
              'max_keep_ckpts', 'save_last', 'sync_buffer', 'file_client_args')
_INHERITED_ARGS = ('filename_tmpl', 'create_symlink', 'meta')
#: The events that end a step, in one of which it is saved.
_CHANGES_IN = ('after_iter', 'after_train_iter', 'after_epoch',
               'after_train_epoch')


def find_stock_hook(hooks: List[Any]) -> Optional[CheckpointHook]:
    """Return the one stock CheckpointHook; subclasses do not count.

    Raises:
        ConfigError: If there are several: which one to continue is unclear.
    """
    found = [hook for hook in hooks if type(hook) is CheckpointHook]
    if len(found) > 1:
        raise ConfigError(
            f'{len(found)} CheckpointHooks are registered; '
            'DurableCheckpointHook can take over one. Remove the others, or '
            'give further intervals as triggers=dict(at=...)')
    return found[0] if found else None


def inherited(stock: CheckpointHook, work_dir: str) -> Dict[str, Any]:
    """Return the arguments that a stock hook was built with.

    Args:
        stock (CheckpointHook): Its ``before_run`` may have been called.
        work_dir (str): The runner's.
    """
    values = {name: getattr(stock, name, None) for name in _INHERITED}
    if values['out_dir'] == work_dir:
        values['out_dir'] = None  # set by its before_run
    elif hasattr(stock, 'file_client') and values['out_dir']:
        # before_run appended the work dir's last level; we do that ourselves
        values['out_dir'] = os.path.dirname(values['out_dir'].rstrip('/'))
    arguments = dict(stock.args)
    for name in _INHERITED_ARGS:
        if name in arguments:
            values[name] = arguments.pop(name)
    _refuse_ours(arguments)
    for name in arguments:
        near = nearest(name, [*_INHERITED, *_INHERITED_ARGS])
        hint = LATER.get(
            name, '') or (f'did you mean {near!r}?' if near else 'remove it')
        raise ConfigError(
            f'checkpoint_config has the unknown arguments {sorted(arguments)}'
            f', on which mmcv would fail at the first save: {hint}')
    return values


def _refuse_ours(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of our hook in ``checkpoint_config``.

    Raises:
        ConfigError: If there are any.
    """
    ours = [
        one.name for one in fields(CheckpointOptions) if one.name in arguments
    ]
    if ours:
        # no values: they may be credentials
        raise ConfigError(
            f'checkpoint_config has {", ".join(ours)}, on which mmcv would '
            'fail at the first save: give '
            f'{"it" if len(ours) == 1 else "them"} to the '
            'DurableCheckpointHook in custom_hooks')


def resolve_out_dir(out_dir: Optional[str], work_dir: Optional[str]) -> str:
    """Return where checkpoints go: ``out_dir/<last level of work_dir>``.

    Source: mmcv v1.7.2, runner/hooks/checkpoint.py:73-85.

    Raises:
        ConfigError: If neither is set.
    """
    if work_dir is None:
        if not out_dir:
            raise ConfigError('checkpoints have nowhere to go: the runner has '
                              'no work_dir and the hook no out_dir')
        return out_dir
    if not out_dir or same_place(out_dir, work_dir):
        return work_dir
    last = os.path.basename(work_dir.rstrip(os.sep))
    joint = '/' if scheme_of(out_dir) else os.sep
    return out_dir.rstrip('/' + os.sep) + joint + last


def rearranged(hooks: List[Any], ours: Any, stock: Optional[CheckpointHook],
               log: Callable[[str], None]) -> List[Any]:
    """Return the hooks with ours in the place of the stock one.

    After all hooks of ``NORMAL``: mmcv registers ``custom_hooks`` after the
    stock hook, and what they change in a step belongs to the state of that
    step. What only reports stays after it: loggers, timers, evaluations.

    A new list: mmcv iterates the old one while it calls ``before_run``.
    """
    normal = int(get_priority('NORMAL'))
    rest = [hook for hook in hooks if hook is not ours and hook is not stock]
    if stock is not None or ours.priority == normal:
        # where mmcv put it
        before = hooks[:hooks.index(ours if stock is None else stock)]
        place = sum(1 for hook in before if hook is not ours)
    else:
        place = sum(1 for hook in rest if hook.priority <= normal)
    limits = [
        index for index, hook in enumerate(rest) if hasattr(hook, 'save_best')
    ]
    place = min([place] + limits)
    end = min([sum(1 for hook in rest if hook.priority <= normal)] + limits)
    behind = rest[place:end]
    passed = [hook for hook in behind if not _only_reports(hook)]
    rest[place:end] = [
        *passed, ours, *(hook for hook in behind if _only_reports(hook))
    ]
    ours.priority = normal if stock is None else max(normal, stock.priority)
    acting = [type(hook).__name__ for hook in passed if _acts(hook)]
    if acting:
        log(f'Checkpoints are saved after {", ".join(acting)}: what hooks of '
            'priority NORMAL change belongs to the step. One that reads the '
            "checkpoint's file needs priority=60")
    return averaged_first(rest, ours, log)


def averaged_first(hooks: List[Any], saving: Any,
                   log: Callable[[str], None]) -> List[Any]:
    """Return the hooks with every EMAHook before the one that saves.

    After it the averages of a checkpoint lack its last step, and between two
    epochs it holds the trained weights where training expects the averaged.
    """
    place = hooks.index(saving)
    late = averaging_hooks(hooks[place:])
    for hook in late:
        hook.priority = saving.priority
        log(f'{type(hook).__name__} goes before {type(saving).__name__}: '
            'checkpoints, and evaluations, have the averages of their step')
    rest = [hook for hook in hooks if hook not in late]
    return rest[:place] + late + rest[place:]


def _only_reports(hook: Any) -> bool:
    kinds = (CheckpointHook, IterTimerHook, LoggerHook)
    return isinstance(hook, kinds) or _reads_files(hook)


def _acts(hook: Any) -> bool:
    return any(
        getattr(type(hook), name) is not getattr(Hook, name)
        for name in _CHANGES_IN)


def hand_over(hooks: List[Any], stock: Optional[CheckpointHook],
              ours: Any) -> None:
    """Give hooks that hold the stock hook (wandb of mmseg, mmdet) ours."""
    for hook in hooks:
        if stock is not None and getattr(hook, 'ckpt_hook', None) is stock:
            hook.ckpt_hook = ours
            if hasattr(hook, 'ckpt_interval'):
                hook.ckpt_interval = ours.interval


def needs_files_at_once(hooks: List[Any]) -> Optional[str]:
    """Name the logger hook that reads checkpoints right after a save.

    ``MMSegWandbHook`` reads ``iter_N.pth`` from the hook's ``out_dir`` in the
    same event, ``PaviLoggerHook`` from the work dir.
    """
    for hook in hooks:
        if _reads_files(hook):
            return type(hook).__name__
    return None


def _reads_files(hook: Any) -> bool:
    return hasattr(hook, 'ckpt_hook') or bool(getattr(hook, 'add_ckpt', False))


def check_single_writer(hooks: List[Any], ours: Any, place: str) -> None:
    """Refuse a second hook that writes to the same place.

    Raises:
        ConfigError: If there is one.
    """
    for hook in hooks:
        if hook is not ours and isinstance(hook, type(ours)) and same_place(
                getattr(hook, 'out_dir', None) or '', place):
            raise ConfigError(
                f'two DurableCheckpointHooks write to {place}: give one of '
                'them another out_dir, or unite their arguments in one')


def merge(given: Mapping[str, Any], taken: Mapping[str,
                                                   Any]) -> Dict[str, Any]:
    """Unite our arguments with the stock hook's; ours count.

    Args:
        given (dict): Of ours; None means not given.
        taken (dict): Of the stock hook, checked.

    Raises:
        ConfigError: If both say how many of the last are kept, each under
            another name and another number.
    """
    merged = {
        name: value
        for name, value in taken.items() if value is not None
    }
    merged.update({
        name: value
        for name, value in given.items() if value is not None
    })
    last = (merged.get('keep') or {}).get('last')
    if last is not None and given.get('max_keep_ckpts') is None:
        asked = merged.pop('max_keep_ckpts', -1)
        # -1 is what the stock hook has where nobody says anything
        if asked > 0 and last > 0 and asked != last:
            raise ConfigError(
                f'DurableCheckpointHook: keep.last={last} contradicts '
                f'checkpoint_config.max_keep_ckpts={asked}; give one of '
                'them. Where checkpoint_config is not yours to change, '
                f'max_keep_ckpts={last} of the hook goes before it')
    return merged


def counts_iterations(runner: Any) -> bool:
    """Whether a runner, of whatever repo, has no epochs."""
    if isinstance(runner, (IterBasedRunner, EpochBasedRunner)):
        return isinstance(runner, IterBasedRunner)
    return runner.max_epochs is None and runner.max_iters is not None
