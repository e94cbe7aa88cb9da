"""Draw ``docs/architecture/*.dot`` into the SVG beside each.

    python tools/draw.py    # needs graphviz's ``dot``

Colours are classes: a style in the file has them for light and dark, and the
site (``docs/stylesheets/extra.css``) replaces its variables where a reader has
chosen one. The file says what it was drawn from, so that a test sees one that
is out of date without graphviz.
"""
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DRAWINGS = ROOT / 'docs' / 'architecture'
#: For all drawings alike.
DEFAULTS = [
    '-Gbgcolor=transparent', '-Gfontname=Helvetica,Arial,sans-serif',
    '-Gfontsize=11', '-Nfontname=Helvetica,Arial,sans-serif', '-Nfontsize=11',
    '-Nshape=box', '-Nstyle=rounded,filled', '-Nmargin=0.16,0.08',
    '-Efontname=Helvetica,Arial,sans-serif', '-Efontsize=10', '-Earrowsize=0.7'
]
STYLE = '''
svg.drawing { --ink: #1f2328; --line: #6b7785; --room: #f2f5f8;
  --plain: #dcefe9; --mmcv: #fde8cf; --outside: #ffffff; }
@media (prefers-color-scheme: dark) {
svg.drawing { --ink: #e3e8ee; --line: #93a0ae; --room: #2c323c;
  --plain: #1e4239; --mmcv: #54391b; --outside: #1b1f26; } }
svg.drawing text { fill: var(--ink); }
svg.drawing .graph > polygon { fill: none; stroke: none; }
svg.drawing .cluster :is(path, polygon) { fill: none; stroke: var(--line);
  stroke-dasharray: 4 3; }
svg.drawing .node :is(path, polygon) { fill: var(--room);
  stroke: var(--line); }
svg.drawing .node.plain :is(path, polygon) { fill: var(--plain); }
svg.drawing .node.mmcv :is(path, polygon) { fill: var(--mmcv); }
svg.drawing .node.outside :is(path, polygon) { fill: var(--outside); }
svg.drawing .edge path { stroke: var(--line); }
svg.drawing .edge polygon { fill: var(--line); stroke: var(--line); }
'''
_MARK = '<!-- drawn from '


def mark_of(source):
    """Return the line by which a drawing says what it was drawn from."""
    digest = hashlib.sha256()
    for part in (source, STYLE, repr(DEFAULTS)):
        digest.update(part.encode())
    return f'{_MARK}{digest.hexdigest()[:16]} by tools/draw.py -->'


def drawn(path):
    """Return a drawing as SVG."""
    source = path.read_text(encoding='utf-8')
    dot = subprocess.run(['dot', '-Tsvg', *DEFAULTS],
                         input=source,
                         stdout=subprocess.PIPE,
                         check=True,
                         universal_newlines=True).stdout
    svg = dot[dot.index('<svg'):]
    # several drawings may stand on one page
    svg = re.sub(r' id="[^"]*"', '', svg)
    svg = re.sub(r'<!--.*?-->\n', '', svg, flags=re.DOTALL)
    svg = svg.replace('<svg', '<svg class="drawing"', 1)
    at = svg.index('>') + 1
    return f'{mark_of(source)}\n{svg[:at]}\n<style>{STYLE}</style>{svg[at:]}'


def main():
    if shutil.which('dot') is None:
        sys.exit("draw: graphviz's dot is needed (Debian: install graphviz)")
    for path in sorted(DRAWINGS.glob('*.dot')):
        target = path.with_suffix('.svg')
        target.write_text(drawn(path), encoding='utf-8')
        print(f'drew {target.relative_to(ROOT)}')


if __name__ == '__main__':
    main()
