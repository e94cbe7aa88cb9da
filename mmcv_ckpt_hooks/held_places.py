"""What this process holds, and how it leaves that at its end.

POSIX record locks never conflict in one process: it has to know by itself.
"""
import atexit
import os
import time
import weakref
from typing import TYPE_CHECKING, List, Optional, Tuple

from .holding import Holding
from .lease import Owner

if TYPE_CHECKING:
    from .run_lock import RunLock

#: So long the end of the process waits for storages to hear of it (seconds).
_EXIT_SECS = 3.

_held: 'List[Tuple[Holding, weakref.ref[RunLock]]]' = []
_is_over = False


def hold(holding: Holding, lock: 'RunLock') -> None:
    """Know of a place until it is left, or nobody refers to its lock."""
    _held.append((holding, weakref.ref(lock)))
    # what is left at the exit of the interpreter is not left twice
    weakref.finalize(lock, holding.abandon).atexit = False


def held_at(place: str) -> 'List[Tuple[Holding, weakref.ref[RunLock]]]':
    """Return what of a place is held, as ``SignedFile.is_at`` takes it."""
    forget_ended()
    return [(holding, lock) for holding, lock in _held if holding.is_at(place)]


def own_holding(owner: Owner) -> Optional[Holding]:
    """Return what an owner holds in this process; None if it does not."""
    return next((holding for holding, _ in _held
                 if not holding.ended and holding.owner.token == owner.token),
                None)


def forget_ended() -> None:
    """Forget what was left."""
    _held[:] = [(holding, lock) for holding, lock in _held
                if holding.is_of_this_process() and not holding.ended]


def is_over() -> bool:
    """Whether this process ends, and holds nothing any more."""
    return _is_over


def die_holding() -> None:
    """Let the directories of this process look as if it were killed.

    It ends while it writes, and who comes next clears up after the dead. In
    a store that is seen by other signs, and nobody is kept waiting.

    Thread: also a signal's handler.
    """
    for holding, _ in _held:
        holding.dies = holding.is_on_disk


def _end_process() -> None:
    """Leave what is held, also of runs that raised.

    INVARIANT: no thread that may still write takes it again.
    """
    global _is_over
    _is_over = True
    forget_ended()
    left = [holding for holding, _ in _held if not holding.dies]
    for holding in left:
        holding.abandon()
    deadline = time.monotonic() + _EXIT_SECS
    for holding in left:
        holding.wait_until_left(deadline - time.monotonic())


# the functions of those who import this come before: what was staged is
# written then
atexit.register(_end_process)

if hasattr(os, 'register_at_fork'):
    # in a forked child nothing is held
    os.register_at_fork(after_in_child=_held.clear)
