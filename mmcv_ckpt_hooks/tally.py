"""What the saves of one start have cost, added up. Standard library only."""
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Mapping


@dataclass
class Tally:
    """Adds up what the history is told of.

    Args:
        triggers (dict): How many saves by what asked for them.
        bytes (int): Written.
        blocked_secs (float): That training waited, in all.
        longest_blocked_secs (float): For one save.
        durable_secs (float): Of all saves, as of :class:`~.commit.Costs`.
        longest_durable_secs (float): Of one.
        second_names (int): Best checkpoints that cost no second write.
        deleted (int): Names: of one with a second name the other one stays.
        failed (int): Saves that came to nothing.
        skipped (int): Saves left out while another was being written.
        newest (str): Name of the last one that was committed, also as the
            best of its step; empty for none.

    Thread: whichever commits, and training's for what is skipped; who reads
    has waited for both. ``newest`` may be read at any time.
    """
    triggers: Dict[str, int] = field(default_factory=Counter)
    bytes: int = 0
    blocked_secs: float = 0.
    longest_blocked_secs: float = 0.
    durable_secs: float = 0.
    longest_durable_secs: float = 0.
    second_names: int = 0
    deleted: int = 0
    failed: int = 0
    skipped: int = 0
    newest: str = ''

    @property
    def saves(self) -> int:
        """How many were committed."""
        return sum(self.triggers.values())

    def hear(self, event: str, values: Mapping[str, Any]) -> None:
        """Take note of an event as the history has it."""
        self.deleted += len(values.get('deleted', ()))
        self.second_names += event == 'link'
        if event != 'save':
            return
        self.triggers[values['trigger']] += 1
        self.bytes += values['bytes']
        blocked, durable = values['blocked_secs'], values['durable_secs']
        self.blocked_secs += blocked
        self.durable_secs += durable
        self.longest_blocked_secs = max(self.longest_blocked_secs, blocked)
        self.longest_durable_secs = max(self.longest_durable_secs, durable)


def together(tallies: Iterable[Tally]) -> Tally:
    """Return one for several places."""
    whole = Tally()
    for one in tallies:
        for trigger, count in one.triggers.items():
            whole.triggers[trigger] += count
        for name in ('bytes', 'blocked_secs', 'durable_secs', 'second_names',
                     'deleted', 'failed', 'skipped'):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        for name in ('longest_blocked_secs', 'longest_durable_secs'):
            setattr(whole, name, max(getattr(whole, name), getattr(one, name)))
    return whole
