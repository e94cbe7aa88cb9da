"""What the history tells of each start: its begin, its saves, its end.

Standard library only.
"""
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Tuple

from .events import Begin, End, Entry, Save

#: Times of the history are whole seconds.
SECOND = 1.

_Key = Tuple[str, int]


@dataclass
class Group:
    """One start.

    Args:
        lineage (str): Of the run.
        generation (int): Of the start; of one that saved nothing also that of
            the next.
        begin (Begin, optional): Its begin; None if the history, which has
            none of older versions of the plugin, does not tell.
        end (End, optional): Its end; None if it was killed, or still runs.
        is_over (bool): Whether another start came behind it: a place has one
            at a time.
        saves (list[Save]): In the order of the history.
    """
    lineage: str
    generation: int
    begin: Optional[Begin] = None
    end: Optional[End] = None
    is_over: bool = False
    saves: List[Save] = field(default_factory=list)


def groups_of(entries: Sequence[Entry], saves: Sequence[Save]) -> List[Group]:
    """Return the starts; those with a begin last, and in its order.

    Args:
        entries (Sequence[Entry]): Of the history, the oldest first.
        saves (Sequence[Save]): Those of the history, and those of which only
            the catalog tells.
    """
    begun: List[Group] = []
    by_key: Dict[_Key, List[Group]] = {}
    owner: Dict[Save, Group] = {}
    for entry in entries:
        if isinstance(entry, Begin):
            if begun:
                begun[-1].is_over = True
            begun.append(Group(entry.lineage, entry.generation, entry))
            by_key.setdefault((entry.lineage, entry.generation),
                              []).append(begun[-1])
        elif isinstance(entry, (Save, End)):
            known = by_key.get((entry.lineage, entry.generation))
            if not known:
                continue
            if isinstance(entry, Save):
                owner[entry] = known[-1]
            else:
                known[-1].end = entry
    others: Dict[_Key, Group] = {}
    for save in saves:
        if not save.lineage:
            continue
        key = save.lineage, save.generation
        group = owner.get(save) or _at(by_key.get(key, ()), save)
        if group is None:
            group = others.setdefault(key, Group(*key))
        group.saves.append(save)
    _relate(begun)
    return [*others.values(), *begun]


def _at(groups: Sequence[Group], save: Save) -> Optional[Group]:
    """Return the one that had begun when a save was made, the last."""
    had_begun = [
        one for one in groups
        if one.begin is not None and (save.at is None or one.begin.at is None
                                      or one.begin.at <= save.at + SECOND)
    ]
    return had_begun[-1] if had_begun else None


def _relate(begun: Sequence[Group]) -> None:
    """Give a start that saved nothing to the one that did it all again.

    Each begins a run of its own, of which nothing else is known.
    """
    saved = {one.lineage for one in begun if one.saves}
    for one, behind in zip(begun[-2::-1], begun[:0:-1]):
        if one.lineage not in saved and _is_anew(one) and _is_anew(behind):
            one.lineage = behind.lineage


def _is_anew(group: Group) -> bool:
    return group.begin is not None and not group.begin.iter
