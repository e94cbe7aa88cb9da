"""The start of a run: take over, open the place, resume, watch."""
import os
import time
from typing import Any, Callable, Mapping, Optional

from . import foreign, takeover
from .announcing import say_start
from .best import eval_hooks, evaluate_by_iteration
from .boundary import Boundary
from .companions import look_out
from .config import parse_options
from .continuation import EvaluationGuard, StockContinuation
from .ema import resume_for_hooks
from .ending import end_stopped
from .errors import ConfigError
from .hook import DurableCheckpointHook
from .interrupts import Interrupts
from .logged_costs import log_costs
from .opening import keep_best, open_run
from .overlap import Overlap
from .saver import Saver
from .storage.object_url import secrets_of
from .storage.patience import tell_to
from .triggers import Schedule

#: Shorter options are no keys, but words.
_SECRET_CHARACTERS = 8


def start(hook: DurableCheckpointHook, runner: Any) -> None:
    """Make a hook ready for a run, once; on all ranks.

    Raises:
        ConfigError: If the hook and the runner do not fit.
    """
    tell_to(runner.logger.warning)
    stock = takeover.find_stock_hook(runner.hooks)
    taken = takeover.inherited(stock, runner.work_dir) if stock else {}
    if takeover.counts_iterations(runner) and taken.get('by_epoch') is True:
        taken['by_epoch'] = None  # stock would never save
    _check_taken(taken, hook._given)
    hook._apply(parse_options(takeover.merge(hook._given, taken)))
    _hide_credentials(runner, hook.options.storage_options)
    if hook.options.mirror is not None:
        _hide_credentials(runner, hook.options.mirror.storage_options)
    hook.by_epoch = _by_epoch(hook.options.by_epoch, runner)
    place = takeover.resolve_out_dir(hook.options.out_dir, runner.work_dir)
    takeover.check_single_writer(runner.hooks, hook, place)
    foreign.check_runner(runner)
    hook.out_dir = place
    runner._hooks = takeover.rearranged(runner.hooks, hook, stock,
                                        runner.logger.info)
    takeover.hand_over(runner.hooks, stock, hook)
    hook._waits_for = takeover.needs_files_at_once(runner.hooks)
    evaluate_by_iteration(runner)
    build: Callable[..., Saver] = Saver
    if hook.options.format == 'dcp':
        # torch.distributed.checkpoint takes a second to import
        from .sharded.starting import join, open_sharding, saver_of
        hook._sharding = open_sharding(runner, hook.options)
        build = saver_of(hook._sharding)
    saver = open_run(runner, hook.options, hook.by_epoch, place, build)
    hook._savers = [] if saver is None else [saver]
    hook._saver = saver
    resume_for_hooks(runner)
    keep_best(runner, hook.options, hook._savers, hook._capture)
    if hook._sharding is not None:
        hook._savers += join(runner, hook.options, place, hook._sharding)
    hook._evaluates_by_iter = any(not one.by_epoch
                                  for one in eval_hooks(runner))
    _watch(hook, runner, saver)
    if hook.interval < 1 and hook.options.triggers.secs is None:
        when = 'before the end ' if hook.save_last else ''
        runner.logger.warning(
            'DurableCheckpointHook has no interval: nothing is saved '
            f'{when}but what triggers ask for')
    if saver is not None:
        say_start(hook, runner, saver, taken if stock is not None else None)


def _check_taken(taken: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Check what is inherited under the name that it was given by.

    Raises:
        ConfigError: It names the argument of ``checkpoint_config``.
    """
    # the hook's format says how a name ends, and is told with its template
    aside = {'filename_tmpl'} if given.get('format') == 'dcp' else set()
    try:
        parse_options({
            name: value
            for name, value in taken.items()
            if given.get(name) is None and name not in aside
        })
    except ConfigError as error:
        told = str(error).replace('DurableCheckpointHook: ',
                                  'checkpoint_config.', 1)
        raise ConfigError(told) from error


def _hide_credentials(runner: Any, options: Optional[Mapping[str, Any]]) -> \
        None:
    """Take credentials out of the config's text, which tools put into meta.

    It would be in every checkpoint.
    """
    for secret in secrets_of(options or {}):
        for key, value in (runner.meta or {}).items():
            if isinstance(value, str) and len(secret) >= _SECRET_CHARACTERS:
                runner.meta[key] = value.replace(secret, '***')


def _by_epoch(given: Optional[bool], runner: Any) -> bool:
    if given and takeover.counts_iterations(runner):
        raise ConfigError(
            f'by_epoch=True on {type(runner).__name__} would never save: '
            'it has no epoch events. Leave by_epoch out')
    return not takeover.counts_iterations(runner) if given is None else given


def _watch(hook: DurableCheckpointHook, runner: Any,
           saver: Optional[Saver]) -> None:
    triggers = hook.options.triggers
    hook._schedule = Schedule(
        hook.interval, hook.save_last, triggers, time.monotonic,
        lambda name: saver is not None and _take_file(runner, name))

    def save(trigger: str, boundary: Boundary, ranks: Any) -> None:
        hook._save(runner, trigger, boundary, is_last=True, ranks=ranks)

    def tell(error: BaseException) -> None:
        end_stopped(
            [(one._interrupts, one._savers)
             for one in runner.hooks if isinstance(one, DurableCheckpointHook)
             and one._interrupts is not None], error)

    hook._interrupts = Interrupts(runner, triggers, hook._schedule, saver,
                                  save, tell)
    copies = saver is not None and hook._sharding is None and \
        hook.options.write.background
    hook._overlap = Overlap(runner,
                            hook.options.write.staging if copies else 'copy',
                            runner.logger.info)
    look_out(runner, hook._interrupts, _continued_on_stock(runner),
             hook._overlap.finish)
    if saver is not None:
        log_costs(runner, saver)


def _take_file(runner: Any, name: str) -> bool:
    """Remove the trigger file; return whether it was there."""
    try:
        os.unlink(os.path.join(runner.work_dir or '.', name))
    except OSError:
        return False
    return True


def _continued_on_stock(runner: Any) -> Callable[[], None]:
    """Let a runner that is not ours draw as if it had not been stopped.

    Returns:
        callable: To be called when training goes on.
    """
    if hasattr(runner, 'finished_steps'):
        return lambda: None  # it does this itself
    if not hasattr(runner, 'evaluation_guard'):
        # the modes stay as mmcv leaves them
        runner.evaluation_guard = EvaluationGuard(runner, keeps_mode=False)
    for one in eval_hooks(runner):
        runner.evaluation_guard.guard(one)
    restored = getattr(runner, 'restored', None)
    if restored is None:
        return lambda: None
    return StockContinuation(runner, restored).ready
