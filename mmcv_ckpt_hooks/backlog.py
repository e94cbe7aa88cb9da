"""What is being written beside training, and what a save meanwhile becomes.

Standard library only.
"""
from typing import Optional, Protocol

from .executor import BackgroundExecutor
from .types import SaveRequest

#: Triggers that ask again; a wish of the user is never skipped.
_REPEATED = ('interval', 'time', 'retry')


class SaysEnd(Protocol):
    """Says what a run has saved, when it ends."""

    def because(self, why: str, **what: str) -> None:
        """Take note of why it ends."""

    def record(self) -> None:
        """Add it to the history, once."""

    def tell(self) -> None:
        """Say it, once."""

    def reopen(self) -> None:
        """Say it of the run that begins now, too."""


class WritesBehind:
    """Who saves on an executor.

    Args:
        executor (BackgroundExecutor): Who writes.
        backlog (str): ``'wait'`` or ``'skip'``.

    Thread: training's, where nothing else is said.
    """

    def __init__(self, executor: BackgroundExecutor, backlog: str) -> None:
        self._executor = executor
        self._backlog = backlog
        #: says what a run has saved; None before it has begun, on ranks whose
        #: saves are another's, and in further places
        self.end: Optional[SaysEnd] = None

    def would_skip(self, request: SaveRequest) -> bool:
        """Whether a save is left out now."""
        return self.busy() and self._backlog == 'skip' and \
            request.trigger in _REPEATED and not request.is_last

    def ends(self, why: str, **what: str) -> None:
        """Take note of why the run ends, for who says it."""
        if self.end is not None:
            self.end.because(why, **what)

    def wait(self) -> None:
        """Wait until what was saved is committed or has failed."""
        self._executor.wait()

    def take_error(self) -> Optional[BaseException]:
        """Return an error of an earlier save, once."""
        return self._executor.take_error()

    def busy(self) -> bool:
        """Whether anything is being written, or a commit is waited for."""
        return self._executor.busy()

    def abandon(self) -> bool:
        """Let the process end without what is being written, if anything is.

        Thread: also a signal's handler.
        """
        return self._executor.abandon()
