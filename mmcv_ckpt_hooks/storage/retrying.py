"""When something that failed in passing is done again, and after how long.

The clients of stores repeat requests themselves. This is for what they do not
repeat: an answer of which a part is missing, bytes that the server found
changed. Standard library only.
"""
import random
import time
from typing import Callable, Optional, TypeVar

_FIRST_SECS, _LONGEST_SECS = 0.1, 15.
#: Together with the first.
_ATTEMPTS = 5

_Result = TypeVar('_Result')


class Retries:
    """Does again what failed in passing, with growing, random pauses.

    Args:
        secs (float): No attempt begins later, counted from the beginning.
        attempts (int): At most so many, together with the first. Default: 5.
        clock (callable): Monotonic seconds. Default: ``time.monotonic``.
        wait (callable): Waits for so many seconds. Default: ``time.sleep``.
        draw (callable): A random number between two others. Default:
            ``random.uniform`` of a generator of its own: those of a training
            are not touched.

    Thread: any.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog: full
    jitter.
    """

    def __init__(self,
                 secs: float,
                 attempts: int = _ATTEMPTS,
                 clock: Callable[[], float] = time.monotonic,
                 wait: Callable[[float], None] = time.sleep,
                 draw: Optional[Callable[[float, float], float]] = None) -> \
            None:
        self._secs = secs
        self._attempts = attempts
        self._clock = clock
        self._wait = wait
        self._draw = random.Random().uniform if draw is None else draw

    def run(self,
            attempt: Callable[[], _Result],
            passes: Callable[[Exception], bool],
            is_long: bool = False) -> _Result:
        """Return what an attempt returns.

        Args:
            attempt (callable): Called until it raises nothing.
            passes (callable): Whether an error may not come again.
            is_long (bool): Whether an attempt may take longer than ``secs``:
                then the time is counted from the first failure. Default:
                False.

        Raises:
            Exception: That of the last attempt.
        """
        begun = self._clock()
        for failed in range(1, self._attempts):
            try:
                return attempt()
            except Exception as error:  # judged, and raised if it stays
                if not passes(error):
                    raise
                if is_long and failed == 1:
                    begun = self._clock()
                pause = self._pause(failed)
                if self._clock() - begun + pause >= self._secs:
                    raise
            self._wait(pause)
        return attempt()

    def _pause(self, failed: int) -> float:
        longest = min(_LONGEST_SECS, _FIRST_SECS * 2.**(failed - 1))
        return self._draw(0., longest)
