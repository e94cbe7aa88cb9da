"""The README stays short, and where its links lead something is."""
import re

import pytest
from doc_blocks import ROOT
from markdown_it import MarkdownIt

README = ROOT / 'README.md'
#: A screen and a half, one that is turned upright.
LINES = 110


def test_it_is_one_screen_and_a_half():
    lines = README.read_text(encoding='utf-8').splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= 160


def links(path):
    """Where the links of a page lead, of those to other pages."""
    found = []
    for token in MarkdownIt().enable('table').parse(
            path.read_text(encoding='utf-8')):
        for child in token.children or ():
            if child.type == 'link_open':
                found.append(child.attrs['href'])
    return [href for href in found if '://' not in href]


def anchors(path):
    """The anchors of the headings of a page, as GitHub makes them."""
    tokens = MarkdownIt().parse(path.read_text(encoding='utf-8'))
    return {
        re.sub(r'[^\w\- ]', '',
               tokens[index + 1].content.lower()).replace(' ', '-')
        for index, token in enumerate(tokens) if token.type == 'heading_open'
    }


@pytest.mark.parametrize('href', sorted(set(links(README))))
def test_a_link_leads_to_a_page(href):
    name, _, anchor = href.partition('#')
    assert (ROOT / name).is_file(), f'{name} is not there'
    assert not anchor or anchor in anchors(ROOT / name)
