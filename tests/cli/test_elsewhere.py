"""Above several runs a command says where there are checkpoints."""
import json
import shutil

import pytest

from mmcv_ckpt_hooks.cli import main


@pytest.fixture
def above(run_dir):
    shutil.copytree(str(run_dir), str(run_dir.parent / 'other'))
    (run_dir.parent / 'empty').mkdir()
    return run_dir.parent


@pytest.mark.parametrize(
    'command',
    [['ls'], ['prune', '--last', '1'], ['verify'], ['verify', '--all']])
def test_the_directories_below_are_named(above, capsys, command):
    code = main([*command, str(above)])
    assert code == (2 if command[0] == 'verify' else 0)
    out, err = capsys.readouterr()
    assert (f'there are some in {above}/other, {above}/run: name one of them'
            in out + err)


def test_one_is_enough_and_none_is_no_hint(above, capsys):
    shutil.rmtree(str(above / 'other'))
    main(['prune', str(above), '--last', '1'])
    assert capsys.readouterr().out == (
        f'No checkpoints in {above}\n'
        f'But there are some in {above}/run: name that one\n')
    main(['prune', str(above / 'empty'), '--last', '1'])
    assert capsys.readouterr().out == f'No checkpoints in {above}/empty\n'


@pytest.mark.parametrize('options', [[], ['-o', '-'], ['-o', 'a.html']])
def test_a_report_above_runs_names_them_and_writes_no_page(
        above, capsys, monkeypatch, options):
    pytest.importorskip('matplotlib', reason='pip install matplotlib')
    here = above / 'empty'
    monkeypatch.chdir(here)
    assert main(['report', str(above), *options]) == 0
    out, err = capsys.readouterr()
    if '-' in options:
        assert out == ''
    assert (f'there are some in {above}/other, {above}/run: name one of them'
            in out + err)
    assert list(here.iterdir()) == []


def test_its_json_names_no_page(above, capsys, monkeypatch):
    monkeypatch.chdir(above / 'empty')
    assert main(['report', str(above), '--json']) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content['page'], content['checkpoints']) == (None, [])
