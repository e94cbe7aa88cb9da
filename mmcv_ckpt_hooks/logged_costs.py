"""What saves cost, in the lines of mmcv's logger hooks."""
from typing import Any, List, Optional, Sequence

from mmcv.runner import Hook, LoggerHook
from mmcv.runner.priority import get_priority

from .commit import Costs
from .saver import Saver


class LoggedCosts(Hook):
    """Puts the costs of the last save into the next train line.

    A train line is what the loggers make of ``runner.log_buffer.output`` when
    they have averaged. What lies there at another time makes a ``val`` line,
    so nothing is put there unless they do so in this iteration. When one has,
    those after it log, too; one before it with another interval finds the
    costs in its own next line.

    Args:
        saver (Saver): Of the run.
    """

    def __init__(self, saver: Saver) -> None:
        self._saver = saver
        self._costs: Optional[Costs] = None
        # loggers that have not told of these costs
        self._left: List[Any] = []

    def after_train_iter(self, runner: Any) -> None:
        loggers = [one for one in runner.hooks if isinstance(one, LoggerHook)]
        for number, logger in enumerate(loggers):
            if _averages(logger, runner):
                self.tell(runner, loggers[number:])
                return

    def tell(self, runner: Any, loggers: Sequence[Any]) -> None:
        """Put the costs into a line that some loggers will write.

        Args:
            runner (BaseRunner): Whose values are averaged, or will be.
            loggers (sequence): Those that write it.
        """
        costs = self._saver.take_costs()
        if costs is not None:
            self._costs = costs
            self._left = [
                one for one in runner.hooks if isinstance(one, LoggerHook)
            ]
        if self._costs is None or not any(one in self._left
                                          for one in loggers):
            return
        self._left = [one for one in self._left if one not in loggers]
        runner.log_buffer.output.update({
            'ckpt/blocked_ms':
            self._costs.blocked_secs * 1e3,
            'ckpt/durable_s':
            self._costs.durable_secs,
            'ckpt/bytes':
            self._costs.bytes
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
