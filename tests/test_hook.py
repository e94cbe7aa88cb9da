"""The hook's own events: triggers, errors, messages."""
import json
import os
import threading

import pytest
import torch
from folders import NEW_TORCH
from mmcv.runner import EMAHook, Hook
from toy import ToyModel, make_loader, make_runner, names, train

from mmcv_ckpt_hooks import starting
from mmcv_ckpt_hooks.errors import OutOfSpaceError, StorageError
from mmcv_ckpt_hooks.history import History
from mmcv_ckpt_hooks.storage import local

OURS = dict(type='DurableCheckpointHook')
INLINE = dict(write=dict(background=False), **OURS)
RUNNERS = [
    'IterBasedRunner', 'IterBasedRunnerAmp', 'EpochBasedRunner',
    'EpochBasedRunnerAmp'
]


def runner_config(name, steps):
    unit = 'iters' if 'Iter' in name else 'epochs'
    return {'type': name, f'max_{unit}': steps}


def load(path):
    return torch.load(path, map_location='cpu')


@pytest.fixture
def full_disk(monkeypatch):
    """Let every write of a file whose name has a word in it fail."""
    words = []
    fill = local.fill_file

    def fail(temporary, write, what, path, *args):
        if any(word in os.path.basename(path) for word in words):
            raise OutOfSpaceError(f'{path}: no space left on device')
        return fill(temporary, write, what, path, *args)

    monkeypatch.setattr(local, 'fill_file', fail)
    return words


# -- errors -----------------------------------------------------------------


@pytest.mark.parametrize('name', RUNNERS)
@pytest.mark.parametrize('ours', [OURS, INLINE])
def test_a_failed_save_is_told_once_and_training_goes_on(
        tmp_path, caplog, full_disk, name, ours):
    unit = 'iter' if 'Iter' in name else 'epoch'
    full_disk.append(f'{unit}_2.pth')
    runner = train(
        tmp_path,
        runner=runner_config(name, 3),
        hooks=[dict(interval=1, **ours)])
    assert getattr(runner, unit) == 3
    assert names(tmp_path) == [f'{unit}_1.pth', f'{unit}_3.pth', 'latest.pth']
    told = [one for one in caplog.records if one.levelname == 'ERROR']
    assert len(told) == 1
    assert f'{unit}_2.pth was not saved' in told[0].getMessage()
    assert 'OutOfSpaceError' in told[0].getMessage()


@pytest.mark.parametrize('name', RUNNERS)
@pytest.mark.parametrize('ours', [OURS, INLINE])
@pytest.mark.parametrize('failing', [2, 3])
def test_on_error_raise_stops_with_the_error_itself(tmp_path, full_disk, name,
                                                    ours, failing):
    """Also that of the last save, which nothing follows."""
    unit = 'iter' if 'Iter' in name else 'epoch'
    full_disk.append(f'{unit}_{failing}.pth')
    with pytest.raises(OutOfSpaceError, match=f'{unit}_{failing}.pth'):
        train(
            tmp_path,
            runner=runner_config(name, 3),
            hooks=[dict(interval=1, on_error='raise', **ours)])
    assert f'{unit}_1.pth' in names(tmp_path)


@pytest.mark.parametrize('name', RUNNERS)
def test_no_message_names_a_file_that_is_not_there(tmp_path, full_disk, name):
    unit = 'iter' if 'Iter' in name else 'epoch'
    full_disk.append(f'{unit}_3.pth')
    runner = train(
        tmp_path,
        runner=runner_config(name, 3),
        hooks=[dict(interval=1, **OURS)])
    last = runner.meta['hook_msgs']['last_ckpt']
    assert last == str(tmp_path / f'{unit}_2.pth')


