"""The order of a save, and what a failure at each place leaves behind."""
import io
import json
import threading

import pytest
import torch

from mmcv_ckpt_hooks import pending
from mmcv_ckpt_hooks.best_scores import BestScore
from mmcv_ckpt_hooks.catalog import CATALOG_NAME, Catalog
from mmcv_ckpt_hooks.compat import storage_pointer
from mmcv_ckpt_hooks.errors import AccessError, OutOfSpaceError, StorageError
from mmcv_ckpt_hooks.executor import BackgroundExecutor, InlineExecutor
from mmcv_ckpt_hooks.history import History
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.retention import KeepLast
from mmcv_ckpt_hooks.saver import Saver
from mmcv_ckpt_hooks.testing.faulty import Fault, FaultyBackend
from mmcv_ckpt_hooks.testing.memory import MemoryBackend
from mmcv_ckpt_hooks.types import Capabilities, SaveRequest
from mmcv_ckpt_hooks.verification import verify_file


class GatedBackend(FaultyBackend):
    """Waits inside ``put`` of a checkpoint until the test opens the gate."""

    def __init__(self, inner):
        super().__init__(inner)
        self.reached, self.gate = threading.Event(), threading.Event()

    def put(self, name, write):
        if name.endswith('.pth'):
            self.reached.set()
            assert self.gate.wait(60)
        return super().put(name, write)


class AwaitedExecutor(BackgroundExecutor):
    """Tells when somebody comes to wait for the job under way."""

    def __init__(self):
        super().__init__()
        self.awaited = threading.Event()

    def wait(self):
        self.awaited.set()
        super().wait()


class Bench:
    """A saver over a recording backend, and all that it told."""

    def __init__(self,
                 directory,
                 backend=None,
                 executor=None,
                 policy=None,
                 lineage=None,
                 started=0,
                 **kwargs):
        self.files = MemoryBackend() if backend is None else backend
        while hasattr(self.files, 'inner'):
            self.files = self.files.inner
        self.backend = FaultyBackend(self.files) if backend is None \
            else backend
        self.lines, self.failures, self.warnings = [], [], []
        catalog = Catalog(self.backend, self.backend, self.warnings.append)
        catalog.open()
        catalog.begin(lineage, started)
        self.executor = executor or InlineExecutor()
        self.history = History(str(directory))
        self.saver = Saver(
            self.backend, catalog, self.history, policy or KeepLast(None),
            self.executor, self.lines.append,
            lambda message, error: self.failures.append(message),
            self.warnings.append, **kwargs)
        self.catalog = catalog
        self.weights = torch.zeros(64)

    def capture(self):
        return dict(meta={}, state_dict=dict(x=self.weights))

    def save(self, finished, trigger='interval', name=None, **kwargs):
        self.weights.fill_(finished)
        request = SaveRequest(name or f'iter_{finished}.pth', finished // 4,
                              finished, trigger, **kwargs)
        return self.saver.save(request, self.capture)

    def best(self, finished, score, key='mIoU'):
        self.weights.fill_(finished)
        name = f'best_{key}_iter_{finished}.pth'
        return self.saver.commit_best(
            BestScore(key, score, 'greater', name, finished),
            SaveRequest(
                name,
                finished // 4,
                finished,
                'best',
                regular=False,
                metrics={key: score},
                make_latest=False), self.capture)

    def errors(self):
        found = []
        while True:
            error = self.saver.take_error()
            if error is None:
                return found
            found.append(error)

    def stored(self):
        return sorted(
            name for name in self.files.files
            if name.endswith('.pth') and name != 'latest.pth')

    def value(self, name):
        checkpoint = load_checkpoint(io.BytesIO(self.files.files[name]), name)
        values = checkpoint['state_dict']['x'].unique().tolist()
        assert len(values) == 1, 'a checkpoint of more than one step'
        return values[0]


@pytest.fixture
def bench(tmp_path):
    made = []

    def make(**kwargs):
        made.append(Bench(tmp_path, **kwargs))
        return made[-1]

    yield make
    for one in made:
        one.saver.close()


# -- the order --------------------------------------------------------------


