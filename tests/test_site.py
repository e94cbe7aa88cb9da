"""The site of the documents: what it lists, where links lead, its build."""
import functools
import html
import importlib.util
import inspect
import json
import os
import posixpath
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from mmcv_ckpt_hooks.cli.arguments import make_parser

ROOT = Path(__file__).parent.parent
DOCS = ROOT / 'docs'
PAGES = ROOT / 'tools' / 'pages'


def loaded(path):
    """A module of the tools by its path: their names are short."""
    name = f'of_the_site_{path.stem}'
    spec = importlib.util.spec_from_file_location(name, str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


outside = loaded(PAGES / 'outside.py')
options = loaded(PAGES / 'options.py')
figures = loaded(PAGES / 'figures.py')

CONFIG = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
SOURCES = sorted([str(path.relative_to(ROOT))
                  for path in DOCS.rglob('*.md')] + list(outside.PAGES))
LINK = re.compile(r'\]\(([^)\s]+)\)')

# -- nav and links -----------------------------------------------------------


def listed(nav):
    """Pages of a nav, whatever section they are in."""
    for entry in nav:
        if isinstance(entry, dict):
            (entry, ) = entry.values()
        if isinstance(entry, list):
            yield from listed(entry)
        else:
            yield entry


def test_the_nav_lists_every_page_once():
    pages = list(listed(CONFIG['nav']))
    assert sorted(pages) == sorted(map(outside.page_of, SOURCES))


def prose(source):
    """A document without its code."""
    text = (ROOT / source).read_text(encoding='utf-8')
    return ''.join(
        re.sub('`[^`]*`', '', line)
        for line, is_code in outside.told_apart(text) if not is_code)


def slugs(source):
    """The anchors of a document, as git hosts make them of its headings."""
    found = set()
    text = (ROOT / source).read_text(encoding='utf-8')
    for line, is_code in outside.told_apart(text):
        heading = re.match('#+ (.*)', line)
        if heading and not is_code:
            plain = re.sub(r'[^\w\- ]', '', heading[1].strip().lower())
            found.add(plain.replace(' ', '-'))
    return found


@pytest.mark.parametrize('source', SOURCES)
def test_links_lead_to_what_is_in_the_repository(source):
    for link in LINK.findall(prose(source)):
        if urlsplit(link).scheme:
            continue
        path, _, anchor = link.partition('#')
        target = source if not path else posixpath.normpath(
            posixpath.join(posixpath.dirname(source), path))
        assert (ROOT / target).exists(), link
        if anchor:
            assert anchor in slugs(target), link


@pytest.mark.parametrize('page, markdown, expected', [
    ('saving.md', '[a](../benchmarks/README.md#how)',
     '[a](benchmarks-method.md#how)'),
    ('storage/s3.md', '[a](../../README.md)', '[a](../overview.md)'),
    ('storage/s3.md', '[a](../saving.md) [b](#c)',
     '[a](../saving.md) [b](#c)'),
    ('overview.md', '![a](docs/growth.svg)', '![a](growth.svg)'),
    ('benchmarks-method.md', '[a](../docs/growth.svg)', '[a](growth.svg)'),
    ('overview.md', '[a](docs/storage)', '[a](storage/README.md)'),
    ('saving.md', '[a](https://b.org/docs/c)', '[a](https://b.org/docs/c)'),
    ('saving.md', '[a](../setup.py)', '[a](../setup.py)'),
    ('saving.md', '```\n[a](../README.md)\n```\n[a](../README.md)',
     '```\n[a](../README.md)\n```\n[a](overview.md)'),
])
def test_links_are_led_to_where_files_lie_on_the_site(page, markdown,
                                                      expected):
    assert outside.site_links(markdown, page) == expected


def test_the_config_fetches_nothing_from_elsewhere():
    assert CONFIG['theme']['font'] is False
    for path in ROOT / 'mkdocs.yml', DOCS / 'stylesheets' / 'extra.css':
        assert not re.search('https?:|//[a-z]|@import|url\\(',
                             path.read_text()), path


# -- what is made ------------------------------------------------------------


def test_every_option_of_every_command_is_described():
    parser = make_parser()
    text = options.as_markdown(parser)
    for name, command in options.commands_of(parser).items():
        section, = re.findall(rf'^## mmcv-ckpt {name}$(.*?)(?=^## |\Z)', text,
                              re.DOTALL | re.MULTILINE)
        plain = html.unescape(section).replace('\\', '')
        assert ' '.join(command.description.split()) in plain
        assert ' '.join((command.epilog or '').split()) in \
            ' '.join(plain.split())
        for action in command._actions:
            for spelling in action.option_strings:
                assert action.dest == 'help' or f'`{spelling}' in section


def test_the_width_of_a_terminal_changes_nothing(monkeypatch):
    monkeypatch.setenv('COLUMNS', '40')
    narrow = options.as_markdown(make_parser())
    assert os.environ['COLUMNS'] == '40'
    monkeypatch.delenv('COLUMNS')
    assert options.as_markdown(make_parser()) == narrow
    assert 'COLUMNS' not in os.environ


@pytest.mark.slow
def test_a_result_is_measured_kept_and_shown(tmp_path):
    result = tmp_path / 'results' / 'bench.json'
    command = [
        sys.executable, 'benchmarks/bench.py', '--parts', 'function',
        '--layers', '1', '--saves', '1', '--json',
        str(result)
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    kept = json.loads(result.read_text())
    assert f'{os.cpu_count()} cores of ' in kept['machine']
    text = figures.as_markdown(result.parent, ROOT / 'benchmarks')
    for part in ('## Beside stock mmcv', '--parts function --layers 1',
                 kept['commit'] or 'not known', kept['time'],
                 f'| machine | {kept["machine"]} |',
                 '### The functions, while nothing else runs'):
        assert part in text
    secs = sorted(kept['function']['ours'])
    assert f'| {secs[len(secs) // 2]:.3f} |' in text


def test_without_a_result_the_page_says_how_to_get_one(tmp_path):
    assert '`make bench`' in figures.as_markdown(tmp_path, ROOT / 'benchmarks')


def test_make_keeps_results_that_have_a_title():
    kept = re.findall(r'--json benchmarks/results/(\w+)\.json',
                      (ROOT / 'Makefile').read_text())
    assert kept == ['bench', 'peers', 'growth']
    assert set(kept) <= set(figures.TITLES)


# -- the build ---------------------------------------------------------------


class Links(HTMLParser):
    """What a page of HTML refers to, and what can be referred to in it."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.fetched = set(), [], []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs[key] for key in ('id', 'name') if key in attrs}
        if tag == 'a' and attrs.get('href'):
            self.links.append(attrs['href'])
        elif tag != 'a':
            self.fetched += [
                attrs[key] for key in ('href', 'src', 'data') if attrs.get(key)
            ]


def python_with_mkdocs():
    """Of `make docs`, or this one; None if neither has it."""
    for python in (ROOT / '.venv-docs' / 'bin' / 'python', sys.executable):
        if os.path.exists(str(python)) and subprocess.run(
            [str(python), '-c', 'import mkdocs, material, mkdocstrings'],
                stderr=subprocess.DEVNULL).returncode == 0:
            return str(python)
    return None


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    python = python_with_mkdocs()
    if python is None:
        pytest.skip('no mkdocs: `make docs` builds .venv-docs, which has it')
    built = tmp_path_factory.mktemp('site')
    done = subprocess.run(
        [python, '-m', 'mkdocs', 'build', '--strict', '-d',
         str(built)],
        cwd=ROOT,
        env=dict(os.environ, NO_MKDOCS_2_WARNING='1'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    assert done.returncode == 0, done.stdout
    assert 'WARNING' not in done.stdout
    return built


def test_the_site_has_every_page(site):
    for page in listed(CONFIG['nav']):
        built = re.sub(r'(^|/)README\.md$', r'\1index.md', page)
        assert (site / built).with_suffix('.html').is_file()


def test_the_site_fetches_nothing_from_elsewhere(site):
    for path in site.rglob('*.html'):
        for url in Links(path).fetched:
            assert not urlsplit(url).netloc, (path, url)
    for path in site.rglob('*.css'):
        assert not re.search(r'url\(["\']?(https?:)?//|@import',
                             path.read_text(encoding='utf-8')), path


def test_links_of_the_site_lead_somewhere(site):
    parsed = functools.lru_cache(maxsize=None)(Links)
    for path in site.rglob('*.html'):
        if path.name == '404.html':
            continue
        for url in parsed(path).links:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / unquote(parts.path)).resolve()
            assert target.exists(), (path, url)
            if parts.fragment and target.suffix == '.html':
                assert unquote(parts.fragment) in parsed(target).anchors, \
                    (path, url)


def test_the_reference_has_what_is_public(site):
    import mmcv_ckpt_hooks
    pages = ''.join(
        path.read_text(encoding='utf-8')
        for path in (site / 'reference').glob('*.html'))
    for name in set(mmcv_ckpt_hooks.__all__) - {'__version__'}:
        assert re.search(rf'id="mmcv_ckpt_hooks\.[\w.]*{name}"', pages), name
    documented = re.findall(
        r'^    (\w+) \(',
        inspect.getdoc(mmcv_ckpt_hooks.DurableCheckpointHook), re.MULTILINE)
    assert 'trust_checkpoint' in documented
    for name in documented:
        assert f'<code>{name}</code>' in pages
    # a role of a docstring is a link
    assert re.search(
        r'<a [^>]*href="#mmcv_ckpt_hooks\.options\.TriggerOptions">'
        '<code>TriggerOptions</code>', pages)
    # signs of reStructuredText that Markdown would show as they are
    assert not re.search(r':(class|func|meth|mod|attr):', pages)


def test_plain_text_of_the_parser_is_shown_as_it_is(site):
    page = (site / 'reference' /
            'command-line.html').read_text(encoding='utf-8')
    shown = re.findall('<(?:td|p)>(.*?)</(?:td|p)>', page, re.DOTALL)
    assert any('(torch &lt; 1.6)' in text for text in shown)
    assert not any('\\' in text for text in shown)


def test_drawings_are_part_of_the_page(site):
    page = (site / 'architecture.html').read_text(encoding='utf-8')
    assert page.count('<svg role="img" aria-label=') == 3
