"""The end of a run that a signal asked for: nothing of the logs is lost."""
import logging
from typing import Any, Callable, Optional

from mmcv.runner import EpochBasedRunner, IterTimerHook, LoggerHook

from .boundary import Boundary
from .logged_costs import LoggedCosts
from .wording import counted


def say_end(runner: Any, signal: str, last: Boundary, stands: str,
            event: Optional[str]) -> None:
    """Log where training ends, and what is left in the loggers.

    Args:
        runner (BaseRunner): About to be left.
        signal (str): Its name.
        last (Boundary): After which training ends.
        stands (str): Which checkpoint does.
        event (str, optional): As for :func:`flush_loggers`.
    """
    again = '; a resume repeats the epoch, EpochBasedRunnerAmp would not' \
        if repeats_epoch(runner, last.epoch, last.iter) else ''
    runner.logger.info(
        f'{signal}: training ends after {counted(last.iter, "iterations")}; '
        f'{stands} stands{again}')
    flush_loggers(runner, event)


def flush_loggers(runner: Any, event: Optional[str]) -> None:
    """Let every logger write what it has; a failure is only logged.

    Args:
        runner (BaseRunner): About to be left.
        event (str, optional): The event under way, in which the loggers, which
            come last, have not been called yet; None for none.
    """
    loggers = [one for one in runner.hooks if isinstance(one, LoggerHook)]
    if event is not None:
        for hook in runner.hooks:
            if isinstance(hook, (IterTimerHook, LoggerHook)):
                _try(runner, hook, getattr(hook, event))
    if event == 'after_train_iter' and loggers:
        # those since the last line get no other one
        rest = min(_not_logged(runner, one) for one in loggers)
        if rest:
            runner.log_buffer.average(rest)
            for hook in runner.hooks:
                if isinstance(hook, LoggedCosts):
                    hook.tell(runner, loggers)
            for logger in loggers:
                _try(runner, logger, logger.log)
            runner.log_buffer.clear_output()
    for logger in loggers:
        # closes files and uploads
        _try(runner, logger, logger.after_run)
    for log in (runner.logger, logging.getLogger()):
        for handler in log.handlers:
            handler.flush()


def _try(runner: Any, hook: Any, call: Callable[[Any], Any]) -> None:
    try:
        call(runner)
    except Exception as error:  # the run ends, whatever a service says
        runner.logger.warning(f'{type(hook).__name__} could not be ended '
                              f'({type(error).__name__}: {error})')


def _not_logged(runner: Any, logger: LoggerHook) -> int:
    """Return how many iterations have come since the last line."""
    if logger.end_of_epoch(runner) and not logger.ignore_last:
        return 0
    last = runner.inner_iter if logger.by_epoch else runner.iter
    return int((last + 1) % logger.interval)


def repeats_epoch(runner: Any, epoch: int, finished: int) -> bool:
    """Whether a resume from there begins the epoch anew: stock runners do.

    Args:
        runner (BaseRunner): Any.
        epoch (int): Finished epochs.
        finished (int): Finished iterations.
    """
    if not isinstance(runner, EpochBasedRunner) or \
            hasattr(runner, 'finished_steps'):
        return False
    per_epoch = runner.max_iters // runner.max_epochs
    return bool(finished > epoch * per_epoch)