def test_the_new_checkpoint_is_committed_before_anything_else_is_changed(
        bench):
    one = bench(policy=KeepLast(1))
    one.save(4)
    del one.backend.calls[:]
    one.save(8)
    assert one.backend.calls == [
        'put iter_8.pth', f'put {CATALOG_NAME}', 'point latest.pth iter_8.pth',
        'point latest.dcp', 'list', 'delete iter_4.pth', f'put {CATALOG_NAME}'
    ]


def test_what_is_logged_as_saved_is_durable_by_then(bench):
    """INVARIANT 4."""
    one = bench()
    there = []
    one.saver._committer._log = lambda line: there.append(
        (line, 'iter_4.pth' in one.files.files, 'latest.pth' in one.files.files
         ))
    one.save(4)
    assert len(there) == 1
    assert there[0][0].startswith('Saved checkpoint iter_4.pth')
    assert there[0][1:] == (True, True)


def test_a_save_is_one_line_in_the_log_and_one_in_the_history(bench):
    one = bench(policy=KeepLast(1))
    one.save(4)
    one.save(8)
    assert len(one.lines) == 2
    assert 'deleted iter_4.pth' in one.lines[1]
    events = one.history.read()
    assert [(event['event'], event['name'])
            for event in events] == [('save', 'iter_4.pth'),
                                     ('save', 'iter_8.pth')]
    assert events[1]['deleted'] == ['iter_4.pth']
    assert events[1]['bytes'] == len(one.files.files['iter_8.pth'])


def test_the_digest_in_the_catalog_is_that_of_the_file(bench):
    one = bench()
    one.save(4)
    info = one.catalog.find('iter_4.pth')
    file = io.BytesIO(one.files.files['iter_4.pth'])
    assert verify_file(file, 'iter_4.pth', info.digest).digest == info.digest
    assert info.bytes == len(one.files.files['iter_4.pth'])


def test_the_latest_pointer_follows_the_newest_only_where_it_is_wanted(bench):
    one = bench(symlink=False)
    one.save(4)
    assert 'latest.pth' not in one.files.files
    assert one.saver.last_committed == 'iter_4.pth'


def test_best_does_not_move_the_latest_pointer(bench):
    one = bench()
    one.save(4)
    one.best(6, .5)
    assert one.files.files['latest.pth'] == one.files.files['iter_4.pth']
    assert one.saver.last_committed == 'iter_4.pth'


# -- one state, whatever training does --------------------------------------


@pytest.mark.parametrize('executor', [BackgroundExecutor, InlineExecutor])
def test_a_checkpoint_holds_the_state_of_its_step(bench, executor):
    """INVARIANT 5: training goes on while it is written."""
    one = bench(executor=executor())
    for step in range(4, 44, 4):
        one.save(step)
        one.weights.fill_(-1)
    one.saver.wait()
    assert one.errors() == []
    assert [one.value(f'iter_{step}.pth')
            for step in range(4, 44, 4)] == list(range(4, 44, 4))


def test_training_goes_on_while_a_checkpoint_is_written(bench):
    backend = GatedBackend(MemoryBackend())
    one = bench(backend=backend, executor=BackgroundExecutor())
    one.save(4)
    assert backend.reached.wait(60)
    one.weights.fill_(-1)  # the next steps
    assert one.stored() == []
    backend.gate.set()
    one.saver.wait()
    assert one.value('iter_4.pth') == 4


def test_the_next_save_does_not_change_the_one_that_is_being_written(bench):
    """INVARIANT 5: the staging buffers are in use until it has ended."""
    backend = GatedBackend(MemoryBackend())
    one = bench(backend=backend, executor=AwaitedExecutor())
    one.save(4)
    assert backend.reached.wait(60)
    captured, capture = threading.Event(), one.capture
    one.capture = lambda: captured.set() or capture()
    one.executor.awaited.clear()
    second = threading.Thread(target=one.save, args=(8, ))
    second.start()
    assert one.executor.awaited.wait(60)
    too_early = captured.is_set()
    backend.gate.set()
    second.join(60)
    one.saver.wait()
    assert not too_early
    assert (one.value('iter_4.pth'), one.value('iter_8.pth')) == (4, 8)


