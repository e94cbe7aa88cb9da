"""Whether copies come on: an end that waits for them gives up if not.

Standard library only.
"""
from typing import Callable, Optional, Tuple


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
