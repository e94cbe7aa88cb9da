"""Who is told that a storage is waited for: minutes, where nothing is said."""
from typing import Callable


def _nobody(line: str) -> None:
    """Nothing runs that has a log."""


_tell: Callable[[str], None] = _nobody


def tell_to(log: Callable[[str], None]) -> None:
    """Have a line said of each outage; those of an earlier run end."""
    global _tell
    _tell = log


def say_waiting(url: str, why: str, secs: float) -> None:
    """Say that a request has failed for a while, and how long it is made.

    Args:
        url (str): Without credentials.
        why (str): What failed last.
        secs (float): So long it is made again, from now.

    Thread: any.
    """
    _tell(f'Waiting for {url} ({why}): what was asked is asked again for up '
          f'to {secs:.0f} s')