class Late:
    """An overlap that lets tensors be copied whenever it is asked to."""

    def __init__(self, *tensors):
        self.tensors, self.held = tensors, []

    def later(self):
        return {storage_pointer(one): one for one in self.tensors}

    def hold(self, copy):
        self.held.append(copy)


def assert_saved_beside(one, backend, late, request, x, y):
    """The next save is of its own state, while a copy before it ends."""
    swapped = dict(y=y, x=x)
    one.saver.save(request, lambda: dict(meta={}, state_dict=swapped))
    assert backend.reached.wait(60)
    late.held[0].hold_back()  # the next step
    backend.gate.set()
    one.saver.wait()
    assert one.errors() == []
    saved = load_checkpoint(
        io.BytesIO(one.files.files['iter_4.pth']), 'iter_4.pth')['state_dict']
    assert torch.equal(saved['x'], x)
    assert torch.equal(saved['y'], y)


def test_a_copy_whose_save_has_failed_does_not_come_into_the_next(
        bench, monkeypatch):
    """Its memory is that of the next, where other tensors lie there."""
    monkeypatch.setattr(pending.PendingCopy, 'run_ahead', lambda self: None)
    backend = GatedBackend(MemoryBackend())
    one = bench(backend=backend, executor=BackgroundExecutor())
    x = torch.arange(3e6)  # more than one block, as y
    y = -x
    late = Late(x, y)
    state = dict(x=x, y=y)
    request = SaveRequest('iter_4.pth', 1, 4, 'interval')
    # within the first block: y is not asked for
    error = StorageError('connection reset')
    backend.faults.append(Fault('put', error, after_bytes=500))
    backend.gate.set()
    one.saver.save(request, lambda: dict(meta={}, state_dict=state), late)
    one.saver.wait()
    assert one.errors() == [error]
    backend.reached.clear()
    backend.gate.clear()
    assert_saved_beside(one, backend, late, request, x, y)


def test_a_copy_that_was_not_handed_over_does_not_come_into_the_next(
        bench, monkeypatch):
    monkeypatch.setattr(pending.PendingCopy, 'run_ahead', lambda self: None)
    backend = GatedBackend(MemoryBackend())
    one = bench(backend=backend, executor=BackgroundExecutor())
    x = torch.arange(3e6)
    y = -x
    late = Late(x, y)
    request = SaveRequest('iter_4.pth', 1, 4, 'interval')

    def interrupted(self, job):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BackgroundExecutor, 'submit', interrupted)
        with pytest.raises(KeyboardInterrupt):
            one.saver.save(request,
                           lambda: dict(meta={}, state_dict=dict(x=x, y=y)),
                           late)
    assert not one.saver.busy()
    assert_saved_beside(one, backend, late, request, x, y)


def test_where_no_thread_can_be_started_it_is_written_at_once(
        bench, monkeypatch):
    one = bench(executor=BackgroundExecutor())
    real = threading.Thread.start

    def start(self):
        if self.name.startswith('mmcv-ckpt'):
            raise RuntimeError("can't start new thread")
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', start)
        one.saver.reserve(1 << 20, False)
        assert one.save(4)
        assert one.value('iter_4.pth') == 4
        assert not one.saver.busy()
    one.save(8)
    one.saver.wait()
    assert one.value('iter_8.pth') == 8
    assert one.errors() == []


def test_training_helps_with_a_copy_that_it_waits_for(bench, monkeypatch):
    monkeypatch.setattr(pending.PendingCopy, 'run_ahead', lambda self: None)
    one = bench(executor=BackgroundExecutor())
    # more than one piece each: the writer has none of y before all of x
    x, y = torch.arange(3e6), torch.ones(3_000_000)
    state = dict(x=x, y=y)
    expected = {name: value.clone() for name, value in state.items()}
    memmove = pending.ctypes.memmove
    threads = set()

    def watched(*args):
        threads.add(threading.current_thread().name)
        memmove(*args)

    monkeypatch.setattr(pending.ctypes, 'memmove', watched)
    request = SaveRequest('iter_4.pth', 1, 4, 'interval')
    one.saver.save(request, lambda: dict(meta={}, state_dict=state))
    x.zero_()
    y.zero_()
    one.saver.wait()
    assert one.errors() == []
    assert threading.current_thread().name in threads
    saved = load_checkpoint(
        io.BytesIO(one.files.files['iter_4.pth']), 'iter_4.pth')['state_dict']
    assert all(torch.equal(saved[name], expected[name]) for name in state)


