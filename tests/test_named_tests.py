"""What the documents say that a test holds, a test of that name does."""
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / 'docs'
#: a file of tests, one test of it, or a further one of the same file
NAMED = re.compile(r'`(?P<file>(?:tests/)?(?:[a-z]+/)*test_\w+\.py)?'
                   r'(?:::(?P<test>test_\w+))?(?:\[[^`]*\])?`')
#: Traps of docs/traps.md that a single test holds, and those that were
#: reproduced with stock mmcv.
SINGLE = {*range(21, 29), *range(34, 41)}
REPRODUCED = {*range(1, 21), 22, 23, 27}


def named(text):
    """Yield every file of tests with the test, or None, that is named."""
    file = None
    for match in NAMED.finditer(text):
        file = match['file'] or file
        if match['file'] or match['test']:
            yield file, match['test']


def defined_in(file):
    path = TESTS / file.replace('tests/', '')
    assert path.is_file(), f'{file} is not there'
    return re.findall(r'^\s*def (test_\w+)', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    'page', [str(path.relative_to(DOCS)) for path in DOCS.rglob('*.md')])
def test_every_test_that_a_page_names_is_there(page):
    for file, test in named((DOCS / page).read_text()):
        assert file is not None, f'{test} of which file?'
        assert test is None or test in defined_in(file), (file, test)


def rows_of_traps():
    """Rows of the tables by the number of the trap."""
    rows = {}
    for line in (DOCS / 'traps.md').read_text().splitlines():
        numbers = re.match(r'\| ([\d, ]+) \|', line)
        for number in numbers[1].split(',') if numbers else ():
            rows[int(number)] = line
    return rows


def test_every_trap_is_in_the_table():
    assert set(rows_of_traps()) == set(range(1, 50))


@pytest.mark.parametrize('number', sorted(SINGLE))
def test_a_trap_has_a_test_by_name(number):
    assert any(test for _, test in named(rows_of_traps()[number]))


@pytest.mark.parametrize('number', sorted(REPRODUCED))
def test_a_trap_that_was_reproduced_is_shown_with_stock(number):
    shown = [
        test for path in sorted((TESTS / 'traps').glob('test_*.py'))
        for test in defined_in(f'traps/{path.name}')
        if test.startswith(f'test_trap_{number:02}_')
    ]
    assert shown and '`traps/`' in rows_of_traps()[number]


def promised():
    """Rows of the table of docs/exact-continuation.md: promise, tests."""
    text = (DOCS / 'exact-continuation.md').read_text()
    table = text.partition('| promise | test |')[2].partition('\n\n')[0]
    return [
        line.strip('| ').split(' | ') for line in table.splitlines()[2:]
        if line.startswith('|')
    ]


def test_every_promise_of_exact_continuation_names_its_test():
    rows = promised()
    assert len(rows) == 9
    for promise, tests in rows:
        assert any(test for _, test in named(tests)), promise
