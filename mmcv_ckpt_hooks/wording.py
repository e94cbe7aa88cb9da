"""Numbers and names in words. Standard library only."""
import difflib
from typing import Sequence


def counted(count: int, nouns: str, noun: str = '') -> str:
    """Return a number with what it counts: ``'1 epoch'``, ``'2 epochs'``.

    Args:
        count (int): How many.
        nouns (str): The plural.
        noun (str): The singular. Default: ``''``, which means the plural
            without its last letter.
    """
    return f'{count} {(noun or nouns[:-1]) if count == 1 else nouns}'


def every(interval: int, nouns: str) -> str:
    """Return ``'every epoch'`` or ``'every 2 epochs'``.

    Args:
        interval (int): Of so many.
        nouns (str): The plural.
    """
    return f'every {nouns[:-1] if interval == 1 else counted(interval, nouns)}'


def written(nbytes: int, secs: float) -> str:
    """Return ``'0.86 MB in 0.047 s (18.3 MB/s)'``."""
    rate = f' ({nbytes / 1e6 / secs:.1f} MB/s)' if secs > 0 else ''
    return f'{nbytes / 1e6:.2f} MB in {secs:.3f} s{rate}'


def iso_time_text(created_at: str) -> str:
    """Return a time of the catalog for people."""
    # always UTC: '2030-01-31T12:00:00+00:00'
    return created_at[:19].replace('T', ' ') or '-'


def nearest(given: str, valid: Sequence[str]) -> str:
    """Return the valid name that a wrong one looks like; '' if none does."""
    near = difflib.get_close_matches(given, valid, n=1, cutoff=0.5)
    return near[0] if near else ''
