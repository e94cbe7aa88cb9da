"""``push`` and ``pull`` that are killed or interrupted inside a file."""
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid

import pytest
from object_server import BUCKET, IDENTITIES
from toy import ToyModel, train

from mmcv_ckpt_hooks import verify_checkpoint
from mmcv_ckpt_hooks.cli import main, progress

#: Sends itself a signal when so many bytes of the n-th file were copied.
CHILD = """
import contextlib, os, signal, sys
number, at, sent, *arguments = sys.argv[1:]
import mmcv_ckpt_cli
with contextlib.suppress(SystemExit):
    mmcv_ckpt_cli.main(['--version'])
from mmcv_ckpt_hooks.cli import copies
files = []

@contextlib.contextmanager
def progress_of(name, total):
    files.append(name)
    done = [0]

    def advance(nbytes):
        done[0] += nbytes
        if len(files) == int(number) and done[0] >= int(at):
            os.kill(os.getpid(), getattr(signal, sent))

    yield advance

copies.progress_of = progress_of
sys.exit(mmcv_ckpt_cli.main(arguments))
"""


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Two checkpoints of 29 MB: two parts of an upload, eight blocks."""
    directory = tmp_path_factory.mktemp('large')
    train(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        model=ToyModel(width=800000),
        hooks=[
            dict(
                type='DurableCheckpointHook', interval=1, save_optimizer=False)
        ])
    return directory


@pytest.fixture
def work_dir(source, tmp_path):
    return shutil.copytree(source, tmp_path / 'run', symlinks=True)


def killed(sent, number, at, *arguments):
    given = map(str, (number, at, sent, *arguments))
    done = subprocess.run([sys.executable, '-c', CHILD, *given],
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          universal_newlines=True,
                          timeout=300)
    return done.returncode, done.stdout


def again(capsys, *arguments):
    capsys.readouterr()
    assert main([*map(str, arguments), '--json']) == 0
    content = json.loads(capsys.readouterr().out)
    return {one['name']: one['status'] for one in content['checkpoints']}


NEWEST, OLDER = 'iter_2.pth', 'iter_1.pth'


@pytest.mark.parametrize('verb', ['push', 'pull'])
def test_killed_inside_a_file_it_goes_on_behind_the_one_before(
        work_dir, tmp_path, capsys, verb):
    there = tmp_path / 'there'
    code, said = killed('SIGKILL', 2, 9 << 20, verb, work_dir, there)
    assert code == -signal.SIGKILL, said
    names = os.listdir(str(there))
    # what was under way has no name that a reader would take
    assert NEWEST in names and OLDER not in names
    verify_checkpoint(there / NEWEST)
    assert [name for name in names if '.tmp' in name]
    assert again(capsys, verb, work_dir, there) == {
        NEWEST: 'skipped',
        OLDER: 'copied'
    }
    verify_checkpoint(there / OLDER)
    names = os.listdir(str(there))
    assert not [name for name in names if '.tmp' in name]


@pytest.mark.parametrize('verb', ['push', 'pull'])
def test_an_interrupt_leaves_nothing_half(work_dir, tmp_path, capsys, verb):
    there = tmp_path / 'there'
    code, said = killed('SIGINT', 1, 9 << 20, verb, work_dir, there)
    assert code == 130 and 'mmcv-ckpt: interrupted' in said
    assert 'Traceback' not in said
    left = [name for name in os.listdir(str(there)) if 'iter' in name]
    assert left == []
    assert set(again(capsys, verb, work_dir, there).values()) == {'copied'}


@pytest.fixture
def bucket(s3_server, monkeypatch):
    pytest.importorskip('obstore', reason='pip install obstore')
    key, secret, _ = IDENTITIES['writer']
    monkeypatch.setenv('AWS_ACCESS_KEY_ID', key)
    monkeypatch.setenv('AWS_SECRET_ACCESS_KEY', secret)
    options = f'--endpoint={s3_server.endpoint}', '--region=us-east-1'
    return f's3://{BUCKET}/{uuid.uuid4().hex}', options


def in_bucket(url, options, s3_server):
    from mmcv_ckpt_hooks.storage import open_backend
    files = open_backend(url, storage_options=s3_server.options())
    return [file.name for file in files.list()]


@pytest.mark.parametrize('sent', ['SIGKILL', 'SIGINT'])
def test_an_upload_that_ended_early_is_none(work_dir, tmp_path, bucket, sent,
                                            s3_server, capsys):
    url, options = bucket
    code, said = killed(sent, 2, 20 << 20, 'push', work_dir, url, *options)
    assert code == (130 if sent == 'SIGINT' else -signal.SIGKILL), said
    names = in_bucket(url, options, s3_server)
    assert NEWEST in names and OLDER not in names
    found = again(capsys, 'push', work_dir, url, *options)
    assert found == {NEWEST: 'skipped', OLDER: 'copied'}
    # and from there, killed as well
    there = tmp_path / 'there'
    code, said = killed('SIGKILL', 2, 9 << 20, 'pull', url, there, *options)
    assert code == -signal.SIGKILL, said
    assert OLDER not in os.listdir(str(there))
    found = again(capsys, 'pull', url, there, *options)
    assert found == {NEWEST: 'skipped', OLDER: 'copied'}
    for name in (NEWEST, OLDER):
        verify_checkpoint(there / name)


# -- how far it is ----------------------------------------------------------


def test_a_log_gets_a_line_now_and_then(monkeypatch, capsys):
    now = [100.]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    with progress.progress_of('a.pth', 100 << 20) as advance:
        for secs in (29., 31., 32., 62.):
            now[0] = 100. + secs
            advance(10 << 20)
    assert capsys.readouterr().err == (
        'a.pth: 21.0 MB of 104.9 MB, 676.5 kB/s\n'
        'a.pth: 41.9 MB of 104.9 MB, 676.5 kB/s\n')
    with progress.progress_of('a.pth', 1 << 20) as advance:
        assert advance is None


def test_a_terminal_gets_a_bar_with_a_rate(work_dir, tmp_path):
    """In a real terminal; what is copied is small, so that all is a bar."""
    import pty
    pytest.importorskip('rich', reason='pip install rich')
    program = """
import sys
import mmcv_ckpt_cli, contextlib
with contextlib.suppress(SystemExit):
    mmcv_ckpt_cli.main(['--version'])
from mmcv_ckpt_hooks.cli import progress
progress.WORTH_A_BAR_BYTES = 1
sys.exit(mmcv_ckpt_cli.main(sys.argv[1:]))
"""
    main_end, other_end = pty.openpty()
    given = ['push', str(work_dir), str(tmp_path / 'there')]
    process = subprocess.Popen([sys.executable, '-c', program, *given],
                               env=dict(
                                   os.environ, TERM='xterm', COLUMNS='120'),
                               stdout=subprocess.DEVNULL,
                               stderr=other_end)
    os.close(other_end)
    shown = b''
    while True:
        try:
            data = os.read(main_end, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(main_end)
    assert process.wait() == 0
    assert NEWEST.encode() in shown and b'MB' in shown and b'/s' in shown
