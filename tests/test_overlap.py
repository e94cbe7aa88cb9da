"""Copies beside training hold the state of the trigger, bit by bit.

The writer's thread is made as slow as it may be: it copies nothing before
somebody waits for it, so that every wait that comes too late shows.
"""
import copy
import threading
from types import SimpleNamespace

import pytest
import torch
from checkpoint_files import equal
from mmcv.runner import HOOKS, EMAHook, Hook, OptimizerHook, TextLoggerHook
from stock import EvalHook, accumulates
from torch.utils.data import DataLoader
from toy import ToyData, ToyModel, make_loader, make_runner, names

from mmcv_ckpt_hooks import copying, saver
from mmcv_ckpt_hooks.companions import Lookout
from mmcv_ckpt_hooks.executor import BackgroundExecutor
from mmcv_ckpt_hooks.known_hooks import doubt
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.overlap import Overlap
from mmcv_ckpt_hooks.trial import Trial, incomparable

BESIDE = 'Checkpoints are copied beside the iteration that follows'


class LatestCopy(copying.PendingCopy):
    """The writer begins with it when training cannot wait any longer."""

    made = []

    def __init__(self, *args):
        super().__init__(*args)
        self.needed = threading.Event()
        if not self.is_due:
            self.made.append(self)

    def run_ahead(self):
        """Another thread would be early."""

    def finish_storage(self, index):
        assert self.needed.wait(60)
        super().finish_storage(index)

    def hold_back(self):
        super().hold_back()
        self.needed.set()


@pytest.fixture
def late(monkeypatch):
    """Returns the copies that were made beside training."""
    wait = BackgroundExecutor.wait

    def waits(self):
        if self._job is not None:  # training waits for the writer
            for one in LatestCopy.made:
                one.needed.set()
        wait(self)

    monkeypatch.setattr(copying, 'PendingCopy', LatestCopy)
    monkeypatch.setattr(LatestCopy, 'made', [])
    monkeypatch.setattr(BackgroundExecutor, 'wait', waits)
    return LatestCopy.made


@pytest.fixture
def triggered(monkeypatch):
    """Returns the state at each trigger, by file name."""
    states = {}
    save = saver.Saver.save

    def recorded(self, request, capture, overlap=None):

        def captured():
            checkpoint = capture()
            states[request.name] = copy.deepcopy(checkpoint)
            return checkpoint

        return save(self, request, captured, overlap)

    monkeypatch.setattr(saver.Saver, 'save', recorded)
    return states


def hook(**kwargs):
    return dict(
        type='DurableCheckpointHook',
        **{
            'interval': 1,
            'max_keep_ckpts': -1,
            **kwargs
        })


def on_disk(path):
    with open(path, 'rb') as file:
        return load_checkpoint(file, str(path))


def run(work_dir, *hooks, workflow=(('train', 1), ), without=(), **kwargs):
    """Train; ``without`` names classes of hooks that are taken out."""
    kwargs.setdefault('runner', ITER)
    hooks = [one() if callable(one) else one for one in hooks]
    if isinstance(kwargs.get('model'), type):
        kwargs['model'] = kwargs['model']()
    late = [one for one in hooks if isinstance(one, EvalHook)]
    runner = make_runner(
        work_dir, hooks=[one for one in hooks if one not in late], **kwargs)
    for one in late:
        runner.register_hook(one, priority='LOW')
    runner._hooks = [
        one for one in runner.hooks if not isinstance(one, without)
    ]
    runner.run([make_loader() for _ in workflow], list(workflow))
    return runner


def assert_as_triggered(directory, triggered):
    assert set(names(directory)) >= set(triggered)
    for name, state in triggered.items():
        assert equal(on_disk(directory / name), state), name


ITER = dict(type='IterBasedRunnerAmp', max_iters=10)
EPOCH = dict(type='EpochBasedRunnerAmp', max_epochs=3)
STOCK = dict(type='IterBasedRunner', max_iters=10)


class Swaps(Hook):
    """Writes to a parameter in every event that is waited for."""

    def write(self, runner):
        runner.model.first.weight.data.mul_(1.01)

    before_epoch = after_epoch = write
    before_val_iter = write


