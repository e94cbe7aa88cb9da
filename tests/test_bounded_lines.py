"""A history that a stranger wrote takes no more memory than it may."""
import json
import os
import shutil
import tracemalloc

import pytest
from toy import train

from mmcv_ckpt_hooks import bounded_lines
from mmcv_ckpt_hooks.cli import ls, main, report
from mmcv_ckpt_hooks.history import HISTORY_NAME, History, StoredHistory
from mmcv_ckpt_hooks.storage.local import LocalBackend

#: More than a line may have, and than a test takes besides.
LONG_BYTES = 64 << 20


@pytest.fixture(params=[History, StoredHistory])
def history(request, tmp_path):
    return History(str(tmp_path)) if request.param is History else \
        StoredHistory(LocalBackend(str(tmp_path)))


def write(tmp_path, *lines):
    (tmp_path / HISTORY_NAME).write_bytes(b'\n'.join(lines) + b'\n')


def test_a_long_line_is_left_out_and_takes_no_memory(history, tmp_path):
    write(tmp_path, b'{"event": "first"}')
    with open(tmp_path / HISTORY_NAME, 'r+b') as file:
        file.truncate(LONG_BYTES)
        file.seek(0, os.SEEK_END)
        # its end alone would be an event
        file.write(b'{"event": "part"}\n{"event": "last"}\n')
    said = []
    tracemalloc.start()
    try:
        events = history.read(said.append)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [one['event'] for one in events] == ['first', 'last']
    assert said == [
        f'1 line of {tmp_path}/{HISTORY_NAME} longer than 4194304 bytes left '
        'out'
    ]
    assert peak < LONG_BYTES // 2


@pytest.mark.parametrize('longest, count', [(18, 3), (17, 1)])
def test_a_line_of_just_that_length_counts(history, tmp_path, monkeypatch,
                                           longest, count):
    """With its end."""
    monkeypatch.setattr(bounded_lines, 'LONGEST_LINE_BYTES', longest)
    lines = [b'{"event":"12345"}'] * 2
    write(tmp_path, lines[0], b'{"event":"1"}', lines[1])
    said = []
    assert len(history.read(said.append)) == count
    assert len(said) == (count < 3)


def test_what_comes_behind_the_bytes_is_left_out(history, tmp_path):
    write(tmp_path, *[b'{"event": "x"}'] * 10)
    said = []
    assert len(history.read(said.append, most_bytes=30)) == 2
    assert said == [
        f'{tmp_path}/{HISTORY_NAME} is read up to 30 bytes: what comes '
        'after is left out'
    ]
    assert len(history.read(said.append)) == 10 and len(said) == 1


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose catalog is lost, and of whose history a part is read."""
    directory = tmp_path / 'run'
    train(
        directory,
        evaluation=dict(
            scores=[.5, .4], interval=2, by_epoch=False, save_best='mIoU'),
        hooks=[dict(type='DurableCheckpointHook', interval=2)])
    (directory / 'checkpoints.json').unlink()
    for module in (ls, report):
        monkeypatch.setattr(module, 'MOST_BYTES', 100)
    return directory


def test_report_and_ls_say_that_they_read_a_part(run, tmp_path, capsys):
    said = f'{HISTORY_NAME} is read up to 100 bytes: what comes after is ' \
        'left out'
    assert main(['ls', str(run)]) == 0
    assert said in capsys.readouterr().err
    assert main(['report', str(run), '--json']) == 0
    out, err = capsys.readouterr()
    assert said in err
    assert any(said in note for note in json.loads(out)['notes'])


def test_a_run_reads_all_and_says_what_is_no_entry(run, tmp_path, caplog):
    again = tmp_path / 'again'
    shutil.copytree(run, again)
    hook = dict(type='DurableCheckpointHook', resume='auto')
    train(run, hooks=[hook])
    assert 'Checkpoints with scores from the history' in caplog.text
    assert 'left out' not in caplog.text
    with open(again / HISTORY_NAME, 'ab') as file:
        file.truncate(file.tell() + 5 * 2**20)
        file.seek(0, os.SEEK_END)
        file.write(b'\n')
    train(again, hooks=[hook])
    assert f'1 line of {again}/{HISTORY_NAME} longer than' in caplog.text
