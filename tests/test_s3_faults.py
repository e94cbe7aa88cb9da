"""A bad network, at every request of a save and of a resume.

Whatever fails: nothing partial is listed, what was committed before stands,
and the next save works. ``MMCV_CKPT_ALL_FAULTS=1`` lets requests fail several
times, too.
"""
import itertools
import os
import random
import shutil
import uuid

import pytest
import torch
from exact import drawing_run
from fault_proxy import FAULTS, TRANSIENT
from mmcv.runner import Hook
from object_server import BUCKET
from toy import ToyModel, make_loader, make_runner

from mmcv_ckpt_hooks import find_resumable, short_listing
from mmcv_ckpt_hooks.catalog import CATALOG_NAME, Catalog
from mmcv_ckpt_hooks.errors import AccessError, CheckpointError, StorageError
from mmcv_ckpt_hooks.scanning import verify_loadable
from mmcv_ckpt_hooks.storage import object_store, open_backend, uploads
from mmcv_ckpt_hooks.types import POINTER_FILE

pytest.importorskip('obstore', reason='pip install obstore')

ALL = bool(os.environ.get('MMCV_CKPT_ALL_FAULTS'))
TIMES = (1, 2, 4) if ALL else (1, )
#: An upload in parts: of one part, and with all faults of two. The server
#: takes no smaller ones.
PART_BYTES = 5 << 20
WIDTH = 70000 if ALL else 500

