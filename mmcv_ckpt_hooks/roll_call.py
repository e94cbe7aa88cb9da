"""Which ranks have come to a collective: to name those that have not.

What a collective raises, when it has waited long enough, names no rank.
"""
import time
from contextlib import suppress
from typing import Any, Callable, List, Optional

from .running_job import answer_within

#: The store answers nobody while its process is stopped: it is not waited for
#: longer (seconds).
STORE_SECS = 5.
#: A peer's death is heard of at once, by some before they have come: the
#: others are asked again for so long (seconds).
LATE_SECS = 5.
_AGAIN_SECS = .2


class RollCall:
    """Counts in torch's store how often each rank has come.

    Args:
        store (Store, optional): torch's. None: nothing is known.
        name (str): Of this one, the same on all ranks, and of no other.
        rank (int): This one.
        world_size (int): How many there are.

    Thread: training's.
    """

    def __init__(self, store: Any, name: str, rank: int,
                 world_size: int) -> None:
        self._store = store
        self._name = name
        self._rank = rank
        self._world_size = world_size
        self._count = 0

    def come(self) -> None:
        """Note that this rank is there."""
        self._count += 1
        self._ask(lambda: self._store.add(f'{self._name} {self._rank}', 1))

    def missing(self) -> Optional[List[int]]:
        """Return the ranks that do not come as often as this one.

        Returns:
            list[int] | None: None if nobody tells.
        """
        until = time.monotonic() + LATE_SECS
        while True:
            counts = self._ask(lambda: [
                self._store.add(f'{self._name} {rank}', 0)
                for rank in range(self._world_size)
            ])
            if counts is None:
                return None
            missing = [
                rank for rank, count in enumerate(counts)
                if count < self._count
            ]
            if not missing or time.monotonic() >= until:
                return missing
            time.sleep(_AGAIN_SECS)

    def _ask(self, call: Callable[[], Any]) -> Any:
        """Return what the store answers; None if it does not."""

        def ask() -> Any:
            # who had the store is gone: the collective itself tells of it
            with suppress(RuntimeError):
                return call()

        return None if self._store is None else answer_within(STORE_SECS, ask)
