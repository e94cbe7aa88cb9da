"""The table of mutants fits the code, which the long `make mutants` needs."""
import importlib.util
import json
import os

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, 'tools', 'mutants.py')


@pytest.fixture(scope='module')
def mutants():
    spec = importlib.util.spec_from_file_location('mutants', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_row_fits_the_code_and_names_a_test(mutants):
    table = json.loads(mutants.read(mutants.TABLE))
    assert len({row['name'] for row in table}) == len(table)
    for row in table:
        assert mutants.check(row, ROOT) is None, row['name']
        for one in row['test'].split():
            path, _, test = one.partition('::')
            name = test.partition('[')[0].rpartition('::')[2]
            assert name in mutants.read(os.path.join(ROOT, path)), row['name']


def test_a_word_that_no_mutant_has_runs_nothing(mutants, monkeypatch, capsys):

    def run_tests(*args):
        raise AssertionError('nothing was to be tried')

    monkeypatch.setattr(mutants, 'run_tests', run_tests)
    monkeypatch.setattr(mutants.sys, 'argv',
                        ['mutants.py', '--only', 'no such mutant'])
    assert mutants.main() == 2
    assert "no mutant has 'no such mutant'" in capsys.readouterr().out
