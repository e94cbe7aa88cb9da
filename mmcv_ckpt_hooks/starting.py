"""The start of a run: take over, open the place, resume, watch."""
import time
from typing import Any, Optional

from . import foreign, takeover
from .best import BestKeeper, eval_hooks, evaluate_by_iteration
from .boundary import Boundary
from .companions import look_out
from .config import parse_options
from .errors import ConfigError
from .hook import DurableCheckpointHook, counts_iterations
from .interrupts import Interrupts
from .opening import open_best, open_run
from .saver import Saver
from .triggers import Schedule


def start(hook: DurableCheckpointHook, runner: Any) -> None:
    """Make a hook ready for a run, once; on all ranks.

    Raises:
        ConfigError: If the hook and the runner do not fit.
    """
    stock = takeover.find_stock_hook(runner.hooks)
    taken = takeover.inherited(stock, runner.work_dir) if stock else {}
    if counts_iterations(runner) and taken.get('by_epoch'):
        taken['by_epoch'] = None  # stock would never save
    hook._apply(parse_options(takeover.merge(hook._given, taken)))
    hook.by_epoch = _by_epoch(hook.options.by_epoch, runner)
    place = takeover.resolve_out_dir(hook.options.out_dir, runner.work_dir)
    takeover.check_single_writer(runner.hooks, hook, place)
    foreign.check_runner(runner)
    hook.out_dir = place
    runner._hooks = takeover.rearranged(runner.hooks, hook, stock)
    takeover.hand_over(runner.hooks, stock, hook)
    hook._waits_for = takeover.needs_files_at_once(runner.hooks)
    evaluate_by_iteration(runner)
    saver = open_run(runner, hook.options, hook.by_epoch, place)
    hook._savers = [] if saver is None else [saver]
    hook._saver = saver
    if saver is not None:
        _keep_best(hook, runner, saver)
    hook._evaluates_by_iter = any(not one.by_epoch
                                  for one in eval_hooks(runner))
    _watch(hook, runner, saver)
    if hook.interval < 1 and hook.options.triggers.secs is None:
        runner.logger.warning(
            'DurableCheckpointHook has no interval: nothing is saved '
            'before the end but what triggers ask for')
    if stock is not None:
        runner.logger.info(
            'DurableCheckpointHook takes over from CheckpointHook '
            f'(interval {hook.interval}, '
            f'{"epochs" if hook.by_epoch else "iterations"}); checkpoints '
            f'go to {place}')


def _by_epoch(given: Optional[bool], runner: Any) -> bool:
    if given and counts_iterations(runner):
        raise ConfigError(
            f'by_epoch=True on {type(runner).__name__} would never save: '
            'it has no epoch events. Leave by_epoch out')
    return not counts_iterations(runner) if given is None else given


def _keep_best(hook: DurableCheckpointHook, runner: Any, saver: Saver) -> None:
    for one in eval_hooks(runner):
        place = open_best(runner, hook.options, one, saver)
        BestKeeper(one, place, hook._capture, saver).recall(runner)
        if place not in hook._savers:
            hook._savers.append(place)


def _watch(hook: DurableCheckpointHook, runner: Any,
           saver: Optional[Saver]) -> None:
    triggers = hook.options.triggers
    hook._schedule = Schedule(hook.interval, hook.save_last, triggers,
                              time.monotonic,
                              lambda name: hook._take_file(runner, name))

    def save(trigger: str, boundary: Boundary) -> None:
        hook._save(runner, trigger, boundary, is_last=True)

    hook._interrupts = Interrupts(runner, triggers, hook._schedule, saver,
                                  save)
    if triggers.signals:
        look_out(runner, hook._interrupts.look)
