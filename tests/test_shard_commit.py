"""The commit of a folder: what fails in it, and what stands then."""
import os
from types import SimpleNamespace

import pytest
import torch
from toy import ToyModel, make_loader, make_runner, train

from mmcv_ckpt_hooks import (boundary, find_resumable, opening,
                             verify_checkpoint)
from mmcv_ckpt_hooks.catalog import Catalog
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import (CheckpointError, MissingCheckpointError,
                                    OutOfSpaceError, ResumeError, StorageError)
from mmcv_ckpt_hooks.folders import folder
from mmcv_ckpt_hooks.sharded import planning
from mmcv_ckpt_hooks.sharded.commit import write_part
from mmcv_ckpt_hooks.sharded.sharding import Sharding
from mmcv_ckpt_hooks.sharded.state import live_state
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.testing.faulty import FaultyBackend
from mmcv_ckpt_hooks.testing.memory import MemoryBackend

# torch >= 2.3
pytest.importorskip('torch.distributed.checkpoint.format_utils')


def sharded(**options):
    return [
        dict(
            dict(type='DurableCheckpointHook', format='dcp', interval=2),
            **options)
    ]


def train_on(backend, directory, monkeypatch, max_iters=6, **options):
    """Run with a backend; return the names that its listing has."""
    monkeypatch.setattr(opening, 'open_backend', lambda *a, **k: backend)
    train(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=max_iters),
        hooks=sharded(**options))
    return [
        file.name for file in backend.inner.list()
        if file.name.endswith('.dcp')
    ]


class Armed(FaultyBackend):
    """Fails at one write into the folder of the second save."""

    def __init__(self, inner, error, verb, nth):
        super().__init__(inner)
        self.fault = verb, nth, error
        self.count = 0

    def folder(self, name):
        inside = super().folder(name)
        enter = inside._enter

        def armed(verb, *names):
            found = enter(verb, *names)
            if name == 'iter_4.dcp' and verb == self.fault[0]:
                self.count += 1
                if self.count == self.fault[1]:
                    raise self.fault[2]
            return found

        inside._enter = armed
        return inside


@pytest.mark.parametrize('error', [OutOfSpaceError('full'), OSError('broken')])
@pytest.mark.parametrize('verb, nth', [
    ('prepare', 1),
    ('put', 1),
    ('put', 2),
    ('put', 3),
    ('put', 4),
    ('delete', 1),
    ('put', 5),
])
def test_whatever_fails_commits_nothing_and_the_next_save_works(
        tmp_path, monkeypatch, caplog, error, verb, nth):
    backend = Armed(LocalBackend(str(tmp_path)), error, verb, nth)
    found = train_on(backend, tmp_path, monkeypatch)
    assert backend.count >= nth
    assert found == ['iter_2.dcp', 'iter_6.dcp']
    assert 'iter_4.dcp was not saved' in caplog.text
    assert 'What was committed before is unchanged' in caplog.text
    # what it left went with the next save
    assert not (tmp_path / 'iter_4.dcp').exists()
    assert os.readlink(tmp_path / 'latest.dcp') == 'iter_6.dcp'


def test_metadata_is_written_last_and_deleted_first(tmp_path, monkeypatch):
    backend = FaultyBackend(LocalBackend(str(tmp_path)))
    train_on(backend, tmp_path, monkeypatch, 4, max_keep_ckpts=1)
    calls = backend.calls
    inside = [
        call for call in calls if call.split()[0] in ('put', 'delete') and any(
            name in call
            for name in ('.metadata', 'writing', 'distcp', 'rest', 'manifest'))
    ]
    one_save = [
        'put writing', 'put __0_0.distcp', 'put rest.zip', 'put manifest.json',
        'put .metadata', 'delete writing'
    ]
    assert inside[:6] == inside[6:12] == one_save
    assert inside[12:14] == ['put writing', 'delete .metadata']
    assert inside[-1] == 'delete writing' and len(inside) > 16
    # and only when the new one is known
    assert calls.index('put checkpoints.json') < calls.index(
        'delete .metadata')


def test_no_space_makes_room_as_for_a_file(tmp_path, monkeypatch, caplog):
    put, failed = LocalBackend.put, []

    def put_once(self, name, write):
        if name == 'rest.zip' and self.url.endswith('iter_6.dcp') and \
                not failed:
            failed.append(name)
            raise OutOfSpaceError('full')
        return put(self, name, write)

    monkeypatch.setattr(LocalBackend, 'put', put_once)
    train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=6),
        hooks=sharded(max_keep_ckpts=2))
    assert 'No space for iter_6.dcp: deleted iter_2.dcp' in caplog.text
    assert 'was not saved' not in caplog.text and failed
    assert sorted(path.name for path in tmp_path.glob('iter_*')) == \
        ['iter_4.dcp', 'iter_6.dcp']


