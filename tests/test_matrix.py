"""The tables of the version matrix say what was run, and why not the rest."""
import os
import sys

import pytest

TOOLS = os.path.join(os.path.dirname(__file__), '..', 'tools')
REPORT = '''<testsuites><testsuite>
<testcase file="tests/test_a.py" name="a" time="1.5"/>
<testcase file="tests/test_a.py" name="b" time="0.5">
<skipped message="mmcv &lt; 1.3.12
  has none"/></testcase>
<testcase file="tests/test_b.py" name="c" time="0"><failure message="no"/>
</testcase>
<testcase file="tests/test_b.py" name="d" time="0"><skipped/></testcase>
<testcase file="tests/test_b.py" name="e" time="0">
<skipped message="unconditional skip"/></testcase>
</testsuite></testsuites>'''


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.setattr(sys, 'path', [TOOLS] + sys.path)


@pytest.fixture
def matrix():
    import matrix
    return matrix


@pytest.fixture
def table():
    import matrix_table
    return matrix_table


def file(**kwargs):
    return dict(
        dict(
            passed=5,
            skipped=0,
            failed=0,
            secs=2.,
            reasons={},
            commit='c',
            day='2026-11-27'), **kwargs)


def cell(**kwargs):
    return dict(
        files={
            'tests/test_a.py': file(**kwargs),
            'tests/test_b.py': file()
        },
        resumed=['1.3.0/2.0.1', '1.7.2/2.12.1'],
        differs=None)


def test_tests_are_counted_and_every_skip_has_a_reason(table, tmp_path):
    path = tmp_path / 'junit.xml'
    path.write_text(REPORT)
    assert table.counted(path) == {
        'tests/test_a.py':
        dict(
            passed=1,
            skipped=1,
            failed=0,
            secs=2.,
            reasons={'mmcv < 1.3.12 has none': 1}),
        'tests/test_b.py':
        dict(
            passed=0,
            skipped=2,
            failed=1,
            secs=0.,
            reasons={table.NO_REASON: 2}),
    }


def test_the_table_tells_what_was_not_run_and_what_went_wrong(table):
    results = {
        '1.3.0/2.0.1': cell(skipped=1, reasons={'no EvalHook': 1}),
        '1.3.0/2.12.1': cell(failed=2),
        '1.3.18/2.0.1': dict(cell(), differs='iter: was 6'),
        '1.7.2/2.0.1': dict(files={}),
        '1.7.2/2.12.1': dict(error='does not import: no'),
    }
    lines = table.compact_table(results).splitlines()
    assert lines == [
        '| mmcv | torch 2.0.1 | torch 2.12.1 |',
        '|---|---|---|',
        '| 1.3.0 | 10 passed, 1 skipped | 10 passed, 0 skipped, **2 failed** '
        '|',
        '| 1.3.18 | 10 passed, 0 skipped, **files of other cells differ** '
        '| not run |',
        '| 1.7.2 | checkpoints only | does not import: no |',
        '',
        '**1 of 4 cells do not resume all checkpoints**. (`make matrix`, '
        'commit c, 2026-11-27)',
    ]
    assert [table.is_good(one)
            for one in results.values()] == [True, False, False, True, False]
    nameless = cell(skipped=1, reasons={table.NO_REASON: 1})
    assert not table.is_good(nameless)


def test_a_reason_stands_once_with_the_cells_that_have_it(table):

    def skipping(*reasons):
        return cell(skipped=len(reasons), reasons={one: 1 for one in reasons})

    lines = table.long_table({
        '1.3.0/2.0.1':
        skipping('no GPU', 'old torch', 'old mmcv'),
        '1.3.0/2.12.1':
        skipping('no GPU', 'old mmcv', 'odd'),
        '1.7.2/2.0.1':
        skipping('no GPU', 'old torch', 'odd'),
        '1.7.2/2.12.1':
        dict(cell(reasons={'no GPU': 3}, skipped=3)),
    }).splitlines()
    assert lines[2] == '| 1.3.0 | 10 passed, 3 skipped; 4 s | 10 passed, ' \
        '3 skipped; 4 s |'
    assert lines[-6:] == [
        '| skipped | tests | where |',
        '|---|---|---|',
        '| no GPU | 1 to 3 | all cells |',
        '| odd | 1 | 1.3.0/2.12.1, 1.7.2/2.0.1 |',
        '| old mmcv | 1 | mmcv 1.3.0 |',
        '| old torch | 1 | torch 2.0.1 |',
    ]


def test_a_table_goes_between_its_marks_and_nothing_else_changes(
        table, tmp_path):
    path = tmp_path / 'a.md'
    path.write_text(f'before\n{table.BEGIN}\nold\n{table.END}\nafter\n')
    table.write_between(path, 'new')
    assert path.read_text() == \
        f'before\n{table.BEGIN}\nnew\n{table.END}\nafter\n'
    path.write_text('no marks')
    with pytest.raises(ValueError, match='no marks for the table'):
        table.write_between(path, 'new')
    assert path.read_text() == 'no marks'


def test_the_page_has_a_place_for_the_table(table):
    text = table.VERSIONS.read_text(encoding='utf-8')
    assert text.index(table.BEGIN) < text.index(table.END)


def test_files_that_were_not_run_again_keep_their_counts(matrix):
    before = dict(
        files={
            'a': file(passed=1),
            'b': file(failed=1)
        }, resumed=['x'])
    found = matrix.merged(before, dict(files={'b': file(passed=2)}))
    assert found['files'] == {'a': file(passed=1), 'b': file(passed=2)}
    broken = dict(error='does not import')
    assert matrix.merged(before, broken) == broken
    assert matrix.merged(broken, before) == before


def test_there_is_a_cell_for_each_pair(matrix):
    assert len({one.name for one in matrix.all_cells()}) == 12


def test_what_the_matrix_runs_is_there(matrix):
    for tests in (matrix.TESTS, matrix.SHORT_TESTS, matrix.BETWEEN_TESTS):
        for path in tests.split():
            assert (matrix.ROOT / path).exists(), path
    assert set(matrix.SHORT_TESTS.split()) <= set(matrix.TESTS.split())