class Messages(Hook):
    """Notes the last checkpoint that the runner was told of, by iteration.

    Args:
        goes_on (Event): Set behind the sixth: before, nothing of its save
            can be written.
    """
    comes = 'VERY_LOW'

    def __init__(self, goes_on):
        self.goes_on = goes_on
        self.seen = {}

    def before_train_iter(self, runner):
        if not self.seen:
            self.note(runner, runner.iter)

    def after_train_iter(self, runner):
        step = runner.iter + 1
        self.note(runner, step)
        if step == 6:
            self.goes_on.set()
        if step % 3 == 0:
            for hook in runner.hooks:
                for saver in getattr(hook, '_savers', []):
                    saver.wait()

    def note(self, runner, step):
        last = runner.meta.get('hook_msgs', {}).get('last_ckpt')
        self.seen[step] = last and os.path.relpath(last, runner.work_dir)


@pytest.mark.parametrize('form', ['pth', pytest.param('dcp', marks=NEW_TORCH)])
def test_the_message_names_the_last_that_is_committed(tmp_path, monkeypatch,
                                                      form):
    goes_on, put = threading.Event(), local.LocalBackend.put

    def slow(files, name, write):
        if 'iter_6' in os.path.join(files.url, name):
            assert goes_on.wait(60)
        return put(files, name, write)

    monkeypatch.setattr(local.LocalBackend, 'put', slow)
    options = dict(interval=3, format=form, max_keep_ckpts=1, **OURS)
    first, second = f'iter_3.{form}', f'iter_6.{form}'
    messages = Messages(goes_on)
    runner = train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 7),
        hooks=[dict(options), messages],
        meta={})
    found = [messages.seen[step] for step in (0, 2, 4, 6, 7)]
    assert found == [None, None, first, first, second]
    last = runner.meta['hook_msgs']['last_ckpt']
    assert last == str(tmp_path / f'iter_7.{form}')
    # that one has noted what is deleted since
    messages = Messages(goes_on)
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[dict(options, resume='auto'), messages],
        meta={})
    assert not (tmp_path / second).exists()
    assert messages.seen[7] == f'iter_7.{form}'


def test_all_errors_of_the_end_are_told(tmp_path, caplog, full_disk):
    full_disk += ['iter_4.pth', 'best']
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 4),
        hooks=[dict(interval=4, **OURS)],
        evaluation=dict(
            scores=[.5], interval=4, by_epoch=False, save_best='mIoU'))
    told = [
        one.getMessage() for one in caplog.records if one.levelname == 'ERROR'
    ]
    assert [one.split()[1]
            for one in told] == ['iter_4.pth', 'best_mIoU_iter_4.pth']


@pytest.mark.parametrize('name', RUNNERS)
def test_a_place_that_cannot_be_written_stops_before_training(
        tmp_path, name, monkeypatch):
    (tmp_path / 'file').write_text('x')
    runner = make_runner(
        tmp_path / 'work',
        runner=runner_config(name, 3),
        hooks=[dict(interval=1, out_dir=str(tmp_path / 'file'), **OURS)])
    with pytest.raises(StorageError):
        runner.run([make_loader()], [('train', 1)])
    assert runner.iter == 0


class SparseModel(ToyModel):

    def __init__(self):
        super().__init__()
        self.register_buffer('sparse', torch.eye(2).to_sparse())


def test_a_model_that_cannot_be_saved_is_told_and_trains_on(tmp_path, caplog):
    runner = train(
        tmp_path, model=SparseModel(), hooks=[dict(interval=4, **OURS)])
    assert runner.iter == 8
    told = [one for one in caplog.records if one.levelname == 'ERROR']
    assert len(told) == 2
    assert 'sparse' in told[0].getMessage()


# -- backlog ----------------------------------------------------------------


