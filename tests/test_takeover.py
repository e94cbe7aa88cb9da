"""Two lines of config beside an ordinary ``checkpoint_config``."""
import os
import sys
import types

import pytest
import torch
from folders import NEW_TORCH
from mmcv.runner import (HOOKS, CheckpointHook, EMAHook, Hook, IterTimerHook,
                         TextLoggerHook)
from mmcv.runner.hooks import LoggerHook, PaviLoggerHook
from stock import takes_file_clients
from toy import QuickEvalHook, make_loader, make_runner, names, train

from mmcv_ckpt_hooks import DurableCheckpointHook
from mmcv_ckpt_hooks.errors import ConfigError
from mmcv_ckpt_hooks.types import SaveRequest

OURS = dict(type='DurableCheckpointHook')
#: The file is there when the hook returns.
INLINE = dict(write=dict(background=False), **OURS)
ITER = ['IterBasedRunner', 'IterBasedRunnerAmp']
EPOCH = ['EpochBasedRunner', 'EpochBasedRunnerAmp']


def runner_config(name, steps=8):
    if 'Iter' in name:
        return dict(type=name, max_iters=steps)
    return dict(type=name, max_epochs=steps)


def ours_of(runner):
    found = [
        hook for hook in runner.hooks
        if isinstance(hook, DurableCheckpointHook)
    ]
    assert len(found) == 1
    return found[0]


def load(path):
    return torch.load(path, map_location='cpu')


class Counter(Hook):
    """Counts its events."""

    def __init__(self):
        self.before_runs = self.iters = self.after_runs = 0

    def before_run(self, runner):
        self.before_runs += 1

    def after_train_iter(self, runner):
        self.iters += 1

    def after_run(self, runner):
        self.after_runs += 1


class Seen(Hook):
    """Notes which checkpoints are there whenever the EvalHook evaluates."""

    def __init__(self, directory):
        self.directory = directory
        self.seen = []

    def watch(self, runner):
        for hook in runner.hooks:
            if hasattr(hook, 'evaluate'):
                inner = hook.test_fn
                hook.test_fn = lambda *args: self._note() or inner(*args)

    def _note(self):
        self.seen.append([
            name for name in names(self.directory)
            if not name.startswith(('best', 'latest'))
        ])


# -- one line in custom_hooks -----------------------------------------------


@pytest.mark.parametrize('name', ITER)
def test_two_lines_beside_an_ordinary_iteration_config(tmp_path, caplog, name):
    runner = train(
        tmp_path,
        runner=runner_config(name, 9),
        checkpoint_config=dict(interval=4, by_epoch=False),
        hooks=[OURS])
    assert names(tmp_path) == [
        'iter_4.pth', 'iter_8.pth', 'iter_9.pth', 'latest.pth'
    ]
    assert not any(type(hook) is CheckpointHook for hook in runner.hooks)
    assert caplog.text.count(
        'CheckpointHook of checkpoint_config is replaced') == 1
    assert caplog.text.count('Saved checkpoint') == 3
    assert caplog.text.count('Saving checkpoint at') == 0
    assert [
        load(tmp_path / f'iter_{step}.pth')['meta']['iter']
        for step in (4, 8, 9)
    ] == [4, 8, 9]


@pytest.mark.parametrize('name', EPOCH)
def test_two_lines_beside_an_ordinary_epoch_config(tmp_path, caplog, name):
    train(
        tmp_path,
        runner=runner_config(name, 5),
        checkpoint_config=dict(interval=2),
        hooks=[OURS])
    assert names(tmp_path) == [
        'epoch_2.pth', 'epoch_4.pth', 'epoch_5.pth', 'latest.pth'
    ]
    assert caplog.text.count('Saved checkpoint') == 3
    metas = [
        load(tmp_path / f'epoch_{epoch}.pth')['meta'] for epoch in (2, 4, 5)
    ]
    assert [(meta['epoch'], meta['iter']) for meta in metas] == [(2, 8),
                                                                 (4, 16),
                                                                 (5, 20)]


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_our_hook_in_checkpoint_config(tmp_path, caplog, name):
    train(
        tmp_path,
        runner=runner_config(name, 2),
        checkpoint_config=dict(interval=1, **OURS))
    unit = 'iter' if 'Iter' in name else 'epoch'
    assert names(tmp_path) == [f'{unit}_1.pth', f'{unit}_2.pth', 'latest.pth']
    assert caplog.text.count('Saved checkpoint') == 2
    assert 'takes over' not in caplog.text


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_our_hook_alone_saves_on_every_runner(tmp_path, name):
    """Trap 13: a stock hook in ``custom_hooks`` never fires by iteration."""
    train(
        tmp_path,
        runner=runner_config(name, 2),
        hooks=[dict(interval=1, **OURS)])
    unit = 'iter' if 'Iter' in name else 'epoch'
    assert names(tmp_path) == [f'{unit}_1.pth', f'{unit}_2.pth', 'latest.pth']


