"""A clock that tests move by hand."""


class ManualClock:
    """Called like ``time.monotonic``; stands still between calls.

    Args:
        now_secs (float): The first reading. Default: 0.

    Examples:
        >>> clock = ManualClock(10.)
        >>> clock.advance(2.5)
        >>> clock()
        12.5
    """

    def __init__(self, now_secs: float = 0.) -> None:
        self._now_secs = float(now_secs)

    def __call__(self) -> float:
        return self._now_secs

    def advance(self, secs: float) -> None:
        """Let time pass.

        Raises:
            ValueError: If it would run backwards.
        """
        if secs < 0:
            raise ValueError(f'secs must not be negative, but got {secs}')
        self._now_secs += secs