@pytest.mark.parametrize('name', RUNNERS)
def test_with_backlog_skip_the_end_of_training_is_saved(
        tmp_path, monkeypatch, name):
    """The first save takes longer than the rest of training."""
    unit = 'iter' if 'Iter' in name else 'epoch'
    gate = threading.Event()
    fill = local.fill_file

    def slow(temporary, write, what, path, *args):
        if path.endswith(f'{unit}_1.pth'):
            assert gate.wait(60)
        return fill(temporary, write, what, path, *args)

    monkeypatch.setattr(local, 'fill_file', slow)

    class Open(Hook):

        def after_train_iter(self, runner):
            if runner.iter + 1 == (4 if unit == 'iter' else 16):
                threading.Timer(.01, gate.set).start()

    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 4),
        hooks=[dict(interval=1, write=dict(backlog='skip'), **OURS)])
    runner.register_hook(Open(), 'HIGHEST')
    runner.run([make_loader()], [('train', 1)])
    assert names(tmp_path) == [f'{unit}_1.pth', f'{unit}_4.pth', 'latest.pth']


# -- triggers ---------------------------------------------------------------


class HandClock:
    """Time goes on by one second an iteration."""

    now = 0.

    def monotonic(self):
        return self.now


class Tick(Hook):

    def __init__(self, clock):
        self.clock = clock

    def before_train_iter(self, runner):
        self.clock.now += 1


@pytest.fixture
def clock(monkeypatch):
    clock = HandClock()
    monkeypatch.setattr(starting, 'time', clock)
    return clock


@pytest.mark.parametrize('name, expected', [
    ('IterBasedRunnerAmp', ['iter_3.pth', 'iter_6.pth', 'iter_8.pth']),
    ('IterBasedRunner', ['iter_3.pth', 'iter_6.pth', 'iter_8.pth']),
    ('EpochBasedRunnerAmp', [
        'epoch_0_iter_3.pth', 'epoch_1.pth', 'epoch_1_iter_7.pth',
        'epoch_2.pth'
    ]),
    ('EpochBasedRunner', [
        'epoch_0_iter_3.pth', 'epoch_1.pth', 'epoch_1_iter_7.pth',
        'epoch_2.pth'
    ]),
])
def test_a_slow_run_loses_no_more_than_so_many_seconds(tmp_path, clock, name,
                                                       expected):
    steps = 8 if 'Iter' in name else 2
    train(
        tmp_path,
        runner=runner_config(name, steps),
        hooks=[
            Tick(clock),
            dict(
                interval=100 if 'Iter' in name else 1,
                triggers=dict(secs=3),
                **OURS)
        ])
    saves = [
        event for event in History(str(tmp_path)).read()
        if event['event'] == 'save'
    ]
    assert sorted(event['name'] for event in saves) == expected
    # the next regular one takes the place of one off the grid
    regular = {
        event['name']
        for event in saves if event['trigger'] in ('interval', 'last')
    }
    assert set(names(tmp_path)) - {'latest.pth'} == regular


@pytest.mark.parametrize('name', RUNNERS)
def test_a_file_asks_for_a_save_once(tmp_path, clock, name):

    class Ask(Hook):

        def before_train_iter(self, runner):
            if runner.iter == 2:
                (tmp_path / 'SAVE').touch()

    unit = 'iter' if 'Iter' in name else 'epoch'
    train(
        tmp_path,
        runner=runner_config(name, 8 if unit == 'iter' else 2),
        hooks=[Tick(clock), Ask(),
               dict(save_last=False, **OURS)])
    assert not (tmp_path / 'SAVE').exists()
    expected = 'iter_3.pth' if unit == 'iter' else 'epoch_0_iter_3.pth'
    assert names(tmp_path) == [expected, 'latest.pth']


def test_steps_that_were_asked_for(tmp_path):
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[
            dict(
                interval=2,
                save_last=False,
                triggers=dict(begin=5, at=[1, 7]),
                **OURS)
        ])
    assert names(tmp_path) == [
        'iter_1.pth', 'iter_6.pth', 'iter_7.pth', 'iter_8.pth', 'latest.pth'
    ]


# -- what else a run leaves -------------------------------------------------


