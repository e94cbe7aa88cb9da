"""Bytes on the disk over time, as the history has them.

Standard library only.
"""
from typing import Dict, Iterable, List, NamedTuple

from .events import Deletion, Entry, Link, Save


class Held(NamedTuple):
    """The bytes from a time on, and the most at that time.

    A save comes before the deletions that it allows.
    """
    at: float
    bytes: int
    most: int


def bytes_over_time(entries: Iterable[Entry],
                    links_are_free: bool) -> List[Held]:
    """Return when the checkpoints of a history took how many bytes.

    Args:
        entries (iterable[Entry]): Of a history, the oldest first.
        links_are_free (bool): Whether a second name takes no bytes, as in a
            file system; in an object store it is a copy.
    """
    holder: Dict[str, str] = {}  # by name what it is a name of
    sizes: Dict[str, int] = {}
    names: Dict[str, int] = {}  # how many names each content has
    total = 0
    found: List[Held] = []

    def drop(name: str) -> None:
        nonlocal total
        content = holder.pop(name, None)
        if content is None:
            return
        names[content] -= 1
        if not names[content]:
            total -= sizes[content]

    def hold(name: str, content: str, size: int) -> None:
        nonlocal total
        drop(name)
        holder[name] = content
        if not names.get(content):
            sizes[content], names[content] = size, 0
            total += size
        names[content] += 1

    for entry in entries:
        if isinstance(entry, Save):
            hold(entry.name, _content(entry.name, entry.digest,
                                      links_are_free), entry.bytes)
        elif isinstance(entry, Link) and entry.same_as in holder:
            size = sizes[holder[entry.same_as]]
            content = holder[entry.same_as] if links_are_free else entry.name
            hold(entry.name, content, size)
        elif isinstance(entry, Deletion):
            for name in entry.names:
                drop(name)
        else:
            continue
        if entry.at is None:
            continue
        # a clock may have been set back
        at = max(entry.at, found[-1].at if found else entry.at)
        most = total
        if found and found[-1].at == at:
            most = max(found.pop().most, total)
        found.append(Held(at, total, most))
    return found


def _content(name: str, digest: str, shared: bool) -> str:
    return digest if digest and shared else name
