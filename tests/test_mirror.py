"""A second place for every committed checkpoint."""
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from types import SimpleNamespace

import pytest
from mmcv import Config
from mmcv.runner import Hook
from stock import best_has_a_place
from toy import ToyModel, make_loader, make_runner, names, train

from mmcv_ckpt_hooks import (executor, find_resumable, mirror, mirror_words,
                             mirroring, movement, starting, verify_checkpoint)
from mmcv_ckpt_hooks.catalog import Catalog
from mmcv_ckpt_hooks.errors import (AccessError, ConfigError, IntegrityError,
                                    LockedError, MissingCheckpointError,
                                    StorageError)
from mmcv_ckpt_hooks.history import HISTORY_NAME, History
from mmcv_ckpt_hooks.mirror_history import MirrorHistory
from mmcv_ckpt_hooks.mirror_log import MirrorLog
from mmcv_ckpt_hooks.mirror_words import is_inside
from mmcv_ckpt_hooks.mirroring import MirrorPlace
from mmcv_ckpt_hooks.retention import KeepLast
from mmcv_ckpt_hooks.storage import open_backend
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.testing.faulty import Fault, FaultyBackend
from mmcv_ckpt_hooks.testing.memory import MemoryBackend
from mmcv_ckpt_hooks.types import Capabilities, CheckpointInfo

HERE = os.path.dirname(os.path.abspath(__file__))
ANY = 'mirror://second'


@pytest.fixture
def dirs(tmp_path):
    """A work dir, the root of its mirror and the mirror."""
    root = tmp_path / 'second'
    return tmp_path / 'first' / 'run', root, root / 'run'


def run(work_dir, root, steps=8, keep=None, options=None, hooks=(), **hook):
    given = dict(type='DurableCheckpointHook', interval=2, resume='auto')
    if root is not None:
        given['mirror'] = dict(url=str(root), keep=keep, **(options or {}))
    return train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        hooks=[dict(given, **hook), *hooks])


def evaluated(work_dir, root, scores, steps=8, keep=None, own=None, **hook):
    return train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        evaluation=dict(
            scores=scores, interval=2, by_epoch=False, save_best='mIoU'),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                resume='auto',
                keep=own,
                mirror=root and dict(url=str(root), keep=keep),
                **hook)
        ])


def opened(directory):
    backend = LocalBackend(str(directory))
    catalog = Catalog(backend, backend, lambda message: None)
    catalog.open()
    return catalog


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class OnIter(Hook):
    """Calls something when an iteration has ended, behind the save."""
    comes = 'VERY_LOW'

    def __init__(self, calls):
        self.calls = calls

    def after_train_iter(self, runner):
        self.calls.get(runner.iter + 1, lambda: None)()


class Storage(MemoryBackend):
    """As an object store: without links."""

    def __init__(self):
        super().__init__(
            Capabilities(
                stream_in=True,
                ranged_read=True,
                atomic_replace=True,
                listing=True,
                delete=True,
                server_copy=True,
                point=True), ANY)


class SlowStorage(Storage):
    """Takes no checkpoint before it is told to."""

    def __init__(self):
        super().__init__()
        self.goes_on = threading.Event()
        self.has_begun = threading.Event()
        self.order = []

    def put(self, name, write):

        def later(stream):
            if name.endswith('.pth'):
                self.has_begun.set()
                assert self.goes_on.wait(60)
                self.order.append(name)
            write(stream)

        return super().put(name, later)


@pytest.fixture
def stored(monkeypatch):
    """Use a backend of the test for URLs of ``mirror://``."""
    real, given = mirroring.open_backend, {}

    def open_backend(url, **options):
        return given['backend'] if str(url).startswith('mirror://') else real(
            url, **options)

    monkeypatch.setattr(mirroring, 'open_backend', open_backend)
    return lambda backend: given.update(backend=backend) or backend


@pytest.fixture
def impatient(monkeypatch):
    """The end of a run does not wait for a mirror whose copies fail."""
    monkeypatch.setattr(mirror, 'AWAY_SECS', 0.)


# -- every checkpoint ------------------------------------------------------


def test_what_is_committed_is_in_the_mirror_too(dirs, caplog):
    work_dir, root, there = dirs
    run(work_dir, root, max_keep_ckpts=2)
    assert names(there) == names(work_dir) == [
        'iter_6.pth', 'iter_8.pth', 'latest.pth'
    ]
    assert os.readlink(there / 'latest.pth') == 'iter_8.pth'
    first, second = opened(work_dir), opened(there)
    for info in first.checkpoints():
        assert second.find(info.name) == info
        assert (there / info.name).read_bytes() == \
            (work_dir / info.name).read_bytes()
        verify_checkpoint(there / info.name)
    assert find_resumable(there) == str(there / 'iter_8.pth')
    assert f'Copied checkpoint iter_8.pth to {there}: ' in caplog.text
    events = [
        json.loads(line)['event']
        for line in (there / 'checkpoints.log.jsonl').open()
    ]
    assert 'save' in events
    # as an out_dir
    again = run(
        work_dir.parent / 'other' / 'run', None, steps=10, out_dir=str(root))
    assert again.restored.iter == 8
    assert 'iter_10.pth' in names(there)


def test_a_mirror_has_a_retention_of_its_own(dirs):
    work_dir, root, there = dirs
    run(work_dir, root, steps=10, keep=dict(last=1, every=4), max_keep_ckpts=5)
    steps = 2, 4, 6, 8, 10
    assert set(names(work_dir)) == {
        'latest.pth', *(f'iter_{step}.pth' for step in steps)
    }
    assert names(there) == [
        'iter_10.pth', 'iter_4.pth', 'iter_8.pth', 'latest.pth'
    ]


def test_the_best_is_a_second_name_there_and_the_one_before_goes(dirs):
    work_dir, root, there = dirs
    evaluated(work_dir, root, [0.5, 0.9, 0.7, 0.6], max_keep_ckpts=1)
    expected = ['best_mIoU_iter_4.pth', 'iter_8.pth', 'latest.pth']
    assert names(work_dir) == names(there) == expected
    evaluated(work_dir, root, [0.95], steps=10, max_keep_ckpts=1)
    assert names(there) == [
        'best_mIoU_iter_10.pth', 'iter_10.pth', 'latest.pth'
    ]
    assert (there / 'iter_10.pth').samefile(there / 'best_mIoU_iter_10.pth')
    best = opened(there).best('mIoU')
    assert best == opened(work_dir).best('mIoU')
    assert (best.name, best.score) == ('best_mIoU_iter_10.pth', 0.95)
    assert opened(there).find('iter_10.pth').metrics['mIoU'] == 0.95