def test_the_catalog_tells_what_is_there(tmp_path):
    train(
        tmp_path,
        runner=runner_config('EpochBasedRunnerAmp', 2),
        hooks=[dict(interval=1, **OURS)])
    catalog = json.loads((tmp_path / 'checkpoints.json').read_text())
    told = [(info['name'], info['epoch'], info['iter'], info['bytes'])
            for info in catalog['checkpoints']]
    assert told == [(name, epoch, 4 * epoch, os.path.getsize(tmp_path / name))
                    for epoch, name in ((1, 'epoch_1.pth'), (2, 'epoch_2.pth'))
                    ]


@pytest.mark.parametrize('name', RUNNERS)
def test_nothing_but_checkpoints_and_their_books_is_left(tmp_path, name):
    unit = 'iter' if 'Iter' in name else 'epoch'
    train(
        tmp_path,
        runner=runner_config(name, 2),
        hooks=[dict(interval=1, **OURS)])
    assert sorted(os.listdir(tmp_path)) == [
        'checkpoints.json', 'checkpoints.lock', 'checkpoints.log.jsonl',
        f'{unit}_1.pth', f'{unit}_2.pth', 'latest.pth'
    ]


@pytest.mark.parametrize('name', RUNNERS)
def test_no_thread_is_left(tmp_path, name):
    before = threading.active_count()
    train(
        tmp_path,
        runner=runner_config(name, 2),
        hooks=[dict(interval=1, **OURS)])
    assert threading.active_count() == before


def test_checkpoints_may_be_read_by_whom_the_umask_allows(tmp_path):
    """Trap 44: ``mkstemp`` would give 0600."""
    before = os.umask(0o027)
    try:
        train(tmp_path, hooks=[dict(interval=4, **OURS)])
    finally:
        os.umask(before)
    for name in ('iter_4.pth', 'checkpoints.json', 'checkpoints.log.jsonl'):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640


# -- EMA --------------------------------------------------------------------


class Stop(Exception):
    """A kill that the test survives."""


def weights(runner):
    return {
        name: value.clone()
        for name, value in runner.model.state_dict().items()
    }


@pytest.mark.parametrize('name, by_hook', [(name, True) for name in RUNNERS] +
                         [(name, False) for name in RUNNERS if 'Amp' in name])
def test_ema_weights_survive_a_resume(tmp_path, name, by_hook):
    """Trap 22: stock drops them as unexpected keys."""
    unit, stop, end = ('iter', 4, 8) if 'Iter' in name else ('epoch', 1, 3)

    def run(where, steps, resume):
        runner = make_runner(
            tmp_path / where,
            runner=runner_config(name, steps),
            hooks=[
                dict(
                    interval=stop,
                    **OURS,
                    **(dict(resume='auto') if by_hook else {}))
            ],
            seed=steps)
        runner.register_hook(EMAHook(momentum=.3), 49)
        if resume and not by_hook:
            runner.resume(str(tmp_path / where / f'{unit}_{stop}.pth'))
        runner.run([make_loader()], [('train', 1)])
        return runner

    torch.manual_seed(0)
    whole = make_runner(
        tmp_path / 'whole',
        runner=runner_config(name, end),
        hooks=[dict(interval=stop, **OURS)],
        seed=stop)
    whole.register_hook(EMAHook(momentum=.3), 49)
    whole.run([make_loader()], [('train', 1)])
    run('part', stop, False)
    part = run('part', end, True)
    one, other = weights(whole), weights(part)
    assert any(key.startswith('ema_') for key in one)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize('name', ['IterBasedRunner', 'EpochBasedRunner'])
@pytest.mark.parametrize('priority', ['HIGHEST', 'NORMAL', 'VERY_LOW'])
def test_ema_weights_survive_whatever_priority_ours_has(
        tmp_path, name, priority):
    """Restored before or after EMAHook makes its buffers."""
    unit = 'iter' if 'Iter' in name else 'epoch'
    ours = dict(interval=1, resume='auto', priority=priority, **INLINE)

    def build():
        runner = make_runner(
            tmp_path, runner=runner_config(name, 2), hooks=[ours])
        runner.register_hook(EMAHook(momentum=.3), 49)
        return runner

    build().run([make_loader()], [('train', 1)])
    saved = load(tmp_path / f'{unit}_2.pth')['state_dict']
    runner = build()
    runner.call_hook('before_run')
    own = weights(runner)
    assert own.keys() == saved.keys()
    assert all(torch.equal(own[key], saved[key]) for key in own)


