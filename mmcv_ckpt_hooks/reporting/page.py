"""A report as one HTML file that loads nothing and runs nothing.

INVARIANT: what comes from a work dir goes through :func:`shown`.
"""
from typing import List, Optional

from ..version import __version__
from ..wording import counted
from . import curve_figures, figures
from .axes import MOST_MARKS
from .drawing import HALF, WIDE
from .headline import Answer, headline
from .markup import keys, section, shown
from .starts import EXCEPTION, FINISHED, KILLED, SIGNAL
from .story import Story
from .style import STYLE
from .tables import tables

#: First words of each page: by them a later one knows what it may replace.
MARK = '<!doctype html>\n<!-- mmcv-ckpt report'

#: What a browser may do with it: show it, and nothing else.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; " \
    "base-uri 'none'; form-action 'none'"
#: Metrics that are drawn; --json has all.
_MOST_CURVES = 4


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
        _answers(headline(story)), *_pictures(story), *tables(story),
        _notes(story)
    ]
    body = '\n'.join(part for part in parts if part)
    text = f"""{MARK} {__version__} -->
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
    # a pipe or a server may take it for another encoding
    return text.encode('ascii', 'xmlcharrefreplace').decode()


# -- the head --------------------------------------------------------------


def _answers(answers: List[Answer]) -> str:
    return '<div class="answers">\n' + '\n'.join(
        f'<div class="{one.mood}"><dl><dt>{shown(one.question)}</dt>'
        f'<dd class="answer">{shown(one.answer)}</dd>' +
        ''.join(f'<dd class="more">{shown(text)}</dd>'
                for text in one.more) + '</dl></div>'
        for one in answers) + '\n</div>'


# -- pictures --------------------------------------------------------------


def _pictures(story: Story) -> List[str]:
    many = len(story.saves) > MOST_MARKS
    mark = 'bar' if many else 'dot'
    found = [
        section('Steps over time',
                _picture(figures.timeline(story)) if story.starts else None,
                _timeline_keys(story)),
        section(
            'What each save cost', _picture(figures.costs(story)),
            keys((mark, 'warn', 'training waited'),
                 (mark, 'line', 'until it was durable'),
                 *[('bar', 'muted', 'least to most of neighbours')] * many,
                 ('dash', 'muted', 'median'))),
        section(
            'Bytes on the disk', _picture(figures.disk(story)),
            keys(('line', 'line', 'checkpoints'),
                 ('bar', 'warn', 'at a save, before what it replaces goes'))),
    ]
    return [*found, _curves(story)]


def _timeline_keys(story: Story) -> str:
    ends = {one.end for one in story.starts}
    returns = len(story.starts) > len({one.lineage for one in story.starts})
    kept = sum(story.kept)
    entries = [
        (True, ('line', 'line', 'training')),
        (0 < kept <= MOST_MARKS, ('dot', 'line', 'saved, and kept')),
        (0 < len(story.kept) - kept <= MOST_MARKS, ('ring', 'line',
                                                    'saved, deleted since')),
        (KILLED in ends, ('cross', 'bad', 'killed, or ended without a save')),
        (SIGNAL in ends, ('down', 'warn', 'left on a signal')),
        (EXCEPTION in ends, ('diamond', 'bad', 'ended by an exception')),
        (FINISHED in ends, ('square', 'good', 'finished')),
        (returns, ('dash', 'muted', 'went on from there')),
        (any(one.lineage != story.lineage
             for one in story.starts), ('line', 'other', 'another run')),
    ]
    return keys(*(entry for is_there, entry in entries if is_there))


def _curves(story: Story) -> str:
    drawn = story.curves[:_MOST_CURVES]
    width = HALF if len(drawn) + bool(story.losses) > 1 else WIDE
    pictures = [(shown(curve.key), curve_figures.metric(curve, index, width))
                for index, curve in enumerate(drawn)]
    pictures.append(('Loss of training', curve_figures.loss(story, width)))
    cells = [
        f'<div><h3>{title}</h3>{_picture(svg)}</div>'
        for title, svg in pictures if svg
    ]
    left = len(story.curves) - len(drawn)
    more = f'<p class="why">and {counted(left, "metrics")} more, which ' \
        '--json has</p>' if left else ''
    kind = 'halves' if width == HALF else 'whole'
    return section(
        'Scores and loss', cells
        and f'<div class="{kind}">{"".join(cells)}</div>{more}',
        keys(('line', 'line', 'of the run'),
             ('dot', 'line', 'its checkpoint is kept'),
             ('star', 'good', 'the best'),
             ('line', 'other', 'given up, or of another run')))


def _picture(svg: Optional[str]) -> Optional[str]:
    return svg and f'<div class="picture">{svg}</div>'


def _notes(story: Story) -> str:
    return section('To be known',
                   ''.join(f'<p>{shown(text)}</p>' for text in story.notes))
