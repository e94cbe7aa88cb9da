"""A runner continued from a loaded checkpoint."""
import os
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional, Tuple

from mmcv.runner import EpochBasedRunner
from mmcv.runner.checkpoint import get_state_dict

from . import distributed, ema
from .amp import fits_scalers, restore_amp, uses_amp
from .card import steps_in_name
from .counting import finished_steps
from .errors import ResumeError
from .fitting import TAKE_WEIGHTS, check_fit
from .gradients import is_accumulating
from .mapping import detach
from .restore_report import NOT_THERE, RestoreReport, why_not_position
from .sharded.fsdp_restore import goes_through_fsdp, restore_through_fsdp
from .sharded.restore import read_late, read_model, read_optimizers
from .state import restore_hooks, stateful, unwrapped
from .state_loading import restore_model, restore_optimizer
from .storage.links import telling_name
from .wording import counted


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
        unswapped (bool): Whether an epoch was saved before EMAHook swapped.
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
    unswapped: bool = False


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
    report = RestoreReport(checkpoint)
    late = _restore_tensors(runner, checkpoint, path, resume_optimizer, report)
    _restore_amp(runner, checkpoint, report)
    told = telling_name(path)
    epoch, finished = finished_steps(checkpoint, told,
                                     isinstance(runner, EpochBasedRunner), log)
    runner._epoch, runner._iter = epoch, finished
    runner._inner_iter = finished
    _restore_messages(runner, checkpoint['meta'], directory, name)
    resume_state = checkpoint.get('resume_state') or {}
    restore_hooks(runner.hooks, resume_state.get('hooks') or {})
    generators, data = _of_this_rank(runner, resume_state, name)
    _note_rest(report, runner, checkpoint, generators, data)
    # stock iteration runners count epochs late, and anew after a resume
    epochs = f'{counted(epoch, "epochs")} and ' if 'loaders' in data or \
        isinstance(runner, EpochBasedRunner) else ''
    verb = 'is' if finished == 1 and not epochs else 'are'
    log(f'Resumed from {path}: {epochs}{counted(finished, "iterations")} '
        f'{verb} finished')
    log(report.line(name))
    _tell_if_finished(runner, path)
    unswapped = _is_unswapped(runner, checkpoint, told)
    if unswapped:
        log(f'{name} is taken to have the averages beside the weights, and '
            'not in their place: the EMAHook of this run swaps them after '
            'the save of stock mmcv')
    return Restored(directory, name, epoch, finished,
                    resume_state.get('lineage') or '', late, generators,
                    resume_state.get('gradients') or {}, data, unswapped)


def _is_unswapped(runner: Any, checkpoint: Mapping[str, Any],
                  name: str) -> bool:
    """Whether mmcv saved an epoch before EMAHook swapped.

    One that counts iterations was saved inside the epoch.
    """
    if checkpoint.get('resume_state') or 'iter' in steps_in_name(name) or \
            not isinstance(runner, EpochBasedRunner) or \
            not ema.has_averages(without_prefix(checkpoint['state_dict'])):
        return False
    if os.path.basename(name).startswith('best_'):
        return ema.swaps_behind_evaluation(runner)
    return ema.swaps_behind_stock(runner)


def _restore_tensors(runner: Any, checkpoint: Mapping[str, Any], path: str,
                     resume_optimizer: bool,
                     report: RestoreReport) -> Mapping[str, Any]:
    """Restore model and optimizer; return what has no owner yet."""
    model = unwrapped(runner.model)
    if goes_through_fsdp(checkpoint, model):
        takes = resume_optimizer and _has_optimizer(runner, checkpoint, path)
        restore_through_fsdp(checkpoint, model,
                             runner.optimizer if takes else None, path)
        report.note('weights', True)
        _note_optimizer(report, runner, checkpoint, resume_optimizer)
        return {}
    if resume_optimizer:
        check_fit(runner, checkpoint, path)
    state_dict = without_prefix(checkpoint['state_dict'])
    averaged = ema.has_averages(state_dict)
    late = read_late(checkpoint, ema.split_late(runner, state_dict))
    detach(late)
    own = get_state_dict(model)
    report.note_weights(own, state_dict)
    if ema.ema_hooks(runner):
        report.note('averaged weights', averaged)
    restore_model(model, read_model(checkpoint, own, state_dict),
                  runner.logger)
    if resume_optimizer:
        _restore_optimizer(runner, checkpoint, path)
    _note_optimizer(report, runner, checkpoint, resume_optimizer)
    return late