@pytest.mark.parametrize('name', EPOCH)
def test_by_iteration_on_an_epoch_runner_every_save_has_its_own_name(
        tmp_path, name):
    """Trap 4: stock replaces ``epoch_1.pth`` again and again."""
    train(
        tmp_path,
        runner=runner_config(name, 2),
        checkpoint_config=dict(interval=3, by_epoch=False),
        hooks=[OURS])
    found = {}
    for file in names(tmp_path):
        if file != 'latest.pth':
            meta = load(tmp_path / file)['meta']
            found[file] = (meta['epoch'], meta['iter'])
    assert found == {
        'epoch_0_iter_3.pth': (0, 3),
        'epoch_1_iter_6.pth': (1, 6),
        'epoch_2_iter_8.pth': (2, 8),
    }


@pytest.mark.parametrize('name', EPOCH)
def test_the_end_of_an_epoch_is_saved_once(tmp_path, caplog, name):
    train(
        tmp_path,
        runner=runner_config(name, 1),
        checkpoint_config=dict(interval=2, by_epoch=False),
        hooks=[OURS])
    assert names(tmp_path) == [
        'epoch_0_iter_2.pth', 'epoch_1_iter_4.pth', 'latest.pth'
    ]
    assert sum('Saved checkpoint' in one for one in caplog.messages) == 2


def test_the_silenced_stock_hook_of_mmseg_configs_stays_silent(tmp_path):
    """``checkpoint_config=dict(interval=-1, save_last=False)``, trap 15."""
    train(
        tmp_path,
        checkpoint_config=dict(interval=-1, save_last=False),
        hooks=[dict(interval=4, save_last=True, **OURS)])
    assert names(tmp_path) == ['iter_4.pth', 'iter_8.pth', 'latest.pth']


def test_a_repos_own_subclass_of_the_stock_hook_is_left_alone(tmp_path):

    class OwnHook(CheckpointHook):
        saved = 0

        def _save_checkpoint(self, runner):
            self.saved += 1

    own = OwnHook(interval=4, by_epoch=False)
    runner = train(tmp_path, hooks=[own, dict(interval=2, **OURS)])
    assert own in runner.hooks
    assert own.saved == 2
    assert 'iter_6.pth' in names(tmp_path)


# -- place ------------------------------------------------------------------


@pytest.mark.parametrize('priority', ['VERY_LOW', 'LOWEST', 'HIGHEST', 75])
@pytest.mark.parametrize('stock', [True, False])
@pytest.mark.parametrize('name', ITER)
def test_whatever_priority_a_kill_during_evaluation_loses_nothing(
        tmp_path, name, stock, priority):
    """Saves happen before evaluation, as in stock."""
    seen = Seen(tmp_path)
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 4),
        checkpoint_config=dict(interval=2) if stock else None,
        evaluation=dict(scores=[.5], interval=2, by_epoch=False),
        hooks=[
            dict(
                priority=priority,
                **INLINE,
                **({} if stock else dict(interval=2)))
        ])
    seen.watch(runner)
    runner.run([make_loader()], [('train', 1)])
    assert seen.seen == [['iter_2.pth'], ['iter_2.pth', 'iter_4.pth']]


@pytest.mark.parametrize('priority', ['NORMAL', 'VERY_LOW'])
@pytest.mark.parametrize('name', ITER)
def test_an_evaluation_of_normal_priority_is_no_exception(
        tmp_path, name, priority):
    """As mmseg and mmcls register it under older versions of mmcv."""
    seen = Seen(tmp_path)
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 2),
        hooks=[
            QuickEvalHook([.5], interval=2, by_epoch=False),
            dict(interval=2, priority=priority, **INLINE)
        ])
    seen.watch(runner)
    runner.run([make_loader()], [('train', 1)])
    assert seen.seen == [['iter_2.pth']]


