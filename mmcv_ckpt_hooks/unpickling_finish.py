"""What a pickle has built, with numpy values in the place of their parts.

Standard library only.
"""
from collections import Counter, OrderedDict, defaultdict
from typing import Any, Dict, Tuple

from .building import Storage, Unfinished
from .instructions import Malformed, Refused, shortened
from .vocabulary import Name

_CONTAINERS = (list, tuple, dict, OrderedDict, Counter, defaultdict)
#: How deep values may lie in each other: below what Python recurses to.
_DEPTH_LIMIT = 350


class Finish:
    """Puts numpy values in the place of what they were built from."""

    def __init__(self) -> None:
        # by id: the original, which must live as long as its id, and the
        # finished value
        self._done: Dict[int, Tuple[Any, Any]] = {}
        self._depth = 0

    def value(self, value: Any) -> Any:
        """Return a finished value; lists and dicts are changed in place."""
        if isinstance(value, (Name, Storage)):
            raise Refused(f'it holds {shortened(value)} as a value')
        if type(value) not in _CONTAINERS and \
                not isinstance(value, Unfinished) or \
                not value and type(value) in (list, dict, tuple):
            # sets hold nothing that is not finished: check_key
            return value
        if id(value) in self._done:
            return self._done[id(value)][1]
        if type(value) is not tuple:
            self._done[id(value)] = (value, value)
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise Malformed(f'it is nested deeper than {_DEPTH_LIMIT} levels')
        finished = self._finished(value)
        self._depth -= 1
        self._done[id(value)] = (value, finished)
        return finished

    def _finished(self, value: Any) -> Any:
        if isinstance(value, Unfinished):
            return value.finished()
        # INVARIANT: two calls a level, or Python ends before the limit does
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        parts = value if type(value) is not tuple else list(value)
        for key, item in pairs:
            parts[key] = self.value(item)
        self.value(getattr(value, '_metadata', None))
        if parts is value or all(new is old for new, old in zip(parts, value)):
            return value
        return tuple(parts)