def test_the_mirror_keeps_the_best_by_the_scores_of_the_run(dirs):
    work_dir, root, there = dirs
    evaluated(
        work_dir,
        root, [0.5, 0.9, 0.7, 0.6, 0.1, 0.2],
        steps=12,
        keep=dict(last=1, best=2))
    assert len(names(work_dir)) == 8  # all
    assert names(there) == [
        'best_mIoU_iter_4.pth', 'iter_12.pth', 'iter_4.pth', 'iter_6.pth',
        'latest.pth'
    ]
    # its history knows what came and what went
    events = [
        json.loads(line) for line in (there / 'checkpoints.log.jsonl').open()
    ]
    left = set()
    for event in events:
        left |= {event['name']} if event['event'] in ('save', 'link') else \
            set()
        left -= set(event.get('deleted', ()))
    assert left == set(names(there)) - {'latest.pth'}


@pytest.mark.parametrize('both', [True, False])
def test_where_no_score_can_be_read_nothing_is_deleted_there(
        dirs, caplog, both):
    work_dir, root, there = dirs
    keep = dict(last=1, best=2)
    own = keep if both else None
    evaluated(work_dir, root, [dict(mIoU=[.9, .8])], 6, keep, own)
    assert names(there) == names(work_dir) == [
        'iter_2.pth', 'iter_4.pth', 'iter_6.pth', 'latest.pth'
    ]
    assert caplog.text.count(f'Nothing is deleted in {there}') == 1


def test_where_scores_are_lost_nothing_is_deleted_there(
        dirs, caplog, monkeypatch):
    work_dir, root, there = dirs
    keep = dict(last=1, best=1)
    evaluated(work_dir, root, [0.9, 0.5], steps=4, keep=keep)
    (there / 'best_mIoU_iter_2.pth').unlink()
    (there / 'checkpoints.json').unlink()

    def read(self, *_):
        raise PermissionError(self._path)

    monkeypatch.setattr(History, 'read', read)
    for name in ('iter_2.pth', 'best_mIoU_iter_2.pth'):
        (work_dir / name).unlink()
    evaluated(work_dir, root, [0.4], steps=6, keep=keep)
    assert 'iter_2.pth' in names(there)
    assert f'Nothing is deleted in {there}' in caplog.text


def test_the_best_there_goes_when_the_new_one_is_there(dirs):
    work_dir, root, there = dirs
    evaluated(work_dir, root, [0.5, 0.9], steps=4, max_keep_ckpts=1)
    before = opened(there)
    evaluated(work_dir, None, [0.95], steps=6, max_keep_ckpts=1)
    now = opened(work_dir)
    place = MirrorPlace(str(there), KeepLast(1), print, print)
    place.open()
    now.started_iter = 4
    place.begin(now)
    place.follow(now)
    assert place.catalog.best('mIoU') == before.best('mIoU')
    for info in place.missing(now):
        place.add(info, LocalBackend(str(work_dir)), lambda nbytes: None)
        assert any(name.startswith('best_') for name in names(there))
        place.follow(now)
    assert names(there) == ['best_mIoU_iter_6.pth', 'iter_6.pth', 'latest.pth']


def test_a_lost_catalog_there_gets_its_scores_from_the_history(dirs):
    work_dir, root, there = dirs
    evaluated(work_dir, root, [0.5, 0.9], steps=4)
    before = opened(there)
    (there / 'checkpoints.json').unlink()
    again = opened(there)
    assert again.find('iter_4.pth').metrics == \
        before.find('iter_4.pth').metrics != {}
    assert again._best.all() == before._best.all() != []


def test_what_is_copied_with_its_scores_has_them_in_the_history_too(dirs):
    """A mirror that was given later: the scores were known before the copy."""
    work_dir, root, there = dirs
    evaluated(work_dir, None, [0.5, 0.9], steps=4)
    run(work_dir, root, steps=4)
    (there / 'checkpoints.json').unlink()
    for step, score in ((2, 0.5), (4, 0.9)):
        found = opened(there).find(f'iter_{step}.pth')
        assert found.metrics['mIoU'] == score
    events = History(str(there)).read()
    assert {
        one['name']: one['event']
        for one in events if one['event'] in ('save', 'link')
    } == {
        'iter_2.pth': 'save',
        'iter_4.pth': 'save',
        'best_mIoU_iter_4.pth': 'link'
    }


def test_a_history_that_cannot_be_written_there_is_told_once(dirs, caplog):
    work_dir, root, there = dirs
    (there / HISTORY_NAME).mkdir(parents=True)
    run(work_dir, root)
    assert names(there) == names(work_dir)
    assert caplog.text.count(f'Could not write the history of {there}') == 1
    assert 'falls behind' not in caplog.text


def test_a_file_of_another_run_is_kept_there_under_another_name(dirs):
    work_dir, root, there = dirs
    run(work_dir, root, steps=2)
    foreign = (there / 'iter_2.pth').read_bytes()
    shutil.rmtree(work_dir)
    run(work_dir, root, steps=2, resume=None)
    aside = [path for path in there.iterdir() if 'iter_2.pth.' in path.name]
    assert [path.read_bytes() for path in aside] == [foreign]
    assert (there / 'iter_2.pth').read_bytes() == \
        (work_dir / 'iter_2.pth').read_bytes()


# -- beside training -------------------------------------------------------


def test_training_never_waits_and_the_newest_is_copied_first(
        dirs, stored, caplog):
    work_dir, _, _ = dirs
    backend = stored(SlowStorage())

    def check():
        assert backend.has_begun.wait(60)
        # the one under way was deleted here
        assert 'iter_2.pth' not in names(work_dir)

    # every save is committed before the first copy is
    run(work_dir,
        ANY,
        max_keep_ckpts=2,
        write=dict(background=False),
        hooks=[
            OnIter({
                2: lambda: backend.has_begun.wait(60),
                9: check,
                10: backend.goes_on.set
            })
        ],
        steps=10)
    assert backend.order == ['iter_2.pth', 'iter_10.pth', 'iter_8.pth']
    assert sorted(name for name in backend.files
                  if name.endswith('.pth')) == ['iter_10.pth', 'iter_8.pth']
    assert backend.files['last_checkpoint'] == b'iter_10.pth\n'


def test_what_the_mirror_would_delete_at_once_is_not_copied(dirs, stored):
    work_dir, _, _ = dirs
    backend = stored(SlowStorage())
    run(work_dir,
        ANY,
        keep=dict(last=1),
        write=dict(background=False),
        hooks=[
            OnIter({
                2: lambda: backend.has_begun.wait(60),
                8: backend.goes_on.set
            })
        ])
    assert backend.order == ['iter_2.pth', 'iter_8.pth']
    assert [name for name in backend.files
            if name.endswith('.pth')] == ['iter_8.pth']


class Between(OnIter):
    """Behind the save, before the evaluation."""
    comes = 60