@pytest.mark.parametrize('priority', ['VERY_LOW', 'HIGHEST'])
@pytest.mark.parametrize('name', EPOCH)
def test_it_is_so_by_epoch_too(tmp_path, name, priority):
    seen = Seen(tmp_path)
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 2),
        checkpoint_config=dict(interval=1),
        evaluation=dict(scores=[.5], interval=1),
        hooks=[dict(priority=priority, **INLINE)])
    seen.watch(runner)
    runner.run([make_loader()], [('train', 1)])
    assert seen.seen == [['epoch_1.pth'], ['epoch_1.pth', 'epoch_2.pth']]


@pytest.mark.parametrize('name', EPOCH)
def test_by_iteration_the_end_of_an_epoch_is_saved_before_evaluation(
        tmp_path, name):
    seen = Seen(tmp_path)
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 1),
        checkpoint_config=dict(interval=2, by_epoch=False),
        evaluation=dict(scores=[.5], interval=2, by_epoch=False),
        hooks=[INLINE])
    seen.watch(runner)
    runner.run([make_loader()], [('train', 1)])
    assert seen.seen == [['epoch_0_iter_2.pth'],
                         ['epoch_0_iter_2.pth', 'epoch_1_iter_4.pth']]


class Upload(Hook):
    """Reads the checkpoint of the step."""

    def __init__(self, directory):
        self.directory = directory
        self.read = []

    def after_train_iter(self, runner):
        if self.every_n_iters(runner, 2):
            path = self.directory / f'iter_{runner.iter + 1}.pth'
            self.read.append(load(path)['meta']['iter'])


class UploadLogger(Upload):
    """As the wandb hooks of mmseg, mmdet and mmcls."""

    ckpt_hook = None


@pytest.mark.parametrize('name', ITER)
@pytest.mark.parametrize('stock', [True, False])
@pytest.mark.parametrize('kind, priority', [(Upload, 60),
                                            (UploadLogger, 'NORMAL')])
def test_a_hook_that_reads_the_file_comes_behind_the_save(
        tmp_path, name, stock, kind, priority):
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 4),
        checkpoint_config=dict(interval=2) if stock else None,
        hooks=[dict(**INLINE, **({} if stock else dict(interval=2)))])
    upload = kind(tmp_path)
    runner.register_hook(upload, priority)
    runner.run([make_loader()], [('train', 1)])
    assert upload.read == [2, 4]


@HOOKS.register_module()
class Clips(Hook):
    """Changes the weights behind the optimizer's step."""

    def after_train_iter(self, runner):
        with torch.no_grad():
            for one in runner.model.parameters():
                one.clamp_(-.1, .1)


@pytest.mark.parametrize('name', ITER + EPOCH)
@pytest.mark.parametrize('stock', [True, False])
@pytest.mark.parametrize('listed_first', [True, False])
def test_what_a_hook_of_normal_priority_changes_is_in_the_file(
        tmp_path, caplog, name, stock, listed_first):
    """mmcv registers ``custom_hooks`` behind the stock hook."""
    given = {} if stock else dict(interval=1, by_epoch=False)
    hooks = [dict(type='Clips'), dict(**INLINE, **given)]
    train(
        tmp_path,
        runner=runner_config(name, 2),
        checkpoint_config=dict(interval=1, by_epoch=False) if stock else None,
        hooks=hooks if listed_first else hooks[::-1])
    files = [one for one in names(tmp_path) if one != 'latest.pth']
    assert len(files) >= 2
    for one in files:
        saved = load(tmp_path / one)['state_dict']
        assert saved['first.weight'].abs().max() <= .1
    moved = stock or not listed_first
    assert ('saved after Clips' in caplog.text) == moved


def order_of(tmp_path, register, **kwargs):
    """Names of the hooks in the order in which they are called."""
    runner = make_runner(tmp_path, runner=runner_config(ITER[0]), **kwargs)
    register(runner)
    runner.call_hook('before_run')
    runner.call_hook('after_run')
    priorities = [hook.priority for hook in runner.hooks]
    assert priorities == sorted(priorities)
    return [type(hook).__name__ for hook in runner.hooks[3:]]


