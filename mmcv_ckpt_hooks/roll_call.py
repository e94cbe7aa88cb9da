"""Which ranks have come to a collective: to name those that have not.

What a collective raises, when it has waited long enough, names no rank.
"""
from contextlib import suppress
from typing import Any, List


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
        with suppress(RuntimeError):  # the collective itself tells of it
            if self._store is not None:
                self._store.add(f'{self._name} {self._rank}', 1)

    def missing(self) -> List[int]:
        """Return the ranks that have not come as often as this one."""
        with suppress(RuntimeError):  # who had the store is gone
            if self._store is not None:
                return [
                    rank for rank in range(self._world_size)
                    if self._store.add(f'{self._name} {rank}', 0) < self._count
                ]
        return []
