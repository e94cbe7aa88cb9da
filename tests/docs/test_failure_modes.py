"""The table of docs/failure-modes.md: its words are those of the code."""
import ast
import re

import pytest
from doc_blocks import ROOT

import mmcv_ckpt_hooks

PAGE = (ROOT / 'docs' / 'failure-modes.md').read_text()
HEAD = '| failure | lost at most | the run says | you | test |'
#: Shorter ones are names, or could stand anywhere.
_SHORT = 8


def rows():
    """Yield the cells of each failure."""
    for table in PAGE.split(HEAD)[1:]:
        for line in table.partition('\n\n')[0].splitlines()[2:]:
            yield [cell.strip() for cell in line.strip('|').split(' | ')]


ROWS = list(rows())


@pytest.fixture(scope='module')
def texts():
    """What the package has as texts, without the values in between."""
    found = []
    for path in (ROOT / 'mmcv_ckpt_hooks').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append('...'.join(
                    part.value for part in node.values
                    if isinstance(part, ast.Constant)))
            elif isinstance(node, ast.Constant) and \
                    isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0][:40])
def test_what_a_run_is_said_to_say_is_what_the_code_says(row, texts):
    assert len(row) == 5
    for quoted in re.findall(r'`([^`]+)`', row[2]):
        for piece in quoted.split('...'):
            piece = piece.strip(' ')
            assert len(piece) < _SHORT or any(piece in text
                                              for text in texts), piece


def test_every_failure_names_its_test():
    assert len(ROWS) > 30
    for row in ROWS:
        assert 'test_' in row[4], row[0]


def test_the_package_that_is_read_is_the_one_that_is_tested():
    assert mmcv_ckpt_hooks.__path__[0] == str(ROOT / 'mmcv_ckpt_hooks')