def test_a_score_that_comes_during_the_copy_is_not_lost(dirs, stored):
    work_dir, _, _ = dirs
    backend = stored(SlowStorage())
    train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=8),
        evaluation=dict(
            scores=[.8, .9, .1, .2],
            interval=2,
            by_epoch=False,
            save_best='mIoU'),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=2,
                max_keep_ckpts=1,
                write=dict(background=False),
                mirror=dict(url=ANY, keep=dict(last=1, best=2))),
            Between({2: lambda: backend.has_begun.wait(60)}),
            OnIter({4: backend.goes_on.set})
        ])
    assert 'iter_2.pth' not in names(work_dir)
    catalog = Catalog(backend, backend, print)
    catalog.open()
    assert catalog.find('iter_2.pth').metrics == dict(mIoU=.8)


def test_a_dead_mirror_is_told_once_and_catches_up(dirs, stored, caplog,
                                                   monkeypatch):
    work_dir, _, _ = dirs
    inner = Storage()
    backend = stored(FaultyBackend(inner))
    away = Fault('put', StorageError('connection refused'), times=None)
    pauses = []

    def later(secs, call):
        pauses.append(secs)
        return lambda: None

    monkeypatch.setattr(mirror, 'call_later', later)
    run(work_dir,
        ANY,
        max_keep_ckpts=2,
        on_error='raise',
        hooks=[
            OnIter({
                1: lambda: backend.faults.append(away),
                7: backend.faults.clear
            })
        ])
    assert sorted(inner.files) == [
        'checkpoints.json', 'checkpoints.log.jsonl', 'iter_6.pth',
        'iter_8.pth', 'last_checkpoint'
    ]
    warned = [
        record.message for record in caplog.records
        if 'falls behind' in record.message
    ]
    assert len(warned) == 1
    assert ANY in warned[0] and 'connection refused' in warned[0]
    assert 'iter_' in warned[0]
    assert caplog.text.count('has caught up') == 1


def test_a_damaged_checkpoint_is_named_and_not_copied(dirs, caplog):
    work_dir, root, there = dirs
    run(work_dir, None, steps=6)
    flip_a_bit(work_dir / 'iter_4.pth')
    run(work_dir, root, steps=8)
    assert names(there) == [
        'iter_2.pth', 'iter_6.pth', 'iter_8.pth', 'latest.pth'
    ]
    told = [
        record.message for record in caplog.records
        if 'iter_4.pth is not copied' in record.message
    ]
    assert len(told) == 1 and 'is damaged' in told[0]