class EvaluationWrites(ToyModel):
    """Writes to a parameter when it is evaluated."""

    def eval(self):
        self.first.weight.data.mul_(.5)
        return super().eval()


def evaluated(model, loader):
    model.eval()
    for batch in loader:
        model(batch['x'])
    model.train()
    return []


def evaluating(**kwargs):
    """Return what makes an EvalHook of mmcv itself."""
    arguments = {'by_epoch': False, **kwargs}

    def make():
        data = ToyData(4, [.1, .3, .2])
        return EvalHook(
            DataLoader(data, batch_size=2), test_fn=evaluated, **arguments)

    return make


RUNS = {
    'plain':
    dict(),
    'stock_runner':
    dict(runner=STOCK),
    'SGD':
    dict(lr_config=dict(policy='poly', power=0.9, by_epoch=False)),
    'gradient_accumulation':
    dict(
        optimizer_config=dict(
            type='GradientCumulativeOptimizerHook', cumulative_iters=3)),
    'clipped':
    dict(optimizer_config=dict(grad_clip=dict(max_norm=0.1))),
    'DistOptimizerHook':
    dict(optimizer_config=dict(type='DistOptimizerHook', update_interval=2)),
    'EMA':
    dict(hooks=[dict(type='EMAHook', interval=1, priority=49)]),
    'EMA_behind':
    dict(hooks=[dict(type='EMAHook', priority='LOWEST')]),
    'synchronised_buffers':
    dict(hooks=[dict(type='SyncBuffersHook')]),
    'evaluation':
    dict(hooks=[evaluating(interval=2, save_best='mIoU')]),
    'logs':
    dict(log_interval=1),
    'momentum':
    dict(
        lr_config=dict(policy='cyclic', target_ratio=(2, .1)),
        momentum_config=dict(policy='cyclic', target_ratio=(.85, .95))),
    'epochs':
    dict(runner=EPOCH, by_epoch=False),
    'epochs_with_EMA':
    dict(
        runner=EPOCH,
        by_epoch=False,
        hooks=[
            dict(type='EMAHook', interval=1),
            evaluating(interval=1, by_epoch=True)
        ]),
    'at_epochs':
    dict(runner=EPOCH),
    'swaps_between_epochs':
    dict(runner=EPOCH, by_epoch=False, hooks=[Swaps]),
    'swaps_behind_an_evaluation':
    dict(runner=EPOCH, by_epoch=False, hooks=[Swaps,
                                              evaluating(interval=3)]),
    'writes_in_evaluation':
    dict(model=EvaluationWrites, hooks=[evaluating(interval=2)]),
    'swaps_behind_the_last_iteration':
    dict(
        runner=dict(ITER, max_iters=9),
        optimizer_config=dict(type='DistOptimizerHook', update_interval=2),
        hooks=[Swaps]),
    'swaps_in_validation':
    dict(
        runner=dict(EPOCH, max_epochs=2),
        by_epoch=False,
        hooks=[Swaps],
        workflow=[('train', 2), ('val', 1)]),
    'swaps_in_iterations_of_validation':
    dict(hooks=[Swaps], workflow=[('train', 2), ('val', 1)]),
    'workflow':
    dict(runner=dict(ITER, max_iters=9), workflow=[('train', 2), ('val', 1)]),
}


@pytest.mark.parametrize('staging', ['auto', 'overlap', 'copy'])
@pytest.mark.parametrize('name', [
    pytest.param(name, marks=accumulates if 'accumulation' in name else ())
    for name in RUNS
])
def test_what_is_written_is_the_state_of_the_trigger(tmp_path, late, triggered,
                                                     staging, name):
    """INVARIANT 5, for every hook of mmcv that touches the model."""
    kwargs = dict(RUNS[name])
    ours = hook(
        write=dict(staging=staging), by_epoch=kwargs.pop('by_epoch', None))
    runner = run(tmp_path, ours, *kwargs.pop('hooks', ()), **kwargs)
    assert runner.iter >= 8
    assert len(triggered) >= 3
    assert_as_triggered(tmp_path, triggered)
    overlaps = staging != 'copy' and name != 'at_epochs'
    assert bool(late) == overlaps
    values = [
        state['state_dict']['first.weight'] for state in triggered.values()
    ]
    assert not all(torch.equal(values[0], one) for one in values)


