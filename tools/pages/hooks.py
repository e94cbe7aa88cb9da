"""What mkdocs does not do by itself: see the events.

Loaded by mkdocs.yml. Neither torch nor mmcv is imported.
"""
import importlib
import re
import sys
import types
from pathlib import Path

import figures
import options
import outside
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent.parent

#: Lines of pages that are replaced by what is made here.
OPTIONS = '<!-- made of the parser of mmcv-ckpt by `make docs` -->'
FIGURES = '<!-- made of benchmarks/results by `make docs` -->'

_DRAWING = re.compile(
    r'<img alt="(?P<name>[^"]*)" src="(?P<path>[^":]+\.svg)" '
    r'*/?>')


def on_files(files, config):
    """Add what lies outside of ``docs/``."""
    for source, page in outside.PAGES.items():
        files.append(
            File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Lead links to where files lie on the site; fill in what is made."""
    markdown = outside.site_links(markdown, page.file.src_uri)
    if OPTIONS in markdown:
        markdown = markdown.replace(OPTIONS, options.as_markdown(_program()))
    if FIGURES in markdown:
        benchmarks = ROOT / 'benchmarks'
        markdown = markdown.replace(
            FIGURES, figures.as_markdown(benchmarks / 'results', benchmarks))
    return markdown


def on_page_content(html, page, config, files):
    """Put drawings into the page itself, so that they follow its colours."""
    folder = Path(page.file.abs_src_path).parent if \
        page.file.abs_src_path else None

    def drawing(match):
        path = folder / match['path']
        svg = path.read_text(encoding='utf-8')
        if 'class="drawing"' not in svg:
            return match[0]
        svg = svg[svg.index('<svg'):]
        return svg.replace('<svg',
                           f'<svg role="img" aria-label="{match["name"]}"', 1)

    return _DRAWING.sub(drawing, html) if folder else html


def _program():
    """The parser of the command line, without torch and mmcv."""
    if 'mmcv_ckpt_hooks' not in sys.modules:
        # found but not executed, as mmcv_ckpt_cli.py does it
        package = types.ModuleType('mmcv_ckpt_hooks')
        package.__path__ = [str(ROOT / 'mmcv_ckpt_hooks')]
        sys.modules['mmcv_ckpt_hooks'] = package
    commands = importlib.import_module('mmcv_ckpt_hooks.cli.arguments')
    return commands.make_parser()
