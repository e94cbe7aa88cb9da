"""What saves cost, in the lines of mmcv's logger hooks."""
from typing import Any

from mmcv.runner import Hook, LoggerHook
from mmcv.runner.priority import get_priority

from .saver import Saver


class LoggedCosts(Hook):
    """Puts the costs of the last save into the next train line.

    A train line is what the loggers make of ``runner.log_buffer.output`` when
    they have averaged. What lies there at another time makes a ``val`` line,
    so nothing is put there unless they do so in this iteration.

    Args:
        saver (Saver): Of the run.
    """

    def __init__(self, saver: Saver) -> None:
        self._saver = saver

    def after_train_iter(self, runner: Any) -> None:
        if not any(
                isinstance(hook, LoggerHook) and _averages(hook, runner)
                for hook in runner.hooks):
            return
        costs = self._saver.take_costs()
        if costs is not None:
            runner.log_buffer.output.update({
                'ckpt/blocked_ms':
                costs.blocked_secs * 1e3,
                'ckpt/durable_s':
                costs.durable_secs,
                'ckpt/bytes':
                costs.bytes
            })


def log_costs(runner: Any, saver: Saver) -> None:
    """Have a :class:`LoggedCosts` before all loggers of a runner."""
    costs = LoggedCosts(saver)
    costs.priority = int(get_priority('HIGHEST'))
    # a new list: mmcv iterates the old one
    runner._hooks = [costs] + runner.hooks


def _averages(logger: Any, runner: Any) -> bool:
    """Whether a logger makes a train line of this iteration.

    Source: ``LoggerHook.after_train_iter``, mmcv 1.3.0 to 1.7.2.
    """
    every = logger.every_n_inner_iters if logger.by_epoch else \
        logger.every_n_iters
    return bool(
        every(runner, logger.interval)
        or (logger.end_of_epoch(runner) and not logger.ignore_last))