def test_what_only_reports_stays_behind_the_save(tmp_path):
    """With mmcv 1.3.0 the timer and mmseg's EvalHook are of ``NORMAL``."""

    def register(runner):
        runner._hooks = [
            hook for hook in runner.hooks
            if not isinstance(hook, IterTimerHook)
        ]
        for hook in (IterTimerHook(), Clips(), TextLoggerHook(),
                     UploadLogger(tmp_path),
                     QuickEvalHook([.5], interval=2,
                                   by_epoch=False), Clips(), EMAHook()):
            runner.register_hook(hook)
        runner.register_hook_from_cfg(dict(OURS))

    order = order_of(tmp_path, register, checkpoint_config=dict(interval=2))
    assert order == [
        'OptimizerHook', 'Clips', 'EMAHook', 'DurableCheckpointHook',
        'IterTimerHook', 'TextLoggerHook', 'UploadLogger', 'QuickEvalHook',
        'Clips'
    ]


def test_a_stock_hook_behind_the_evaluation_is_taken_before_it(tmp_path):

    def register(runner):
        runner.register_hook(CheckpointHook(interval=2, by_epoch=False), 'LOW')
        runner.register_hook(Clips(), 60)
        runner.register_hook_from_cfg(dict(OURS))

    order = order_of(
        tmp_path,
        register,
        evaluation=dict(scores=[.5], interval=2, by_epoch=False))
    # the timer of mmcv < 1.3.8 is NORMAL
    assert set(order[1:3]) == {'Clips', 'IterTimerHook'}
    assert [*order[:1], *order[3:]
            ] == ['OptimizerHook', 'DurableCheckpointHook', 'QuickEvalHook']


def test_two_of_ours_stay_in_their_order(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=runner_config(ITER[0]),
        hooks=[
            dict(interval=2, **OURS),
            dict(type='Clips'),
            dict(interval=2, out_dir=str(tmp_path / 'other'), **OURS)
        ])
    one, clips, other = (
        hook for hook in runner.hooks
        if isinstance(hook, (DurableCheckpointHook, Clips)))
    runner.call_hook('before_run')
    runner.call_hook('after_run')
    assert [hook for hook in runner.hooks
            if hook in (one, clips, other)] == [clips, one, other]


@pytest.mark.parametrize('name', ITER + EPOCH)
@pytest.mark.parametrize('priority', ['HIGHEST', 'NORMAL', 'VERY_LOW'])
def test_no_hook_loses_its_before_run(tmp_path, name, priority):
    """Trap 41: removing a hook in ``before_run`` makes mmcv skip the next."""
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 2),
        checkpoint_config=dict(interval=1))
    counters = []
    for place in ('HIGHEST', 'VERY_HIGH', 49, 'NORMAL', 'LOW', 'VERY_LOW',
                  'LOWEST'):
        counters.append(Counter())
        runner.register_hook(counters[-1], place)
    runner.register_hook_from_cfg(dict(priority=priority, **OURS))
    for place in ('HIGHEST', 'NORMAL', 51, 'LOW', 'VERY_LOW', 'LOWEST'):
        counters.append(Counter())
        runner.register_hook(counters[-1], place)
    order = [hook for hook in runner.hooks if isinstance(hook, Counter)]
    runner.run([make_loader()], [('train', 1)])
    assert [one.before_runs for one in counters] == [1] * len(counters)
    assert [one.after_runs for one in counters] == [1] * len(counters)
    assert len({one.iters for one in counters}) == 1
    assert [hook for hook in runner.hooks
            if isinstance(hook, Counter)] == order


def test_the_hooks_list_that_mmcv_iterates_is_not_changed(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=runner_config('IterBasedRunner', 2),
        checkpoint_config=dict(interval=1),
        hooks=[OURS])
    live = runner._hooks
    before = list(live)
    runner.call_hook('before_run')
    assert live == before
    assert runner._hooks is not live


