"""What a work dir tells of its runs, put together. Standard library only."""
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..best_scores import BestScore
from ..types import CheckpointInfo
from .clock import offsets
from .curves import Curve, Loss, curves_of, losses_in
from .disk import Held, bytes_over_time
from .evaluations import scores_of_history, scores_of_logs
from .events import Save, read_events, save_of
from .logs import Log
from .starts import Start, find_starts
from .steps import counting_of, points_of

_UNKNOWN_END = 'A start without a recorded end may have finished, or been ' \
    'killed behind its last save.'


@dataclass(frozen=True)
class Resume:
    """What ``resume='auto'`` would do.

    Args:
        taken (str, optional): The checkpoint that it takes. Default: None.
        stops_at (str, optional): The one at which it ends with an error.
            Default: None.
        passed_over (dict): By name why not another one. Default: nothing.
    """
    taken: Optional[str] = None
    stops_at: Optional[str] = None
    passed_over: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What was read of a work dir.

    Args:
        place (str): Its path or URL.
        is_local (bool): Whether a second name takes no bytes there.
        checkpoints (Sequence[CheckpointInfo]): By finished iterations.
        flags (dict): By name what ``mmcv-ckpt ls`` says of them.
        problems (dict): By name what is wrong with them.
        bytes (int): Of all, each once.
        lineage (str): Of the run that a resume goes on with.
        best (dict): By metric its best score.
        resume (Resume): What a resume would do.
        events (Sequence[dict]): Of the history.
        logs (Sequence[Log]): Of mmcv.
        notes (Sequence[str]): What could not be read, or is to be known.
    """
    place: str
    is_local: bool = True
    checkpoints: Sequence[CheckpointInfo] = ()
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0
    lineage: str = ''
    best: Mapping[str, BestScore] = field(default_factory=dict)
    resume: Resume = Resume()
    events: Sequence[Mapping[str, Any]] = ()
    logs: Sequence[Log] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Trouble:
    """A warning or an error of a log.

    Args:
        at (float, optional): When, in seconds since 1970.
        level (str): Of the log.
        text (str): Its first line.
        source (str): Name of the log.
    """
    at: Optional[float]
    level: str
    text: str
    source: str


@dataclass(frozen=True)
class Story:
    """All that the page shows.

    Args:
        facts (Facts): What was read.
        lineage (str): Of the run that the page is about.
        saves (list[Save]): The oldest first.
        kept (list[bool]): Whether what each has written is still there.
        starts (list[Start]): The oldest first.
        disk (list[Held]): Bytes of the checkpoints over time.
        curves (list[Curve]): The metrics, those with a best first.
        losses (list[Loss]): Of each start that has one.
        deleted (int): How many names were deleted.
        troubles (list[Trouble]): The oldest first.
        notes (list[str]): What is to be known besides.
    """
    facts: Facts
    lineage: str = ''
    saves: List[Save] = field(default_factory=list)
    kept: List[bool] = field(default_factory=list)
    starts: List[Start] = field(default_factory=list)
    disk: List[Held] = field(default_factory=list)
    curves: List[Curve] = field(default_factory=list)
    losses: List[Loss] = field(default_factory=list)
    deleted: int = 0
    troubles: List[Trouble] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def as_json(self) -> Dict[str, Any]:
        """Return the data behind the page."""
        facts = self.facts
        return {
            'directory':
            facts.place,
            'lineage':
            self.lineage,
            'bytes':
            facts.bytes,
            'resume':
            asdict(facts.resume),
            'best': {
                key: asdict(one)
                for key, one in facts.best.items()
            },
            'checkpoints': [{
                **asdict(info), 'flags':
                list(facts.flags.get(info.name, ())),
                'problem':
                facts.problems.get(info.name, '')
            } for info in facts.checkpoints],
            'saves': [{
                **asdict(save), 'kept': kept
            } for save, kept in zip(self.saves, self.kept)],
            'starts': [asdict(one) for one in self.starts],
            'disk': [one._asdict() for one in self.disk],
            'metrics': [asdict(one) for one in self.curves],
            'losses': [asdict(one) for one in self.losses],
            'deleted':
            self.deleted,
            'troubles': [asdict(one) for one in self.troubles],
            'notes':
            self.notes,
        }


def tell(facts: Facts) -> Story:
    """Put the records together.

    Args:
        facts (Facts): What was read.
    """
    history = read_events(facts.events)
    saves = _with_catalog(history.saves, facts)
    ahead = offsets(facts.logs, history.saves, history.begins)
    counting = counting_of(facts.logs, saves)
    starts = find_starts(history.entries, saves, facts.logs, ahead, counting)
    by_log = {log.name: log for log in facts.logs}
    lines = [(one, points_of(by_log[one.log], counting)) for one in starts
             if one.log]
    scores = scores_of_history(history.entries) or scores_of_logs(lines)
    best = {
        key: (one.iter, one.score, one.name, one.rule)
        for key, one in facts.best.items()
    }
    told = [*(one.lineage for one in starts), *(one.lineage for one in scores)]
    lineage = facts.lineage or next(filter(None, reversed(told)), '')
    troubles = [
        Trouble(remark.wall - ahead.get(log.name, 0), remark.level,
                remark.text, log.name) for log in facts.logs
        for remark in log.remarks
    ]
    return Story(
        facts, lineage, saves, _kept(saves, facts.checkpoints), starts,
        bytes_over_time(history.entries, facts.is_local),
        curves_of(scores, facts.checkpoints, best, history.rules, lineage,
                  starts), losses_in(lines),
        sum(len(getattr(entry, 'names', ())) for entry in history.entries),
        sorted(troubles, key=_when),
        [*facts.notes, *_caveats(facts, starts, ahead, history.left_out)])


def _when(trouble: Trouble) -> float:
    return trouble.at or 0.


def _with_catalog(saves: Sequence[Save], facts: Facts) -> List[Save]:
    """Add what is there and no line of the history tells of.

    A kill between the file and its line, or a history that was lost.
    """
    known = {save.digest for save in saves}
    steps = {(save.name, save.iter) for save in saves}
    regular = {info.digest for info in facts.checkpoints if info.regular}
    more = [
        save_of(info) for info in facts.checkpoints
        if info.created_at and info.lineage and not info.same_as
        # one that is damaged has no digest
        and (info.digest not in known if info.digest else (
            info.name, info.iter) not in steps)
        # a best one may be a second name
        and (info.trigger != 'best' or info.digest not in regular)
    ]
    if not more:
        return list(saves)
    # the order of lines is that of saves; times are whole seconds
    return sorted([*saves, *more], key=lambda save: save.at or 0.)


def _kept(saves: Sequence[Save],
          checkpoints: Sequence[CheckpointInfo]) -> List[bool]:
    there = {info.name: info for info in checkpoints}
    found = []
    for save in saves:
        info = there.get(save.name)
        found.append(info is not None and info.iter == save.iter
                     and (not save.digest or info.digest in ('', save.digest)))
    return found


def _caveats(facts: Facts, starts: Sequence[Start], ahead: Mapping[str, int],
             left_out: int) -> List[str]:
    notes = []
    # older versions of the plugin have recorded no begin and no end
    knows = bool(starts) and all(one.is_recorded for one in starts)
    unknown = '' if knows else f' {_UNKNOWN_END}'
    if not facts.events and facts.checkpoints:
        notes.append(
            'There is no history (checkpoints.log.jsonl): what saves have '
            'cost, and what was deleted, is not known.')
    if not facts.logs:
        notes.append(
            'There are no logs of mmcv (*.log.json, *.log): ' +
            ('' if knows else 'when starts began, ') +
            'how far one that was killed had come, the loss, and what '
            f'warnings and errors there were, is not known.{unknown}')
    elif not any(log.has_text for log in facts.logs):
        notes.append(
            'There is no text log (*.log) beside the *.log.json: ' +
            ('' if knows else 'how many iterations starts were to make, on '
             'which signals they were left, and ') +
            f'what warnings and errors there were, is not known.{unknown}')
    if facts.logs and any(log.name not in ahead for log in facts.logs):
        notes.append(
            'Nothing tells the time zone of the logs: their times count as '
            'UTC.')
    torn = sum(log.torn for log in facts.logs)
    if torn or left_out:
        notes.append(f'Lines that could not be read: {torn + left_out}.')
    return notes
