"""The state that hooks had at the last boundary, as far as it is small."""
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, Set

from .state import stateful

#: So many values of one hook are copied at each step, and no more.
_MOST_VALUES = 1000
_VALUES = (bool, int, float, str, bytes, type(None))


class HookStates:
    """Copies the state of hooks at every step, where that costs nothing.

    A state with a tensor in it, or with many values, or that cannot be had, is
    left out, and its hook is not asked again.
    """

    def __init__(self) -> None:
        self._left_out: Set[str] = set()

    def copy(self, hooks: List[Any]) -> Mapping[str, Any]:
        """Return the states by key, as :func:`state.capture_hooks` does."""
        copies: Dict[str, Any] = {}
        for key, hook in stateful(hooks):
            if key in self._left_out:
                continue
            try:
                state = hook.state_dict()
            # the boundary to code of others: the run goes on, and a save,
            # which asks again, hands on what is raised
            except Exception:
                self._left_out.add(key)
                continue
            try:
                copies[key] = _Copying().copied(state)
            except (_NotSmallError, RecursionError):
                self._left_out.add(key)
        return copies


class _NotSmallError(Exception):
    pass


class _Copying:

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def copied(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _NotSmallError
        if isinstance(value, OrderedDict):
            return OrderedDict(
                (key, self.copied(one)) for key, one in value.items())
        if isinstance(value, Mapping):
            return {key: self.copied(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            copies = [self.copied(one) for one in value]
            return tuple(copies) if isinstance(value, tuple) else copies
        if not isinstance(value, _VALUES):
            raise _NotSmallError
        return value