#: Of the client; an answer that is late comes behind it.
TIMEOUTS = dict(late='300ms')
#: Left to all faults: of requests with bodies, of which a resume has few, and
#: what differs from another one in a word.
OF_SAVES = set() if ALL else {
    'cut_in_request', 'timeout_400', 'flipped_request', 'upload_is_gone',
    'no_upload', 'reset_after'
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(uploads, 'PART_BYTES', 16 << 10)
    monkeypatch.setattr(object_store, 'PART_BYTES', PART_BYTES)


@pytest.fixture
def out_dir():
    return f's3://{BUCKET}/{uuid.uuid4().hex}'


class Done(Exception):
    """Every request has had its turn."""


def through(proxy, s3_server, timeout='5s', **more):
    """Options whose requests pass the proxy, and are repeated for long."""
    return {
        **s3_server.options(), 'endpoint': proxy.endpoint,
        'retry_secs': 20,
        'client_options': dict(timeout=timeout),
        **more
    }


class Judge:
    """Looks at a place past the proxy."""

    def __init__(self, place, options):
        self.place = place
        self.options = options
        self.backend = open_backend(place, storage_options=options)

    def newest(self):
        """Check everything that is listed; return the newest step."""
        listed = {file.name: file.bytes for file in self.backend.list()}
        names = [name for name in listed if name.endswith('.pth')]
        catalog = Catalog(self.backend, self.backend, warn=print)
        catalog.open(reconcile=False)
        for info in catalog.checkpoints():
            # one that retention has deleted may still be named
            assert listed.get(info.name, info.bytes) == info.bytes
        for name in names:
            known = catalog.find(name)
            with self.backend.open(name) as file:
                verify_loadable(file, name, known and known.digest)
        found = find_resumable(self.place, self.options)
        assert found is not None
        return int(found.rsplit('_', 1)[1].split('.')[0])


class FaultySaves(Hook):
    """Every second save meets a fault, at one request later each time."""

    comes = 'HIGH'

    def __init__(self, proxy, judge, fault, times, must_save):
        self.proxy = proxy
        self.judge = judge
        self.fault = fault
        self.times = times
        self.must_save = must_save
        self.cases = self.failed = 0

    def after_train_iter(self, runner):
        step = runner.iter + 1
        if step > 1 and step % 2:
            self.proxy.arm_at(self.fault, (step - 1) // 2, self.times)

    def judge_it(self, runner):
        step, injected = runner.iter + 1, self.proxy.injected
        reached = len(self.proxy.lines)
        at = (step - 1) // 2
        self.proxy.arm()
        if step > 1 and step % 2:
            if reached < at:
                raise Done
            self.cases += injected > 0
            newest = self.judge.newest()
            assert newest in (step - 1, step), at
            self.failed += newest != step
            assert newest == step or not self.must_save, at
        elif step > 1:
            assert self.judge.newest() == step, at


class Later(Hook):
    """Behind the save."""

    comes = 'VERY_LOW'

    def __init__(self, call):
        self.after_train_iter = call


def run(work_dir, out_dir, options, steps, hooks=(), **hook):
    runner = make_runner(
        work_dir,
        model=ToyModel(WIDTH),
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        hooks=[
            dict(
                type='DurableCheckpointHook',
                interval=1,
                by_epoch=False,
                max_keep_ckpts=2,
                out_dir=out_dir,
                storage_options=options,
                triggers=dict(exception=False),
                **hook), *hooks
        ])
    runner.run([make_loader()], [('train', 1)])
    return runner


@pytest.mark.parametrize('times', TIMES)
@pytest.mark.parametrize('name', FAULTS)
def test_a_fault_at_every_request_of_a_save(tmp_path, s3_server, proxy,
                                            out_dir, name, times, caplog,
                                            record_property):
    judge = Judge(f'{out_dir}/run', s3_server.options())
    saves = FaultySaves(proxy, judge, FAULTS[name], times, name in TRANSIENT)
    with pytest.raises(Done):
        run(tmp_path / 'run',
            out_dir,
            through(proxy, s3_server, TIMEOUTS.get(name, '5s')),
            1000, [saves, Later(saves.judge_it)],
            write=dict(background=False),
            on_error='warn')
    failures = [
        one.getMessage() for one in caplog.records if one.levelname == 'ERROR'
    ]
    assert not failures or name not in TRANSIENT
    for told in failures:
        assert f'{out_dir}/run' in told
    print(name, times, saves.cases, 'cases', saves.failed, 'failed')
    record_property('cases', saves.cases)


@pytest.mark.parametrize('times', TIMES)
@pytest.mark.parametrize('name', sorted(set(FAULTS) - OF_SAVES))
def test_a_fault_at_every_request_of_a_resume(tmp_path, s3_server, proxy,
                                              out_dir, name, times,
                                              record_property):
    first = run(tmp_path / 'run', out_dir, s3_server.options(), 3)
    expected = first.model.state_dict()
    judge = Judge(f'{out_dir}/run', s3_server.options())
    cases = refused = 0
    for at in itertools.count(1):
        proxy.arm_at(FAULTS[name], at, times)
        try:
            runner = run(
                tmp_path / 'run',
                out_dir,
                through(proxy, s3_server, TIMEOUTS.get(name, '5s')),
                3,
                resume='auto')
        except CheckpointError as error:
            # the checks before training, which come first, give up early
            is_check = times > 1 and at <= 3
            assert name not in TRANSIENT or is_check, at
            assert out_dir in str(error)
            refused += 1
        else:
            if len(proxy.lines) < at:
                break
            # what is damaged or not there is passed over
            assert runner.restored.iter == 3 or name not in TRANSIENT, at
            found = runner.model.state_dict()
            assert all(
                torch.equal(found[key], expected[key]) for key in expected), at
        cases += proxy.injected > 0
        proxy.arm()
        assert judge.newest() == 3, at
    print(name, times, cases, 'cases', refused, 'refused')
    record_property('cases', cases)


@pytest.mark.parametrize('catalog', ['there', 'damaged', 'lost'])
@pytest.mark.parametrize('mirrors', [False, True])
def test_an_error_for_a_listing_is_no_empty_place(tmp_path, s3_server, proxy,
                                                  out_dir, mirrors, catalog,
                                                  monkeypatch):
    """The client takes it for a listing of nothing."""
    monkeypatch.setattr(short_listing, '_PAUSES_SECS', (0., 0.))
    options = through(proxy, s3_server)
    place = dict(
        out_dir=None, mirror=dict(url=out_dir, storage_options=options)) \
        if mirrors else dict(out_dir=out_dir)
    given = dict(options=options, steps=2, resume='auto', **place)
    run(tmp_path / 'run', **{'out_dir': None, **given})
    shutil.rmtree(tmp_path / 'run')
    judge = Judge(f'{out_dir}/run', s3_server.options())
    if catalog == 'damaged':
        judge.backend.put(CATALOG_NAME, lambda stream: stream.write(b'{'))
    elif catalog == 'lost':
        # the lock is all that tells of a run
        judge.backend.delete(CATALOG_NAME)
        judge.backend.delete(POINTER_FILE)
    proxy.arm(lambda number, line: FAULTS['no_listing'])
    with pytest.raises(
            StorageError, match=f'{out_dir}/run is listed as empty'):
        run(tmp_path / 'run', **given)
    with pytest.raises(StorageError, match='is no listing'):
        find_resumable(f'{out_dir}/run', options)
    # it was there, and now is not
    proxy.arm()
    assert find_resumable(f'{out_dir}/run', options).endswith('iter_2.pth')
    for file in judge.backend.list():
        judge.backend.delete(file.name)
    assert find_resumable(f'{out_dir}/run', options) is None


@pytest.mark.parametrize(
    'before, points, lacks', [
        ('a', True, CATALOG_NAME),
        ('d', True, 'last_checkpoint'),
        ('d', False, 'iter_2.pth'),
    ],
    ids=['catalog', 'pointer', 'checkpoint'])
def test_a_page_that_is_none_does_not_end_a_listing(tmp_path, s3_server, proxy,
                                                    out_dir, monkeypatch,
                                                    before, points, lacks):
    """There are more files than a page has, in the order of their names."""
    monkeypatch.setattr(short_listing, '_PAUSES_SECS', (0., 0.))
    options, place = through(proxy, s3_server), f'{out_dir}/run'
    run(tmp_path / 'run', out_dir, options, 2, create_symlink=points)
    judge = Judge(place, s3_server.options())
    for number in range(1000):
        judge.backend.put(f'{before}_{number:03}', lambda stream: None)
    count = []

    def fail(fault, times):
        count.clear()

        def choose(number, line):
            if 'continuation-token=' in line:
                count.append(line)
                return FAULTS[fault] if len(count) <= times else None

        proxy.arm(choose)

    for fault in ('no_listing', 'error_500', 'truncated', 'cut_before'):
        fail(fault, 1)
        assert find_resumable(place, options) == f'{place}/iter_2.pth'
        assert len(count) == 2
    fail('refused', 1000)
    with pytest.raises(AccessError):
        find_resumable(place, options)
    fail('no_listing', 1000)
    with pytest.raises(StorageError, match=f'is listed without {lacks}'):
        find_resumable(place, options)
    with pytest.raises(StorageError, match='or not all of it'):
        run(tmp_path / 'run', out_dir, options, 3, resume='auto')


# -- whole trainings -------------------------------------------------------


@pytest.mark.parametrize('seed', range(2))
def test_a_training_over_a_bad_line_ends_with_the_same_bits(
        tmp_path, s3_server, proxy, out_dir, seed):
    straight, losses = drawing_run(tmp_path / 'straight', 12)
    draw = random.Random(seed)
    faults = sorted(set(TRANSIENT) - {'late'})

    def choose(number, line):
        # a third is lost; that all tries of one are is a matter of 1e-6
        return TRANSIENT[draw.choice(faults)] if draw.random() < 0.3 else None

    options = dict(
        out_dir=out_dir,
        max_keep_ckpts=2,
        storage_options=through(proxy, s3_server, retry_secs=60))
    proxy.arm(choose)
    drawing_run(tmp_path / 'run', 12, kill_at=8, options=options)
    resumed, again = drawing_run(tmp_path / 'run', 12, seed=1, options=options)
    assert proxy.injected > 5
    proxy.arm()
    assert min(again) == 7
    assert all(again[step] == losses[step] for step in again)
    assert all(
        torch.equal(resumed['model'][key], value)
        for key, value in straight['model'].items())
    judge = Judge(f'{out_dir}/run', s3_server.options())
    assert judge.newest() == 12


def test_a_training_ends_while_the_server_is_away_and_saves_when_it_is_back(
        tmp_path, s3_server, proxy, out_dir, caplog):
    place = f'{out_dir}/run'
    options = through(proxy, s3_server, retry_secs=0.5)
    judge = Judge(place, s3_server.options())

    def leave(runner):
        if runner.iter + 1 == 3:
            proxy.stop()
        elif runner.iter + 1 == 5:
            proxy.start()
        elif runner.iter + 1 == 7:
            proxy.stop()

    gone = Later(leave)
    gone.comes = 'HIGH'
    seen = []
    look = Later(lambda runner: seen.append(judge.newest()))
    runner = run(
        tmp_path / 'run',
        out_dir,
        options,
        8, [gone, look],
        on_error='warn',
        write=dict(background=False))
    assert runner.iter == 8
    assert seen == [1, 2, 2, 2, 5, 6, 6, 6]
    told = [
        one.getMessage() for one in caplog.records
        if 'was not saved' in one.getMessage()
    ]
    assert [name.split()[1]
            for name in told] == [f'iter_{step}.pth' for step in (3, 4, 7, 8)]
    for one in told:
        assert place in one and 'nobody listens there' in one
        assert proxy.endpoint in one and 'whether the server runs' in one
    proxy.start()
    again = Later(lambda runner: seen.append(judge.newest()))
    # in the background, the judge could meet a file that is deleted just then
    run(tmp_path / 'run',
        out_dir,
        options,
        8, [again],
        resume='auto',
        write=dict(background=False))
    assert seen[-2:] == [7, 8]