@pytest.mark.parametrize('kind',
                         ['ExpMomentumEMAHook', 'LinearMomentumEMAHook'])
def test_averages_of_mmdet_are_those_of_the_trigger(tmp_path, late, triggered,
                                                    kind):
    pytest.importorskip('mmdet.core')
    run(tmp_path, hook(), dict(type=kind, interval=2), runner=ITER)
    assert late
    assert_as_triggered(tmp_path, triggered)


#: All events of mmcv but those between which the copy is made.
EVENTS = [
    name for name in vars(Hook)
    if name.startswith(('before_', 'after_')) and not name.endswith(
        ('_train_iter', 'before_run', 'before_iter', 'after_iter'))
]


@pytest.mark.parametrize('event', EVENTS)
def test_every_other_event_waits_for_the_copy(event):
    done = []
    lookout = Lookout(lambda evaluates: None, None, lambda: None,
                      lambda: done.append(event))
    getattr(lookout, event)(SimpleNamespace(hooks=[]))
    assert done == [event]


def test_a_wait_that_comes_too_late_shows(tmp_path, late, triggered,
                                          monkeypatch):
    """The tests above can fail."""
    step = Overlap._before_step

    def tardy(self):
        pending, self._pending = self._pending, None
        step(self)
        self._pending = pending

    monkeypatch.setattr(Overlap, '_before_step', tardy)
    with pytest.raises(AssertionError):
        run(tmp_path, hook(write=dict(staging='overlap')))
        assert_as_triggered(tmp_path, triggered)


def test_a_run_that_ends_behind_a_save_commits_it(tmp_path, late, triggered):
    run(tmp_path,
        hook(interval=3, save_last=False),
        runner=dict(ITER, max_iters=9))
    assert_as_triggered(tmp_path, triggered)
    assert len(triggered) == 3


def test_a_second_run_overlaps_again(tmp_path, late, triggered):
    runner = run(tmp_path, hook())
    before = len(late)
    runner._max_iters = 14
    runner.run([make_loader()], [('train', 1)])
    assert len(late) > before
    assert_as_triggered(tmp_path, triggered)


def test_nothing_is_left_on_the_optimizer(tmp_path):
    runner = run(tmp_path, hook())
    assert not runner.optimizer._optimizer_step_pre_hooks


# -- where nobody can know --------------------------------------------------


class MomentumEncoder(ToyModel):
    """Its forward writes to a parameter, past torch's counters."""

    def forward(self, *args, **kwargs):
        self.last.weight.data.mul_(0.999)
        return super().forward(*args, **kwargs)


class SteppingModel(ToyModel):
    """Steps the optimizer itself, as mmgeneration's GANs do."""

    def train_step(self, data, optimizer, **kwargs):
        optimizer.zero_grad()
        outputs = super().train_step(data, optimizer, **kwargs)
        outputs['loss'].backward()
        optimizer.step()
        return outputs


class SharpnessAware(ToyModel):
    """Climbs before the real gradients are taken."""

    def train_step(self, data, optimizer, **kwargs):
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(0.01)
        return super().train_step(data, optimizer, **kwargs)


class Decay(Hook):
    """Writes to a parameter."""

    def after_train_iter(self, runner):
        runner.model.first.weight.data.mul_(0.9)


class OddEMA(EMAHook):

    def after_train_iter(self, runner):
        super().after_train_iter(runner)


class OddOptimizerHook(OptimizerHook):
    pass


def several_optimizers(model):
    return dict(
        first=torch.optim.SGD(model.first.parameters(), lr=.1),
        last=torch.optim.SGD(model.last.parameters(), lr=.1))


class SeveralOptimizers(Hook):

    def after_train_iter(self, runner):
        runner.outputs['loss'].backward()
        for one in runner.optimizer.values():
            one.step()


HOOKS.register_module(name='OverlapOddOptimizerHook', module=OddOptimizerHook)