def test_a_rank_that_comes_late_replaces_nothing(tmp_path):
    files = LocalBackend(str(tmp_path))
    inside = files.folder('iter_2.dcp')
    inside.prepare()
    inside.put('writing', lambda stream: stream.write(b'new'))
    inside.put('__1_0.distcp', lambda stream: stream.write(b'of the new one'))
    late = live_state([torch.zeros(3)], None)
    with pytest.raises(StorageError, match='written by another save'):
        write_part(files, 'iter_2.dcp', 1, late, 'old', lambda nbytes: None)
    inside.delete('writing')  # committed meanwhile
    with pytest.raises(MissingCheckpointError):
        write_part(files, 'iter_2.dcp', 1, late, 'new', lambda nbytes: None)
    with inside.open('__1_0.distcp') as file:
        assert file.read() == b'of the new one'


def test_another_runs_folder_is_kept_under_another_name(tmp_path, caplog):
    train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        hooks=sharded())
    before = (tmp_path / 'iter_2.dcp' / 'manifest.json').read_bytes()
    train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=sharded())
    assert 'iter_2.dcp belongs to another run; that one is kept as' in \
        caplog.text
    kept, = tmp_path.glob('iter_2.dcp.*')
    assert (kept / 'manifest.json').read_bytes() == before
    verify_checkpoint(str(kept))
    assert (tmp_path / 'iter_2.dcp' / 'manifest.json').read_bytes() != before
    verify_checkpoint(str(tmp_path / 'iter_2.dcp'))


def test_a_plan_is_made_once_while_nothing_changes(tmp_path, monkeypatch):
    made = []
    united = planning.Planner.united

    def counted(planner, plans):
        made.append(len(plans[0].items))
        return united(planner, plans)

    monkeypatch.setattr(planning.Planner, 'united', counted)
    train(tmp_path, hooks=sharded())
    assert len(made) == 1
    # a new tensor, and the plan is another
    made.clear()

    class Grows(torch.optim.SGD):

        def step(self, closure=None):
            super().step(closure)
            for group in self.param_groups:
                for one in group['params']:
                    self.state[one].setdefault('count', torch.zeros(1))

    model = make_runner(tmp_path).model
    runner = make_runner(
        tmp_path / 'other',
        model=model,
        optimizer=Grows(model.parameters(), lr=0.1, momentum=0.9),
        hooks=sharded())
    optimizer = runner.optimizer
    save = boundary.Boundary.request

    def grown(self, *arguments):
        if self.iter == 6:
            for state in optimizer.state.values():
                state['late'] = torch.zeros(2)
        return save(self, *arguments)

    monkeypatch.setattr(boundary.Boundary, 'request', grown)
    runner.run([make_loader()], [('train', 1)])
    assert len(made) == 2 and made[1] > made[0]


def test_a_share_of_memory_is_one_of_what_there_was_before_any_copy(
        monkeypatch):
    available = [400]
    monkeypatch.setattr(
        'mmcv_ckpt_hooks.sharded.sharding.available_memory_bytes',
        lambda: available[0])

    def gather(value):
        available[0] = 70  # others copy from here on
        return [value]

    runner = SimpleNamespace(model=ToyModel(), optimizer=None, data_state=dict)
    sharding = Sharding(None, neighbours=4)
    with sharding.planned(runner, True, gather, None, False):
        assert sharding.room() == 100
    with sharding.planned(runner, True, gather, ['alone'], False):
        assert sharding.room() == 70


class Unreadable(torch.optim.SGD):

    def state_dict(self):
        raise ValueError('no state')


def test_what_cannot_be_planned_alone_fails_as_a_save():
    model = ToyModel()
    runner = SimpleNamespace(
        model=model, optimizer=Unreadable(model.parameters(), lr=0.1))
    sharding = Sharding(None)
    with sharding.planned(runner, True, None, ['known'], False) as ranks:
        assert ranks == ['known']
        assert sharding.begin() == {}
        with pytest.raises(CheckpointError, match='ValueError: no state'):
            sharding.state()


def test_ls_lists_folders_and_says_which_is_damaged(tmp_path, capsys):
    train(tmp_path, hooks=sharded())
    (tmp_path / 'iter_4.dcp' / 'rest.zip').unlink()
    assert main(['ls', str(tmp_path)]) == 0
    told = capsys.readouterr().out
    rows = {
        line.split()[0]: line
        for line in told.splitlines() if line.startswith('iter_')
    }
    assert sorted(rows) == [f'iter_{step}.dcp' for step in (2, 4, 6, 8)]
    assert 'damaged' in rows['iter_4.dcp']
    assert 'latest' in rows['iter_8.dcp'] and ' kB' in rows['iter_8.dcp']


