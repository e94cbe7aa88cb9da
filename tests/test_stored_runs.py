"""Real training runs that meet in one place of a real S3 server."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import contextmanager

import pytest
from fault_proxy import FAULTS
from mmcv.runner import Hook
from object_server import BUCKET
from toy import train
from waiting_run import waiting_run

from mmcv_ckpt_hooks import find_resumable, holding
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import LockedError
from mmcv_ckpt_hooks.lease import decode
from mmcv_ckpt_hooks.storage import open_backend
from mmcv_ckpt_hooks.storage.shared_object import SharedObject

pytest.importorskip('obstore', reason='pip install obstore')

pytestmark = pytest.mark.usefixtures('short_lease')

NAME = 'checkpoints.lock'
HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture
def out_dir():
    return f's3://{BUCKET}/{uuid.uuid4().hex}'


def ours(out_dir, options, **more):
    return dict(
        type='DurableCheckpointHook',
        interval=1,
        resume='auto',
        out_dir=out_dir,
        storage_options=options,
        **more)


def run(work_dir, hook, max_iters=6, name='IterBasedRunnerAmp', hooks=()):
    return train(
        work_dir,
        runner=dict(type=name, max_iters=max_iters),
        hooks=[hook, *hooks])


def contents(place, options):
    """All that is there, by name."""
    backend = open_backend(place, storage_options=options)
    found = {}
    for file in backend.list():
        with backend.open(file.name) as stored:
            found[file.name] = stored.read()
    return found


@contextmanager
def another(work_dir, hook, waits_at=4, beat_secs=.1):
    """A run in a process of its own, which trains already."""
    given = dict(
        work_dir=str(work_dir),
        waits_at=waits_at,
        beat_secs=beat_secs,
        hook=hook)
    with waiting_run('s3_worker.py', 'train_waiting',
                     json.dumps(given)) as other:
        other.wait()
        yield other


@pytest.mark.slow
def test_a_second_run_is_refused_and_takes_over_when_the_first_is_killed(
        tmp_path, s3_server, out_dir, caplog, capsys):
    options, place = s3_server.options(), f'{out_dir}/run'
    hook = ours(out_dir, options, max_keep_ckpts=2)
    with another(tmp_path / 'a' / 'run', hook) as first:
        before = contents(place, options)
        with pytest.raises(LockedError) as refused:
            run(tmp_path / 'b' / 'run', hook)
        assert re.search(
            rf'{place} is in use by another run: host '
            rf'{socket.gethostname()}, pid {first.process.pid}, since 20.*'
            'renews its lease', str(refused.value))
        after = contents(place, options)
        assert after.pop(NAME)[40:] == before.pop(NAME)[40:]
        assert after == before
        # who only reads is not refused, and sees no checkpoint in it
        access = f'--storage-options={json.dumps(options)}'
        for command in (['ls'], ['verify'], ['verify', '--all']):
            assert main([*command, place, access]) == 0
        assert NAME not in capsys.readouterr().out
        assert find_resumable(place, options) == f'{place}/iter_4.pth'
        first.kill()
        runner = run(tmp_path / 'b' / 'run', hook)
    assert runner.restored.iter == 4
    line, = re.findall('.*Took over .*', caplog.text)
    assert f'{place}/{NAME}' in line and f'pid {first.process.pid}' in line
    assert 'not renewed for 3 s' in line
    left = contents(place, options)
    assert decode(left[NAME]).beat is None
    assert sorted(name for name in left
                  if name.endswith('.pth')) == ['iter_5.pth', 'iter_6.pth']


@pytest.mark.slow
def test_a_run_that_was_stopped_changes_nothing_of_the_newer_one(
        tmp_path, s3_server, out_dir):
    options, place = s3_server.options(), f'{out_dir}/run'
    hook = ours(out_dir, options, max_keep_ckpts=1)
    with another(tmp_path / 'a' / 'run', hook) as first:
        first.process.send_signal(signal.SIGSTOP)
        assert run(tmp_path / 'b' / 'run', hook, 5).restored.iter == 4
        after = contents(place, options)
        first.process.send_signal(signal.SIGCONT)
        assert first.end() == 0
    assert contents(place, options) == after
    assert 'iter_5.pth' in after
    told = f'lost the directory to another .*pid {os.getpid()}'
    assert re.search(f'iter_5.pth was not saved.*{told}', first.out)
    assert 'iter_6.pth was not saved (LockedError: as before)' in first.out
    assert first.out.count('Nothing is saved any more') <= 1


@pytest.mark.slow
def test_two_runs_do_not_share_a_mirror(tmp_path, s3_server, out_dir):
    options, place = s3_server.options(), f'{out_dir}/run'
    hook = dict(
        type='DurableCheckpointHook',
        interval=1,
        mirror=dict(url=out_dir, storage_options=options))
    with another(tmp_path / 'a' / 'run', hook) as first:
        with pytest.raises(
                LockedError, match=f'{place} .*pid {first.process.pid}'):
            run(tmp_path / 'b' / 'run', hook)
        assert first.end() == 0
    assert decode(contents(place, options)[NAME]).beat is None
    assert main([
        'push',
        str(tmp_path / 'a' / 'run'), place,
        f'--storage-options={json.dumps(options)}'
    ]) == 0
    assert decode(contents(place, options)[NAME]).beat is None


@pytest.mark.slow
@pytest.mark.parametrize('who', ['run', 'push'])
def test_who_comes_next_does_not_wait_for_the_lease_of_a_mirror(
        tmp_path, s3_server, out_dir, caplog, capsys, who):
    """The kernel lock of the work dir tells that its process is dead."""
    options, work_dir = s3_server.options(), tmp_path / 'run'
    hook = dict(
        type='DurableCheckpointHook',
        interval=1,
        resume='auto',
        mirror=dict(url=out_dir, storage_options=options))
    with another(work_dir, hook) as first:
        first.kill()
    if who == 'run':
        assert run(work_dir, hook).restored.iter == 4
        told = caplog.text
    else:
        access = f'--storage-options={json.dumps(options)}'
        assert main(['push', str(work_dir), access]) == 0
        told = capsys.readouterr().err
    assert told.count('Took over') == 2
    assert 'its process is dead' in told and 'waiting' not in told


@pytest.mark.slow
def test_where_the_server_knows_no_conditions_the_lease_is_left(
        tmp_path, s3_server, out_dir, caplog):
    options, place = s3_server.options(), f'{out_dir}/run'
    hook = ours(out_dir, dict(options, conditional_put='disabled'))
    with another(tmp_path / 'a' / 'run', hook) as first:
        with pytest.raises(LockedError, match=f'pid {first.process.pid}'):
            run(tmp_path / 'b' / 'run', hook)
        first.kill()
    assert run(tmp_path / 'b' / 'run', hook).restored.iter == 4
    said = f'{place}/{NAME}: the storage knows no conditional writes'
    assert caplog.text.count(said) == first.out.count(said) == 1


@pytest.mark.slow
def test_a_run_that_raised_leaves_the_place_when_its_process_ends(
        tmp_path, s3_server, out_dir):
    """A stock runner tells no hook that it has."""
    options = s3_server.options()
    given = dict(work_dir=str(tmp_path / 'run'), hook=ours(out_dir, options))
    worker = [sys.executable, f'{HERE}/s3_worker.py', 'train_raising']
    ended = subprocess.run(
        worker + [json.dumps(given)],
        capture_output=True,
        timeout=180,
        text=True)
    assert 'RuntimeError: damaged' in ended.stderr
    left = contents(f'{out_dir}/run', options)
    assert 'iter_2.pth' in left and decode(left[NAME]).beat is None


@pytest.mark.slow
def test_who_comes_behind_a_second_interrupt_does_not_wait(
        tmp_path, s3_server, out_dir, caplog):
    """It leaves while a save is written, which ends with the process."""
    options = s3_server.options()
    hook = ours(out_dir, options)
    given = json.dumps(dict(work_dir=str(tmp_path / 'a' / 'run'), hook=hook))
    with waiting_run('s3_worker.py', 'train_hanging', given) as first:
        first.wait()
        first.process.send_signal(signal.SIGINT)
        first.wait('WAIT interrupted')
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(60) == -signal.SIGINT
    left = contents(f'{out_dir}/run', options)
    assert decode(left[NAME]).beat is None
    assert not [name for name in left if name.endswith('.pth')]
    run(tmp_path / 'b' / 'run', hook, 2)
    assert 'waiting up to' not in caplog.text


# -- in one process --------------------------------------------------------


@pytest.mark.parametrize('name', ['IterBasedRunnerAmp', 'IterBasedRunner'])
def test_a_run_ends_without_the_lease(tmp_path, s3_server, out_dir, name):
    options = s3_server.options()
    hook = ours(out_dir, options)
    missing = dict(hook, resume=f'{out_dir}/run/iter_9.pth')
    with pytest.raises(FileNotFoundError):
        run(tmp_path / 'run', missing, 4, name)
    assert decode(contents(f'{out_dir}/run', options)[NAME]).beat is None
    run(tmp_path / 'run', hook, 2, name)
    assert decode(contents(f'{out_dir}/run', options)[NAME]).beat is None


class Beats(Hook):
    """Has the lease renewed in every iteration, beside its thread."""

    comes = 'LOW'

    def __init__(self, *meanwhile):
        self.meanwhile = dict(meanwhile)
        self.answers = []

    def after_train_iter(self, runner):
        self.meanwhile.get(runner.iter + 1, lambda: None)()
        for hook in runner.hooks:
            for saver in getattr(hook, '_savers', []):
                saver.wait()
                check = saver.backend._check.__self__
                self.answers.append(check._holding.beat())


def test_a_network_that_is_away_stops_nobody(tmp_path, s3_server, out_dir,
                                             proxy, caplog, monkeypatch):
    monkeypatch.setattr(holding, 'BEAT_SECS', 3600.)
    options = s3_server.options(retry_secs=.2)
    through = dict(options, endpoint=proxy.endpoint)
    beats = Beats((2, proxy.stop), (4, proxy.start))
    run(tmp_path / 'run', ours(out_dir, through), hooks=[beats])
    assert beats.answers == [True] * 6
    assert caplog.text.count('was not renewed') == 1
    assert 'Nothing is saved any more' not in caplog.text
    left = contents(f'{out_dir}/run', options)
    assert 'iter_3.pth' not in left and 'iter_6.pth' in left
    assert decode(left[NAME]).beat is None


@pytest.mark.parametrize('fault', ['cut_after', 'reset_after', 'late'])
def test_answers_about_the_lease_that_are_lost_refuse_nobody(
        tmp_path, s3_server, out_dir, proxy, caplog, fault):
    """Every second one: of the start, of the beats and of the end."""
    options = s3_server.options()
    through = dict(
        options, endpoint=proxy.endpoint, client_options=dict(timeout='300ms'))
    count = []

    def choose(number, line):
        if NAME not in line:
            return None
        count.append(line)
        return FAULTS[fault] if len(count) % 2 else None

    proxy.arm(choose)
    beats = Beats()
    run(tmp_path / 'run', ours(out_dir, through), 4, hooks=[beats])
    assert beats.answers == [True] * 4
    assert 'was not saved' not in caplog.text
    assert len([line for line in count if line.startswith('PUT')]) > 8
    left = contents(f'{out_dir}/run', options)
    assert 'iter_4.pth' in left and decode(left[NAME]).beat is None


def test_what_a_start_and_a_save_ask_of_the_lease(tmp_path, s3_server, out_dir,
                                                  proxy, monkeypatch):
    monkeypatch.setattr(holding, 'BEAT_SECS', 3600.)
    through = dict(s3_server.options(), endpoint=proxy.endpoint)
    run(tmp_path / 'run', ours(out_dir, through), 2)
    asked = [line.split()[0] for line in proxy.lines if NAME in line]
    # at the start; at the end; a look in between if it took a second
    assert asked[:4] == ['GET', 'PUT', 'PUT', 'PUT']
    assert asked[-1] == 'PUT' and set(asked[4:-1]) <= {'GET'}


def test_each_lease_has_a_client_of_its_own(s3_server, out_dir):
    backend = open_backend(out_dir, storage_options=s3_server.options())
    one, other = backend.share(NAME), backend.share(NAME)
    assert isinstance(one, SharedObject)
    assert len({id(one._line), id(other._line), id(backend._line)}) == 3
