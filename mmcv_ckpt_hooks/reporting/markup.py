"""Parts of HTML that pages are made of."""
import html
from typing import Any, Tuple

from .wordings import clean


def shown(text: str) -> str:
    """Return a text of others as HTML."""
    return html.escape(clean(text), quote=True)


def section(title: str, content: Any, before: str = '') -> str:
    """Return a part of the page; '' if it has no content.

    Args:
        title (str): HTML.
        content (str, optional): HTML.
        before (str): HTML between both. Default: ''.
    """
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


def keys(*entries: Tuple[str, str, str]) -> str:
    """Return what the marks of a picture mean.

    Args:
        entries (tuple[str, str, str]): Shape, colour, and HTML.
    """
    return '<ul class="keys">' + ''.join(
        f'<li><svg viewBox="0 0 14 14" aria-hidden="true" '
        f'style="fill:var(--{colour});stroke:var(--{colour})">'
        f'{_SHAPES[shape]}</svg> {text}</li>'
        for shape, colour, text in entries) + '</ul>'
