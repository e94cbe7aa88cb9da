"""A runner continued from a loaded checkpoint."""
import os
import re
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any, List, Mapping, Optional, Tuple

from mmcv.runner import EpochBasedRunner, TextLoggerHook
from mmcv.runner.checkpoint import get_state_dict
from mmcv.runner.hooks.lr_updater import LrUpdaterHook
from mmcv.runner.hooks.momentum_updater import MomentumUpdaterHook

from . import distributed, ema
from .amp import restore_amp
from .counting import finished_steps
from .errors import ResumeError
from .fitting import TAKE_WEIGHTS, check_fit
from .gradients import continue_accumulation
from .mapping import detach
from .sharded.fsdp_restore import goes_through_fsdp, restore_through_fsdp
from .sharded.restore import read_late, read_model, read_optimizers
from .state import restore_hooks, unwrapped
from .state_loading import restore_model, restore_optimizer
from .storage.links import telling_name
from .wording import counted

#: Hooks that start from a value of the optimizer: as what it is known to them
#: and to the optimizer.
_BASES = ((LrUpdaterHook, 'base_lr', 'initial_lr'),
          (MomentumUpdaterHook, 'base_momentum', 'initial_momentum'))


@dataclass(frozen=True)
class Restored:
    """What a runner was continued from.

    Args:
        directory (str): Path or URL of the directory.
        name (str): File name.
        epoch (int): Finished epochs.
        iter (int): Finished iterations.
        lineage (str): Of the checkpoint; empty for other programs' files.
        late (dict): Tensors whose owner did not exist yet: ``EMAHook``
            registers its buffers in ``before_run``.
        generators (dict): Of this rank, set when training goes on.
        gradients (dict): Accumulated ones by parameter, likewise.
        data (dict): Where in the data this rank was.
    """
    directory: str
    name: str
    epoch: int
    iter: int
    lineage: str
    late: Mapping[str, Any] = field(default_factory=dict)
    generators: Mapping[str, Any] = field(default_factory=dict)
    gradients: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


def restore_runner(runner: Any,
                   checkpoint: Mapping[str, Any],
                   directory: str,
                   name: str,
                   resume_optimizer: bool = True) -> Restored:
    """Continue a runner from a checkpoint; its own meta stays.

    Order: model, optimizer, AMP, counters, best scores and hook messages,
    hooks. What has to come last is in the returned record.

    Args:
        runner (BaseRunner): Built, with its hooks; not running yet.
        checkpoint (dict): On the CPU.
        directory (str): Where it came from.
        name (str): Its file name, which tells the finished steps.
        resume_optimizer (bool): Whether to load that. Default: True.

    Raises:
        ResumeError: If the optimizer does not fit; nothing is changed then.
    """
    log, path = runner.logger.info, os.path.join(directory, name)
    late = _restore_tensors(runner, checkpoint, path, resume_optimizer)
    # stock mmcv keeps the state of its fp16 hook in meta
    fp16 = checkpoint['meta'].get('fp16') or {}
    restore_amp(runner.hooks,
                checkpoint.get('amp') or fp16.get('loss_scaler'),
                runner.logger.warning)
    told = telling_name(path)
    epoch, finished = finished_steps(checkpoint, told,
                                     isinstance(runner, EpochBasedRunner), log)
    runner._epoch, runner._iter = epoch, finished
    runner._inner_iter = finished
    _restore_messages(runner, checkpoint['meta'], directory)
    resume_state = checkpoint.get('resume_state') or {}
    restore_hooks(runner.hooks, resume_state.get('hooks') or {})
    generators, data = _of_this_rank(runner, resume_state, name)
    # stock iteration runners count epochs late, and anew after a resume
    epochs = f'{counted(epoch, "epochs")} and ' if 'loaders' in data or \
        isinstance(runner, EpochBasedRunner) else ''
    verb = 'is' if finished == 1 and not epochs else 'are'
    log(f'Resumed from {path}: {epochs}{counted(finished, "iterations")} '
        f'{verb} finished')
    _tell_if_finished(runner, path)
    return Restored(directory, name, epoch, finished,
                    resume_state.get('lineage') or '', late, generators,
                    resume_state.get('gradients') or {}, data)


def _restore_tensors(runner: Any, checkpoint: Mapping[str, Any], path: str,
                     resume_optimizer: bool) -> Mapping[str, Any]:
    """Restore model and optimizer; return what has no owner yet."""
    model = unwrapped(runner.model)
    if goes_through_fsdp(checkpoint, model):
        takes = resume_optimizer and _has_optimizer(runner, checkpoint, path)
        restore_through_fsdp(checkpoint, model,
                             runner.optimizer if takes else None, path)
        return {}
    if resume_optimizer:
        check_fit(runner, checkpoint, path)
    state_dict = without_prefix(checkpoint['state_dict'])
    late = read_late(checkpoint, ema.split_late(runner, state_dict))
    detach(late)
    restore_model(model,
                  read_model(checkpoint, get_state_dict(model), state_dict),
                  runner.logger)
    if resume_optimizer:
        _restore_optimizer(runner, checkpoint, path)
    return late


def _tell_if_finished(runner: Any, path: str) -> None:
    for unit, limit, done in (('epochs', runner.max_epochs, runner.epoch),
                              ('iters', runner.max_iters, runner.iter)):
        if limit is not None and done >= limit:
            runner.logger.warning(
                f'Nothing is left to train: max_{unit} is {limit}, and {path} '
                f'has {done}')


