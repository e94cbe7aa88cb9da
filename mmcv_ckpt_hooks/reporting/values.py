"""Values that somebody wrote down, taken only if they can be what they say.

Standard library only.
"""
import datetime
import math
from typing import Any, Dict, List, Optional

from ..types import MAX_STEPS

#: Other years are no times of a run, and no axis reaches them.
_YEARS = range(2000, 2101)
_UTC = datetime.timezone.utc
_FIRST, _BEHIND = (
    datetime.datetime(year, 1, 1, tzinfo=_UTC).timestamp()
    for year in (_YEARS[0], _YEARS[-1] + 1))
#: Larger ones have no place on an axis.
_LARGEST = 1e100


def number(value: Any) -> Optional[float]:
    """Return a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, int) and abs(value) > MAX_STEPS:
        return None
    found = float(value)
    return found if math.isfinite(found) and abs(found) < _LARGEST else None


def positive(value: Any) -> Optional[float]:
    """Return a number that is not negative, or None."""
    found = number(value)
    return None if found is None or found < 0 else found


def count(value: Any) -> Optional[int]:
    """Return a number of steps or bytes, or None."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_STEPS else None


def text(value: Any) -> str:
    """Return a text; empty for all else."""
    return value if isinstance(value, str) else ''


def texts(value: Any) -> List[str]:
    """Return the texts of a list."""
    return [one for one in value if isinstance(one, str)] \
        if isinstance(value, list) else []


def numbers(value: Any) -> Dict[str, float]:
    """Return what has a finite number in an object."""
    if not isinstance(value, dict):
        return {}
    found = {key: number(one) for key, one in value.items()}
    return {key: one for key, one in found.items() if one is not None}


def seconds(value: Any) -> Optional[float]:
    """Return an ISO 8601 time as seconds since 1970, or None.

    One without a zone is UTC, as all of the plugin's are.
    """
    try:
        found = datetime.datetime.fromisoformat(text(value))
    except ValueError:
        return None
    if found.year not in _YEARS:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=_UTC)
    return found.timestamp()


def is_time(at: float) -> bool:
    """Whether seconds since 1970 can be a time of a run.

    Args:
        at (float): Added up of what somebody wrote down.
    """
    return _FIRST <= at < _BEHIND


def wall_seconds(value: str, layout: str) -> Optional[float]:
    """Return a time without a zone as if it were UTC, or None."""
    try:
        found = datetime.datetime.strptime(value, layout)
    except ValueError:
        return None
    return found.replace(tzinfo=_UTC).timestamp() \
        if found.year in _YEARS else None