DOUBTS = {
    'momentum_encoder': (dict(model=MomentumEncoder), 'last.weight'),
    'steps_itself': (dict(model=SteppingModel,
                          without=OptimizerHook), 'no known hook steps'),
    'sharpness': (dict(model=SharpnessAware), 'first.weight'),
    'unknown_hook': (dict(hooks=[Decay()]), 'what Decay does'),
    'subclass': (dict(hooks=[OddEMA()]), 'what OddEMA does'),
    'closure': (dict(
        hooks=[dict(type='ClosureHook', fn_name='after_train_iter', fn=print)
               ]), 'what ClosureHook does'),
    'unknown_optimizer_hook':
    (dict(optimizer_config=dict(type='OverlapOddOptimizerHook')),
     'no known hook steps'),
}


@pytest.mark.parametrize('name', DOUBTS)
def test_in_doubt_it_copies_first_and_says_why(tmp_path, late, triggered,
                                               caplog, name):
    kwargs, why = DOUBTS[name]
    kwargs = dict(kwargs, model=kwargs.get('model', ToyModel)())
    run(tmp_path, hook(), *kwargs.pop('hooks', ()), **kwargs)
    assert not late
    assert_as_triggered(tmp_path, triggered)
    told = [
        record.getMessage() for record in caplog.records
        if 'copied before' in record.getMessage()
    ]
    assert len(told) == 1 and why in told[0]


def test_two_hooks_that_step_are_one_too_many(tmp_path):
    runner = make_runner(tmp_path)
    assert doubt(runner) is None
    runner.register_hook(OptimizerHook())
    assert 'more than one' in doubt(runner)


def test_several_optimizers_are_copied_first(tmp_path, late, triggered,
                                             caplog):
    model = ToyModel()
    run(tmp_path,
        hook(),
        SeveralOptimizers(),
        model=model,
        optimizer=several_optimizers(model),
        without=OptimizerHook)
    assert not late
    assert_as_triggered(tmp_path, triggered)
    assert 'several optimizers' in caplog.text


def test_several_optimizers_overlap_where_the_user_says_so(
        tmp_path, late, triggered):
    model = ToyModel()
    run(tmp_path,
        hook(write=dict(staging='overlap')),
        SeveralOptimizers(),
        model=model,
        optimizer=several_optimizers(model),
        without=OptimizerHook)
    assert late
    assert_as_triggered(tmp_path, triggered)


def test_a_hook_that_does_nothing_in_between_is_none_to_doubt(
        tmp_path, late, triggered, caplog):
    run(tmp_path, hook(), Swaps())
    assert late and BESIDE in caplog.text
    assert_as_triggered(tmp_path, triggered)


class SometimesWrites(ToyModel):
    """Not in the iteration that was looked at; torch counts it."""
    steps = 0

    def train_step(self, *args, **kwargs):
        self.steps += 1
        if self.steps in (5, 8):
            self.write()
        return super().train_step(*args, **kwargs)

    def write(self):
        with torch.no_grad():
            self.first.weight.mul_(0.9)


class SometimesWritesData(SometimesWrites):
    """As a mask or a clamp that begins later; torch does not count it."""

    def write(self):
        self.first.weight.data.mul_(0.9)


@pytest.mark.parametrize('model', [SometimesWrites, SometimesWritesData])
def test_a_torn_copy_is_no_checkpoint_and_the_next_is_copied_first(
        tmp_path, late, triggered, caplog, model):
    run(tmp_path, hook(), model=model())
    assert 'iter_4.pth was not saved (TornError' in caplog.text
    assert 'were written between two steps' in caplog.text
    del triggered['iter_4.pth']
    assert_as_triggered(tmp_path, triggered)
    assert set(names(tmp_path)) == set(triggered) | {'latest.pth'}
    assert caplog.text.count('was not saved') == 1