def test_a_stock_runner_repeats_an_epoch_from_the_raw_weights(tmp_path):
    """Trap 42, where the epoch cannot be gone on with."""
    config = runner_config('EpochBasedRunner', 2)
    raw = []

    class Note(Hook):

        def before_train_iter(self, runner):
            raw.append(weights(runner)['last.bias'])
            if runner.iter == 6:
                raise Stop

    def build():
        runner = make_runner(
            tmp_path,
            runner=config,
            hooks=[
                Note(),
                dict(interval=3, by_epoch=False, resume='auto', **INLINE)
            ])
        runner.register_hook(EMAHook(momentum=.3), 49)
        return runner

    with pytest.raises(Stop):
        build().run([make_loader()], [('train', 1)])
    before = raw[-1]
    with pytest.raises(Stop):
        build().run([make_loader()], [('train', 1)])
    assert torch.equal(raw[7], before)


@pytest.mark.parametrize('evaluation', [False, True])
@pytest.mark.parametrize('step', [2, 4, 6])
def test_ema_inside_an_epoch_goes_on_from_the_raw_weights(
        tmp_path, step, evaluation):
    """Trap 42: EMAHook swaps at the start and at the end of an epoch.

    With an evaluation by iteration the end of an epoch is saved before that.
    """

    def build(where):
        runner = make_runner(
            tmp_path / where,
            runner=runner_config('EpochBasedRunnerAmp', 2),
            evaluation=dict(scores=[.5], interval=2, by_epoch=False)
            if evaluation else None,
            hooks=[dict(interval=2, by_epoch=False, **OURS)])
        runner.register_hook(EMAHook(momentum=.3), 49)
        return runner

    whole = build('whole')
    whole.run([make_loader()], [('train', 1)])
    file, = (tmp_path / 'whole').glob(f'epoch_*_iter_{step}.pth')
    part = build('part')
    part.resume(str(file))
    part.run([make_loader()], [('train', 1)])
    assert (part.epoch, part.iter) == (2, 8)
    one, other = weights(whole), weights(part)
    assert all(torch.equal(one[key], other[key]) for key in one)


# -- learning rate ----------------------------------------------------------

POLY = dict(
    policy='poly',
    power=.9,
    by_epoch=False,
    warmup='linear',
    warmup_iters=3,
    warmup_ratio=.1)


class Rates(Hook):
    """Notes the learning rate of every iteration; stops at one."""

    def __init__(self, stop=None):
        self.rates, self.stop = [], stop

    def before_train_iter(self, runner):
        if runner.iter == self.stop:
            raise Stop
        self.rates.append(runner.current_lr()[0])


@pytest.mark.parametrize('name', RUNNERS)
def test_the_learning_rate_goes_on_where_it_was(tmp_path, name):
    """On stock runners the schedule's hook has read it by then."""
    steps = 8 if 'Iter' in name else 2

    def run(where, stop=None, lr=.01):
        model, rates = ToyModel(), Rates(stop)
        runner = make_runner(
            tmp_path / where,
            runner=runner_config(name, steps),
            model=model,
            optimizer=torch.optim.AdamW(model.parameters(), lr=lr),
            hooks=[rates, dict(interval=1, resume='auto', **INLINE)])
        runner.register_lr_hook(dict(POLY))
        runner.run([make_loader()], [('train', 1)])
        return rates.rates

    whole = run('whole')
    with pytest.raises(Stop):
        run('part', stop=4)
    # the base rate is the file's, as after a resume of stock
    assert run('part', lr=.5) == whole[4:]
