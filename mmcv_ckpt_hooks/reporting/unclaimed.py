"""The logs of a work dir, each to be claimed by one start.

Standard library only.
"""
from bisect import bisect_right
from typing import List, Mapping, Optional, Sequence

from .logs import Log


class Unclaimed:
    """The logs that are of no start yet.

    A loop of crashes makes thousands of starts: none of them looks at all.

    Args:
        logs (Sequence[Log]): The oldest first.
        began (dict): By name when each began.
    """

    def __init__(self, logs: Sequence[Log], began: Mapping[str,
                                                           float]) -> None:
        self._logs = sorted(logs, key=lambda log: began[log.name])
        self._begins = [began[log.name] for log in self._logs]
        # by place, from 1 on, itself or one before it; none is free at 0
        self._free = list(range(len(self._logs) + 1))

    def claim_last(self, latest: float) -> Optional[Log]:
        """Return the last that is free and began by then, no more free."""
        place = bisect_right(self._begins, latest)
        passed = []
        while self._free[place] != place:
            passed.append(place)
            place = self._free[place]
        for one in passed:
            self._free[one] = place
        if not place:
            return None
        self._free[place] = place - 1
        return self._logs[place - 1]

    def rest(self) -> List[Log]:
        """Return those that are still free."""
        return [
            log for place, log in enumerate(self._logs, 1)
            if self._free[place] == place
        ]