@pytest.mark.parametrize('name', ['IterBasedRunnerAmp', 'EpochBasedRunnerAmp'])
def test_a_hook_of_the_user_with_methods_of_our_names_is_left_alone(
        tmp_path, name):

    class Preparing(Hook):

        def prepare(self, data, split):
            raise AssertionError('called')

        def drain(self):
            raise AssertionError('called')

    train(
        tmp_path,
        runner=runner_config(name, 2),
        hooks=[Preparing(), dict(interval=1, **OURS)])


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_before_run_twice_changes_nothing(tmp_path, name):
    """Trap 20: stock appends the work dir's name at each call."""
    out = tmp_path / 'out'
    work = tmp_path / 'work'
    runner = make_runner(
        work,
        runner=runner_config(name, 2),
        hooks=[dict(interval=1, out_dir=str(out), **OURS)])
    hook = ours_of(runner)
    hook.before_run(runner)
    hook.before_run(runner)
    runner.run([make_loader()], [('train', 1)])
    assert hook.out_dir == str(out / 'work')
    assert len(names(out / 'work')) == 3


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_what_stopped_a_run_is_what_is_raised(tmp_path, name):
    """Not the failed save that was still under way."""

    class Stop(Hook):

        def after_train_iter(self, runner):
            if runner.iter == 2:
                os.rename(tmp_path / 'work', tmp_path / 'moved')
                for hook in runner.hooks:
                    if isinstance(hook, DurableCheckpointHook):
                        hook._saver.save(
                            SaveRequest('iter_3.pth', 0, 3, 'file'),
                            lambda: dict(state_dict={}))
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            tmp_path / 'work',
            runner=runner_config(name),
            hooks=[dict(interval=100, on_error='raise', **OURS),
                   Stop()])


# -- what is inherited ------------------------------------------------------


def test_stock_settings_are_inherited(tmp_path):
    runner = train(
        tmp_path / 'work',
        checkpoint_config=dict(
            interval=2,
            save_optimizer=False,
            out_dir=str(tmp_path / 'out'),
            max_keep_ckpts=2,
            save_last=False,
            filename_tmpl='step_{}.pth',
            create_symlink=False,
            meta=dict(config='model = 1', CLASSES=('a', 'b'))),
        runner=runner_config('IterBasedRunnerAmp', 7),
        hooks=[OURS])
    place = tmp_path / 'out' / 'work'
    assert names(place) == ['step_4.pth', 'step_6.pth']
    checkpoint = load(place / 'step_6.pth')
    assert 'optimizer' not in checkpoint
    assert checkpoint['meta']['config'] == 'model = 1'
    hook = ours_of(runner)
    assert (hook.interval, hook.by_epoch, hook.save_optimizer, hook.out_dir,
            hook.max_keep_ckpts, hook.save_last) == (2, False, False,
                                                     str(place), 2, False)


def test_ours_count_where_both_say_something(tmp_path):
    train(
        tmp_path,
        checkpoint_config=dict(
            interval=2, max_keep_ckpts=1, save_optimizer=False),
        hooks=[dict(interval=3, max_keep_ckpts=2, keep=dict(last=2), **OURS)])
    assert names(tmp_path) == ['iter_6.pth', 'iter_8.pth', 'latest.pth']
    assert 'optimizer' not in load(tmp_path / 'iter_8.pth')


@pytest.mark.parametrize('name', ['IterBasedRunner', 'EpochBasedRunnerAmp'])
def test_two_numbers_of_what_is_kept_are_refused(tmp_path, name):
    """The smaller one would delete what somebody asked to keep."""
    kinds = runner_config(name, 2)

    def trained(place, stock, last):
        return train(
            tmp_path / place,
            runner=kinds,
            checkpoint_config=dict(interval=1, **stock),
            hooks=[dict(OURS, keep=dict(last=last))])

    with pytest.raises(ConfigError) as told:
        trained('a', dict(max_keep_ckpts=5), 2)
    assert 'keep.last=2 contradicts checkpoint_config.max_keep_ckpts=5; ' \
        'give one of them' in str(told.value)
    assert not list(tmp_path.glob('a/*.pth'))
    # said twice, and not said
    trained('b', dict(max_keep_ckpts=2), 2)
    runner = trained('c', dict(), 1)
    assert ours_of(runner).options.keep_last == 1
    # to keep all is no smaller number
    runner = trained('d', dict(max_keep_ckpts=1), -1)
    assert len(list(tmp_path.glob('d/*_*.pth'))) == 2