def _of_this_rank(runner: Any, resume_state: Mapping[str, Any],
                  name: str) -> Tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return generators and data position for this rank.

    With another number of ranks the iterations count on as they are; a rank
    that was not there before begins with generators of its own, at the
    position of rank 0.
    """
    saved, now = resume_state.get('world_size') or 1, distributed.world_size()
    if resume_state and saved != now:
        runner.logger.warning(
            f'{name} was saved by {counted(saved, "ranks")}, this run has '
            f'{now}: it goes on at the same iteration and the same share of '
            'the pass over the data, but not with the same batches')
    rank = distributed.rank()
    generators = resume_state.get('rng') or []
    if 0 < len(generators) < min(saved, now):
        runner.logger.warning(
            f'{name} has the generators of {len(generators)} of {saved} '
            'ranks: the others draw other numbers than without the resume')
    positions = (resume_state.get('data') or {}).get('ranks', [])
    return (generators[rank] if rank < len(generators) else {},
            positions[rank if rank < len(positions) else 0]
            if positions else {})


def finish_on_stock(runner: Any, restored: Restored) -> Restored:
    """Do what our runners do themselves, from inside ``before_run``.

    A stock epoch runner cannot begin inside an epoch: it repeats it. The
    counters go back to its first iteration; else it would end with too many.
    """
    if hasattr(runner, 'finished_steps'):
        return restored
    continue_accumulation(runner)
    runner.logger.info(
        f'{type(runner).__name__} goes over the data from the beginning; '
        'IterBasedRunnerAmp and EpochBasedRunnerAmp go on behind the last '
        'batch')
    if not isinstance(runner, EpochBasedRunner) or not runner.max_iters:
        ema.restore_when_ready(runner, restored.late, restored.name, False)
        return restored
    # set at the start of run()
    per_epoch = runner.max_iters // runner.max_epochs
    used = restored.iter - restored.epoch * per_epoch
    ema.restore_when_ready(runner, restored.late, restored.name,
                           0 < used <= per_epoch)
    if used == per_epoch:
        runner._epoch += 1
    elif 0 < used < per_epoch:
        runner._iter -= used
        runner.logger.warning(
            f'{type(runner).__name__} repeats epoch {restored.epoch + 1} from '
            f'its first batch: {counted(used, "iterations")} of it had been '
            'saved. EpochBasedRunnerAmp goes on behind that')
    return replace(restored, epoch=runner.epoch, iter=runner.iter)


def refresh_hooks(runner: Any) -> None:
    """Update what hooks read from the runner before it was restored.

    Needed where the restore happens inside ``run``, after the ``before_run``
    of the learning rate, momentum and logger hooks.
    """
    for hook in runner.hooks:
        for kind, base, initial in _BASES:
            # empty before its before_run, which reads them itself
            if isinstance(hook, kind) and getattr(hook, base):
                setattr(hook, base, _initial_values(runner.optimizer, initial))
        if isinstance(hook, TextLoggerHook):
            hook.start_iter = runner.iter  # its ETA


def _initial_values(optimizer: Any, key: str) -> Any:
    if isinstance(optimizer, dict):
        return {
            name: _initial_values(one, key)
            for name, one in optimizer.items()
        }
    plain = key[len('initial_'):]
    # as mmcv's hooks: a run without them has saved no initial value
    return [
        group.setdefault(
            key,
            group.get(plain) if plain in group else group.get('betas',
                                                              (0., ))[0])
        for group in optimizer.param_groups
    ]


def without_prefix(
    state_dict: Mapping[str, Any],
    revise_keys: Optional[List[Tuple[str, str]]] = None
) -> 'OrderedDict[str, Any]':
    """Rename keys as mmcv does; by default ``module.`` goes."""
    rules = [(r'^module\.', '')] if revise_keys is None else revise_keys
    renamed: 'OrderedDict[str, Any]' = OrderedDict()
    for key, value in state_dict.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    renamed._metadata = getattr(  # type: ignore[attr-defined]
        state_dict, '_metadata', OrderedDict())
    return renamed


def _restore_optimizer(runner: Any, checkpoint: Mapping[str, Any],
                       path: str) -> None:
    if not _has_optimizer(runner, checkpoint, path):
        return
    try:
        restore_optimizer(runner.optimizer,
                          read_optimizers(checkpoint, runner.optimizer))
    except (KeyError, ValueError) as error:
        raise ResumeError(
            f'{path} does not fit this run: its optimizer cannot be loaded '
            f'({type(error).__name__}: {error}). To go on, {TAKE_WEIGHTS}'
        ) from error


def _has_optimizer(runner: Any, checkpoint: Mapping[str, Any],
                   path: str) -> bool:
    if checkpoint.get('optimizer') is not None:
        return True
    if runner.optimizer is not None:
        runner.logger.warning(
            f'{path} holds no optimizer state: the optimizer starts anew')
    return False


def _restore_messages(runner: Any, meta: Mapping[str, Any],
                      directory: str) -> None:
    """Take over best scores and the loss scale; nothing else of meta."""
    if runner.meta is None:
        runner.meta = {}
    messages = dict(meta.get('hook_msgs') or {})
    for key in ('last_ckpt', 'best_ckpt'):
        if isinstance(messages.get(key), str):
            # INVARIANT: a path in a file names a sibling; an absolute one of
            # another machine or run would have the original deleted
            messages[key] = os.path.join(directory,
                                         os.path.basename(messages[key]))
    runner.meta.setdefault('hook_msgs', {}).update(messages)
    scaler = (meta.get('fp16') or {}).get('loss_scaler')
    if scaler:
        # a disabled scaler saves {}, which an enabled one cannot load
        runner.meta.setdefault('fp16', {})['loss_scaler'] = scaler
