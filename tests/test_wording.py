"""Numbers in messages: one has no plural."""
import ast
import re
from pathlib import Path

import pytest

import mmcv_ckpt_hooks
from mmcv_ckpt_hooks.wording import counted, every

PACKAGE = Path(mmcv_ckpt_hooks.__file__).parent
#: What may be one.
NOUNS = ('batches|bytes|characters|checkpoints|dimensions|elements|entries|'
         'epochs|files|folders|items|iterations|phases|ranks|records|'
         'scores|tensors|tries|uploads')
PLURAL = re.compile(rf' (finished |data )?({NOUNS})\b(?!, expected at most)')
#: Values that are never one.
LARGE = ('CATALOG_LIMIT_BYTES', '_NAME_LIMIT_BYTES', 'plan.ranks',
         'plan.writers', 'max(_periods(hooks))', 'len(values)', 'len(lengths)',
         'saved')


@pytest.mark.parametrize('count, said', [(0, '0 epochs'), (1, '1 epoch'),
                                         (2, '2 epochs')])
def test_one_is_no_plural(count, said):
    assert counted(count, 'epochs') == said


def test_a_noun_may_be_irregular():
    assert counted(1, 'entries', 'entry') == '1 entry'
    assert counted(3, 'entries', 'entry') == '3 entries'


@pytest.mark.parametrize('interval, said', [(1, 'every epoch'),
                                            (2, 'every 2 epochs')])
def test_every_one_needs_no_number(interval, said):
    assert every(interval, 'epochs') == said


def counts(tree):
    """What stands before a plural in the f-strings of a module."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in zip(node.values, node.values[1:]):
            if isinstance(value, ast.FormattedValue) and \
                    isinstance(text, ast.Constant) and \
                    PLURAL.match(text.value):
                yield ast.unparse(value.value), text.value


@pytest.mark.skipif(
    not hasattr(ast, 'unparse'), reason='Python 3.9 has ast.unparse')
def test_no_message_has_a_plural_behind_any_number():
    found = {
        f'{path.name}: {{{value}}}{text}'
        for path in sorted(PACKAGE.rglob('*.py'))
        for value, text in counts(ast.parse(path.read_text()))
        if value not in LARGE and 'testing' not in path.parts
    }
    assert found == set()
