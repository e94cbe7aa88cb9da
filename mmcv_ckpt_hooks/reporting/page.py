"""A report as one HTML file that loads nothing and runs nothing.

INVARIANT: what comes from a work dir goes through :func:`shown`.
"""
import html
from typing import Any, Iterable, List, Optional, Sequence, Tuple

from ..types import CheckpointInfo
from ..version import __version__
from ..wording import counted
from . import figures
from .drawing import HALF, WIDE
from .events import Save
from .headline import Answer, headline
from .starts import EXCEPTION, FINISHED, KILLED, SIGNAL, Start
from .story import Story, Trouble
from .style import STYLE
from .wordings import (clean, count_text, end_word, number_text, rate_text,
                       secs_text, size_text, time_text)

#: First words of each page: by them a later one knows what it may replace.
MARK = '<!doctype html>\n<!-- mmcv-ckpt report'

#: What a browser may do with it: show it, and nothing else.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; " \
    "base-uri 'none'; form-action 'none'"
#: Rows of a table; --json has all.
_MOST_ROWS = 300
#: Metrics that are drawn, and metrics in the table.
_MOST_CURVES = 4
_MOST_SCORES = 3

Cell = Tuple[str, str]


def shown(text: str) -> str:
    """Return a text of others as HTML."""
    return html.escape(clean(text), quote=True)


def page(story: Story) -> str:
    """Return the page.

    Args:
        story (Story): What it tells.

    Raises:
        DependencyError: If matplotlib is missing.
    """
    name = story.facts.place.rstrip('/').rpartition('/')[2]
    title = shown(name or story.facts.place)
    parts = [
        f'<h1>{title}</h1>', f'<p class="path">{shown(story.facts.place)}. '
        'All times are UTC.</p>',
        _answers(headline(story)), *_pictures(story), *_tables(story),
        _notes(story)
    ]
    body = '\n'.join(part for part in parts if part)
    return f"""{MARK} {__version__} -->
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title} - checkpoints</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
<footer>mmcv-ckpt report, mmcv_ckpt_hooks {__version__}</footer>
</main>
</body>
</html>
"""


# -- the head --------------------------------------------------------------


def _answers(answers: Sequence[Answer]) -> str:
    return '<div class="answers">\n' + '\n'.join(
        f'<div class="{one.mood}"><dl><dt>{shown(one.question)}</dt>'
        f'<dd class="answer">{shown(one.answer)}</dd>' +
        ''.join(f'<dd class="more">{shown(text)}</dd>'
                for text in one.more) + '</dl></div>'
        for one in answers) + '\n</div>'


# -- pictures --------------------------------------------------------------


def _pictures(story: Story) -> List[str]:
    found = [
        _section('Steps over time',
                 _picture(figures.timeline(story)) if story.starts else None,
                 _timeline_keys(story)),
        _section(
            'What each save cost', _picture(figures.costs(story)),
            _keys(('dot', 'warn', 'training waited'),
                  ('dot', 'line', 'until it was durable'),
                  ('dash', 'muted', 'median'))),
        _section(
            'Bytes on the disk', _picture(figures.disk(story)),
            _keys(('line', 'line', 'checkpoints'),
                  ('bar', 'warn', 'at a save, before what it replaces goes'))),
    ]
    return [*found, _curves(story)]


def _timeline_keys(story: Story) -> str:
    ends = {one.end for one in story.starts}
    returns = len(story.starts) > len({one.lineage for one in story.starts})
    keys = [
        (True, ('line', 'line', 'training')),
        (any(story.kept), ('dot', 'line', 'saved, and kept')),
        (not all(story.kept) and len(story.saves) <= figures.MOST_MARKS,
         ('ring', 'line', 'saved, deleted since')),
        (KILLED in ends, ('cross', 'bad', 'killed, or ended without a save')),
        (SIGNAL in ends, ('down', 'warn', 'left on a signal')),
        (EXCEPTION in ends, ('diamond', 'bad', 'ended by an exception')),
        (FINISHED in ends, ('square', 'good', 'finished')),
        (returns, ('dash', 'muted', 'went on from there')),
        (any(one.lineage != story.lineage
             for one in story.starts), ('line', 'other', 'another run')),
    ]
    return _keys(*(key for is_there, key in keys if is_there))


def _curves(story: Story) -> str:
    drawn = story.curves[:_MOST_CURVES]
    width = HALF if len(drawn) + bool(story.losses) > 1 else WIDE
    pictures = [(shown(curve.key), figures.metric(curve, index, width))
                for index, curve in enumerate(drawn)]
    pictures.append(('Loss of training', figures.loss(story, width)))
    cells = [
        f'<div><h3>{title}</h3>{_picture(svg)}</div>'
        for title, svg in pictures if svg
    ]
    left = len(story.curves) - len(drawn)
    more = f'<p class="why">and {counted(left, "metrics")} more, which ' \
        '--json has</p>' if left else ''
    kind = 'halves' if width == HALF else 'whole'
    return _section(
        'Scores and loss', cells
        and f'<div class="{kind}">{"".join(cells)}</div>{more}',
        _keys(('line', 'line', 'of the run'),
              ('dot', 'line', 'its checkpoint is kept'),
              ('star', 'good', 'the best'),
              ('line', 'other', 'given up, or of another run')))