def test_only_what_a_save_has_marked_is_swept(tmp_path):
    train(tmp_path, hooks=sharded())
    files, told = LocalBackend(str(tmp_path)), []
    (tmp_path / 'iter_4.dcp' / '.metadata').unlink()
    (tmp_path / 'iter_4.dcp' / 'writing').write_bytes(b'a token')
    # a copy of the files one by one
    (tmp_path / 'iter_2.dcp' / '.metadata').unlink()
    # what another program is writing, and has begun
    (tmp_path / 'own.dcp').mkdir()
    (tmp_path / 'own.dcp' / '__0_0.distcp').write_bytes(b'half')
    (tmp_path / 'empty.dcp').mkdir()
    assert folder.unfinished(files) == ['iter_4.dcp']
    assert not folder.is_there(files, 'iter_4.dcp')
    assert folder.sweep_folders(files, told.append) == ['iter_4.dcp']
    assert not (tmp_path / 'iter_4.dcp').exists()
    assert folder.is_there(files, 'iter_6.dcp')
    assert (tmp_path / 'own.dcp' / '__0_0.distcp').exists()
    assert (tmp_path / 'iter_2.dcp' / 'manifest.json').exists()
    assert len(told) == 1 and 'iter_2.dcp' in told[0]


def test_what_a_kill_leaves_besides_unfinished_folders_goes(tmp_path):
    """Between two steps of a save or a removal."""
    train(tmp_path, hooks=sharded())
    for name in ('old.dcp', 'young.dcp'):
        (tmp_path / name).mkdir()
    half = tmp_path / 'iter_2.dcp' / '.writing.tmp-1-2-3'
    half.write_bytes(b'half')
    for path in (half, tmp_path / 'old.dcp'):
        os.utime(path, (0, 0))
    mark = tmp_path / 'iter_4.dcp' / 'writing'
    mark.write_bytes(b'a token')
    files = LocalBackend(str(tmp_path))
    assert files.sweep() == ['iter_2.dcp/.writing.tmp-1-2-3', 'old.dcp']
    assert folder.sweep_folders(files, pytest.fail) == []
    assert not half.exists() and not mark.exists()
    # somebody may just have made it
    assert (tmp_path / 'young.dcp').exists()
    for step in (2, 4, 6, 8):
        verify_checkpoint(str(tmp_path / f'iter_{step}.dcp'))


def test_a_save_takes_the_place_of_an_empty_folder(tmp_path):
    half = tmp_path / 'iter_4.dcp' / '.writing.tmp-1-2-3'
    half.parent.mkdir()
    half.write_bytes(b'half')
    train(tmp_path, hooks=sharded())
    assert not half.exists()
    verify_checkpoint(str(tmp_path / 'iter_4.dcp'))


@pytest.mark.parametrize('verbs', range(1, 7))
def test_a_removal_that_is_cut_off_is_finished_by_the_next_start(
        tmp_path, verbs):
    train(tmp_path, hooks=sharded())
    backend, error = FaultyBackend(LocalBackend(str(tmp_path))), StorageError
    left = [verbs]

    class Dies(FaultyBackend):

        def _enter(self, verb, *names):
            if verb in ('put', 'delete'):
                left[0] -= 1
                if left[0] < 0:
                    raise error('dead')
            return None

        def folder(self, name):
            return Dies(self.inner.folder(name))

    with pytest.raises(error):
        folder.remove(Dies(backend.inner), 'iter_4.dcp')
    files = LocalBackend(str(tmp_path))
    if (tmp_path / 'iter_4.dcp' / '.metadata').exists():
        verify_checkpoint(str(tmp_path / 'iter_4.dcp'))
    elif (tmp_path / 'iter_4.dcp' / 'writing').exists():
        assert folder.sweep_folders(files, pytest.fail) == ['iter_4.dcp']
        assert not (tmp_path / 'iter_4.dcp').exists()
    else:
        assert not list((tmp_path / 'iter_4.dcp').iterdir())


@pytest.mark.parametrize('way', ['resume', 'runner'])
def test_the_rest_alone_is_no_checkpoint(tmp_path, way):
    train(tmp_path / 'run', hooks=sharded())
    rest = str(tmp_path / 'run' / 'iter_8.dcp' / 'rest.zip')
    hooks = sharded(resume=rest) if way == 'resume' else sharded()
    runner = make_runner(
        tmp_path / 'other',
        runner=dict(type='IterBasedRunnerAmp', max_iters=9),
        hooks=hooks)
    with pytest.raises(ResumeError, match='part of a sharded checkpoint'):
        if way == 'resume':
            runner.run([make_loader()], [('train', 1)])
        else:
            runner.resume(rest)


