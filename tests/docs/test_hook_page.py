"""The page about the hook has its arguments, all of them and no other."""
import ast
import re
from dataclasses import MISSING, fields

import pytest
from doc_blocks import ROOT
from markdown_it import MarkdownIt

from mmcv_ckpt_hooks.options import (DEFAULT_SIGNALS, CheckpointOptions,
                                     KeepOptions, MirrorOptions,
                                     TriggerOptions, WriteOptions)

PAGE = ROOT / 'docs' / 'hook.md'
SECTIONS = {
    'triggers': TriggerOptions,
    'keep': KeepOptions,
    'write': WriteOptions,
    'mirror': MirrorOptions,
}


def rows(section):
    """The first two cells of the rows of the table below a heading."""
    tokens = MarkdownIt().enable('table').parse(
        PAGE.read_text(encoding='utf-8'))
    heading, found = '', []
    for before, token in zip(tokens, tokens[1:]):
        if before.type == 'heading_open':
            heading = token.content
        elif before.type == 'tr_open':
            found.append((heading, []))
        elif before.type == 'td_open':
            found[-1][1].append(token.content)
    return {
        cells[0].strip('`'): cells[1]
        for name, cells in found if name == section and cells
    }


def test_the_page_has_every_argument_and_none_else():
    stock, new = rows('Of the stock hook'), rows('New')
    assert not set(stock) & set(new)
    assert {*stock, *new} == {one.name for one in fields(CheckpointOptions)}


@pytest.mark.parametrize('name', SECTIONS)
def test_the_page_has_every_key_and_none_else(name):
    assert list(
        rows(f'`{name}`')) == [one.name for one in fields(SECTIONS[name])]


@pytest.mark.parametrize(
    'section, options',
    [('Of the stock hook', CheckpointOptions),
     ('New', CheckpointOptions), *((f'`{name}`', options)
                                   for name, options in SECTIONS.items())])
def test_the_defaults_are_those_of_the_code(section, options):
    defaults = {one.name: one.default for one in fields(options)}
    for name, cell in rows(section).items():
        if re.fullmatch('`.*`', cell):
            try:
                said = ast.literal_eval(cell.strip('`'))
            except ValueError:  # a call
                call, = ast.parse(cell.strip('`')).body
                said = tuple((one.arg, ast.literal_eval(one.value))
                             for one in call.value.keywords)
            assert said == defaults[name], name
        else:
            # a text, where the code has nothing that a config could have
            assert defaults[name] in (None, (), MISSING) or \
                cell == f'[below](#{name})', name
    assert TriggerOptions().signals == DEFAULT_SIGNALS
