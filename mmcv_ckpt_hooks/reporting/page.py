"""A report as one HTML file that loads nothing and runs nothing.

INVARIANT: what comes from a work dir goes through :func:`shown`.
"""
from typing import List, Optional

from ..version import __version__
from ..wording import counted
from . import curve_figures, figures, legends
from .drawing import HALF, WIDE
from .headline import Answer, headline
from .markup import section, shown
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
    return [
        section('Steps over time', _picture(figures.timeline(story)),
                legends.of_timeline(story)),
        section('What each save cost', _picture(figures.costs(story)),
                legends.of_costs(story)),
        section('Bytes on the disk', _picture(figures.disk(story)),
                legends.of_disk(story)),
        _curves(story),
    ]


def _curves(story: Story) -> str:
    first = story.curves[:_MOST_CURVES]
    drawn = [one for one in first if curve_figures.has_points(one)]
    width = HALF if len(drawn) + bool(story.losses) > 1 else WIDE
    pictures = [(shown(curve.key), curve_figures.metric(curve, index, width))
                for index, curve in enumerate(drawn)]
    loss = curve_figures.loss(story, width)
    if loss:
        pictures.append(('Loss of training', loss))
    cells = [
        f'<div><h3>{title}</h3>{_picture(svg)}</div>'
        for title, svg in pictures
    ]
    left = len(story.curves) - len(first)
    more = f'<p class="why">and {counted(left, "metrics")} more, which ' \
        '--json has</p>' if left else ''
    kind = 'halves' if width == HALF else 'whole'
    return section(
        'Scores and loss', cells
        and f'<div class="{kind}">{"".join(cells)}</div>{more}',
        legends.of_curves(story, drawn))


def _picture(svg: Optional[str]) -> Optional[str]:
    return svg and f'<div class="picture">{svg}</div>'


def _notes(story: Story) -> str:
    return section('To be known',
                   ''.join(f'<p>{shown(text)}</p>' for text in story.notes))