def _picture(svg: Optional[str]) -> Optional[str]:
    return svg and f'<div class="picture">{svg}</div>'


def _section(title: str, content: Any, before: str = '') -> str:
    if not content:
        return ''
    return f'<section>\n<h2>{title}</h2>\n{before}\n{content}\n</section>'


_SHAPES = {
    'line':
    '<path d="M0 7H14" fill="none" stroke-width="2"/>',
    'dash':
    '<path d="M0 7H14" fill="none" stroke-width="1.5" '
    'stroke-dasharray="3 2"/>',
    'bar':
    '<path d="M7 1V13" fill="none" stroke-width="1.5"/>',
    'dot':
    '<circle cx="7" cy="7" r="3.5" stroke="none"/>',
    'ring':
    '<circle cx="7" cy="7" r="3.5" fill="none" stroke-width="1.3"/>',
    'cross':
    '<path d="M3 3L11 11M11 3L3 11" stroke-width="3" fill="none"/>',
    'down':
    '<path d="M2 3H12L7 12Z" stroke="none"/>',
    'diamond':
    '<path d="M7 2L12 7L7 12L2 7Z" stroke="none"/>',
    'square':
    '<path d="M3 3H11V11H3Z" stroke="none"/>',
    'star':
    '<path d="M7 0L8.8 4.9L14 5.1L9.9 8.4L11.3 13.4L7 10.5L2.7 13.4'
    'L4.1 8.4L0 5.1L5.2 4.9Z" stroke="none"/>',
}


def _keys(*keys: Tuple[str, str, str]) -> str:
    return '<ul class="keys">' + ''.join(
        f'<li><svg viewBox="0 0 14 14" aria-hidden="true" '
        f'style="fill:var(--{colour});stroke:var(--{colour})">'
        f'{_SHAPES[shape]}</svg> {text}</li>'
        for shape, colour, text in keys) + '</ul>'


# -- tables ----------------------------------------------------------------


def _tables(story: Story) -> List[str]:
    return [
        _section('Checkpoints', _checkpoints(story)),
        _section('Starts', _starts(story.starts)),
        _section(
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
    return _table([('', 'name'), ('n', 'iterations'), ('n', 'epochs'),
                   ('t', 'saved'), ('', 'why'), ('n', 'size'), ('n', 'waited'),
                   ('n', 'durable'), ('n', 'rate'), ('', 'scores'), ('', '')],
                  [
                      _checkpoint(info, saves.get(
                          (info.name, info.iter)), story, first)
                      for info in infos[:_MOST_ROWS]
                  ],
                  len(infos) - _MOST_ROWS)


def _checkpoint(info: CheckpointInfo, save: Optional[Save], story: Story,
                first: Sequence[str]) -> List[Cell]:
    known = save is not None
    keys = [key
            for key in info.metrics if '.' not in key] or list(info.metrics)
    keys.sort(key=lambda key: key not in first)
    scores = [
        f'{key}&nbsp;{value}'
        for key, value in ((shown(key), number_text(float(info.metrics[key])))
                           for key in keys[:_MOST_SCORES])
    ]
    rest = len(info.metrics) - len(scores)
    problem = story.facts.problems.get(info.name, '')
    flags = ''.join(
        _flag(
            flag, 'good' if flag == 'resume' or flag.startswith('best ') else
            'bad' if problem else '')
        for flag in story.facts.flags.get(info.name, ()))
    if problem:
        flags += f'<div class="why">{shown(problem)}</div>'
    return [
        ('name', shown(info.name)),
        ('n', count_text(info.iter)),
        ('n', count_text(info.epoch)),
        ('t', time_text(save.at) if save is not None else '-'),
        ('', shown(info.trigger)),
        ('n', size_text(info.bytes)),
        ('n', _secs(save.blocked_secs if save is not None else None)),
        ('n', _secs(save.durable_secs if save is not None else None)),
        ('n', rate_text(save) if save is not None and known else '-'),
        ('', ', '.join(scores + [f'+{rest}'] * (rest > 0))),
        ('', flags),
    ]


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
            ('n', _count(one.reached)), ('n', str(one.saves)),
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


def _notes(story: Story) -> str:
    return _section('What this page does not know',
                    _list(story.notes) if story.notes else None)


def _list(texts: Iterable[str]) -> str:
    return ''.join(f'<p>{shown(text)}</p>' for text in texts)
