"""What of a directory is none of the run's, and so is not pushed."""
from typing import List, Tuple

from ..types import LATEST_NAME, CheckpointInfo
from .place import Place


def left_out(place: Place) -> List[Tuple[CheckpointInfo, str]]:
    """Return the checkpoints that a push leaves out, and why.

    Args:
        place (Place): The directory; its catalog knows the run.
    """
    catalog = place.catalog
    owned = {info.name for info in catalog.owned()}
    return [(info, _why(place, info)) for info in catalog.checkpoints()
            if info.name not in owned]


def _why(place: Place, info: CheckpointInfo) -> str:
    if place.catalog.link(info.name):
        return 'a link that somebody made'
    if info.name == LATEST_NAME:
        return 'its name is that of the link to the newest'
    if not info.lineage:
        return 'no run wrote it under this name: another program did, or it ' \
            'was converted, copied or renamed. Copy it by hand'
    if info.lineage != place.catalog.lineage:
        return 'it is of another run than the last one here'
    return 'given up: the run went on from an earlier one'