@pytest.mark.parametrize('iters', [6, 9])
def test_a_torn_copy_is_made_up_for_with_the_next_step(tmp_path, late, caplog,
                                                       triggered, iters):
    run(tmp_path,
        hook(interval=4, save_last=False),
        model=SometimesWrites(),
        runner=dict(type='IterBasedRunnerAmp', max_iters=iters))
    assert list(triggered) == ['iter_4.pth', 'iter_5.pth',
                               'iter_8.pth'][:2 + (iters > 8)]
    assert caplog.text.count('Saved checkpoint iter_5.pth (retry): ') == 1
    # until the next regular one is there
    kept = 'iter_5.pth' if iters < 8 else 'iter_8.pth'
    assert names(tmp_path) == [kept, 'latest.pth']
    assert equal(on_disk(tmp_path / kept), triggered[kept])


class WritesAtTheEnd(Hook):
    comes = 'LOWEST'

    def after_train_iter(self, runner):
        if self.is_last_iter(runner):
            runner.model.first.weight.data.mul_(2)


def test_the_last_step_is_copied_at_once(tmp_path, late, triggered):
    """Nothing would make up for a torn one."""
    run(tmp_path, hook(interval=100, write=dict(staging='overlap')),
        WritesAtTheEnd())
    assert_as_triggered(tmp_path, triggered)
    assert list(triggered) == ['iter_10.pth'] and not late


def test_staging_copy_says_nothing(tmp_path, caplog):
    run(tmp_path, hook(write=dict(staging='copy')))
    assert 'Checkpoints are copied before' not in caplog.text
    assert BESIDE not in caplog.text


def test_a_torch_that_tells_of_no_step_copies_first(tmp_path, late, triggered,
                                                    caplog, monkeypatch):
    monkeypatch.setattr('mmcv_ckpt_hooks.overlap.watches_steps',
                        lambda optimizer: False)
    run(tmp_path, hook(write=dict(staging='overlap')))
    assert not late
    assert_as_triggered(tmp_path, triggered)
    assert 'has no step_pre_hook' in caplog.text


class Logs(TextLoggerHook):
    """Overrides what a method calls that was read."""

    def log(self, runner):
        runner.model.first.weight.data.mul_(.9)


class ForkedHook(Hook):
    """In a fork of mmdetection."""

    def after_train_iter(self, runner):
        runner.model.first.weight.data.mul_(.9)


ForkedHook.__module__ = 'mmdet.core.hook.decay'


@pytest.mark.parametrize('kind', [Logs, ForkedHook])
def test_a_hook_that_was_not_read_is_doubted(tmp_path, late, triggered, caplog,
                                             kind):
    run(tmp_path, hook(interval=5), kind(), runner=dict(ITER, max_iters=11))
    assert not late
    assert_as_triggered(tmp_path, triggered)
    assert f'what {kind.__name__} does' in caplog.text


def test_a_method_that_was_put_on_a_hook_is_doubted(tmp_path):
    runner = make_runner(tmp_path)
    assert doubt(runner) is None
    runner.hooks[-1].after_train_iter = lambda runner: None
    assert 'nobody knows what' in doubt(runner)


class Registers(Hook):
    """Behind the start of ours."""

    def before_run(self, runner):
        runner.register_hook(Decay(), priority='LOW')


def test_hooks_that_come_later_are_judged_too(tmp_path, late, triggered):
    run(tmp_path, hook(), Registers())
    assert not late
    assert_as_triggered(tmp_path, triggered)


def test_hooks_of_a_second_run_are_judged_too(tmp_path, late, triggered,
                                              caplog):
    runner = run(tmp_path, hook())
    before = len(late)
    assert before
    runner.register_hook(Decay(), priority='LOW')
    runner._max_iters = 14
    runner.run([make_loader()], [('train', 1)])
    assert len(late) == before
    assert_as_triggered(tmp_path, triggered)
    assert 'what Decay does' in caplog.text


class ReplacesOptimizer(Hook):

    def before_run(self, runner):
        runner.optimizer = torch.optim.SGD(runner.model.parameters(), lr=.1)


@pytest.mark.parametrize('staging', ['auto', 'overlap'])
def test_the_optimizer_that_steps_is_the_one_that_is_watched(
        tmp_path, late, triggered, staging):
    run(tmp_path, hook(write=dict(staging=staging)), ReplacesOptimizer())
    assert late
    assert_as_triggered(tmp_path, triggered)


