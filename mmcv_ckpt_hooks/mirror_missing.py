"""What a mirror lacks, also for who must not wait for it.

Standard library only.
"""
from typing import TYPE_CHECKING, List, Set, Tuple

from .catalog import Catalog
from .types import CheckpointInfo

if TYPE_CHECKING:
    from .mirroring import MirrorPlace

#: Name and digest.
Key = Tuple[str, str]


class Missing:
    """What is still to be copied.

    Args:
        place (MirrorPlace): Where to.
        run (Catalog): Of the run.
    """

    def __init__(self, place: 'MirrorPlace', run: Catalog) -> None:
        self.place = place
        self._run = run
        #: whether nothing is copied there
        self.is_off = False
        self._refused: Set[Key] = set()
        # of the last look: what was missing, and all that the run had; one
        # record, as another thread reads it
        self._seen: Tuple[List[CheckpointInfo], Set[Key]] = ([], set())

    def look(self) -> List[CheckpointInfo]:
        """Return what is to be copied, the newest first.

        It waits while a catalog is being written.
        """
        if self.is_off:
            return []
        owned = {key_of(info) for info in self._run.owned()}
        missing = [
            info for info in self.place.missing(self._run)
            if key_of(info) not in self._refused
        ]
        self._seen = missing, owned
        return missing

    def refuse(self, info: CheckpointInfo) -> None:
        """Leave out what is damaged in the run's place."""
        self._refused.add(key_of(info))

    def forget(self, info: CheckpointInfo) -> None:
        """Take note that one is copied, or cannot be."""
        missing, owned = self._seen
        self._seen = [one for one in missing if one is not info], owned

    def remembered(self) -> List[CheckpointInfo]:
        """As :meth:`look`, as far as it is known without the mirror.

        The copying thread holds the lock of a catalog that it writes, and the
        storage may not answer.

        Thread: any, when nobody writes the run's own catalog.
        """
        if self.is_off:
            return []
        missing, owned = self._seen
        now = {key_of(info): info for info in self._run.owned()}
        since = [info for key, info in now.items() if key not in owned]
        # retention does not wait for a mirror that is away
        still = [info for info in missing if key_of(info) in now]
        return [*reversed(since), *still]


def key_of(info: CheckpointInfo) -> Key:
    """Return what tells a checkpoint from another of its name."""
    return info.name, info.digest
