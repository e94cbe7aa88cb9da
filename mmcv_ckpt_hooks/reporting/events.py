"""The lines of ``checkpoints.log.jsonl`` as records. Standard library only."""
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple, Union

from ..types import CheckpointInfo
from .values import count, numbers, positive, seconds, text, texts


@dataclass(frozen=True)
class Save:
    """A checkpoint that was committed.

    Args:
        name (str): Of the file or folder.
        iter (int): Finished iterations.
        epoch (int): Finished epochs.
        bytes (int): Its size.
        at (float, optional): When, in seconds since 1970.
        trigger (str): What asked for it.
        lineage (str): Of the run.
        generation (int): Of the start.
        started_iter (int): Finished iterations when that began.
        digest (str): Of the content; empty if not known.
        blocked_secs (float, optional): That training waited. Default: None,
            which means that nothing tells.
        durable_secs (float, optional): Until it was durable. Default: None.
    """
    name: str
    iter: int
    epoch: int
    bytes: int
    at: Optional[float]
    trigger: str
    lineage: str
    generation: int
    started_iter: int
    digest: str
    blocked_secs: Optional[float] = None
    durable_secs: Optional[float] = None

    @property
    def rate(self) -> Optional[float]:
        """Bytes a second until it was durable; None if that is not known."""
        return self.bytes / self.durable_secs if self.durable_secs else None


@dataclass(frozen=True)
class Link:
    """A second name of a checkpoint.

    Args:
        name (str): The name.
        digest (str): Of the content.
        same_as (str): Its first name.
        at (float, optional): When, at the latest save before it.
    """
    name: str
    digest: str
    same_as: str
    at: Optional[float]


@dataclass(frozen=True)
class Deletion:
    """Checkpoints that were deleted.

    Args:
        names (tuple[str, ...]): Which.
        at (float, optional): When, at the latest save before it.
    """
    names: Tuple[str, ...]
    at: Optional[float]


@dataclass(frozen=True)
class Score:
    """What an evaluation gave.

    Args:
        iter (int): Finished iterations.
        lineage (str): Of the run.
        generation (int): Of the start; of a line, which names none, 0.
        metrics (dict): Finite numbers by name.
        digests (tuple[str, ...]): Of the checkpoints that it was joined to.
            Default: none.
    """
    iter: int
    lineage: str
    generation: int
    metrics: Mapping[str, float]
    digests: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Begin:
    """The begin of a start.

    Args:
        at (float, optional): When.
        lineage (str): Of the run.
        generation (int): Of the start.
        iter (int): Finished iterations.
        most (int, optional): Iterations of the whole run; None if that is not
            known.
    """
    at: Optional[float]
    lineage: str
    generation: int
    iter: int
    most: Optional[int]


@dataclass(frozen=True)
class End:
    """The end of a start that was not killed.

    Args:
        at (float, optional): When.
        lineage (str): Of the run.
        generation (int): Of the start.
        iter (int): Finished iterations.
        why (str): ``'finished'``, ``'signal'`` or ``'exception'``.
        what (str): Which signal, or the type of the exception; '' if that is
            not known.
    """
    at: Optional[float]
    lineage: str
    generation: int
    iter: int
    why: str
    what: str


Entry = Union[Save, Link, Deletion, Score, Begin, End]

#: Why starts end.
_REASONS = ('finished', 'signal', 'exception')


@dataclass(frozen=True)
class History:
    """A history, read.

    Args:
        entries (list[Entry]): In the order of the lines.
        rules (dict): By metric ``'greater'`` or ``'less'``.
        left_out (int): Lines that have an event of this plugin and lack what
            it must have.
    """
    entries: List[Entry] = field(default_factory=list)
    rules: Dict[str, str] = field(default_factory=dict)
    left_out: int = 0

    @property
    def saves(self) -> List[Save]:
        """Those alone."""
        return [one for one in self.entries if isinstance(one, Save)]

    @property
    def begins(self) -> List[float]:
        """When starts began, in seconds since 1970."""
        return [
            one.at for one in self.entries
            if isinstance(one, Begin) and one.at is not None
        ]


def read_events(events: Iterable[Mapping[str, Any]]) -> History:
    """Read the events of a history; others may have written there, too.

    Args:
        events (iterable[dict]): The oldest first.
    """
    entries: List[Entry] = []
    rules: Dict[str, str] = {}
    at: Optional[float] = None
    left_out = 0
    for event in events:
        kind = event.get('event')
        at = seconds(event.get('time')) or at
        if kind == 'save':
            save = _save(event, at)
            if save is None:
                left_out += 1
                continue
            entries.append(save)
        elif kind == 'link' and text(event.get('name')):
            entries.append(
                Link(event['name'], text(event.get('digest')),
                     text(event.get('same_as')), at))
        elif kind == 'scores':
            score = _score(event)
            if score is None:
                left_out += 1
            else:
                entries.append(score)
        elif kind in ('start', 'end'):
            bound = _bound(event)
            if bound is None:
                left_out += 1
            else:
                entries.append(bound)
        elif kind == 'best' and event.get('rule') in ('greater', 'less'):
            rules[text(event.get('key'))] = event['rule']
        gone = texts(event.get('deleted'))
        if gone:
            entries.append(Deletion(tuple(gone), at))
    return History(entries, rules, left_out)


def save_of(info: CheckpointInfo) -> Save:
    """Return what a catalog knows of a save: not what it has cost."""
    return Save(info.name, info.iter, info.epoch, max(info.bytes, 0),
                seconds(info.created_at), info.trigger, info.lineage,
                info.generation, info.started_iter, info.digest)


def _save(event: Mapping[str, Any], at: Optional[float]) -> Optional[Save]:
    finished, size = count(event.get('iter')), count(event.get('bytes'))
    name = text(event.get('name'))
    if finished is None or size is None or not name:
        return None
    return Save(name, finished,
                count(event.get('epoch')) or 0, size,
                seconds(event.get('time')) or at, text(event.get('trigger')),
                text(event.get('lineage')),
                count(event.get('generation')) or 0,
                count(event.get('started_iter')) or 0,
                text(event.get('digest')), positive(event.get('blocked_secs')),
                positive(event.get('durable_secs')))


def _bound(event: Mapping[str, Any]) -> Union[Begin, End, None]:
    at, lineage = seconds(event.get('time')), text(event.get('lineage'))
    finished = count(event.get('iter'))
    generation = count(event.get('generation'))
    if finished is None or generation is None or not lineage:
        return None
    if event.get('event') == 'start':
        return Begin(at, lineage, generation, finished,
                     count(event.get('max_iters')))
    why = text(event.get('why'))
    if why not in _REASONS:
        return None
    return End(at, lineage, generation, finished, why, text(event.get(why)))


def _score(event: Mapping[str, Any]) -> Optional[Score]:
    finished, lineage = count(event.get('iter')), text(event.get('lineage'))
    if finished is None:
        return None
    return Score(finished, lineage, 0, numbers(event.get('metrics')),
                 tuple(texts(event.get('digests'))))