@NEW_TORCH
def test_a_template_of_folders_in_checkpoint_config(tmp_path):
    """It is the hook that says that they are folders."""
    stock = dict(interval=2, filename_tmpl='iter_{}.dcp')
    with pytest.raises(ConfigError, match='checkpoint_config.filename_tmpl'):
        train(tmp_path, checkpoint_config=stock, hooks=[OURS])
    runner = train(
        tmp_path, checkpoint_config=stock, hooks=[dict(OURS, format='dcp')])
    assert ours_of(runner).options.format == 'dcp'


def test_mmsegs_meta_is_inherited_and_not_changed(tmp_path):
    """Trap 19: stock writes epoch, iter and time into the user's dict."""
    meta = dict(
        mmseg_version='0.30.0',
        config='a = 1',
        CLASSES=('a', 'b'),
        PALETTE=[[0, 0, 0], [1, 1, 1]])
    given = dict(meta)
    train(
        tmp_path,
        checkpoint_config=dict(interval=4, meta=given),
        meta=dict(seed=3, exp_name='config.py'),
        hooks=[OURS])
    assert given == meta
    saved = load(tmp_path / 'iter_4.pth')['meta']
    for name in ('mmseg_version', 'config'):
        assert saved[name] == meta[name]
    assert (saved['seed'], saved['exp_name']) == (3, 'config.py')


@pytest.mark.parametrize('name', ITER)
def test_by_epoch_of_the_stock_default_does_not_silence_an_iteration_run(
        tmp_path, name):
    train(
        tmp_path,
        runner=runner_config(name, 4),
        hooks=[CheckpointHook(interval=2), OURS])
    assert 'iter_2.pth' in names(tmp_path)


def test_an_empty_out_dir_is_none(tmp_path):
    """As for stock; else it would be the root of the file system."""
    train(tmp_path, hooks=[dict(OURS, out_dir='')])
    assert 'iter_8.pth' in names(tmp_path)


def test_out_dir_with_a_trailing_slash(tmp_path):
    runner = train(
        str(tmp_path / 'work') + os.sep,
        runner=runner_config('IterBasedRunner', 4),
        checkpoint_config=dict(interval=2, out_dir=f'{tmp_path}/out/'),
        hooks=[OURS])
    assert 'iter_4.pth' in names(tmp_path / 'out' / 'work')
    assert os.path.samefile(ours_of(runner).out_dir, tmp_path / 'out' / 'work')


@pytest.mark.parametrize('name', ITER)
def test_an_out_dir_that_is_the_work_dir_is_not_nested(tmp_path, name):
    """Trap 20: stock compares strings; a slash makes a second directory."""
    work = tmp_path / 'work'
    train(
        str(work),
        runner=runner_config(name, 4),
        hooks=[dict(interval=2, out_dir=f'{work}/', **OURS)])
    assert names(work) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']


def test_an_option_that_mmcv_would_fail_on_hours_later_fails_at_start(
        tmp_path):
    """Trap 19."""
    runner = make_runner(
        tmp_path,
        checkpoint_config=dict(interval=4, max_keep_ckpt=3),
        hooks=[OURS])
    with pytest.raises(ConfigError, match='max_keep_ckpt'):
        runner.run([make_loader()], [('train', 1)])


@pytest.mark.parametrize('given, told', [
    (dict(resume='auto'), 'checkpoint_config has resume, on which mmcv would '
     'fail at the first save: give it to the DurableCheckpointHook in '
     'custom_hooks'),
    (dict(keep=dict(last=2), resume='auto'),
     'checkpoint_config has keep, resume, on which mmcv would fail at the '
     'first save: give them to the DurableCheckpointHook in custom_hooks'),
])
def test_what_belongs_to_our_hook_is_sent_there(tmp_path, given, told):
    with pytest.raises(ConfigError) as error:
        train(
            tmp_path,
            checkpoint_config=dict(interval=2, **given),
            hooks=[OURS])
    assert str(error.value) == told


