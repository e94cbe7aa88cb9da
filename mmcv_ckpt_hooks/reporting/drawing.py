"""Matplotlib's drawings as SVG that an HTML page can take in.

No text of a work dir comes here: matplotlib would take some for formulas. It
is added after the drawing, as titles, by a writer of XML.
"""
import re
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Sequence
from xml.etree import ElementTree

from ..errors import DependencyError
from .wordings import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours by what they mean. The page says which they are, light and dark:
#: these stand in their place, and are no colours that anything else has.
INK, MUTED, GRID, LINE, OTHER, GOOD, BAD, WARN = (f'#01fe{index:02x}'
                                                  for index in range(8))
_VARIABLES = {
    INK: 'var(--ink)',
    MUTED: 'var(--muted)',
    GRID: 'var(--grid)',
    LINE: 'var(--line)',
    OTHER: 'var(--other)',
    GOOD: 'var(--good)',
    BAD: 'var(--bad)',
    WARN: 'var(--warn)',
}
_SVG = 'http://www.w3.org/2000/svg'
_XLINK = 'http://www.w3.org/1999/xlink'
#: As wide as the page, as half of it, and for a narrow screen (inches).
WIDE, HALF, NARROW = 9.6, 4.75, 4.
#: Around all axes (inches): the same in all pictures, so that the same time
#: is at the same place. To the right half of a time with seconds has room.
_LEFT, _RIGHT, _TOP, _BOTTOM, _BETWEEN = .78, .38, .1, .42, .18
#: More marks get no titles: each takes some hundred bytes.
MOST_TITLES = 400

_SETTINGS = {
    'svg.fonttype': 'none',
    'svg.hashsalt': 'mmcv-ckpt',
    'font.size': 8.5,
    'axes.edgecolor': GRID,
    'axes.labelcolor': MUTED,
    'axes.facecolor': 'none',
    'axes.linewidth': .8,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.grid.axis': 'y',
    'axes.axisbelow': True,
    'axes.xmargin': .02,
    'axes.ymargin': .08,
    'axes.formatter.useoffset': False,
    'grid.color': GRID,
    'grid.linewidth': .6,
    'xtick.color': GRID,
    'ytick.color': GRID,
    'xtick.labelcolor': MUTED,
    'ytick.labelcolor': MUTED,
    'ytick.major.size': 0,
    'text.color': INK,
    'lines.linewidth': 1.4,
    'lines.markersize': 4.5,
    'figure.facecolor': 'none',
    'savefig.facecolor': 'none',
    'timezone': 'UTC',
}

#: By the group of a drawing, the titles of its marks.
Titles = Dict[str, Sequence[str]]


def need_matplotlib() -> None:
    """Make sure that there is something to draw with.

    Raises:
        DependencyError: If there is not.
    """
    try:
        import matplotlib  # noqa: F401  the extra [report]
    except ImportError as error:
        raise DependencyError(
            'matplotlib, which draws the report, is not installed: pip '
            "install 'mmcv_ckpt_hooks[report]'. --json gives the data "
            'without it') from error


@contextmanager
def settings() -> Iterator[None]:
    """Draw by our settings, whatever the user's matplotlibrc has."""
    import matplotlib
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def drawn(name: str,
          heights: Sequence[float],
          paint: Callable[[List['Axes']], Titles],
          width: float = WIDE) -> str:
    """Draw one picture, of one or more axes with the same x.

    It is drawn twice: the style sheet shows the one that fits the screen.
    The narrow one has no titles, as touch screens show none.

    Args:
        name (str): Letters; ids in the picture begin with it.
        heights (Sequence[float]): Of the axes, in inches.
        paint (callable): Paints on the axes and returns the titles.
        width (float): Of the picture, in inches. Default: that of the page.

    Returns:
        str: Two ``<svg>`` elements.
    """
    return _drawn(name, heights, paint, width, 'broad') + \
        _drawn(f'{name}-s', heights, paint, NARROW, 'narrow')


def is_narrow(ax: 'Axes') -> bool:
    """Whether axes are those for a narrow screen."""
    figure: Any = ax.figure
    return bool(figure.get_figwidth() == NARROW)


def _drawn(name: str, heights: Sequence[float], paint: Callable[[List['Axes']],
                                                                Titles],
           width: float, kind: str) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    with settings():
        height = sum(heights) + _BETWEEN * (len(heights) - 1) + _TOP + _BOTTOM
        figure = Figure(figsize=(width, height))
        canvas = FigureCanvasSVG(figure)
        titles = paint(_axes(figure, heights, width, height))
        out = BytesIO()
        canvas.print_svg(
            out, metadata=dict.fromkeys(('Creator', 'Date', 'Format', 'Type')))
    if kind == 'narrow':
        titles = {}
    return _for_page(out.getvalue().decode(), name, kind, titles)


def _axes(figure: 'Figure', heights: Sequence[float], width: float,
          height: float) -> List['Axes']:
    found: List[Any] = []
    top = height - _TOP
    for own in heights:
        place = (_LEFT / width, (top - own) / height,
                 1 - (_LEFT + _RIGHT) / width, own / height)
        shared = {'sharex': found[0]} if found else {}
        found.append(figure.add_axes(place, **shared))
        top -= own + _BETWEEN
    for axes in found[:-1]:
        axes.tick_params(labelbottom=False)
    return found


def _for_page(text: str, name: str, kind: str, titles: Titles) -> str:
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    ElementTree.register_namespace('', _SVG)
    ElementTree.register_namespace('xlink', _XLINK)
    # INVARIANT: matplotlib wrote it, and nothing of a work dir is in it yet
    root = ElementTree.fromstring(text)
    for child in list(root):
        if child.tag == f'{{{_SVG}}}metadata':
            root.remove(child)
    for defs in root.findall(f'{{{_SVG}}}defs'):
        for style in defs.findall(f'{{{_SVG}}}style'):
            defs.remove(style)  # it would be that of the whole page
    _add_titles(root, titles)
    _prefix(root, name)
    for key in ('width', 'height'):
        root.attrib.pop(key, None)
    root.set('role', 'img')
    root.set('class', kind)
    return ElementTree.tostring(root, encoding='unicode')


def _add_titles(root: ElementTree.Element, titles: Titles) -> None:
    for group in root.iter(f'{{{_SVG}}}g'):
        told = titles.get(group.get('id', ''))
        if not told:
            continue
        marks = list(group.iter(f'{{{_SVG}}}use'))
        if len(marks) != len(told):
            continue  # one of them is not in the picture
        for mark, one in zip(marks, told):
            title = ElementTree.SubElement(mark, f'{{{_SVG}}}title')
            title.text = clean(one)


def _prefix(root: ElementTree.Element, name: str) -> None:
    """Have no id twice on the page."""
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == 'id':
                element.set(key, f'{name}-{value}')
            elif key == f'{{{_XLINK}}}href' and value.startswith('#'):
                # HTML knows it without the prefix of XML
                element.set(key, f'#{name}-{value[1:]}')
            elif 'url(#' in value:
                element.set(key, re.sub(r'url\(#', f'url(#{name}-', value))
