"""``mmcv-ckpt report`` as a command; what is on the page: tests/reporting."""
import json
import os

import pytest

from mmcv_ckpt_hooks.cli import main, run_logs
from mmcv_ckpt_hooks.reporting.page import MARK


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory."""
    directory = tmp_path / 'here'
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def drawn():
    pytest.importorskip('matplotlib', reason='pip install matplotlib')


def test_the_page_goes_where_one_is(drawn, here, run_dir, capsys):
    assert main(['report', str(run_dir)]) == 0
    assert capsys.readouterr().out == \
        f'report.html: the report of {run_dir}\n'
    before = (here / 'report.html').read_bytes()
    assert before.startswith(MARK.encode())
    # one of ours is replaced, with the same
    assert main(['report', str(run_dir)]) == 0
    assert (here / 'report.html').read_bytes() == before
    assert os.listdir(here) == ['report.html']


def test_what_is_no_page_of_ours_is_not_replaced(drawn, here, run_dir, capsys):
    (here / 'report.html').write_text('<html>the results of years</html>')
    assert main(['report', str(run_dir)]) == 2
    assert capsys.readouterr().err == (
        'mmcv-ckpt: report.html is there, and no report of mmcv-ckpt: -o '
        'FILE says where the page goes\n')
    assert 'years' in (here / 'report.html').read_text()


def test_a_slip_costs_no_checkpoint(here, run_dir, capsys):
    before = (run_dir / 'iter_8.pth').read_bytes()
    assert main(['report',
                 str(run_dir), '-o',
                 str(run_dir / 'iter_8.pth')]) == 2
    assert 'must end in .html' in capsys.readouterr().err
    assert (run_dir / 'iter_8.pth').read_bytes() == before


def test_it_goes_to_the_standard_output(drawn, here, run_dir, capsys):
    assert main(['report', str(run_dir), '-o', '-']) == 0
    assert capsys.readouterr().out.startswith(MARK)
    assert os.listdir(here) == []
    assert main(['report', str(run_dir), '-o', '-', '--json']) == 2


def test_json_alone_writes_no_page(here, run_dir, capsys):
    assert main(['report', str(run_dir), '--json']) == 0
    content = json.loads(capsys.readouterr().out)
    assert content['page'] is None and content['ok']
    assert [one['name'] for one in content['checkpoints']] == [
        'iter_2.pth', 'iter_4.pth', 'best_mIoU_iter_4.pth', 'iter_6.pth',
        'iter_8.pth'
    ]
    assert content['resume'] == dict(
        taken='iter_8.pth', stops_at=None, passed_over={})
    assert os.listdir(here) == []


def test_json_and_a_page_go_together(drawn, here, run_dir, capsys):
    assert main(['report', str(run_dir), '--json', '-o', 'a.html']) == 0
    assert json.loads(capsys.readouterr().out)['page'] == 'a.html'
    assert os.listdir(here) == ['a.html']


@pytest.mark.parametrize('path, said', [
    ('nowhere', 'MissingCheckpointError'),
    ('iter_8.pth', 'ConfigError'),
])
def test_what_is_no_directory_is_refused(run_dir, capsys, path, said):
    keys = set()
    for directory in (run_dir, run_dir / path):
        main(['report', str(directory), '--json'])
        content = json.loads(capsys.readouterr().out)
        keys.add(tuple(sorted(content)))
    assert len(keys) == 1  # programs find the same whatever has happened
    assert (content['error'], content['exit_code']) == (said, 2)


def test_a_page_that_cannot_be_written_is_told(drawn, here, run_dir, capsys):
    assert main(['report', str(run_dir), '-o', 'nowhere/a.html']) == 2
    assert 'cannot write nowhere/a.html' in capsys.readouterr().err
    assert os.listdir(here) == []


def test_a_link_or_a_pipe_is_no_log(here, run_dir, tmp_path, capsys):
    """A page is given to others: what a link leads to may be secret."""
    secret = tmp_path / 'secret'
    secret.write_text('2026-11-28 00:00:00,000 - x - ERROR - my password\n')
    (run_dir / '20261128_000000.log').symlink_to(secret)
    os.mkfifo(run_dir / '20261128_000001.log')
    assert main(['report', str(run_dir), '--json']) == 0
    assert 'password' not in capsys.readouterr().out
    secret.rename(run_dir / '20261128_000002.log')
    assert main(['report', str(run_dir), '--json']) == 0
    assert 'password' in capsys.readouterr().out


def test_logs_are_read_up_to_a_limit(here, run_dir, monkeypatch, capsys):
    line = '2026-11-28 00:00:00,000 - x - ERROR - out of memory\n'
    (run_dir / '20261128_000000.log').write_text(line * 10)
    monkeypatch.setattr(run_logs, '_LIMIT_BYTES', 3 * len(line))
    # what has no end is no line
    monkeypatch.setattr(run_logs, '_LONGEST_LINE', 2 * len(line))
    assert main(['report', str(run_dir), '--json']) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content['troubles']) == 3
    assert any('20261128_000000.log is not, or not to its end' in note
               for note in content['notes'])