@pytest.mark.parametrize('given, told', [
    (dict(interval='2'), "interval must be an int, but got '2' of type str"),
    (dict(interval=0),
     'interval must be at least 1, or -1 for never, but got 0'),
    (dict(interval=2, max_keep_ckpts='3'),
     "max_keep_ckpts must be an int, but got '3' of type str"),
    (dict(interval=2, filename_tmpl='last.pth'),
     'filename_tmpl must have one placeholder'),
    pytest.param(
        dict(interval=2, out_dir='pavi://a/b', file_client_args=dict(a=1)),
        'file_client_args must be None for a pavi:// out_dir',
        marks=takes_file_clients),
])
def test_a_mistake_in_the_stock_config_is_named_as_there(
        tmp_path, given, told):
    with pytest.raises(ConfigError) as error:
        train(tmp_path, hooks=[CheckpointHook(**given), OURS])
    assert str(error.value).startswith(f'checkpoint_config.{told}')


def test_a_mistake_that_does_not_count_is_none(tmp_path):
    train(
        tmp_path,
        checkpoint_config=dict(interval='2'),
        hooks=[dict(OURS, interval=4)])
    assert names(tmp_path) == ['iter_4.pth', 'iter_8.pth', 'latest.pth']


# -- more than one ----------------------------------------------------------


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_two_hooks_that_would_delete_each_others_files_are_refused(
        tmp_path, name):
    runner = make_runner(
        tmp_path,
        runner=runner_config(name),
        hooks=[dict(interval=2, **OURS),
               dict(interval=3, **OURS)])
    with pytest.raises(ConfigError, match='out_dir'):
        runner.run([make_loader()], [('train', 1)])
    assert not any(file.endswith('.pth') for file in os.listdir(tmp_path))


@pytest.mark.parametrize('given', [
    '{at}/out', '{at}/out/', '{at}/out/../out', '{at}/link', '{at}/link/',
    'file://{at}/out', 'file://{at}/link'
])
def test_two_hooks_that_name_one_place_in_two_ways_are_refused(
        tmp_path, given):
    work = tmp_path / 'out' / 'work'
    work.mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'out')
    runner = make_runner(
        f'{work}/',
        hooks=[
            dict(interval=2, **OURS),
            dict(interval=3, out_dir=given.format(at=tmp_path), **OURS)
        ])
    with pytest.raises(ConfigError, match='two DurableCheckpointHooks'):
        runner.run([make_loader()], [('train', 1)])
    assert not any(file.endswith('.pth') for file in os.listdir(work))


@pytest.mark.parametrize('name', ITER)
def test_in_checkpoint_config_and_in_custom_hooks_is_refused(tmp_path, name):
    runner = make_runner(
        tmp_path,
        runner=runner_config(name),
        checkpoint_config=dict(interval=2, **OURS),
        hooks=[OURS])
    with pytest.raises(ConfigError, match='out_dir'):
        runner.run([make_loader()], [('train', 1)])


@pytest.mark.parametrize('name', ITER)
def test_two_hooks_may_write_to_different_places(tmp_path, name):
    train(
        tmp_path / 'work',
        runner=runner_config(name),
        checkpoint_config=dict(interval=4),
        hooks=[
            OURS,
            dict(interval=3, out_dir=str(tmp_path / 'second'), **OURS)
        ])
    assert 'iter_4.pth' in names(tmp_path / 'work')
    assert 'iter_3.pth' in names(tmp_path / 'second' / 'work')
    assert 'iter_3.pth' not in names(tmp_path / 'work')


def test_two_stock_hooks_are_refused(tmp_path):
    runner = make_runner(
        tmp_path,
        checkpoint_config=dict(interval=4),
        hooks=[CheckpointHook(interval=3, by_epoch=False), OURS])
    with pytest.raises(ConfigError, match='2 CheckpointHooks'):
        runner.run([make_loader()], [('train', 1)])


# -- who looks for the stock hook -------------------------------------------