def test_every_flipped_bit_of_a_record_is_seen_on_the_way(dirs):
    work_dir, root, there = dirs
    run(work_dir, None, steps=2)
    path = work_dir / 'iter_2.pth'
    good = path.read_bytes()
    source, run_catalog = LocalBackend(str(work_dir)), opened(work_dir)
    place = MirrorPlace(str(there), KeepLast(None), print, print)
    place.open()
    place.begin(run_catalog)
    info = run_catalog.find('iter_2.pth')
    found = 0
    for at in range(0, len(good), len(good) // 50):
        content = bytearray(good)
        content[at] ^= 1
        path.write_bytes(content)
        try:
            place.add(info, source, lambda nbytes: None)
        except IntegrityError as error:
            found += 1
            assert 'iter_2.pth' in str(error)
            assert not (there / 'iter_2.pth').exists()
        else:
            # padding, or what no reader looks at
            verify_checkpoint(path)
            (there / 'iter_2.pth').unlink()
    assert found > 30


# -- the end of a run, and the next start ----------------------------------


class InTurn(Storage):
    """Takes each of two checkpoints when it is told to."""

    def __init__(self):
        super().__init__()
        both = 'iter_2.pth', 'iter_4.pth'
        self.has_begun = {name: threading.Event() for name in both}
        self.goes_on = {name: threading.Event() for name in both}

    def put(self, name, write):
        if name in self.goes_on:
            self.has_begun[name].set()
            assert self.goes_on[name].wait(60)
        return super().put(name, write)


def test_what_is_pending_at_the_end_is_finished_with_progress(
        dirs, stored, caplog, monkeypatch):
    work_dir, _, _ = dirs
    backend = stored(InTurn())
    monkeypatch.setattr(mirror, '_SAID_FIRST_SECS', 0.)
    real = mirror.Mirror._say_progress

    def say(self):
        backend.goes_on['iter_2.pth'].set()
        assert backend.has_begun['iter_4.pth'].wait(60)
        real(self)
        backend.goes_on['iter_4.pth'].set()

    monkeypatch.setattr(mirror.Mirror, '_say_progress', say)
    train(
        work_dir,
        model=ToyModel(width=20000),
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[
            dict(
                type='DurableCheckpointHook', interval=2,
                mirror=dict(url=ANY)),
            OnIter({3: lambda: backend.has_begun['iter_2.pth'].wait(60)})
        ])
    one, other = ((work_dir / f'iter_{step}.pth').stat().st_size / 1e6
                  for step in (2, 4))
    assert one > 1
    assert 'iter_4.pth is still to be copied, ' \
        f'{one:.1f} of {one + other:.1f} MB are there' in caplog.text
    for name in ('iter_2.pth', 'iter_4.pth'):
        assert backend.files[name] == (work_dir / name).read_bytes()


class Hanging(Storage):
    """Its catalog is not written before it is told to."""

    def __init__(self):
        super().__init__()
        self.goes_on = threading.Event()
        self.has_begun = threading.Event()
        self.was_waited_for = False

    def put(self, name, write):
        if name == 'checkpoints.json':
            self.has_begun.set()
            self.was_waited_for = not self.goes_on.wait(20)
        return super().put(name, write)


def test_a_catalog_that_is_not_written_does_not_keep_a_run(
        dirs, stored, caplog, monkeypatch):
    work_dir, _, _ = dirs
    backend = stored(Hanging())
    monkeypatch.setattr(mirror, '_SAID_FIRST_SECS', 0.)
    real = mirror.Mirror._say_progress

    def say(self):
        real(self)
        monkeypatch.setattr(mirror, 'STALLED_SECS', 0.)

    monkeypatch.setattr(mirror.Mirror, '_say_progress', say)
    run(work_dir,
        ANY,
        steps=6,
        write=dict(background=False),
        hooks=[OnIter({3: lambda: backend.has_begun.wait(20)})])
    assert not backend.was_waited_for
    backend.goes_on.set()
    left = 'iter_6.pth, iter_4.pth, iter_2.pth are'
    assert f'{left} still to be copied' in caplog.text
    assert f'{left} not copied. The next start' in caplog.text


def test_a_ctrl_c_at_the_end_leaves_at_once(dirs, stored, monkeypatch):
    work_dir, _, _ = dirs
    backend = stored(SlowStorage())
    monkeypatch.setattr(mirror, '_SAID_FIRST_SECS', 0.)

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(mirror.Mirror, '_say_progress', interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(work_dir, ANY, steps=4)
    assert names(work_dir) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']
    backend.goes_on.set()


def test_a_dead_mirror_does_not_keep_a_run_and_the_next_start_takes_it_up(
        dirs, stored, caplog, impatient):
    work_dir, root, there = dirs
    inner = Storage()
    backend = stored(FaultyBackend(inner))
    away = Fault('put', StorageError('no route'), times=None)
    run(work_dir,
        ANY,
        steps=4,
        hooks=[OnIter({1: lambda: backend.faults.append(away)})])
    assert not [name for name in inner.files if name.startswith('iter_')]
    assert f'"mmcv-ckpt push {work_dir}"' in caplog.text
    backend.faults.clear()
    caplog.clear()
    run(work_dir, ANY, steps=4)
    assert 'beginning with iter_4.pth, iter_2.pth of an earlier start' in \
        caplog.text
    assert 'iter_4.pth' in inner.files and 'iter_2.pth' in inner.files


class Refuser(Storage):
    """Takes all bytes, then refuses them; in step with who waits."""

    def __init__(self):
        super().__init__()
        self.looked = threading.Event()
        self.looked.set()
        self.now = 0.
        self.tries = 0

    def clock(self):
        if threading.current_thread() is threading.main_thread() and \
                not self.looked.is_set():
            self.now += 6.
            self.looked.set()
        return self.now

    def put(self, name, write):

        def refuse(stream):
            write(stream)
            self.tries += 1
            self.looked.clear()
            assert self.looked.wait(60)
            if self.tries < 30:
                raise StorageError('the token has expired')

        return super().put(name, refuse if name.endswith('.pth') else write)


def test_bytes_that_are_sent_again_are_no_movement(dirs, stored, monkeypatch):
    work_dir, _, _ = dirs
    run(work_dir, None, steps=2)
    backend = stored(Refuser())
    monkeypatch.setattr(mirror, '_LOOK_SECS', 0.01)
    monkeypatch.setattr(movement, 'FIRST_PAUSE_SECS', 0.01)
    monkeypatch.setattr(movement, 'END_PAUSE_SECS', 0.01)
    place = MirrorPlace(ANY, KeepLast(None), print, print)
    warned = []
    mirror.Mirror(place, LocalBackend(str(work_dir)), opened(work_dir), print,
                  warned.append, backend.clock).finish()
    assert backend.tries < 30
    assert 'iter_2.pth is not copied' in warned[-1]


class Shaky(Storage):
    """Refuses checkpoints as told, one answer a try."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = list(answers)

    def put(self, name, write):
        if name.endswith('.pth') and not self.answers.pop(0):
            raise StorageError('502')
        return super().put(name, write)


def test_pauses_begin_anew_behind_a_copy(dirs, stored):
    work_dir, _, _ = dirs
    run(work_dir, None, steps=4)
    stored(Shaky(False, False, False, True, False, True))
    pauses, said = [], []

    def later(secs, call):
        pauses.append(secs)
        return executor.call_later(0., call)

    mirror.Mirror(
        MirrorPlace(ANY, KeepLast(None), print, print),
        LocalBackend(str(work_dir)),
        opened(work_dir),
        said.append,
        said.append,
        later=later).finish()
    assert len(pauses) == 4 and pauses[3] <= 2. < pauses[2]
    assert sum('falls behind' in one for one in said) == 1
    assert sum('has caught up' in one for one in said) == 1


def test_a_thread_that_cannot_be_started_is_started_later(
        dirs, stored, monkeypatch):
    work_dir, _, _ = dirs
    run(work_dir, None, steps=2)
    backend, warned = stored(Storage()), []
    one = mirror.Mirror(
        MirrorPlace(ANY, KeepLast(None), print, print),
        LocalBackend(str(work_dir)), opened(work_dir), print, warned.append)

    def submit(job):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(one._executor, 'submit', submit)
        one.wake()
    assert len(warned) == 1 and "can't start new thread" in warned[0]
    one.finish()
    assert 'iter_2.pth' in backend.files


class Lost(Storage):
    """What was begun there is not found any more."""

    def put(self, name, write):
        if name.endswith('.pth'):
            raise MissingCheckpointError('404: no such upload')
        return super().put(name, write)


def test_what_is_missing_in_the_mirrors_own_place_is_a_failure(
        dirs, stored, caplog, impatient):
    work_dir, _, _ = dirs
    stored(Lost())
    run(work_dir, ANY, steps=2)
    assert 'falls behind: iter_2.pth is not there (Missing' in caplog.text
    assert '404: no such upload' in caplog.text
    assert 'iter_2.pth is not copied. The next start' in caplog.text


class Repeating(Storage):
    """Has everything written twice, as after a lost connection."""

    def put(self, name, write):
        super().put(name, write)
        return super().put(name, write)


def test_what_is_written_anew_counts_once(dirs, stored):
    work_dir, _, _ = dirs
    run(work_dir, None, steps=2)
    stored(Repeating())
    place = MirrorPlace(ANY, KeepLast(None), print, print)
    place.open()
    run_catalog = opened(work_dir)
    place.begin(run_catalog)
    info = run_catalog.find('iter_2.pth')
    sent = []
    place.add(info, LocalBackend(str(work_dir)), sent.append)
    assert sent == [info.bytes, -info.bytes, info.bytes]


def test_a_mirror_that_is_away_at_the_start_is_opened_later(
        dirs, stored, caplog):
    work_dir, _, _ = dirs
    inner = Storage()
    backend = stored(
        FaultyBackend(inner, [Fault('prepare', StorageError('no route'))]))
    run(work_dir, ANY, steps=4, resume=None)
    assert f'Mirror {ANY} cannot be reached (no route)' in caplog.text
    assert inner.prepared
    assert 'iter_4.pth' in inner.files
    assert backend.calls.count('prepare') == 2


def test_starts_that_the_run_does_not_know_keep_a_late_mirror_out(
        dirs, stored, caplog):
    work_dir, _, _ = dirs
    backend = stored(FaultyBackend(Storage()))
    run(work_dir, ANY, steps=4)
    run(work_dir, ANY, steps=6)
    for name in ('iter_6.pth', 'latest.pth'):
        (work_dir / name).unlink()
    before = dict(backend.inner.files)
    backend.faults.append(Fault('prepare', StorageError('no route')))
    backend._counts.clear()
    run(work_dir, ANY, steps=8)
    assert backend.inner.files == before
    assert caplog.text.count('only the next start can count on') == 1
    # which does
    run(work_dir, ANY, steps=10)
    assert 'iter_10.pth' in backend.inner.files


def test_that_a_mirror_is_away_is_said_once(dirs, stored, caplog, impatient):
    work_dir, _, _ = dirs
    stored(
        FaultyBackend(
            Storage(),
            [Fault('prepare', StorageError('no route'), times=None)]))
    run(work_dir, ANY, steps=4, resume=None)
    assert caplog.text.count('no route') == 1
    assert 'checkpoints are copied there' not in caplog.text
    assert 'iter_4.pth, iter_2.pth are not copied, as far as is known: the ' \
        'mirror could not be looked at. The next start' in caplog.text
    assert ': iter_4.pth, iter_2.pth are not there, as far as is known: ' in \
        caplog.text


def test_what_retention_deleted_meanwhile_is_not_said_to_be_missing(
        dirs, stored, caplog, impatient):
    work_dir, _, _ = dirs
    run(work_dir, None, steps=4, max_keep_ckpts=1)
    stored(
        FaultyBackend(
            Storage(),
            [Fault('prepare', StorageError('no route'), times=None)]))
    run(work_dir, ANY, steps=8, max_keep_ckpts=1)
    assert 'deleted iter_4.pth' in caplog.text
    assert f'{ANY}: iter_8.pth is not copied, as far' in caplog.text


def test_a_path_below_a_file_stops_the_start(dirs):
    work_dir, root, there = dirs
    root.write_bytes(b'')
    with pytest.raises(StorageError, match='Not a directory'):
        run(work_dir, root)
    with pytest.raises(StorageError, match='cannot create'):
        run(work_dir, root / 'below')
    assert not list(work_dir.glob('iter_*'))


def test_a_mirror_on_the_same_disk_is_said(dirs, caplog):
    work_dir, root, there = dirs
    run(work_dir, root, steps=2)
    said = f'Mirror {there} is on the same disk as {work_dir}'
    assert caplog.text.count(said) == 1


def test_push_is_named_where_it_can_push(dirs, stored):
    stored(Storage())
    place = MirrorPlace(ANY, KeepLast(None), print, print)
    for source, named in (('/a/run', True), ('s3://b/run', False)):
        said = []
        log = MirrorLog(place, source, said.append, said.append)
        log.not_copied(None)
        assert (f'"mmcv-ckpt push {source}"' in said[0]) is named
        log.behind([], StorageError('no route'))
        assert 'falls behind: it cannot be used (StorageError' in said[1]


@pytest.mark.parametrize('error', [
    AccessError('403: not allowed'),
    LockedError('in use'),
])
def test_a_mirror_that_refuses_stops_the_start(dirs, stored, error):
    work_dir, _, _ = dirs
    stored(FaultyBackend(Storage(), [Fault('prepare', error)]))
    with pytest.raises(type(error), match=str(error)):
        run(work_dir, ANY)
    assert not [name for name in os.listdir(work_dir) if 'iter_' in name]


def test_two_runs_do_not_share_a_local_mirror(dirs, tmp_path):
    work_dir, root, there = dirs
    other = tmp_path / 'third' / 'run'

    def second():
        with pytest.raises(LockedError, match='in use by another run'):
            run(other, root)

    thread = threading.Thread(target=second)

    def beside():
        thread.start()
        thread.join()

    run(work_dir, root, steps=4, hooks=[OnIter({3: beside})])
    assert not other.joinpath('iter_2.pth').exists()


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT'])
def test_a_second_signal_leaves_while_the_mirror_is_waited_for(dirs, name):
    work_dir, root, there = dirs
    ended = subprocess.run(
        [sys.executable, f'{HERE}/mirror_worker.py', work_dir, root, name],
        stdout=subprocess.PIPE,
        timeout=120)
    assert ended.returncode == -getattr(signal, name)
    assert ended.stdout.count(b'WAITING') == 1
    assert names(work_dir) == ['iter_2.pth', 'iter_3.pth', 'latest.pth']
    verify_checkpoint(work_dir / 'iter_3.pth')
    assert names(there) == []


@pytest.fixture
def waited(monkeypatch):
    """Whether an end has waited for the copies, which it lets go on then."""
    found = []
    monkeypatch.setattr(mirror, '_SAID_FIRST_SECS', 0.)

    def say(self):
        found.append(self)
        self._place.backend.goes_on.set()

    monkeypatch.setattr(mirror.Mirror, '_say_progress', say)
    return found


def test_an_exception_does_not_wait_for_copies(dirs, stored, caplog, waited):
    work_dir, _, _ = dirs
    backend = stored(SlowStorage())

    def fail():
        raise RuntimeError('out of memory')

    with pytest.raises(RuntimeError, match='out of memory'):
        run(work_dir, ANY, hooks=[OnIter({3: fail})])
    assert not waited and not backend.goes_on.is_set()
    assert 'not copied. The next start of this run does it' in caplog.text
    backend.goes_on.set()
    again = run(work_dir, ANY, steps=4)
    assert again.restored.iter == 3
    for name in ('iter_2.pth', 'iter_4.pth'):
        assert backend.files[name] == (work_dir / name).read_bytes()


@pytest.mark.parametrize(
    'remote', [(), ('out_dir', ), ('out_dir', 'mirror')],
    ids=['none', 'out_dir', 'both'])
def test_the_next_start_does_not_wait_for_copies_of_a_stock_runner(
        dirs, monkeypatch, caplog, short_lease, remote):
    work_dir, root, _ = dirs
    goes_on, has_begun, late, seen = (threading.Event(), threading.Event(), [],
                                      [])
    if remote:
        pytest.importorskip('fsspec')
    if 'mirror' in remote:
        root = f'memory://{uuid.uuid4().hex}'
    there = open_backend(f'{root}/run')
    real = type(there).put

    def put(self, name, write):
        if self.url == there.url and name.endswith('.pth'):
            has_begun.set()
            late.append(not goes_on.wait(20))
        return real(self, name, write)

    monkeypatch.setattr(type(there), 'put', put)
    hook = dict(
        type='DurableCheckpointHook',
        interval=2,
        write=dict(background=False),
        mirror=dict(url=str(root)))
    if remote:
        hook.update(out_dir=f'memory://{uuid.uuid4().hex}')

    def fail():
        assert has_begun.wait(20)
        raise RuntimeError('out of memory')

    def start(steps, **calls):
        return train(
            work_dir,
            runner=dict(type='IterBasedRunner', max_iters=steps),
            hooks=[dict(hook, resume='auto'),
                   OnIter(calls['calls'])])

    with pytest.raises(RuntimeError, match='out of memory'):
        start(8, calls={3: fail})

    def look():
        seen.append((list(late), caplog.text))
        goes_on.set()

    again = start(6, calls={4: look})
    assert again.restored.iter == 3
    (waited, told), = seen
    assert not waited
    assert 'is not there yet is not copied. The next start of this' in told
    assert {one.name for one in there.list()} >= \
        {f'iter_{step}.pth' for step in (2, 4, 6)}


def test_the_end_of_a_copy_does_not_keep_the_next_start_out_of_a_store(
        dirs, monkeypatch, short_lease):
    """It takes the mirror again, to commit what it has sent."""
    pytest.importorskip('fsspec')
    work_dir, _, _ = dirs
    root = f'memory://{uuid.uuid4().hex}'
    there = open_backend(f'{root}/run')
    put, open_place = type(there).put, MirrorPlace.open
    is_sent, is_left, commits, ends = (threading.Event() for _ in range(4))

    def put_slowly(self, name, write):
        if self.url == there.url and is_left.is_set() and \
                not commits.is_set() and name == 'checkpoints.json':
            commits.set()
            assert ends.wait(60)
        result = put(self, name, write)
        if self.url == there.url and name == 'iter_2.pth':
            is_sent.set()
            assert is_left.wait(60)
        return result

    def open_late(self):
        if is_sent.is_set():
            is_left.set()
            assert commits.wait(60)
        try:
            open_place(self)
        finally:
            if is_sent.is_set():
                ends.set()

    monkeypatch.setattr(type(there), 'put', put_slowly)
    monkeypatch.setattr(MirrorPlace, 'open', open_late)

    def fail():
        assert is_sent.wait(60)
        raise RuntimeError('out of memory')

    def start(calls):
        return train(
            work_dir,
            runner=dict(type='IterBasedRunner', max_iters=6),
            hooks=[
                dict(
                    type='DurableCheckpointHook',
                    interval=2,
                    resume='auto',
                    mirror=dict(url=root)),
                OnIter(calls)
            ])

    with pytest.raises(RuntimeError, match='out of memory'):
        start({3: fail})
    start({})
    assert {one.name for one in there.list()} >= {'iter_4.pth', 'iter_6.pth'}


@pytest.mark.parametrize('step', ['resume_for_hooks', 'keep_best'])
def test_a_failed_start_does_not_wait_for_copies(dirs, stored, monkeypatch,
                                                 waited, step):
    work_dir, _, _ = dirs
    run(work_dir, None, steps=4)
    backend = stored(SlowStorage())

    def fail(*args):
        # here, not where the runner resumes
        if any(one.name == 'mmcv-ckpt-writer' and one not in before
               for one in threading.enumerate()):
            raise RuntimeError('no memory')

    before = threading.enumerate()
    with monkeypatch.context() as patch:
        patch.setattr(starting, step, fail)
        with pytest.raises(RuntimeError, match='no memory'):
            run(work_dir, ANY, steps=6)
    assert not waited and not backend.goes_on.is_set()
    backend.goes_on.set()
    # its thread has ended, and the directory is free for any other
    for one in threading.enumerate():
        if one.name == 'mmcv-ckpt-writer' and one not in before:
            one.join(10)
            assert not one.is_alive()
    thread = threading.Thread(target=run, args=(work_dir, ANY, 6))
    thread.start()
    thread.join()
    assert 'iter_6.pth' in backend.files


def test_a_runner_that_runs_again_has_its_mirror_again(dirs, stored,
                                                       monkeypatch):
    work_dir, _, _ = dirs
    backend = stored(SlowStorage())
    with monkeypatch.context() as patch:
        patch.setattr(mirror, 'STALLED_SECS', 0.)
        runner = run(work_dir, ANY, steps=2)
    assert not backend.order
    backend.goes_on.set()
    runner._max_iters = 4
    runner.run([make_loader()], [('train', 1)])
    assert 'iter_4.pth' in backend.files and 'iter_2.pth' in backend.files


# -- resume ----------------------------------------------------------------


def test_an_empty_disk_resumes_from_the_mirror(dirs, caplog):
    work_dir, root, there = dirs
    run(work_dir, root, steps=4)
    shutil.rmtree(work_dir)
    resumed = run(work_dir, root, steps=6)
    assert resumed.restored.iter == 4
    assert resumed.restored.directory == str(there)
    assert caplog.text.count('going on from there') == 1
    assert 'has iter_4.pth, newer than all in' in caplog.text
    assert names(work_dir) == ['iter_6.pth', 'latest.pth']
    assert names(there) == [
        'iter_2.pth', 'iter_4.pth', 'iter_6.pth', 'latest.pth'
    ]
    # a start of its own, although the catalog here knew of none
    assert opened(work_dir).find('iter_6.pth').generation == 1


def test_the_newer_of_both_is_taken_and_of_equal_ones_the_own(dirs):
    work_dir, root, there = dirs
    run(work_dir, root, steps=6)
    again = run(work_dir, root, steps=6)
    assert again.restored.directory == str(work_dir)
    for name in ('iter_6.pth', 'latest.pth'):
        (work_dir / name).unlink()
    again = run(work_dir, root, steps=8)
    assert again.restored.directory == str(there)
    assert again.restored.iter == 6


def test_the_mirror_of_another_run_is_not_resumed_from(dirs):
    work_dir, root, there = dirs
    run(work_dir, root, steps=8)
    shutil.rmtree(work_dir)
    run(work_dir, None, steps=4, resume=None)
    again = run(work_dir, root, steps=6)
    assert again.restored.directory == str(work_dir)
    assert again.restored.iter == 4


def test_what_the_run_has_given_up_is_not_resumed_from(dirs):
    work_dir, root, there = dirs
    run(work_dir, root, steps=8)
    for name in ('iter_6.pth', 'iter_8.pth', 'latest.pth'):
        (work_dir / name).unlink()
    # goes back to 4, without the mirror
    run(work_dir, None, steps=6)
    again = run(work_dir, root, steps=6)
    assert (again.restored.directory, again.restored.iter) == \
        (str(work_dir), 6)


@pytest.mark.parametrize('is_away', [False, True])
def test_an_explicit_path_goes_before_what_is_newer_in_the_mirror(
        dirs, stored, caplog, is_away):
    work_dir, _, _ = dirs
    backend = stored(FaultyBackend(Storage()))
    run(work_dir, ANY)
    before = dict(backend.inner.files)
    for name in ('iter_6.pth', 'iter_8.pth', 'latest.pth'):
        (work_dir / name).unlink()
    if is_away:
        backend.faults.append(Fault('prepare', StorageError('no route')))
        backend._counts.clear()
    again = run(
        work_dir,
        ANY,
        steps=6,
        keep=dict(last=1),
        resume=str(work_dir / 'iter_4.pth'))
    assert again.restored.iter == 4
    told = [
        record.message for record in caplog.records
        if f'{ANY} has iter_8.pth, iter_6.pth, newer than the 4 iterations' in
        record.message
    ]
    assert len(told) == 1 and 'replaced' in told[0]
    after = backend.inner.files
    assert after['iter_8.pth'] == before['iter_8.pth']
    assert after['iter_6.pth'] == (work_dir / 'iter_6.pth').read_bytes()
    # once: that was said
    run(work_dir, ANY, steps=8)
    assert caplog.text.count('newer than the') == 1


def test_a_damaged_newest_falls_back_to_the_other_place(dirs, caplog):
    work_dir, root, there = dirs
    run(work_dir, root, steps=6)
    shutil.rmtree(work_dir)
    flip_a_bit(there / 'iter_6.pth')
    again = run(work_dir, root, steps=6)
    assert (again.restored.directory, again.restored.iter) == (str(there), 4)
    assert 'Not resuming from iter_6.pth' in caplog.text
    for path in work_dir.glob('iter_*.pth'):
        flip_a_bit(path)
    again = run(work_dir, root, steps=6)
    assert again.restored.directory == str(there)


def test_a_damaged_newest_of_its_own_is_taken_from_the_mirror(dirs, caplog):
    """An older one of its own would give up the copy, and replace it."""
    work_dir, root, there = dirs
    run(work_dir, root, steps=6)
    flip_a_bit(work_dir / 'iter_6.pth')
    again = run(work_dir, root, steps=6)
    assert (again.restored.directory, again.restored.iter) == (str(there), 6)
    assert 'Not resuming from iter_6.pth' in caplog.text
    assert 'gives them up' not in caplog.text
    # of two that are damaged neither
    flip_a_bit(there / 'iter_6.pth')
    again = run(work_dir, root, steps=6)
    assert (again.restored.directory, again.restored.iter) == (str(work_dir),
                                                               4)


def test_an_unreachable_mirror_is_never_no_checkpoint(dirs, stored, impatient):
    work_dir, _, _ = dirs
    backend = stored(FaultyBackend(Storage()))
    run(work_dir, ANY, steps=4)
    backend.faults.append(
        Fault('prepare', StorageError('no route'), times=None))
    backend._counts.clear()
    again = run(work_dir, ANY, steps=4)
    assert again.restored.iter == 4
    shutil.rmtree(work_dir)
    with pytest.raises(StorageError, match='no route.*start anew'):
        run(work_dir, ANY, steps=6)


@pytest.mark.parametrize('has_own', [True, False])
def test_a_permission_lost_while_reading_is_never_no_checkpoint(
        dirs, stored, caplog, has_own):
    work_dir, _, _ = dirs
    backend = stored(FaultyBackend(Storage()))
    run(work_dir, ANY, steps=6)
    for name in ('iter_6.pth', 'latest.pth') if has_own else names(work_dir):
        (work_dir / name).unlink()
    real = backend.open

    def refused(name):
        if name.endswith('.pth'):
            raise AccessError('403: not allowed')
        return real(name)

    backend.open = refused
    if has_own:
        assert run(work_dir, ANY, steps=6).restored.iter == 4
        assert '403' in caplog.text
    else:
        with pytest.raises(AccessError, match='403'):
            run(work_dir, ANY, steps=6)


# -- its config ------------------------------------------------------------


@pytest.mark.parametrize('given, said', [
    (dict(), 'mirror.url must be given'),
    (dict(url=''), 'mirror.url must be given'),
    (dict(url=3), 'mirror.url must be a path or URL'),
    (dict(url='x', keeps=3), "did you mean 'mirror.keep'"),
    (dict(url='x', storage_option={}), "did you mean 'mirror.storage_options"),
    (dict(url='x', keep=dict(lats=3)), "did you mean 'mirror.keep.last'"),
    (dict(url='x', keep=dict(last=0)), 'mirror.keep.last=0'),
    (dict(url='x', keep=dict(monitor='mIoU')), 'mirror.keep.monitor is not'),
    (dict(url='x', secret_access_key='secret'), 'unknown key mirror.secret_'),
    (dict(url='/x', storage_options=dict(key='secret')), "'/x' is a local"),
    (dict(url='file:///x', storage_options=dict(key='secret')), 'is a local'),
    ('s3://key:secret@bucket', 'mirror must be a dict'),
])
def test_a_wrong_mirror_is_refused_when_the_hook_is_built(given, said):
    from mmcv_ckpt_hooks.config import parse_options
    with pytest.raises(ConfigError, match=said) as caught:
        parse_options(dict(mirror=given))
    assert 'secret' not in str(caught.value).replace('secret_access_key', '')


def test_a_misspelt_mirror_is_named_without_what_it_holds():
    from mmcv_ckpt_hooks.config import parse_options
    with pytest.raises(ConfigError, match="did you mean 'mirror'") as caught:
        parse_options(dict(mirrors=dict(storage_options=dict(key='secret'))))
    assert 'secret' not in str(caught.value)


def test_a_path_in_the_mirror_is_opened_with_its_options():
    from mmcv_ckpt_hooks.config import parse_options
    options = parse_options(
        dict(
            storage_options=dict(region='here'),
            mirror=dict(
                url='s3://b/second/', storage_options=dict(region='there'))))
    assert options.access('s3://b/second/run/iter_2.pth') == dict(
        storage_options=dict(region='there'))
    assert options.access('s3://b/seconds/run/iter_2.pth') == dict(
        file_client_args=None, storage_options=dict(region='here'))


def test_options_that_nothing_uses_are_told(dirs, caplog):
    work_dir, root, there = dirs
    pytest.importorskip('fsspec')
    options = dict(storage_options=dict(key='secret'))
    run(work_dir, root, steps=2, **options)
    said = 'storage_options of the hook are not used'
    assert caplog.text.count(said) == 1
    assert 'mirror.storage_options' in caplog.text
    assert 'secret' not in caplog.text
    caplog.clear()
    place = f'memory://{uuid.uuid4().hex}'
    run(work_dir, root, steps=2)
    run(work_dir / 'c',
        None,
        steps=2,
        out_dir=place,
        storage_options=dict(auto_mkdir=True))
    run(work_dir / 'd',
        None,
        steps=2,
        resume=f'{place}/c/iter_2.pth',
        storage_options=dict(auto_mkdir=True))
    assert said not in caplog.text


def test_the_mirror_is_another_place(dirs):
    work_dir, _, _ = dirs
    with pytest.raises(ConfigError, match='a mirror is a second place'):
        make_runner(
            work_dir,
            hooks=[
                dict(
                    type='DurableCheckpointHook',
                    out_dir='/a/b/',
                    mirror=dict(url='/a/b'))
            ])
    with pytest.raises(ConfigError, match='the mirror is .* itself'):
        run(work_dir, work_dir.parent)


def test_the_mirror_is_another_place_however_it_is_written(dirs):
    pytest.importorskip('fsspec')
    work_dir, _, _ = dirs
    place = f'memory://{uuid.uuid4().hex}'
    run(work_dir, None, out_dir=place)
    url = place.replace('//', '///')  # means the same
    with pytest.raises(ConfigError) as caught:
        run(work_dir, url, steps=10, keep=dict(last=1), out_dir=place)
    assert f'{url}/run is {place}/run itself' in str(caught.value)
    left = {one.name for one in open_backend(f'{place}/run').list()}
    assert left >= {f'iter_{step}.pth' for step in (2, 4, 6, 8)}


@pytest.mark.parametrize('url', ['local://{}', 'file://{}', '~/second'])
def test_another_spelling_of_out_dir_is_refused_when_it_is_built(
        dirs, monkeypatch, url):
    work_dir, root, _ = dirs
    monkeypatch.setenv('HOME', str(root.parent))
    with pytest.raises(ConfigError, match='a mirror is a second place'):
        run(work_dir, url.format(root), out_dir=str(root))


def test_its_own_place_that_is_reached_later_is_no_mirror(
        dirs, stored, caplog):
    work_dir, _, _ = dirs
    backend = stored(
        FaultyBackend(
            LocalBackend(str(work_dir)),
            [Fault('prepare', StorageError('no route'))]))
    backend.url = ANY
    run(work_dir, ANY, keep=dict(last=1), resume=None)
    assert len(names(work_dir)) == 5
    assert caplog.text.count('itself, where the checkpoints go') == 1
    assert 'Copied checkpoint' not in caplog.text


def test_best_there_needs_an_evaluation(dirs):
    work_dir, root, _ = dirs
    with pytest.raises(ConfigError, match=': mirror.keep.best=1 needs scores'):
        run(work_dir, root, keep=dict(best=1))


def test_best_there_needs_a_metric(dirs):
    work_dir, root, _ = dirs

    def start(**hook):
        return train(
            work_dir,
            runner=dict(type='IterBasedRunnerAmp', max_iters=2),
            evaluation=dict(scores=[.5], interval=2, by_epoch=False),
            hooks=[
                dict(
                    type='DurableCheckpointHook',
                    interval=2,
                    mirror=dict(url=str(root), keep=dict(best=1)),
                    **hook)
            ])

    with pytest.raises(ConfigError, match='mirror.keep.best=1 needs a metric'):
        start()
    start(keep=dict(best=2, monitor='mIoU'))


@best_has_a_place
@pytest.mark.parametrize('is_remote', [False, True])
def test_the_best_of_an_evaluation_do_not_go_to_the_mirror(dirs, is_remote):
    work_dir, root, _ = dirs
    if is_remote:
        pytest.importorskip('fsspec')
        root = f'memory://{uuid.uuid4().hex}'
    with pytest.raises(ConfigError, match=f'{root}/run, which is the mirror'):
        train(
            work_dir,
            runner=dict(type='IterBasedRunnerAmp', max_iters=2),
            evaluation=dict(
                scores=[.5],
                interval=2,
                by_epoch=False,
                save_best='mIoU',
                out_dir=str(root)),
            hooks=[
                dict(
                    type='DurableCheckpointHook',
                    interval=2,
                    mirror=dict(url=str(root)))
            ])


def test_a_place_without_a_catalog_is_no_mirror(dirs, stored):
    work_dir, _, _ = dirs
    stored(MemoryBackend(Capabilities(listing=True), ANY))
    with pytest.raises(ConfigError, match='cannot be a mirror'):
        run(work_dir, ANY)


def test_what_a_second_name_has_cost_is_in_the_history_of_the_mirror(tmp_path):
    backend = LocalBackend(str(tmp_path))
    best = CheckpointInfo(
        'best_mIoU_iter_4.pth',
        epoch=0,
        iter=4,
        bytes=9,
        trigger='best',
        same_as='iter_4.pth')
    MirrorHistory(backend, print).copied(best, 1., ['best_mIoU_iter_2.pth'])
    event, = map(json.loads, (tmp_path / 'checkpoints.log.jsonl').open())
    assert event['event'] == 'link'
    assert event['deleted'] == ['best_mIoU_iter_2.pth']


@pytest.mark.parametrize('is_there', [False, True])
def test_a_mirror_in_the_work_dir_is_refused(dirs, is_there):
    """Who removes the one removes the other."""
    work_dir = dirs[0]
    if is_there:
        (work_dir / 'mirror' / 'run').mkdir(parents=True)
    with pytest.raises(ConfigError, match='who loses or removes that loses'):
        run(work_dir, work_dir / 'mirror')
    # the name alone is no such thing
    run(work_dir, f'{work_dir}_mirror')


def test_another_disk_that_is_mounted_in_the_work_dir_is_none_of_it(
        tmp_path, monkeypatch):
    real = os.stat

    def stat(path, *args, **kwargs):
        found = real(path, *args, **kwargs)
        return SimpleNamespace(
            st_dev=found.st_dev + str(path).endswith('/m'),
            st_mode=found.st_mode)

    (tmp_path / 'm').mkdir()
    assert is_inside(f'{tmp_path}/m/run', str(tmp_path))
    monkeypatch.setattr(mirror_words.os, 'stat', stat)
    assert not is_inside(f'{tmp_path}/m', str(tmp_path))
    monkeypatch.undo()
    assert not is_inside('s3://bucket/a', 's3://bucket')


@pytest.mark.parametrize('scheme, hint', [
    ('s4', "Did you mean 's3://bucket/a/run'? "),
    ('ftq', ''),
])
def test_what_a_mirror_can_be_is_said_of_a_wrong_scheme(dirs, scheme, hint):
    with pytest.raises(ConfigError) as caught:
        run(dirs[0], f'{scheme}://bucket/a')
    assert str(caught.value) == (
        f"mirror=dict(url='{scheme}://bucket/a'): {scheme}://bucket/a/run "
        f'cannot be a mirror: {scheme}:// is none of a storage that lists '
        f'files and replaces them at once. {hint}'
        "Expected a path on another disk, 's3://', 'gs://', 'az://', or a "
        "file system of fsspec (pip install 'mmcv_ckpt_hooks[fsspec]')")


def test_the_config_that_is_shipped_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config.fromfile(f'{HERE}/../configs/checkpoints_mirror.py')
    for steps in (4, 6):
        runner = train(
            tmp_path / 'work_dirs' / 'run',
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            checkpoint_config=config.checkpoint_config,
            hooks=config.custom_hooks)
        shutil.rmtree(tmp_path / 'work_dirs')
    assert runner.restored.iter == 4
    url = config.custom_hooks[0].mirror.url
    assert 'iter_6.pth' in names(tmp_path / url / 'run')


def test_its_own_place_in_a_store_that_is_reached_later_is_no_mirror(
        dirs, stored, caplog, short_lease):
    pytest.importorskip('fsspec')
    work_dir, _, _ = dirs
    place = f'memory://{uuid.uuid4().hex}'
    backend = stored(
        FaultyBackend(
            open_backend(f'{place.replace("//", "///")}/run'),
            [Fault('prepare', StorageError('no route'))]))
    backend.url = ANY
    run(work_dir, ANY, keep=dict(last=1), resume=None, out_dir=place)
    left = {one.name for one in open_backend(f'{place}/run').list()}
    assert left >= {f'iter_{step}.pth' for step in (2, 4, 6, 8)}
    assert caplog.text.count('where this process writes already') == 1
    assert 'Nothing is copied there' in caplog.text
    assert 'falls behind' not in caplog.text
    assert 'Copied checkpoint' not in caplog.text
