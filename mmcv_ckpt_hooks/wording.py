"""Numbers, sizes, times and names in words. Standard library only."""
import datetime
import difflib
from typing import Optional, Sequence

_UNITS = ('B', 'kB', 'MB', 'GB', 'TB', 'PB')


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


def size_text(size_bytes: float) -> str:
    """``868785`` to ``'868.8 kB'``, for tables; decimal units, as everywhere.
    """
    unit = _UNITS[0]
    for unit in _UNITS:
        if abs(size_bytes) < 999.95 or unit == _UNITS[-1]:
            break
        size_bytes /= 1000
    digits = 0 if unit == 'B' else 1
    return f'{size_bytes:.{digits}f} {unit}'


def logged_size(size_bytes: int) -> str:
    """``12340000`` to ``'12.34 MB'``, as the lines of a run's log have it."""
    for unit, factor in (('GB', 10**9), ('MB', 10**6)):
        if size_bytes >= factor:
            return f'{size_bytes / factor:.2f} {unit}'
    return f'{size_bytes / 1000:.1f} kB'


def rate_text(size_bytes: float, secs: float) -> str:
    """Return a rate: ``'481.8 MB/s'``; empty if it took no time."""
    return f'{size_text(size_bytes / secs)}/s' if secs > 0 else ''


def time_text(at: Optional[float], layout: str = '%Y-%m-%d %H:%M:%S') -> str:
    """Return a time of UTC; ``'-'`` if it is not known."""
    if at is None:
        return '-'
    return datetime.datetime.fromtimestamp(
        at, datetime.timezone.utc).strftime(layout)


def iso_time_text(created_at: str) -> str:
    """Return a time of the catalog as :func:`time_text` does a number."""
    # always UTC: '2030-01-31T12:00:00+00:00'
    return created_at[:19].replace('T', ' ') or '-'


def nearest(given: str, valid: Sequence[str], like: float = .5) -> str:
    """Return the valid name that a wrong one looks like; '' if none does.

    Args:
        given (str): The wrong one.
        valid (sequence[str]): Those that it may be.
        like (float): From 0 to 1, how much alike they must be at least: more
            where it decides than where it is only a hint. Default: 0.5.
    """
    near = difflib.get_close_matches(given, valid, n=1, cutoff=like)
    return near[0] if near else ''
