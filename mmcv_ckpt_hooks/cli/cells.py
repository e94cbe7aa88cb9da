"""What stands in the cells of the table of ``ls``."""
from typing import AbstractSet, Any, List, Mapping, Optional

from ..types import CheckpointInfo
from ..wording import iso_time_text
from .choice import DAMAGED
from .listing import Listing

#: Metrics shown in the table; --json has all.
_SHOWN_METRICS = 3


def count_text(listing: Listing, info: CheckpointInfo, key: str) -> str:
    """Return a number of steps; ``-`` if nothing tells it."""
    return '-' if key in listing.uncounted.get(info.name, ()) else str(
        getattr(info, key))


def metrics_text(metrics: Mapping[str, Any], first: List[str]) -> str:
    """Return a few scores, those of the best checkpoints first."""
    # mmseg's scores of single classes have a dot: 'IoU.road'
    keys = [key for key in metrics if '.' not in key] or list(metrics)
    keys.sort(key=lambda key: key not in first)
    shown = [
        f'{key} {_value_text(metrics[key])}' for key in keys[:_SHOWN_METRICS]
    ]
    rest = len(metrics) - len(shown)
    return ', '.join(shown + [f'+{rest}'] * (rest > 0))


def _value_text(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, (int, float)) else str(value)


def structure_of(listing: Listing, name: str,
                 sound: AbstractSet[str]) -> Optional[str]:
    """Return what its zip directory tells; None if it was not looked at."""
    refusal = listing.refused.get(name)
    if refusal is not None and refusal.flag == DAMAGED and \
            not refusal.found_at:
        return DAMAGED
    return 'ok' if name in sound else None


def verified_text(listing: Listing, name: str, sound: AbstractSet[str]) -> str:
    """Return when it was verified, else what its zip directory tells."""
    refusal = listing.refused.get(name)
    if refusal is not None and refusal.found_at:
        return f'{DAMAGED} {iso_time_text(refusal.found_at)}'
    at, found = listing.verified.get(name), structure_of(listing, name, sound)
    if at is not None and found != DAMAGED:
        return iso_time_text(at)
    return {'ok': 'structure', DAMAGED: 'no'}.get(found or '', '-')


def flags_text(listing: Listing, name: str) -> str:
    """Return the flags, and whether it stays whatever policies say."""
    pinned = ['pinned'] if name in listing.pinned else []
    return ', '.join([*listing.flags[name], *pinned])
