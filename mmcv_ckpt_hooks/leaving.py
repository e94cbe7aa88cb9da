"""The end of a run that a signal asked for: nothing of the logs is lost."""
import logging
from typing import Any, Optional

from mmcv.runner import EpochBasedRunner, IterTimerHook, LoggerHook

from .boundary import Boundary


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
    runner.logger.info(f'{signal}: training ends after {last.iter} '
                       f'iterations; {stands} stands{again}')
    flush_loggers(runner, event)


def flush_loggers(runner: Any, event: Optional[str]) -> None:
    """Let every logger write what it has; a failure is only logged.

    Args:
        runner (BaseRunner): About to be left.
        event (str, optional): The event under way, in which the loggers, which
            come last, have not been called yet; None for none.
    """
    for hook in runner.hooks:
        if not isinstance(hook, (IterTimerHook, LoggerHook)):
            continue
        try:
            if event is not None:
                getattr(hook, event)(runner)
            if isinstance(hook, LoggerHook):
                # closes files and uploads
                hook.after_run(runner)
        except Exception as error:  # the run ends, whatever a service says
            runner.logger.warning(f'{type(hook).__name__} could not be ended '
                                  f'({type(error).__name__}: {error})')
    for logger in (runner.logger, logging.getLogger()):
        for handler in logger.handlers:
            handler.flush()


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