def moved(work_dir, archive, name):
    """Move a folder away; a link is left in its place."""
    archive.mkdir()
    os.rename(work_dir / name, archive / name)
    (work_dir / name).symlink_to(archive / name)


def test_a_folder_behind_a_link_is_resumed_from(tmp_path, caplog):
    train(tmp_path, hooks=sharded())
    moved(tmp_path, tmp_path / 'archive', 'iter_8.dcp')
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=10),
        hooks=sharded(resume='auto'))
    runner.run([make_loader()], [('train', 1)])
    assert 'Resumed from' in caplog.text and 'iter_8.dcp' in caplog.text
    assert find_resumable(tmp_path) == str(tmp_path / 'iter_10.dcp')


@pytest.mark.parametrize('resume', ['auto', None])
@pytest.mark.parametrize('keeps_catalog', [True, False])
def test_what_a_link_leads_to_is_never_touched(tmp_path, keeps_catalog,
                                               resume):
    """By retention of the run that goes on, or by a new one's save."""
    run = tmp_path / 'run'
    train(
        run,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=sharded())
    archive = tmp_path / 'archive'
    moved(run, archive, 'iter_2.dcp')
    if not keeps_catalog:
        (run / 'checkpoints.json').unlink()
    before = sorted(path.name for path in (archive / 'iter_2.dcp').iterdir())
    train(run, hooks=sharded(resume=resume, keep=dict(last=1)))
    assert find_resumable(run) == str(run / 'iter_8.dcp')
    assert sorted(path.name
                  for path in (archive / 'iter_2.dcp').iterdir()) == before
    verify_checkpoint(str(archive / 'iter_2.dcp'))


def test_a_link_that_leads_nowhere_is_in_nobodys_way(tmp_path):
    (tmp_path / 'iter_4.dcp').symlink_to(tmp_path / 'unmounted' / 'iter_4.dcp')
    train(tmp_path, hooks=sharded())
    assert not (tmp_path / 'iter_4.dcp').is_symlink()
    verify_checkpoint(str(tmp_path / 'iter_4.dcp'))


@pytest.mark.parametrize('form', ['pth', 'dcp'])
def test_a_file_with_the_name_of_a_folder_is_nobodys(tmp_path, form, capsys):
    (tmp_path / 'notes.dcp').write_text('mine')
    train(tmp_path, hooks=sharded(format=form))
    assert find_resumable(tmp_path) == str(tmp_path / f'iter_8.{form}')
    assert main(['ls', str(tmp_path)]) == 0
    assert 'notes' not in capsys.readouterr().out
    assert (tmp_path / 'notes.dcp').read_text() == 'mine'


def test_an_object_with_the_name_of_a_folder_is_nobodys():
    files = MemoryBackend()
    files.put('notes.dcp', lambda stream: stream.write(b'mine'))
    catalog = Catalog(files, files, pytest.fail)
    catalog.open()
    assert not catalog.checkpoints()


def test_a_dead_folder_that_stays_stops_nobody(tmp_path, caplog):
    train(tmp_path, hooks=sharded())
    (tmp_path / 'iter_4.dcp' / '.metadata').unlink()
    (tmp_path / 'iter_4.dcp' / 'writing').write_bytes(b'a token')
    (tmp_path / 'iter_4.dcp' / '@eaDir').mkdir()
    train(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=10),
        hooks=sharded(resume='auto'))
    assert 'left of iter_4.dcp cannot be removed' in caplog.text
    assert find_resumable(tmp_path) == str(tmp_path / 'iter_10.dcp')


@pytest.mark.parametrize('whose', ['another run', 'torch'])
def test_what_came_during_a_run_is_not_replaced(tmp_path, whose, caplog):
    train(tmp_path / 'other', hooks=sharded())
    came = tmp_path / 'other' / 'iter_4.dcp'
    if whose == 'torch':
        for name in ('manifest.json', 'rest.zip'):
            (came / name).unlink()
    runner = make_runner(tmp_path / 'run', hooks=sharded())
    step = runner.model.train_step

    def bringing(*args, **kwargs):
        if runner.iter == 3:
            os.rename(came, tmp_path / 'run' / 'iter_4.dcp')
        return step(*args, **kwargs)

    runner.model.train_step = bringing
    before = sorted(path.name for path in came.iterdir())
    runner.run([make_loader()], [('train', 1)])
    assert 'iter_4.dcp belongs to another run' in caplog.text
    kept = tmp_path / 'run' / 'iter_4.dcp'
    assert sorted(path.name for path in kept.iterdir()) == before
    assert find_resumable(tmp_path / 'run') == \
        str(tmp_path / 'run' / 'iter_8.dcp')