@HOOKS.register_module(force=True)
class WandbLikeHook(LoggerHook):
    """Shaped like ``MMSegWandbHook`` of mmseg 0.30.0."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.ckpt_hook = None
        self.read = []

    def log(self, runner):
        pass

    def before_run(self, runner):
        super().before_run(runner)
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                self.ckpt_hook = hook
        self.ckpt_interval = self.ckpt_hook.interval

    def after_train_iter(self, runner):
        super().after_train_iter(runner)
        if self.every_n_iters(
                runner, self.ckpt_interval) or (self.ckpt_hook.save_last
                                                and self.is_last_iter(runner)):
            path = os.path.join(self.ckpt_hook.out_dir,
                                f'iter_{runner.iter + 1}.pth')
            self.read.append(load(path)['meta']['iter'])


@pytest.mark.parametrize('name', ITER)
def test_a_wandb_hook_finds_the_file_in_the_same_event(tmp_path, name):
    """Trap 33."""
    hook = WandbLikeHook(by_epoch=False)
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 10),
        checkpoint_config=dict(interval=4),
        hooks=[OURS])
    runner.register_hook(hook, 'VERY_LOW')
    runner.run([make_loader()], [('train', 1)])
    assert hook.read == [4, 8, 10]
    assert hook.ckpt_hook is ours_of(runner)


def test_a_wandb_hook_that_holds_the_stock_hook_gets_ours(tmp_path):
    """Its ``before_run`` came first."""
    hook = WandbLikeHook(by_epoch=False)
    runner = make_runner(
        tmp_path,
        runner=runner_config('IterBasedRunner', 4),
        checkpoint_config=dict(interval=4),
        hooks=[dict(interval=2, **OURS)])
    runner.register_hook(hook, 'HIGH')
    runner.call_hook('before_run')
    assert hook.ckpt_hook is ours_of(runner)
    assert hook.ckpt_interval == 2


@pytest.mark.parametrize('name', ITER)
def test_the_pavi_logger_of_mmcv_uploads_the_last_checkpoint(
        tmp_path, monkeypatch, name):
    """Trap 33: it follows ``latest.pth`` as a relative link."""
    uploaded = []

    class SummaryWriter:

        def __init__(self, **kwargs):
            pass

        def add_snapshot_file(self, tag, snapshot_file_path, iteration):
            meta = load(snapshot_file_path)['meta']
            uploaded.append((os.path.basename(snapshot_file_path), iteration,
                             meta['iter']))

        def close(self):
            pass

    fake = types.ModuleType('pavi')
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, 'pavi', fake)
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 6),
        checkpoint_config=dict(interval=4),
        hooks=[OURS])
    runner.register_hook(
        PaviLoggerHook(by_epoch=False, add_last_ckpt=True), 'VERY_LOW')
    runner.run([make_loader()], [('train', 1)])
    assert uploaded == [('iter_6.pth', 6, 6)]


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_the_attributes_of_a_checkpoint_hook_are_there(tmp_path, name):
    runner = train(
        tmp_path,
        runner=runner_config(name, 2),
        checkpoint_config=dict(interval=1, max_keep_ckpts=1),
        hooks=[OURS])
    hook = ours_of(runner)
    assert isinstance(hook, CheckpointHook)
    assert os.path.samefile(hook.out_dir, tmp_path)
    assert (hook.interval, hook.save_last, hook.max_keep_ckpts) == (1, True, 1)
    assert hook.by_epoch is ('Epoch' in name)
    assert hook.args['create_symlink'] is True
    if hasattr(runner, 'get_hook_info'):  # mmcv >= 1.3.8
        assert 'DurableCheckpointHook' in runner.get_hook_info()


# -- the same runner or hook again ------------------------------------------


@pytest.mark.parametrize('name', ITER)
def test_a_run_may_go_on_with_the_same_runner(tmp_path, name):
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 4),
        checkpoint_config=dict(interval=2),
        hooks=[OURS])
    runner.run([make_loader()], [('train', 1)])
    runner._max_iters = 8
    runner.run([make_loader()], [('train', 1)])
    assert [
        load(tmp_path / f'iter_{step}.pth')['meta']['iter']
        for step in (2, 4, 6, 8)
    ] == [2, 4, 6, 8]


def test_one_hook_may_serve_two_runners_one_after_the_other(tmp_path):
    hook = DurableCheckpointHook(interval=4)
    for name in ('first', 'second'):
        if hasattr(hook, 'priority'):
            del hook.priority
        train(tmp_path / name, hooks=[hook])
        assert names(tmp_path /
                     name) == ['iter_4.pth', 'iter_8.pth', 'latest.pth']
