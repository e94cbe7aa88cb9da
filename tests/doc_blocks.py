"""Fenced code blocks of the pages, and what the comments before them say."""
import re
from collections import namedtuple
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent

#: Why a block may not be run: the whole list.
REASONS = {
    'needs a GPU',
    'needs several machines',
    'needs an account',
    'takes long',
}
#: What a comment right before a fence may say.
COMMENT = re.compile(r'<!-- (?P<key>in|file|logged by|not run): '
                     r'(?P<value>.+?) -->')
#: Extensions of mkdocs-material whose content is indented.
INDENTED = ('!!! ', '??? ', '???+ ', '=== ')

Block = namedtuple('Block',
                   'page line language text scenes file logged_by not_run')


class BlockError(Exception):
    """A block that does not keep to the convention."""


def pages():
    """Return the paths of all pages, below the root of the repository."""
    found = [
        ROOT / 'README.md', ROOT / 'benchmarks' / 'README.md', *sorted(
            (ROOT / 'docs').rglob('*.md'))
    ]
    return [str(path.relative_to(ROOT)) for path in found]


def blocks_of(page):
    """Return the blocks of a page, by its path."""
    return find((ROOT / page).read_text(encoding='utf-8'), page)


def logged(page, path):
    """Return the texts of a page that a file of tests holds to its runs."""
    name = str(Path(path).resolve().relative_to(ROOT))
    return [block.text for block in blocks_of(page) if block.logged_by == name]


def find(text, page, line_offset=0):
    """Return the blocks of a Markdown text, in order.

    Args:
        text (str): The text.
        page (str): Its name, for messages.
        line_offset (int): Lines before the text. Default: 0.

    Raises:
        BlockError: If one is indented, where nobody can tell its language,
            or hidden in a paragraph, or if the comment before a fence is none
            of the convention.
    """
    found, tokens = [], MarkdownIt().parse(text)
    for index, token in enumerate(tokens):
        if token.type == 'fence':
            line = line_offset + token.map[0] + 1
            found.append(
                Block(page, line,
                      token.info.split()[0] if token.info.split() else '',
                      token.content,
                      **said_before(tokens, index, f'{page}:{line}')))
        elif token.type == 'code_block':
            line = line_offset + token.map[0]
            if not follows_an_extension(tokens, index):
                raise BlockError(
                    f'{page}:{line + 1}: an indented block; give it a fence '
                    'and a language')
            found += find(token.content, page, line)
        elif token.type == 'inline' and has_fence(token.content):
            raise BlockError(
                f'{page}:{line_offset + token.map[0] + 1}: a fence within a '
                'paragraph; give it an empty line before')
    return found


def has_fence(text):
    return any(line.lstrip().startswith('```') for line in text.splitlines())


def said_before(tokens, index, where):
    """What the comments on the lines before a fence say."""
    said, line = {}, tokens[index].map[0]
    for token in reversed(tokens[:index]):
        if token.type != 'html_block' or token.map[1] != line:
            break
        line = token.map[0]
        text = token.content.strip()
        match = COMMENT.fullmatch(text)
        if match is None:
            raise BlockError(
                f'{where}: {text} is none of <!-- in: SCENE, SCENE -->, '
                '<!-- file: PATH -->, <!-- logged by: TEST --> and '
                '<!-- not run: REASON -->')
        said[match['key']] = match['value']
    if said.get('not run', 'takes long') not in REASONS:
        raise BlockError(f'{where}: {said["not run"]!r} is no reason; there '
                         f'are {", ".join(sorted(REASONS))}')
    return dict(
        scenes=tuple(said['in'].split(', ')) if 'in' in said else (),
        file=said.get('file'),
        logged_by=said.get('logged by'),
        not_run=said.get('not run'))


def follows_an_extension(tokens, index):
    """Whether indented lines belong to an admonition or a tab."""
    for token in reversed(tokens[:index]):
        if token.type == 'inline':
            return token.content.startswith(INDENTED)
        if token.type in ('fence', 'html_block'):
            return False
    return False