class FlatModel(ToyModel):
    """A buffer that lies behind a parameter, in one storage."""

    def __init__(self):
        super().__init__()
        flat = torch.zeros(32)
        self.flat = torch.nn.Parameter(flat[:16])
        self.register_buffer('statistics', flat[16:])

    def train_step(self, *args, **kwargs):
        self.statistics.data.add_(1)
        return super().train_step(*args, **kwargs)


def test_a_buffer_is_copied_at_once_wherever_it_lies(tmp_path, late,
                                                     triggered):
    run(tmp_path, hook(write=dict(staging='overlap')), model=FlatModel)
    assert late
    assert_as_triggered(tmp_path, triggered)


class SparseModel(ToyModel):

    def __init__(self):
        super().__init__()
        self.sparse = torch.nn.Parameter(
            torch.eye(3).to_sparse(), requires_grad=False)


def test_a_parameter_that_cannot_be_compared_stops_no_training(
        tmp_path, caplog):
    model = SparseModel()
    dense = [one for one in model.parameters() if not one.is_sparse]
    runner = run(
        tmp_path, hook(), model=model, optimizer=torch.optim.SGD(dense, lr=.1))
    assert runner.iter == 10
    assert incomparable(model) == 'sparse'
    assert 'convert it to a dense one' in caplog.text


def test_what_a_broken_copy_raises_ends_the_run_in_order(
        tmp_path, late, monkeypatch):

    def broken(self):
        self.needed.set()
        raise RuntimeError('CUDA error: device-side assert triggered')

    monkeypatch.setattr(LatestCopy, 'hold_back', broken)
    runner = make_runner(tmp_path, hooks=[hook()], runner=ITER)
    ours = next(one for one in runner.hooks if hasattr(one, 'drain'))
    with pytest.raises(RuntimeError, match='device-side'):
        runner.run([make_loader()], [('train', 1)])
    assert not runner.optimizer._optimizer_step_pre_hooks
    assert not ours._interrupts.watch._installed
    assert not [
        one.name
        for one in threading.enumerate() if one.name.startswith('mmcv-ckpt')
    ]


# -- the trial --------------------------------------------------------------

WIDTHS = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8,
    torch.bool, torch.complex64, torch.complex128
]


class OneParameter(torch.nn.Module):

    def __init__(self, tensor):
        super().__init__()
        self.one = torch.nn.Parameter(tensor, requires_grad=False)


def changes(tensor, change):
    model = OneParameter(tensor)
    trial = Trial(model)
    trial.begin()
    change(model.one.data)
    trial.end()
    return trial.verdict()


def set_last(tensor):
    tensor[-1, -1] = 0


@pytest.mark.parametrize('dtype', WIDTHS)
@pytest.mark.parametrize('rows, first', [(8, 0), (7, 1), (300, 0), (301, 1)])
def test_a_change_of_any_element_shows(dtype, rows, first):
    tensor = torch.ones(rows, 5, dtype=dtype)[first:]
    assert changes(tensor.clone(), lambda one: None) == ''
    assert changes(tensor, set_last) == 'one'
    strided = torch.ones(rows, 5, dtype=dtype).t()[:, first:]
    assert changes(strided, set_last) == 'one'


@pytest.mark.parametrize(
    'change', [
        lambda one: one.copy_(one.flip(0).clone()),
        lambda one: one.copy_(one.flip(1).clone()),
        lambda one: one.copy_(one.roll(1).clone()),
        lambda one: one.copy_(one.roll(64).clone()),
        lambda one: one.copy_(one[torch.randperm(len(one))].clone()),
        lambda one: one.neg_(),
    ],
    ids=['rows', 'columns', 'by_1', 'by_64', 'permuted', 'signs'])
@pytest.mark.parametrize('shape', [(40, 40), (128, 128), (9, 7)])
def test_another_order_of_the_same_values_shows(shape, change):
    torch.manual_seed(0)
    assert changes(torch.randn(shape), change) == 'one'


def test_there_is_no_verdict_before_the_second_look():
    trial = Trial(OneParameter(torch.ones(3)))
    trial.end()
    assert trial.verdict() is None
    trial.begin()
    assert trial.verdict() is None
    trial.end()
    assert trial.verdict() == ''