def test_an_interrupt_waits_for_the_copy_that_has_begun(bench, monkeypatch):
    """INVARIANT 5: whoever catches it may change the state."""
    monkeypatch.setattr(pending.PendingCopy, 'run_ahead', lambda self: None)
    backend = GatedBackend(MemoryBackend())
    one = bench(backend=backend, executor=BackgroundExecutor())
    x = torch.arange(3e6)
    expected = x.clone()
    memmove = pending.ctypes.memmove

    def interrupted(*args):
        monkeypatch.setattr(pending.ctypes, 'memmove', memmove)
        raise KeyboardInterrupt

    monkeypatch.setattr(pending.ctypes, 'memmove', interrupted)
    request = SaveRequest('iter_4.pth', 1, 4, 'interval')
    with pytest.raises(KeyboardInterrupt):
        one.saver.save(request, lambda: dict(meta={}, state_dict=dict(x=x)))
    x.zero_()
    backend.gate.set()
    one.saver.wait()
    assert one.errors() == []
    saved = load_checkpoint(
        io.BytesIO(one.files.files['iter_4.pth']), 'iter_4.pth')['state_dict']
    assert torch.equal(saved['x'], expected)


def test_where_no_copy_fits_in_memory_it_is_written_at_once(
        bench, monkeypatch):
    """INVARIANT 11: streamed while training waits, and said."""
    monkeypatch.setattr('mmcv_ckpt_hooks.stager.available_memory_bytes',
                        lambda: 8)
    one = bench(executor=BackgroundExecutor())
    one.save(4)
    assert one.value('iter_4.pth') == 4
    assert not one.executor.busy()
    one.save(8)
    told = [line for line in one.lines if 'memory' in line]
    assert len(told) == 1


# -- backlog ----------------------------------------------------------------


def test_backlog_wait_loses_no_checkpoint(bench):
    backend = GatedBackend(MemoryBackend())
    one = bench(backend=backend, executor=BackgroundExecutor())
    one.save(4)
    assert backend.reached.wait(60)
    second = threading.Thread(target=one.save, args=(8, ))
    second.start()
    backend.gate.set()
    second.join(60)
    one.saver.wait()
    assert one.stored() == ['iter_4.pth', 'iter_8.pth']
    assert (one.value('iter_4.pth'), one.value('iter_8.pth')) == (4, 8)


def test_backlog_skip_leaves_one_out_and_says_so(bench):
    backend = GatedBackend(MemoryBackend())
    one = bench(backend=backend, executor=BackgroundExecutor(), backlog='skip')
    assert one.save(4) is True
    assert backend.reached.wait(60)
    assert one.save(8) is False
    backend.gate.set()
    one.saver.wait()
    assert one.save(12) is True
    one.saver.wait()
    assert one.stored() == ['iter_12.pth', 'iter_4.pth']
    assert sum('Skipped checkpoint iter_8.pth' in line
               for line in one.lines) == 1


def test_backlog_skip_never_leaves_the_last_checkpoint_out(bench):
    """The final weights are what the run was for."""
    backend = GatedBackend(MemoryBackend())
    one = bench(backend=backend, executor=AwaitedExecutor(), backlog='skip')
    one.save(4)
    assert backend.reached.wait(60)
    one.executor.awaited.clear()
    last = threading.Thread(
        target=one.save, args=(10, ), kwargs=dict(is_last=True))
    last.start()
    assert one.executor.awaited.wait(60)
    backend.gate.set()
    last.join(60)
    one.saver.wait()
    assert one.stored() == ['iter_10.pth', 'iter_4.pth']


# -- failures ---------------------------------------------------------------

ERRORS = [
    OutOfSpaceError('no space left'),
    AccessError('permission denied'),
    StorageError('connection reset'),
    OSError(5, 'input/output error'),
    MemoryError('no memory'),
]


