"""The table of the version matrix says what was run, and why not the rest."""
import os
import sys

import pytest

TOOLS = os.path.join(os.path.dirname(__file__), '..', 'tools')
REPORT = '''<testsuites><testsuite>
<testcase name="a"/>
<testcase name="b"><skipped message="mmcv &lt; 1.3.12
  has none"/></testcase>
<testcase name="c"><failure message="no"/></testcase>
<testcase name="d"><skipped/></testcase>
</testsuite></testsuites>'''


@pytest.fixture
def matrix(monkeypatch):
    monkeypatch.setattr(sys, 'path', [TOOLS] + sys.path)
    import matrix
    return matrix


def result(**kwargs):
    return dict(
        dict(passed=5, skipped=0, failed=0, reasons={}, resumed=2, commit='c'),
        **kwargs)


def test_tests_are_counted_and_every_skip_has_a_reason(matrix, tmp_path):
    path = tmp_path / 'junit.xml'
    path.write_text(REPORT)
    assert matrix.counted(path) == dict(
        passed=1,
        skipped=2,
        failed=1,
        reasons={
            'mmcv < 1.3.12 has none': 1,
            'NO REASON GIVEN': 1
        })


def test_the_table_tells_what_was_not_run_and_what_went_wrong(matrix):
    lines = matrix.table({
        '1.3.0/2.0.1':
        result(skipped=1, reasons={'no EvalHook': 1}),
        '1.3.0/2.12.1':
        result(failed=2),
        '1.7.2/2.0.1':
        result(exchange='differs'),
        '1.7.2/2.12.1':
        dict(error='does not import: no', commit='c'),
    }).splitlines()
    assert lines[0] == '| mmcv | torch 2.0.1 | torch 2.12.1 |'
    assert lines[2] == '| 1.3.0 | 5 passed, 1 skipped; resumes the files of ' \
        '2 cells | 5 passed, 0 skipped, **2 failed**; resumes the files of ' \
        '2 cells |'
    assert lines[3] == '| 1.3.18 | not run | not run |'
    assert lines[7] == '| 1.7.2 | 5 passed, 0 skipped; **files of other ' \
        'cells differ** | does not import: no |'
    assert '- skipped, with 1.3.0/2.0.1: no EvalHook (1 tests)' in lines


def test_the_readme_has_a_place_for_the_table(matrix):
    text = matrix.README.read_text(encoding='utf-8')
    assert text.index(matrix.BEGIN) < text.index(matrix.END)


def test_there_is_a_cell_for_each_pair(matrix):
    assert len({
        matrix.Cell(mmcv, which).name
        for mmcv in matrix.MMCV
        for which in matrix.TORCH
    }) == 12
