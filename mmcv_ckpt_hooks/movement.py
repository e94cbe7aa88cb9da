"""Whether copies come on: an end that waits for them gives up if not.

Standard library only.
"""
import random
from typing import Callable, Optional, Tuple

#: After a failure it is tried again after so many seconds, then after twice
#: as many, up to the last; at the end of a run up to that of the end.
FIRST_PAUSE_SECS, LAST_PAUSE_SECS = 2., 300.
END_PAUSE_SECS = 5.
_MOST_DOUBLINGS = 8


class Movement:
    """How far the copies are; only what was never sent before is movement.

    INVARIANT: a storage that takes the bytes and then refuses them does so at
    every try, and would be waited for for ever.

    Args:
        clock (callable): Monotonic seconds.

    Thread: any.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # name and digest of the copy under way
        self._current: Optional[Tuple[str, str]] = None
        # its bytes in this try, and in the try that came farthest
        self._sent = self._farthest = 0
        #: bytes of the copies that are complete
        self.finished_bytes = 0
        self.restart()

    def restart(self) -> None:
        """Count from now."""
        self.finished_bytes = 0
        self._moved_at = self._clock()

    def begin(self, copy: Tuple[str, str]) -> None:
        """Begin a copy, or try it again."""
        self._sent = 0
        if copy != self._current:
            self._current, self._farthest = copy, 0

    def advance(self, nbytes: int) -> None:
        """Count bytes; a negative number when they are sent anew."""
        self._sent += nbytes
        if self._sent > self._farthest:
            self._farthest = self._sent
            self._moved_at = self._clock()

    def finish(self, nbytes: int) -> None:
        """Count a copy that is complete."""
        self._current, self._sent = None, 0
        self.finished_bytes += nbytes
        self._moved_at = self._clock()

    @property
    def done_bytes(self) -> int:
        """Bytes that were sent, with those of the copy under way."""
        return self.finished_bytes + self._sent

    def still_secs(self) -> float:
        """Return for how long nothing has moved."""
        return self._clock() - self._moved_at


class Pauses:
    """How long to wait before a copy is tried again."""

    def __init__(self) -> None:
        # not the generator that training draws from
        self._random = random.Random()

    def secs(self, failures: int, at_end: bool) -> float:
        """Return the next pause; many runs may wait for one storage.

        Args:
            failures (int): In a row, at least 1.
            at_end (bool): Whether the run waits.
        """
        longest = END_PAUSE_SECS if at_end else LAST_PAUSE_SECS
        doublings = min(failures - 1, _MOST_DOUBLINGS)
        return min(FIRST_PAUSE_SECS * 2.**doublings,
                   longest) * self._random.uniform(0.5, 1.)
