"""The tables of a report: checkpoints, starts, warnings."""
from typing import List, Optional, Sequence, Tuple

from ..types import CheckpointInfo
from ..wording import size_text, time_text
from .events import Save
from .markup import section, shown
from .starts import EXCEPTION, KILLED, SIGNAL, Start
from .story import Story, Trouble
from .values import seconds
from .wordings import (count_text, end_word, number_text, save_rate_text,
                       secs_text)

#: Rows of a table; --json has all.
_MOST_ROWS = 300
#: Metrics in the table.
_MOST_SCORES = 3
#: Longer names of metrics go over lines (characters).
_LONG_KEY = 24

#: Class and HTML of a cell.
Cell = Tuple[str, str]


def tables(story: Story) -> List[str]:
    """Return the sections with the tables."""
    return [
        section('Checkpoints', _checkpoints(story)),
        section('Starts', _starts(story.starts)),
        section(
            'Warnings and errors', _troubles(story.troubles),
            '<p class="why">Of the text logs of the work dir, the newest '
            'first.</p>')
    ]


def _table(heads: Sequence[Cell], rows: Sequence[Sequence[Cell]],
           left_out: int) -> Optional[str]:
    """Return a table of cells, which are a class and HTML."""
    if not rows:
        return None
    head = ''.join(f'<th class="{kind}">{text}</th>' for kind, text in heads)
    body = '\n'.join('<tr>' + ''.join(f'<td class="{kind}">{text}</td>'
                                      for kind, text in row) + '</tr>'
                     for row in rows)
    more = f'<p class="why">and {left_out} more, which --json has</p>' \
        if left_out > 0 else ''
    return f'<div class="table"><table><thead><tr>{head}</tr></thead>\n' \
        f'<tbody>\n{body}\n</tbody></table></div>{more}'


def _checkpoints(story: Story) -> Optional[str]:
    infos = list(story.facts.checkpoints)[::-1]
    saves = {(save.name, save.iter): save for save in story.saves}
    first = list(story.facts.best)
    heads = [('', 'name'), ('n', 'iterations'), ('n', 'epochs'),
             ('t', 'saved'), ('', 'why'), ('n', 'size'), ('n', 'waited'),
             ('n', 'durable'), ('n', 'rate'), ('', 'scores'), ('', '')]
    rows = [
        _checkpoint(info, saves.get((info.name, info.iter)), story, first)
        for info in infos[:_MOST_ROWS]
    ]
    return _table(heads, rows, len(infos) - _MOST_ROWS)


def _checkpoint(info: CheckpointInfo, save: Optional[Save], story: Story,
                first: Sequence[str]) -> List[Cell]:
    keys = [key
            for key in info.metrics if '.' not in key] or list(info.metrics)
    keys.sort(key=lambda key: key not in first)
    scores = [
        _score(key, number_text(float(info.metrics[key])))
        for key in keys[:_MOST_SCORES]
    ]
    rest = len(info.metrics) - len(scores)
    problem = story.facts.problems.get(info.name, '')
    flags = ''.join(
        _flag(flag, _mood(flag, problem))
        for flag in story.facts.flags.get(info.name, ()))
    if problem:
        flags += f'<div class="why">{shown(problem)}</div>'
    return [
        ('name', shown(info.name)),
        ('n', count_text(info.iter)),
        ('n', count_text(info.epoch)),
        ('t',
         time_text(seconds(info.created_at) if save is None else save.at)),
        ('t', shown(info.trigger)),
        ('n', size_text(info.bytes)),
        ('n', _secs(save.blocked_secs if save is not None else None)),
        ('n', _secs(save.durable_secs if save is not None else None)),
        ('n', save_rate_text(save) if save is not None else '-'),
        ('', ', '.join(scores + [f'+{rest}'] * (rest > 0))),
        ('', flags),
    ]


def _score(key: str, value: str) -> str:
    """Have no line end in a number, nor in a name of usual length."""
    if len(key) <= _LONG_KEY:
        return f'<span class="score">{shown(key)} {value}</span>'
    return f'{shown(key)} <span class="score">{value}</span>'


def _mood(flag: str, problem: str) -> str:
    if flag == 'resume' or flag.startswith('best '):
        return 'good'
    return 'bad' if problem and flag != 'latest' else ''


def _flag(text: str, mood: str = '') -> str:
    return f'<span class="flag {mood}">{shown(text)}</span>'


def _secs(secs: Optional[float]) -> str:
    return '-' if secs is None else secs_text(secs)


def _starts(starts: Sequence[Start]) -> Optional[str]:
    numbered = list(enumerate(starts, 1))[::-1]
    return _table([('n', ''), ('t', 'began'), ('t', 'last seen'),
                   ('n', 'from'), ('n', 'to'), ('n', 'saves'), ('w', 'end'),
                   ('n', 'done again'), ('', 'run')],
                  [_start(*one) for one in numbered[:_MOST_ROWS]],
                  len(numbered) - _MOST_ROWS)


def _start(number: int, one: Start) -> List[Cell]:
    moods = {KILLED: 'w bad', EXCEPTION: 'w bad', SIGNAL: 'w warn'}
    return [('n', str(number)), ('t', time_text(one.began)),
            ('t', time_text(one.last_seen)), ('n', _count(one.from_iter)),
            ('n', _count(one.reached)), ('n', count_text(one.saves)),
            (moods.get(one.end, 'w'), shown(end_word(one))),
            ('n', count_text(one.repeated) if one.repeated else '-'),
            ('', shown(one.lineage[:8]))]


def _count(value: Optional[int]) -> str:
    return '-' if value is None else count_text(value)


def _troubles(troubles: Sequence[Trouble]) -> Optional[str]:
    newest = list(troubles)[::-1]
    return _table([('t', 'time'), ('', ''), ('', 'what the log says'),
                   ('t', 'log')],
                  [[('t', time_text(one.at)),
                    ('',
                     _flag(one.level.lower(),
                           'warn' if one.level == 'WARNING' else 'bad')),
                    ('', shown(one.text)), ('t', shown(one.source))]
                   for one in newest[:_MOST_ROWS]],
                  len(newest) - _MOST_ROWS)
