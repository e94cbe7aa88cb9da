"""Files of the repository outside ``docs/`` that are pages of the site.

Links between documents are those of the repository, so that they work where
the files are looked at; on the site some of the files lie elsewhere.
"""
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
#: The folder of mkdocs's own pages.
DOCS = 'docs'
#: File of the repository to page of the site.
PAGES = {
    'README.md': 'overview.md',
    'CHANGELOG.md': 'changelog.md',
    'benchmarks/README.md': 'benchmarks-method.md',
}
_SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r'(?<=\]\()(?P<path>[^)#\s:]+)(?P<rest>[^)]*\))')
_FENCE = re.compile(r'^ *(`{3,}|~{3,})')


def source_of(page):
    """Return the repository's path of a page."""
    return _SOURCES.get(page, f'{DOCS}/{page}')


def page_of(source):
    """Return the page of a repository's path; None if it has none.

    That of a folder is its ``README.md``, which git hosts show there.
    """
    if (ROOT / source).is_dir():
        source = f'{source}/README.md'
    if source in PAGES:
        return PAGES[source]
    prefix = f'{DOCS}/'
    return source[len(prefix):] if source.startswith(prefix) else None


def site_links(markdown, page):
    """Lead the links of a page to where their files lie on the site.

    What has no page is left as it is: mkdocs refuses it then.
    """
    folder = posixpath.dirname(source_of(page))

    def moved(match):
        target = page_of(
            posixpath.normpath(posixpath.join(folder, match['path'])))
        if target is None:
            return match[0]
        start = posixpath.dirname(page) or '.'
        return posixpath.relpath(target, start) + match['rest']

    return ''.join(
        line if is_code else _LINK.sub(moved, line)
        for line, is_code in told_apart(markdown))


def told_apart(markdown):
    """Yield every line with its end, and whether it is in a code block."""
    fence = None
    for line in markdown.splitlines(keepends=True):
        found = _FENCE.match(line)
        if fence is None:
            fence = found and found[1]
            yield line, bool(fence)
        else:
            yield line, True
            if found and found[1].startswith(fence) and \
                    line.strip() == found[1]:
                fence = None