@pytest.mark.parametrize('error', ERRORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize('after_bytes', [None, 0, 300])
@pytest.mark.parametrize('executor', [BackgroundExecutor, InlineExecutor])
def test_a_failed_save_changes_nothing_that_was_committed(
        bench, error, after_bytes, executor):
    """INVARIANT 6."""
    one = bench(policy=KeepLast(1), executor=executor())
    one.save(4)
    one.saver.wait()
    before = dict(one.files.files)
    one.backend.faults.append(
        Fault('put', error, nth=3, after_bytes=after_bytes))
    one.save(8)
    one.saver.wait()
    assert one.files.files == before
    assert one.errors() == [error]
    assert one.saver.last_committed == 'iter_4.pth'
    # told at once, by name
    assert len(one.failures) == 1
    assert 'iter_8.pth' in one.failures[0]
    # and the next one works
    one.save(12)
    one.saver.wait()
    assert one.stored() == ['iter_12.pth']
    assert one.errors() == []


def test_a_background_error_is_handed_back_once_with_its_type(bench):
    one = bench(executor=BackgroundExecutor())
    error = OutOfSpaceError('no space left')
    one.backend.faults.append(Fault('put', error))
    one.save(4)
    one.saver.wait()
    assert one.saver.take_error() is error
    assert one.saver.take_error() is None


LATER = [
    # what fails after the checkpoint is committed
    Fault('put', OutOfSpaceError('catalog'), nth=2),
    Fault('point', AccessError('pointer')),
]


@pytest.mark.parametrize('fault', LATER, ids=lambda one: str(one.error))
def test_what_fails_after_the_commit_does_not_lose_the_checkpoint(
        bench, fault):
    one = bench()
    one.backend.faults.append(fault)
    one.save(4)
    assert one.stored() == ['iter_4.pth']
    assert one.errors() == [fault.error]
    # it counts as there, also for the next save's retention and best
    assert one.catalog.find('iter_4.pth') is not None
    one.save(8)
    assert one.errors() == []
    content = one.files.files[CATALOG_NAME]
    assert b'iter_4.pth' in content and b'iter_8.pth' in content


@pytest.mark.parametrize('fault', LATER, ids=lambda one: str(one.error))
def test_a_committed_checkpoint_is_not_reported_as_not_saved(bench, fault):
    """Who reads that would stop a run that is safe."""
    one = bench()
    one.backend.faults.append(fault)
    one.save(4)
    assert one.stored() == ['iter_4.pth']
    assert len(one.failures) == 1
    assert 'was not saved' not in one.failures[0]


def test_a_history_that_cannot_be_written_does_not_fail_the_save(
        bench, tmp_path):
    one = bench()
    (tmp_path / 'checkpoints.log.jsonl').mkdir()
    one.save(4)
    one.save(8)
    assert one.stored() == ['iter_4.pth', 'iter_8.pth']
    assert one.failures == [] and one.errors() == []
    assert any('Saved checkpoint iter_4.pth' in line for line in one.lines)
    assert len(one.warnings) == 1
    assert 'Could not write the history' in one.warnings[0]
    (tmp_path / 'checkpoints.log.jsonl').rmdir()
    one.save(12)
    (tmp_path / 'checkpoints.log.jsonl').unlink()
    (tmp_path / 'checkpoints.log.jsonl').mkdir()
    one.save(16)
    assert len(one.warnings) == 2


@pytest.mark.parametrize('executor', [InlineExecutor, BackgroundExecutor])
def test_a_checkpoint_that_cannot_be_deleted_costs_only_its_space(
        bench, executor):
    one = bench(policy=KeepLast(1), executor=executor())
    one.save(4)
    one.backend.faults += [
        Fault('delete', AccessError('read-only'), times=2),
        Fault('delete', AccessError('again'), nth=7)
    ]

    def save(finished, **kwargs):
        one.save(finished, **kwargs)
        one.saver.wait()

    save(8)
    assert one.stored() == ['iter_4.pth', 'iter_8.pth']
    # it is still owned: every save tries again, without a word
    save(12)
    assert one.stored() == ['iter_12.pth', 'iter_4.pth']
    save(16)
    assert one.stored() == ['iter_16.pth']
    assert len(one.warnings) == 1 and one.failures == []
    assert 'Could not delete iter_4.pth (read-only)' in one.warnings[0]
    assert [str(error) for error in one.errors()] == ['read-only']
    # one of that name that is deleted has failed for the first time
    save(20, name='iter_4.pth')
    save(24)
    assert 'Could not delete iter_4.pth (again)' in one.warnings[1]
    assert [str(error) for error in one.errors()] == ['again']


def test_what_cannot_be_listed_is_not_deleted(bench):
    """Which is the newest, if somebody has deleted some?"""
    one = bench(policy=KeepLast(1))
    one.save(4)
    one.backend.faults.append(
        Fault('list', AccessError('no listing'), nth=2, times=2))
    one.save(8)
    one.save(12)
    assert one.stored() == ['iter_12.pth', 'iter_4.pth', 'iter_8.pth']
    assert len(one.warnings) == 1 and 'no listing' in one.warnings[0]
    assert len(one.errors()) == 1
    one.save(16)
    assert one.stored() == ['iter_16.pth']


def test_a_state_that_cannot_be_captured_is_a_failed_save(bench):
    """``on_error`` decides about it as about every other."""
    one = bench()
    one.save(4)

    def capture():
        raise TypeError('cannot save a sparse tensor')

    one.saver.save(SaveRequest('iter_8.pth', 2, 8, 'interval'), capture)
    assert [type(error) for error in one.errors()] == [TypeError]
    assert one.stored() == ['iter_4.pth']


# -- best -------------------------------------------------------------------


def test_a_new_best_is_committed_before_the_old_one_goes(bench):
    """Trap 8: stock deletes first."""
    one = bench()
    one.best(4, .5)
    del one.backend.calls[:]
    one.best(8, .6)
    put = one.backend.calls.index('put best_mIoU_iter_8.pth')
    gone = one.backend.calls.index('delete best_mIoU_iter_4.pth')
    catalogs = [
        index for index, call in enumerate(one.backend.calls)
        if call == f'put {CATALOG_NAME}'
    ]
    assert put < gone
    assert any(put < index < gone for index in catalogs)
    assert one.stored() == ['best_mIoU_iter_8.pth']


def test_a_kill_before_the_old_best_goes_knows_the_new_one(bench):
    """Else the next start hands the new best file to retention."""
    one = bench()
    one.best(4, .5)
    known = []
    delete = one.files.delete

    def look(name):
        catalog = json.loads(one.files.files[CATALOG_NAME])
        known.append((name, catalog['best']['mIoU']['name']))
        delete(name)

    one.files.delete = look
    one.best(8, .6)
    assert known == [('best_mIoU_iter_4.pth', 'best_mIoU_iter_8.pth')]


def test_best_at_the_step_of_a_save_is_a_second_name(bench):
    one = bench()
    one.save(4)
    del one.backend.calls[:]
    one.best(4, .5)
    assert one.backend.calls[0] == 'link iter_4.pth best_mIoU_iter_4.pth'
    assert 'put best_mIoU_iter_4.pth' not in one.backend.calls
    assert one.catalog.find('best_mIoU_iter_4.pth').same_as == 'iter_4.pth'


def test_where_there_are_no_links_the_best_is_written(bench):
    able = Capabilities(
        stream_in=True,
        ranged_read=True,
        atomic_replace=True,
        listing=True,
        delete=True)
    one = bench(backend=FaultyBackend(MemoryBackend(able)))
    one.save(4)
    assert one.best(4, .5)
    assert one.value('best_mIoU_iter_4.pth') == 4


FAILING_BEST = [
    (Fault('put', OutOfSpaceError('full'), nth=3), False),
    (Fault('link', OutOfSpaceError('full'), nth=2), True),
]


@pytest.mark.parametrize('fault, on_grid', FAILING_BEST)
def test_a_failed_best_keeps_the_one_before_and_its_score(
        bench, fault, on_grid):
    one = bench()
    if on_grid:
        one.save(4)
    assert one.best(4, .5) is True
    if on_grid:
        one.save(8)
    fault = Fault(fault.verb, fault.error, one.backend._counts[fault.verb] + 1)
    one.backend.faults.append(fault)
    assert one.best(8, .6) is False
    assert one.errors() == [fault.error]
    assert 'best_mIoU_iter_4.pth' in one.stored()
    assert 'best_mIoU_iter_8.pth' not in one.stored()
    assert one.catalog.best('mIoU').score == .5
    assert one.value('best_mIoU_iter_4.pth') == 4


def test_retention_leaves_the_best_alone(bench):
    one = bench(policy=KeepLast(1))
    one.save(4)
    one.best(4, .5)
    for step in (8, 12, 16):
        one.save(step)
    assert one.stored() == ['best_mIoU_iter_4.pth', 'iter_16.pth']
    assert one.value('best_mIoU_iter_4.pth') == 4


def test_a_best_that_the_catalog_has_forgotten_is_not_deleted(bench):
    one = bench(policy=KeepLast(1))
    one.save(4)
    one.best(4, .5)
    content = json.loads(one.files.files[CATALOG_NAME])
    del content['crc32']
    content['best'] = {}
    one.files.files[CATALOG_NAME] = json.dumps(content).encode()
    later = bench(
        backend=FaultyBackend(one.files),
        policy=KeepLast(1),
        lineage=one.catalog.lineage,
        started=4)
    for step in (8, 12):
        later.save(step)
    assert later.stored() == ['best_mIoU_iter_4.pth', 'iter_12.pth']


def test_the_best_of_two_metrics_are_both_kept(bench):
    one = bench(policy=KeepLast(1))
    one.save(4)
    one.best(4, .5, 'mIoU')
    one.best(4, .7, 'aAcc')
    one.save(8)
    one.best(8, .6, 'mIoU')
    one.save(12)
    assert one.stored() == [
        'best_aAcc_iter_4.pth', 'best_mIoU_iter_8.pth', 'iter_12.pth'
    ]


def test_a_best_waits_for_the_save_of_its_step(bench):
    """Else it would be written a second time."""
    backend = GatedBackend(MemoryBackend())
    one = bench(backend=backend, executor=BackgroundExecutor())
    one.save(4)
    assert backend.reached.wait(60)
    backend.gate.set()
    assert one.best(4, .5) is True
    assert 'link iter_4.pth best_mIoU_iter_4.pth' in backend.calls


# -- scores -----------------------------------------------------------------


def test_scores_are_joined_after_the_save_of_their_step(bench):
    one = bench(executor=BackgroundExecutor())
    one.save(4)
    one.saver.join(4, dict(mIoU=.5))
    assert one.catalog.find('iter_4.pth').metrics == dict(mIoU=.5)
    event = one.history.read()[-1]
    assert (event['event'], event['iter'], event['metrics']) == ('scores', 4,
                                                                 dict(mIoU=.5))


def test_scores_that_cannot_be_written_do_not_stop_training(bench):
    """A full disk during an evaluation; ``on_error='warn'``."""
    one = bench()
    one.save(4)
    error = OutOfSpaceError('full')
    one.backend.faults.append(Fault('put', error, nth=3, times=None))
    one.saver.join(4, dict(mIoU=.5))
    assert one.errors() == [error]


# -- files of other runs ----------------------------------------------------


def test_the_file_of_another_run_is_kept_under_another_name(bench):
    """INVARIANT 3."""
    first = bench()
    first.save(4)
    second = bench(backend=FaultyBackend(first.files))
    second.weights = torch.zeros(128)
    second.save(4)
    aside = [
        name for name in second.files.files if name.startswith('iter_4.pth.')
    ]
    assert len(aside) == 1
    assert not aside[0].endswith('.pth')
    assert second.value(aside[0]) == 4
    assert any(aside[0] in line for line in second.lines)


def test_of_two_other_runs_neither_is_lost(bench):
    """Both files were called ``iter_4.pth``, both of stock mmcv."""
    files = MemoryBackend()
    for number in (1, 2):
        files.put(
            'iter_4.pth', lambda stream: torch.save(
                dict(meta={}, state_dict=dict(x=torch.full(
                    (number, ), 7.))), stream))
        bench(backend=FaultyBackend(files)).save(4)
        files.delete(CATALOG_NAME)
    kept = [name for name in files.files if name.startswith('iter_4.pth.')]
    sizes = set()
    for name in kept:
        checkpoint = load_checkpoint(io.BytesIO(files.files[name]), name)
        sizes.add(len(checkpoint['state_dict']['x']))
    assert {1, 2} <= sizes


def test_killed_while_a_file_is_replaced_the_new_one_is_not_refused(bench):
    """The catalog must not hold the digest of the file before."""
    one = bench()
    one.save(4)
    known = []
    put = one.backend.put

    def spy(name, write):
        size = put(name, write)
        if name == 'iter_4.pth':
            # what a process that starts now would read
            after = Catalog(one.files, one.files, one.warnings.append)
            after.open()
            known.append(after.find(name))
        return size

    one.backend.put = spy
    one.capture = lambda: dict(meta={}, state_dict=dict(x=one.weights + 1))
    one.save(4)
    assert one.errors() == []
    entry, = known
    file = io.BytesIO(one.files.files['iter_4.pth'])
    assert verify_file(file, entry.name, entry.digest).digest == entry.digest


def test_a_file_that_could_not_be_replaced_stays_in_the_catalog(bench):
    one = bench()
    one.save(4)
    put = one.backend.put

    def full(name, write):
        if name == 'iter_4.pth':
            raise OutOfSpaceError('no space left')
        return put(name, write)

    one.backend.put = full
    one.save(4)
    assert len(one.errors()) == 1
    assert one.catalog.find('iter_4.pth') is not None
    assert one.value('iter_4.pth') == 4


def test_the_files_own_name_of_an_earlier_generation_is_replaced(bench):
    first = bench()
    first.save(4)
    first.save(8)
    again = bench(
        backend=FaultyBackend(first.files),
        lineage=first.catalog.lineage,
        started=4)
    again.save(8)
    assert again.stored() == ['iter_4.pth', 'iter_8.pth']
    assert not any(
        name.startswith('iter_8.pth.') for name in again.files.files)


def test_a_kill_after_a_file_was_replaced_does_not_have_it_refused(bench):
    """The catalog must not keep the digest of the file before."""
    first = bench()
    first.save(4)
    first.save(8)
    # the new file is committed, the catalog is not written any more
    fault = Fault('put', OutOfSpaceError('killed'), nth=3, times=None)
    again = bench(
        backend=FaultyBackend(first.files, [fault]),
        lineage=first.catalog.lineage,
        started=4)
    again.save(8)
    puts = [call for call in again.backend.calls if call.startswith('put')]
    assert puts[1] == 'put iter_8.pth'
    after = Catalog(first.files, first.files, print)
    after.open()
    file = io.BytesIO(first.files.files['iter_8.pth'])
    verify_file(file, 'iter_8.pth', after.find('iter_8.pth').digest)


def test_nothing_of_another_run_is_ever_deleted(bench):
    first = bench(policy=KeepLast(1))
    for step in (4, 8):
        first.save(step)
    first.best(8, .9)
    second = bench(backend=FaultyBackend(first.files), policy=KeepLast(1))
    for step in (2, 3, 5):
        second.save(step)
        second.best(step, step / 100)
    assert second.stored() == [
        'best_mIoU_iter_5.pth', 'best_mIoU_iter_8.pth', 'iter_5.pth',
        'iter_8.pth'
    ]


def test_a_kill_between_a_best_and_its_record_does_not_cost_it(bench):
    one = bench(policy=KeepLast(1))
    one.save(4)
    assert one.best(4, .5)
    one.save(8)
    set_best = one.catalog.set_best
    one.catalog.set_best = lambda best: 1 / 0
    one.best(8, .6)
    one.catalog.set_best = set_best
    one.save(12)
    assert 'best_mIoU_iter_8.pth' in one.stored()


def test_backlog_skip_never_leaves_a_wish_of_the_user_out(bench):
    one = bench(backlog='skip')
    one.executor.busy = lambda: True
    assert not one.save(4)
    assert not one.save(5, trigger='time')
    for finished, trigger in ((6, 'at'), (7, 'file'), (8, 'last')):
        assert one.save(finished, trigger=trigger)
