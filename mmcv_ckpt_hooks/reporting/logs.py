"""What mmcv's own logs tell: ``*.log.json`` and the text beside it.

Written by ``TextLoggerHook`` and the loggers of mmcv 1.x and its repos. Their
clock is that of the machine, without a zone. Standard library only.
"""
import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .values import count, number, wall_seconds

#: Names of the logs of one start.
LOG_NAME = re.compile(r'(\d{8}_\d{6})\S*\.log(\.json)?$')

_LAYOUT = '%Y%m%d_%H%M%S'
_SAID = re.compile(r'(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} - '
                   r'(.{1,100}?) - ([A-Z]+) - (.*)')
_ITER = re.compile(r'Iter \[(\d{1,15})/(\d{1,15})\]')
_EPOCH = re.compile(r'Epoch \[(\d{1,15})\]\[(\d{1,15})/(\d{1,15})\]')
_SAVED = re.compile(r'Saved checkpoint (\S+?)(?: \([a-z]+\))?: ')
_LEFT = re.compile(r'(SIG[A-Z0-9]+): training ends after (\d{1,15}) iter')
#: Of this plugin, and of stock runners.
_RESUMED = re.compile(r'(?:Resumed from .*: \d{1,15} epochs? and |resumed '
                      r'(?:from )?epoch:? \d{1,15}, iter )(\d{1,15})\b')
_MOST = re.compile(r'max: (\d{1,15}) (iters|epochs)')
#: Longer lines are cut: one of them may be a whole config.
_LONGEST = 2000
_GRAVE = ('WARNING', 'ERROR', 'CRITICAL')


class Line(NamedTuple):
    """One line of ``*.log.json``: where it stands, and its numbers."""
    mode: str
    epoch: int
    iter: int
    values: Dict[str, float]


class Remark(NamedTuple):
    """A warning or an error; ``wall`` has no zone."""
    wall: float
    level: str
    text: str


class Mark(NamedTuple):
    """A train line of a text log; ``epoch`` and ``of`` are 0 by iteration."""
    wall: float
    iter: int
    epoch: int = 0
    of: int = 0


@dataclass
class Log:
    """The logs of one start.

    Args:
        name (str): What their names begin with, a time without a zone.
        wall (float): The same in seconds, as if it were UTC.
        lines (list[Line]): Of the JSON.
        marks (list[Mark]): Train lines of the text.
        saved (list[tuple[str, float]]): Names of saves in the text, and when.
        remarks (list[Remark]): Warnings and errors of the text.
        left_on (str): The signal on which it was left; '' if on none.
        resumed_at (int, optional): Finished iterations of the checkpoint that
            it went on from; None if it does not tell.
        most (tuple[int, str], optional): Of the whole run, and the unit.
        torn (int): Lines that are no JSON.
        has_text (bool): Whether there is a text log.
    """
    name: str
    wall: float
    lines: List[Line] = field(default_factory=list)
    marks: List[Mark] = field(default_factory=list)
    saved: List[Tuple[str, float]] = field(default_factory=list)
    remarks: List[Remark] = field(default_factory=list)
    left_on: str = ''
    resumed_at: Optional[int] = None
    most: Optional[Tuple[int, str]] = None
    torn: int = 0
    has_text: bool = False


def read_logs(files: Iterator[Tuple[str, Iterator[bytes]]]) -> List[Log]:
    """Read the logs of a work dir.

    Args:
        files (iterator): Their names, and their lines.

    Returns:
        list[Log]: One a start, the oldest first.
    """
    logs: Dict[str, Log] = {}
    for name, lines in files:
        found = LOG_NAME.match(name)
        wall = wall_seconds(found.group(1), _LAYOUT) if found else None
        if found is None or wall is None:
            continue
        log = logs.setdefault(found.group(1), Log(found.group(1), wall))
        if found.group(2):
            _read_json(log, lines)
        else:
            log.has_text = True
            _read_text(log, lines)
    return sorted(logs.values(), key=lambda log: log.name)


def _read_json(log: Log, lines: Iterator[bytes]) -> None:
    for line in lines:
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            log.torn += 1
            continue
        found = _line(content)
        if found is not None:
            log.lines.append(found)


def _line(content: Any) -> Optional[Line]:
    if not isinstance(content, dict) or \
            content.get('mode') not in ('train', 'val'):
        return None  # the first line is the meta of the run
    epoch, finished = count(content.get('epoch')), count(content.get('iter'))
    if epoch is None or finished is None:
        return None
    values = {
        key: number(value)
        for key, value in content.items() if key not in ('epoch', 'iter')
    }
    return Line(content['mode'], epoch, finished, {
        key: value
        for key, value in values.items() if value is not None
    })


def _read_text(log: Log, lines: Iterator[bytes]) -> None:
    for raw in lines:
        found = _SAID.match(raw[:_LONGEST].decode(errors='replace').rstrip())
        if not found:
            continue  # of several lines the first one has the time
        wall = wall_seconds(found.group(1), '%Y-%m-%d %H:%M:%S')
        if wall is not None:
            _hear(log, wall, found.group(3), found.group(4))


def _hear(log: Log, wall: float, level: str, said: str) -> None:
    if level in _GRAVE:
        log.remarks.append(Remark(wall, level, said))
        return
    found = _ITER.match(said)
    if found:
        log.marks.append(Mark(wall, int(found.group(1))))
        log.most = int(found.group(2)), 'iters'
        return
    found = _EPOCH.match(said)
    if found:
        epoch, inner, of = map(int, found.groups())
        log.marks.append(Mark(wall, inner, epoch, of))
        return
    found = _SAVED.match(said)
    if found:
        log.saved.append((found.group(1), wall))
    found = _LEFT.match(said)
    if found:
        log.left_on = found.group(1)
    found = _RESUMED.match(said)
    if found:
        log.resumed_at = int(found.group(1))
    found = _MOST.search(said)
    if found:
        # said at the start; who goes on has said so before
        log.most = int(found.group(1)), found.group(2)
        log.resumed_at = log.resumed_at or 0
