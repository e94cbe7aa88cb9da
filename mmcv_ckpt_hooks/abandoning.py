"""An end that waits for nothing: neither for what is written, nor for ranks.

All of it may be called in a signal's handler.
"""
import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import Any, List


def abandon(hooks: List[Any]) -> None:
    """Let a KeyboardInterrupt end the process at once, if nobody catches it.

    Args:
        hooks (list): Those of the runner; ours have savers.
    """
    savers = [
        saver for hook in hooks for saver in getattr(hook, '_savers', [])
    ]
    mirrors = [saver.mirror for saver in savers if saver.mirror is not None]
    if any([one.abandon() for one in [*savers, *mirrors]]):
        # only who holds a place has it; its import registers an exit function
        from .held_places import die_holding
        die_holding()
    atexit.register(_end)


def leave_mirrors(savers: List[Any]) -> None:
    """Let an exception out at once: copies to mirrors are not waited for."""
    for saver in savers:
        if saver.mirror is not None:
            saver.mirror.leave()


def _end() -> None:
    atexit.unregister(_end)
    if os.name == 'nt' or \
            getattr(sys, 'last_type', None) is not KeyboardInterrupt:
        return
    try:
        # what others have registered comes first
        atexit._run_exitfuncs()
    finally:  # Python 3.8 and 3.9 raise what one of them has raised
        _end_by_interrupt()


def _end_by_interrupt() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # none, or closed
            stream.flush()
    # as the interpreter does in the end; but before, it waits for ranks that
    # are silent, and aborts where a thread is in torch
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