def _note_optimizer(report: RestoreReport, runner: Any,
                    checkpoint: Mapping[str, Any], wanted: bool) -> None:
    if runner.optimizer is not None:
        report.note('optimizer', wanted
                    and checkpoint.get('optimizer') is not None,
                    NOT_THERE if wanted else 'not asked for')


def _restore_amp(runner: Any, checkpoint: Mapping[str, Any],
                 report: RestoreReport) -> None:
    # stock mmcv keeps the state of its fp16 hook in meta
    fp16 = checkpoint['meta'].get('fp16') or {}
    saved = checkpoint.get('amp') or fp16.get('loss_scaler')
    settings = (checkpoint.get('resume_state') or {}).get('apex')
    restored = restore_amp(runner.hooks, saved, runner.logger.warning,
                           settings)
    if saved or uses_amp(runner.hooks):
        report.note('loss scale', restored,
                    'see above' if saved else NOT_THERE)


def _note_rest(report: RestoreReport, runner: Any, checkpoint: Mapping[str,
                                                                       Any],
               generators: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    if 'best_score' in (checkpoint['meta'].get('hook_msgs') or {}):
        report.note('best score', True)
    resume_state = checkpoint.get('resume_state') or {}
    for key, _ in stateful(runner.hooks):
        report.note(f'state of {key}', key in (resume_state.get('hooks')
                                               or {}))
    report.note_generators(
        len(resume_state.get('rng') or ()) if generators else 0,
        resume_state.get('world_size') or 1, distributed.world_size())
    ours = hasattr(runner, 'finished_steps')
    why = f'{type(runner).__name__} begins anew'
    if ours:
        why = why_not_position(
            data.get('loaders'),
            resume_state.get('world_size') or 1, distributed.world_size())
    report.note('position in the data', not why, why)
    gradients = bool(resume_state.get('gradients'))
    if gradients or is_accumulating(runner.hooks, runner.iter):
        report.note('accumulated gradients', gradients)


def _tell_if_finished(runner: Any, path: str) -> None:
    for unit, limit, done in (('epochs', runner.max_epochs, runner.epoch),
                              ('iters', runner.max_iters, runner.iter)):
        if limit is not None and done >= limit:
            runner.logger.warning(
                f'Nothing is left to train: max_{unit} is {limit}, and {path} '
                f'has {done}')
            return  # a stock runner knows both limits


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


def _restore_messages(runner: Any, meta: Mapping[str, Any], directory: str,
                      name: str) -> None:
    """Take over best scores and the loss scale; nothing else of meta."""
    if runner.meta is None:
        runner.meta = {}
    messages = dict(meta.get('hook_msgs') or {})
    if isinstance(messages.get('best_ckpt'), str):
        # INVARIANT: a path in a file names a sibling; an absolute one of
        # another machine or run would have the original deleted
        messages['best_ckpt'] = os.path.join(
            directory, os.path.basename(messages['best_ckpt']))
    # the file has the one before it, which may be deleted
    messages['last_ckpt'] = os.path.join(directory, name)
    runner.meta.setdefault('hook_msgs', {}).update(messages)
    scaler = (meta.get('fp16') or {}).get('loss_scaler')
    if scaler and fits_scalers(runner.hooks, scaler):
        # a disabled scaler saves {}, which an enabled one cannot load
        runner.meta.setdefault('fp16', {})['loss_scaler'] = scaler
