"""Trees of containers that are larger for who walks them than in memory.

Standard library only.
"""
from typing import Any, Dict, List, Mapping, Set, Tuple

_CONTAINERS = (dict, list, tuple)
#: How much larger a tree may be for who walks through it than it is in
#: memory, where parts are shared; and what every tree may have.
_UNFOLDED_TIMES, _UNFOLDED_FREE = 4, 1000000


def unfolds_without_end(tree: Any) -> bool:
    """Whether a walk through a tree would take longer than its file allows.

    A tuple of twice the same tuple, sixty deep, is small in memory; torch's
    optimizers, and who saves it again, see 2 ** 60 parts. A tree that
    contains itself has no end at all.
    """
    sizes: Dict[int, int] = {}
    entered: Set[int] = set()
    references = 0
    left: List[Tuple[Any, bool]] = [(tree, False)]
    while left:
        value, is_left = left.pop()
        if not isinstance(value, _CONTAINERS):
            continue
        parts = list(value.values() if isinstance(value, dict) else value)
        if is_left:
            sizes[id(value)] = 1 + sum(
                _unfolded(part, sizes) for part in parts)
        elif id(value) not in sizes:
            if id(value) in entered:
                return True
            entered.add(id(value))
            references += len(parts)
            left.append((value, True))
            left += [(part, False) for part in parts]
    return _unfolded(tree, sizes) > \
        _UNFOLDED_FREE + _UNFOLDED_TIMES * references


def _unfolded(value: Any, sizes: Mapping[int, int]) -> int:
    if isinstance(value, _CONTAINERS):
        return sizes[id(value)]
    if isinstance(value, range):  # len() of a large one overflows
        return abs(value.stop - value.start) // abs(value.step) + 1
    return 1
