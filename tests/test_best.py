"""EvalHook's best checkpoint: never lost, never the wrong one."""
import json
import os
import shutil
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmcv.runner import Hook
from stock import best_has_a_place
from toy import QuickEvalHook, make_loader, make_runner, names, train

from mmcv_ckpt_hooks import opening
from mmcv_ckpt_hooks.errors import ConfigError, OutOfSpaceError
from mmcv_ckpt_hooks.storage.local import LocalBackend
from mmcv_ckpt_hooks.testing.faulty import Fault, FaultyBackend
from mmcv_ckpt_hooks.testing.memory import MemoryBackend
from mmcv_ckpt_hooks.types import Capabilities

OURS = dict(type='DurableCheckpointHook')
ITER = ['IterBasedRunner', 'IterBasedRunnerAmp']
EPOCH = ['EpochBasedRunner', 'EpochBasedRunnerAmp']


def runner_config(name, steps):
    if 'Iter' in name:
        return dict(type=name, max_iters=steps)
    return dict(type=name, max_epochs=steps)


def by_iter(scores, interval=4, **kwargs):
    return dict(
        dict(
            scores=scores, interval=interval, by_epoch=False,
            save_best='mIoU'), **kwargs)


def load(path):
    return torch.load(path, map_location='cpu')


def best_files(directory):
    return [name for name in names(directory) if name.startswith('best')]


def catalog_of(directory):
    with open(directory / 'checkpoints.json') as file:
        return json.load(file)


def metrics_of(directory):
    return {
        info['name']: info['metrics']
        for info in catalog_of(directory)['checkpoints']
    }


@pytest.fixture
def faulty(monkeypatch):
    """Let the next run's place fail as told."""

    def arrange(*faults):
        made = []

        def open_backend(url, *args, **kwargs):
            made.append(FaultyBackend(LocalBackend(url), faults))
            return made[-1]

        monkeypatch.setattr(opening, 'open_backend', open_backend)
        return made

    yield arrange


@pytest.mark.parametrize('name', ITER)
def test_a_run_that_falls_back_has_the_best_of_before(tmp_path, name):
    hook = dict(OURS, interval=2, max_keep_ckpts=2, resume='auto')

    def go_on(steps, scores):
        return train(
            tmp_path,
            runner=runner_config(name, steps),
            hooks=[dict(hook, max_keep_ckpts=4 if steps == 8 else 2)],
            evaluation=by_iter(scores, 2))

    go_on(8, [.1, .5, .3, .7])
    assert best_files(tmp_path) == ['best_mIoU_iter_8.pth']
    for gone in ('iter_8.pth', 'best_mIoU_iter_8.pth'):
        (tmp_path / gone).unlink()
    runner = go_on(14, [.2, .4, .5, .3])
    assert best_files(tmp_path) == ['best_mIoU_iter_4.pth']
    assert load(tmp_path / 'best_mIoU_iter_4.pth')['meta']['iter'] == 4
    assert 'iter_4.pth' not in names(tmp_path)
    messages = runner.meta['hook_msgs']
    assert messages['best_score'] == .5
    assert os.path.exists(messages['best_ckpt'])
    go_on(16, [.6])
    assert best_files(tmp_path) == ['best_mIoU_iter_16.pth']


# -- which score counts -----------------------------------------------------


@pytest.mark.parametrize('name', ITER)
def test_a_best_score_of_exactly_zero_counts(tmp_path, name):
    """Trap 6: stock drops it."""
    runner = train(
        tmp_path,
        runner=runner_config(name, 8),
        checkpoint_config=dict(interval=4),
        evaluation=by_iter([0.0, -1.0]),
        hooks=[OURS])
    assert best_files(tmp_path) == ['best_mIoU_iter_4.pth']
    assert runner.meta['hook_msgs']['best_score'] == 0.0


def test_a_loss_of_zero_is_the_best_loss(tmp_path):
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 12),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter(
            [dict(loss=.5), dict(loss=0.0),
             dict(loss=.1)], save_best='loss'))
    assert best_files(tmp_path) == ['best_loss_iter_8.pth']


@pytest.mark.parametrize(
    'bad', [
        float('nan'),
        np.float32('nan'),
        float('inf'),
    ], ids=repr)
def test_a_broken_score_never_becomes_the_best(tmp_path, bad):
    """After an infinite one nothing would ever be better."""
    runner = train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 12),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([bad, .3, .2]))
    assert best_files(tmp_path) == ['best_mIoU_iter_8.pth']
    assert runner.meta['hook_msgs']['best_score'] == .3


def test_the_first_of_equal_scores_stays(tmp_path):
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([.5, .5]))
    assert best_files(tmp_path) == ['best_mIoU_iter_4.pth']


@pytest.mark.filterwarnings('ignore:Since `eval_res`')
@pytest.mark.parametrize('name', ITER)
def test_an_evaluation_without_a_result_does_not_stop_training(tmp_path, name):
    runner = train(
        tmp_path,
        runner=runner_config(name, 8),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([{}, .5]))
    assert runner.iter == 8
    assert best_files(tmp_path) == ['best_mIoU_iter_8.pth']


class MmsegLikeEvalHook(QuickEvalHook):
    """mmseg 0.30.0 gives every score, also None, to ``_save_ckpt``."""

    def _do_evaluate(self, runner):
        if not self._should_evaluate(runner):
            return
        runner.log_buffer.clear()
        runner.log_buffer.output['eval_iter_num'] = len(self.dataloader)
        key_score = self.evaluate(runner, [])
        if self.save_best:
            self._save_ckpt(runner, key_score)


@pytest.mark.filterwarnings('ignore:Since `eval_res`')
@pytest.mark.parametrize('name', ITER)
def test_mmsegs_hook_survives_a_missing_score(tmp_path, name):
    """Trap 6: ``TypeError`` in the middle of training."""
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 12),
        checkpoint_config=dict(interval=4),
        hooks=[OURS])
    runner.register_hook(
        MmsegLikeEvalHook([{}, 0.0, .5],
                          interval=4,
                          by_epoch=False,
                          save_best='mIoU'), 'LOW')
    runner.run([make_loader()], [('train', 1)])
    assert best_files(tmp_path) == ['best_mIoU_iter_12.pth']
    assert metrics_of(tmp_path)['iter_8.pth'] == dict(mIoU=0.0)


@pytest.mark.parametrize('name', ITER)
def test_an_unknown_metric_is_told_with_those_there_are(tmp_path, name):
    """Trap 6: a bare ``KeyError`` in stock."""
    with pytest.raises(ConfigError) as caught:
        train(
            tmp_path,
            runner=runner_config(name, 8),
            hooks=[dict(interval=4, write=dict(background=False), **OURS)],
            evaluation=by_iter([dict(mIoU=.5, aAcc=.6)], save_best='mAP'))
    for word in ('mAP', 'mIoU', 'aAcc'):
        assert word in str(caught.value)
    # the step was saved before
    assert 'iter_4.pth' in names(tmp_path)


@pytest.mark.parametrize('name', ITER)
def test_auto_takes_the_first_metric_and_goes_on_with_it(tmp_path, name):

    def run(steps, scores):
        train(
            tmp_path,
            runner=runner_config(name, steps),
            hooks=[dict(interval=4, resume='auto', **OURS)],
            evaluation=by_iter(
                [OrderedDict(aAcc=one, mIoU=1 - one) for one in scores],
                save_best='auto'))

    run(4, [.5])
    assert best_files(tmp_path) == ['best_aAcc_iter_4.pth']
    run(8, [.4])
    assert best_files(tmp_path) == ['best_aAcc_iter_4.pth']
    run(12, [.6])
    assert best_files(tmp_path) == ['best_aAcc_iter_12.pth']


# -- what is recorded -------------------------------------------------------


def test_every_score_is_joined_to_its_checkpoint_at_once(tmp_path):
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 12),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([.5, .6, .4], save_best=None))
    assert metrics_of(tmp_path) == {
        'iter_4.pth': dict(mIoU=.5),
        'iter_8.pth': dict(mIoU=.6),
        'iter_12.pth': dict(mIoU=.4),
    }


def test_scores_of_numpy_become_floats(tmp_path):
    """Trap 30: stock's file does not load on torch >= 2.6."""
    runner = train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[dict(interval=2, **OURS)],
        evaluation=by_iter([
            dict(mIoU=np.float64(.5), aAcc=np.float32(.75), n=np.int64(3)),
        ]))
    assert type(runner.meta['hook_msgs']['best_score']) is float
    for name in best_files(tmp_path) + ['iter_6.pth', 'iter_8.pth']:
        load(tmp_path / name)
    metrics = metrics_of(tmp_path)['iter_4.pth']
    assert metrics == dict(mIoU=.5, aAcc=.75, n=3)
    saved = load(tmp_path / 'iter_6.pth')['meta']['hook_msgs']
    assert saved['best_score'] == .5


def test_scores_in_arrays_and_tensors_become_floats(tmp_path):
    runner = train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([
            dict(
                mIoU=torch.tensor(.5),
                aAcc=np.array([[.75]]),
                per_class=np.array([.5, .6]),
                nothing=torch.zeros(0)),
        ]))
    assert type(runner.meta['hook_msgs']['best_score']) is float
    assert metrics_of(tmp_path)['iter_4.pth'] == dict(mIoU=.5, aAcc=.75)


@pytest.mark.parametrize(
    'bad', ['0.9', [.9], 10**400], ids=lambda bad: type(bad).__name__)
def test_a_score_that_is_no_number_is_told_and_is_no_best(
        tmp_path, caplog, bad):
    runner = train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 12),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([.5, dict(mIoU=bad), .6]))
    assert runner.iter == 12
    assert best_files(tmp_path) == ['best_mIoU_iter_12.pth']
    assert f'no number ({type(bad).__name__})' in caplog.text


def test_what_is_no_number_is_no_score(tmp_path):
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 4),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter(
            [dict(mIoU=.5, table='0.5 0.6', per_class=[.5, .6])]))
    assert metrics_of(tmp_path)['iter_4.pth'] == dict(mIoU=.5)


def test_the_catalog_is_json_that_every_reader_understands(tmp_path):
    """mmseg's IoU of a class that does not occur is NaN."""
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([{
            'mIoU': .5,
            'IoU.cell': float('nan')
        }]))

    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON')

    text = (tmp_path / 'checkpoints.json').read_text()
    json.loads(text, parse_constant=refuse)
    for line in (tmp_path / 'checkpoints.log.jsonl').read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    assert metrics_of(tmp_path)['iter_4.pth']['mIoU'] == .5


def test_what_loggers_print_is_unchanged(tmp_path, caplog):
    """Trap 32: the log buffer belongs to the loggers."""
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([{
            'mIoU': .5,
            'IoU.cell': float('nan')
        }]),
        log_interval=4)
    # mmcv < 1.3.8 in the line of training
    lines = [line for line in caplog.text.splitlines() if 'mIoU: 0' in line]
    assert len(lines) == 2
    assert all('mIoU: 0.5000' in line and 'IoU.cell: nan' in line
               for line in lines)


# -- the file ---------------------------------------------------------------


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_best_at_the_step_of_a_save_takes_no_space(tmp_path, name):
    unit = 'iter' if 'Iter' in name else 'epoch'
    train(
        tmp_path,
        runner=runner_config(name, 2),
        checkpoint_config=dict(interval=1),
        evaluation=by_iter([.5, .6], 1, by_epoch=unit == 'epoch'),
        hooks=[OURS])
    assert best_files(tmp_path) == [f'best_mIoU_{unit}_2.pth']
    one = os.stat(tmp_path / f'best_mIoU_{unit}_2.pth')
    other = os.stat(tmp_path / f'{unit}_2.pth')
    assert one.st_ino == other.st_ino


@pytest.mark.parametrize('name', ITER)
def test_best_beside_the_grid_is_written(tmp_path, name):

    class Weights(Hook):
        seen = {}

        def after_train_iter(self, runner):
            self.seen[runner.iter + 1] = runner.model.last.bias.clone()

    watch = Weights()
    train(
        tmp_path,
        runner=runner_config(name, 8),
        checkpoint_config=dict(interval=8),
        evaluation=by_iter([.5, .6, .4, .3], 2),
        hooks=[OURS, watch])
    assert names(tmp_path) == [
        'best_mIoU_iter_4.pth', 'iter_8.pth', 'latest.pth'
    ]
    checkpoint = load(tmp_path / 'best_mIoU_iter_4.pth')
    assert checkpoint['meta']['iter'] == 4
    assert torch.equal(checkpoint['state_dict']['last.bias'], watch.seen[4])
    assert 'optimizer' in checkpoint
    assert os.readlink(tmp_path / 'latest.pth') == 'iter_8.pth'


@pytest.mark.parametrize('name', EPOCH)
def test_best_by_epoch_beside_the_grid_is_written(tmp_path, name):
    train(
        tmp_path,
        runner=runner_config(name, 4),
        checkpoint_config=dict(interval=4),
        evaluation=by_iter([.5, .6, .4, .3], 1, by_epoch=True),
        hooks=[OURS])
    assert names(tmp_path) == [
        'best_mIoU_epoch_2.pth', 'epoch_4.pth', 'latest.pth'
    ]
    meta = load(tmp_path / 'best_mIoU_epoch_2.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (2, 8)


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_an_evaluation_before_training_is_not_that_of_the_first_step(
        tmp_path, name):
    """``evaluation.start``: the weights are those before it."""
    unit = 'iter' if 'Iter' in name else 'epoch'
    seen = []

    class First(Hook):

        def before_run(self, runner):
            seen.append(runner.model.last.bias.clone())

    train(
        tmp_path,
        runner=runner_config(name, 2),
        checkpoint_config=dict(interval=1),
        evaluation=by_iter([.9, .5, .6], 1, by_epoch=unit == 'epoch', start=0),
        hooks=[OURS, First()])
    assert best_files(tmp_path) == [f'best_mIoU_{unit}_0.pth']
    checkpoint = load(tmp_path / f'best_mIoU_{unit}_0.pth')
    assert (checkpoint['meta']['epoch'], checkpoint['meta']['iter']) == (0, 0)
    assert torch.equal(checkpoint['state_dict']['last.bias'], seen[0])
    assert metrics_of(tmp_path)[f'{unit}_1.pth'] == dict(mIoU=.5)
    assert metrics_of(tmp_path)[f'{unit}_2.pth'] == dict(mIoU=.6)


def test_an_evaluation_before_training_does_not_hide_the_first_step(tmp_path):
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 2),
        hooks=[dict(interval=1, **OURS)],
        evaluation=by_iter([.4, .5, .3], 1, start=0))
    assert best_files(tmp_path) == ['best_mIoU_iter_1.pth']


@pytest.mark.parametrize('name', EPOCH)
def test_by_iteration_on_an_epoch_runner(tmp_path, name):
    """The best at the end of an epoch can be resumed from, too."""
    train(
        tmp_path,
        runner=runner_config(name, 2),
        checkpoint_config=dict(interval=4, by_epoch=False),
        evaluation=by_iter([.5, .6], 4),
        hooks=[OURS])
    assert best_files(tmp_path) == ['best_mIoU_iter_8.pth']
    runner = make_runner(
        tmp_path, runner=runner_config('EpochBasedRunnerAmp', 3))
    runner.resume(str(tmp_path / 'best_mIoU_iter_8.pth'))
    runner.run([make_loader()], [('train', 1)])
    assert (runner.epoch, runner.iter) == (3, 12)


# -- failures ---------------------------------------------------------------


@pytest.mark.parametrize('name', ITER)
@pytest.mark.parametrize('verb, grid', [('link', 4), ('put', 100)])
def test_a_best_that_cannot_be_written_keeps_the_one_before(
        tmp_path, faulty, caplog, name, verb, grid):
    """Trap 8: stock has deleted it by then, and says the new one is there."""
    error = OutOfSpaceError('no space left')
    # best and catalog are put; the catalog after each
    nth = {'link': 2, 'put': 6}[verb]
    made = faulty(Fault(verb, error, nth=nth))
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 8),
        hooks=[
            dict(interval=grid, save_last=False, create_symlink=False, **OURS)
        ],
        evaluation=by_iter([.5, .6]))
    runner.run([make_loader()], [('train', 1)])
    wanted = {
        'link': 'link iter_8.pth best_mIoU_iter_8.pth',
        'put': 'put best_mIoU_iter_8.pth'
    }[verb]
    calls = [call for call in made[0].calls if call.startswith(verb)]
    if calls.index(wanted) + 1 != nth:
        pytest.fail(f'the fault hit another call: {calls}')
    assert best_files(tmp_path) == ['best_mIoU_iter_4.pth']
    load(tmp_path / 'best_mIoU_iter_4.pth')
    messages = runner.meta['hook_msgs']
    assert messages['best_score'] == .5
    assert os.path.basename(messages['best_ckpt']) == 'best_mIoU_iter_4.pth'
    assert catalog_of(tmp_path)['best']['mIoU']['score'] == .5
    told = [one for one in caplog.records if one.levelname == 'ERROR']
    assert len(told) == 1 and 'best_mIoU_iter_8.pth' in told[0].getMessage()


def test_on_error_raise_raises_for_a_failed_best(tmp_path, faulty):
    faulty(Fault('link', OutOfSpaceError('no space left')))
    with pytest.raises(OutOfSpaceError):
        train(
            tmp_path,
            runner=runner_config('IterBasedRunnerAmp', 8),
            hooks=[dict(interval=4, on_error='raise', **OURS)],
            evaluation=by_iter([.5, .6]))


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_a_full_disk_during_evaluation_does_not_stop_training(
        tmp_path, faulty, name):
    """``on_error='warn'``: log it and go on."""
    made = faulty()

    class FillDisk(Hook):

        def after_train_iter(self, runner):
            if runner.iter == 1:
                made[0].faults.append(
                    Fault('put', OutOfSpaceError('full'), times=None))

    unit = 'iter' if 'Iter' in name else 'epoch'
    runner = make_runner(
        tmp_path,
        runner=runner_config(name, 4),
        hooks=[dict(interval=2, **OURS)],
        evaluation=by_iter([.5, .6], 1, by_epoch=unit == 'epoch'))
    runner.register_hook(FillDisk(), 'LOWEST')
    runner.run([make_loader()], [('train', 1)])
    assert getattr(runner, unit) == 4


# -- resume, copy, fork -----------------------------------------------------


@pytest.mark.parametrize('name', ITER + EPOCH)
def test_a_resumed_run_knows_the_best_of_before(tmp_path, name):
    """Traps 3 and 5: a worse one would become the best."""
    unit = 'iter' if 'Iter' in name else 'epoch'

    def run(steps, scores):
        return train(
            tmp_path,
            runner=runner_config(name, steps),
            hooks=[dict(interval=1, resume='auto', **OURS)],
            evaluation=by_iter(scores, 1, by_epoch=unit == 'epoch'))

    run(2, [.5, .7])
    assert best_files(tmp_path) == [f'best_mIoU_{unit}_2.pth']
    runner = run(3, [.6])
    assert best_files(tmp_path) == [f'best_mIoU_{unit}_2.pth']
    assert runner.meta['hook_msgs']['best_score'] == .7
    run(4, [.8])
    assert best_files(tmp_path) == [f'best_mIoU_{unit}_4.pth']
    saved = load(tmp_path / f'{unit}_4.pth')['meta']['hook_msgs']
    assert (saved['best_score'],
            saved['best_ckpt']) == (.7, f'best_mIoU_{unit}_2.pth')


SCORES_OF_FILES = [
    # best_score in the file, whether .5 is better
    (float('nan'), True),
    (float('inf'), True),
    (None, True),
    (.4, True),
    (.6, False),
    (1, False),
    (np.float64(.6), False),
    (np.array(.6), False),
    (torch.tensor([.6]), False),
]


@pytest.mark.parametrize('name', ITER)
@pytest.mark.parametrize('score, is_better', SCORES_OF_FILES, ids=repr)
def test_the_best_score_of_another_programs_file(tmp_path, name, score,
                                                 is_better):
    train(
        tmp_path / 'first',
        runner=runner_config('IterBasedRunnerAmp', 4),
        hooks=[dict(interval=4, **OURS)])
    checkpoint = load(tmp_path / 'first' / 'iter_4.pth')
    checkpoint['meta']['hook_msgs'] = dict(best_score=score)
    (tmp_path / 'second').mkdir()
    torch.save(checkpoint, tmp_path / 'second' / 'iter_4.pth')
    train(
        tmp_path / 'second',
        runner=runner_config(name, 8),
        hooks=[dict(interval=4, resume='auto', **OURS)],
        evaluation=by_iter([.5]))
    assert best_files(tmp_path / 'second') == ['best_mIoU_iter_8.pth'
                                               ][:is_better]


@pytest.mark.parametrize('kept', ['best', 'regular'])
def test_a_run_that_goes_back_forgets_a_best_that_lies_ahead(tmp_path, kept):

    def run(steps, scores, **kwargs):
        return train(
            tmp_path,
            runner=runner_config('IterBasedRunnerAmp', steps),
            hooks=[dict(interval=4, **kwargs, **OURS)],
            evaluation=by_iter(scores))

    run(12, [.5, .6, .9])
    name = 'iter_4.pth' if kept == 'regular' else 'best_mIoU_iter_12.pth'
    runner = make_runner(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 16),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([.7, .4, .3]))
    runner.resume(str(tmp_path / name))
    runner.run([make_loader()], [('train', 1)])
    expected = .7 if kept == 'regular' else .9
    assert runner.meta['hook_msgs']['best_score'] == expected


def test_a_copied_directory_never_touches_the_original(tmp_path):
    """Trap 10: stock deletes the original's best file."""
    first, second = tmp_path / 'first', tmp_path / 'second'

    def run(where, steps, scores):
        return train(
            where,
            runner=runner_config('IterBasedRunnerAmp', steps),
            hooks=[dict(interval=4, resume='auto', max_keep_ckpts=1, **OURS)],
            evaluation=by_iter(scores))

    run(first, 8, [.5, .6])
    before = names(first)
    shutil.copytree(first, second, symlinks=True)
    runner = run(second, 16, [.7, .8])
    assert names(first) == before
    assert names(second) == [
        'best_mIoU_iter_16.pth', 'iter_16.pth', 'latest.pth'
    ]
    best = runner.meta['hook_msgs']['best_ckpt']
    assert best == str(second / 'best_mIoU_iter_16.pth')


@pytest.mark.parametrize('by_hook', [True, False])
@pytest.mark.parametrize('source', ['ours', 'stock'])
def test_a_fork_never_touches_the_original(tmp_path, source, by_hook):
    """Trap 10: another work dir, resumed from the original's file."""
    first, second = tmp_path / 'first', tmp_path / 'second'
    train(
        first,
        runner=runner_config(
            'IterBasedRunnerAmp' if source == 'ours' else 'IterBasedRunner',
            8),
        checkpoint_config=dict(interval=4),
        hooks=[OURS] if source == 'ours' else [],
        evaluation=by_iter([.5, .4]))
    before = names(first)
    assert 'best_mIoU_iter_4.pth' in before
    path = str(first / 'iter_8.pth')
    ours = dict(interval=4, max_keep_ckpts=1, **OURS)
    if by_hook:
        ours['resume'] = path
    runner = make_runner(
        second,
        runner=runner_config('IterBasedRunnerAmp', 16),
        hooks=[ours],
        evaluation=by_iter([.3, .8]))
    if not by_hook:
        runner.resume(path)
    runner.run([make_loader()], [('train', 1)])
    assert names(first) == before
    assert best_files(second) == ['best_mIoU_iter_16.pth']


def test_a_lost_catalog_does_not_cost_the_best_checkpoint(tmp_path):

    def run(steps, scores):
        return train(
            tmp_path,
            runner=runner_config('IterBasedRunnerAmp', steps),
            hooks=[dict(interval=4, resume='auto', max_keep_ckpts=1, **OURS)],
            evaluation=by_iter(scores))

    run(12, [.5, .9, .3])
    os.unlink(tmp_path / 'checkpoints.json')
    run(20, [.4, .2])
    assert 'best_mIoU_iter_8.pth' in best_files(tmp_path)


# -- other places and other hooks -------------------------------------------


@pytest.mark.parametrize('name', ITER)
def test_by_epoch_on_an_iteration_runner_still_evaluates(
        tmp_path, caplog, name):
    """Trap 14: mmseg's tool says by_epoch for every other runner name."""
    train(
        tmp_path,
        runner=runner_config(name, 8),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([.5, .6], by_epoch=True))
    assert best_files(tmp_path) == ['best_mIoU_iter_8.pth']
    assert 'evaluates every 4 iterations' in caplog.text


def test_it_does_so_without_our_hook(tmp_path):
    runner = train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        evaluation=by_iter([.5, .6], by_epoch=True))
    assert best_files(tmp_path) == ['best_mIoU_iter_8.pth']
    assert runner.meta['hook_msgs']['best_score'] == .6


@best_has_a_place
@pytest.mark.parametrize('name', ITER)
def test_best_goes_to_the_out_dir_of_evaluation(tmp_path, name):
    out = tmp_path / 'out'
    runner = train(
        tmp_path / 'work',
        runner=runner_config(name, 12),
        hooks=[dict(interval=4, **OURS)],
        evaluation=by_iter([.5, .4, .6], out_dir=str(out)))
    assert best_files(tmp_path / 'work') == []
    assert best_files(out / 'work') == ['best_mIoU_iter_12.pth']
    load(out / 'work' / 'best_mIoU_iter_12.pth')
    assert runner.meta['hook_msgs']['best_ckpt'] == str(
        out / 'work' / 'best_mIoU_iter_12.pth')
    # the scores are still joined to the run's checkpoints
    assert metrics_of(tmp_path / 'work')['iter_8.pth'] == dict(mIoU=.4)


@best_has_a_place
def test_a_best_place_that_cannot_list_leaves_the_runs_catalog_alone(
        tmp_path, monkeypatch):
    """Both catalogs are kept in the work dir then."""
    far = MemoryBackend(
        Capabilities(stream_in=True), url=str(tmp_path / 'far' / 'work'))
    original = opening.open_backend

    def open_backend(url, *args, **kwargs):
        return far if url == far.url else original(url, *args, **kwargs)

    monkeypatch.setattr(opening, 'open_backend', open_backend)
    for steps, scores in ((8, [.4, .5]), (12, [.3])):
        runner = train(
            tmp_path / 'work',
            runner=runner_config('IterBasedRunnerAmp', steps),
            hooks=[dict(interval=4, resume='auto', **OURS)],
            evaluation=by_iter(scores, out_dir=str(tmp_path / 'far')))
    assert 'best_mIoU_iter_8.pth' in far.files
    assert runner.meta['hook_msgs']['best_score'] == .5
    assert metrics_of(tmp_path / 'work') == {
        'iter_4.pth': dict(mIoU=.4),
        'iter_8.pth': dict(mIoU=.5),
        'iter_12.pth': dict(mIoU=.3),
    }


def test_two_evaluations_of_one_run_keep_both_bests(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        hooks=[dict(interval=4, max_keep_ckpts=1, **OURS)])
    for key, scores in (('mIoU', [.9, .8]), ('aAcc', [.1, .2])):
        results = [{key: score} for score in scores]
        hook = QuickEvalHook(
            results, interval=4, by_epoch=False, save_best=key)
        runner.register_hook(hook, 'LOW')
    runner.run([make_loader()], [('train', 1)])
    assert best_files(tmp_path) == [
        'best_aAcc_iter_8.pth', 'best_mIoU_iter_4.pth'
    ]
    assert metrics_of(tmp_path)['iter_8.pth'] == dict(mIoU=.8, aAcc=.2)


def test_a_file_that_is_missing_for_a_moment_is_not_forgotten(
        tmp_path, monkeypatch):
    """It would never be deleted; network file systems say so at times."""
    link, calls = os.link, []

    def missing_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise FileNotFoundError(2, 'No such file or directory')
        return link(*args, **kwargs)

    monkeypatch.setattr(os, 'link', missing_once)
    train(
        tmp_path,
        runner=runner_config('IterBasedRunnerAmp', 8),
        evaluation=by_iter([.1, .2, .3, .4], interval=2),
        hooks=[dict(OURS, interval=2, max_keep_ckpts=1)])
    assert len(calls) == 4
    assert names(tmp_path) == [
        'best_mIoU_iter_8.pth', 'iter_8.pth', 'latest.pth'
    ]


def test_a_list_that_was_emptied_leaves_no_best_without_a_run(tmp_path):
    config = dict(
        evaluation=by_iter([.1, .2, .3], interval=2),
        hooks=[dict(OURS, interval=2, max_keep_ckpts=1, resume='auto')])
    train(tmp_path, runner=runner_config(ITER[1], 4), **config)
    content = catalog_of(tmp_path)
    del content['crc32']
    content['checkpoints'] = []
    (tmp_path / 'checkpoints.json').write_text(json.dumps(content))
    train(
        tmp_path,
        runner=runner_config(ITER[1], 6),
        **dict(config, evaluation=by_iter([.9], interval=2)))
    assert best_files(tmp_path) == ['best_mIoU_iter_6.pth']


@pytest.mark.parametrize('metrics', ['high', [1], None])
def test_scores_that_are_no_numbers_stop_no_run(tmp_path, metrics):
    config = dict(
        evaluation=by_iter([.1, .2, .3], interval=2),
        hooks=[
            dict(
                OURS,
                interval=2,
                resume='auto',
                keep=dict(best=1, monitor='mIoU'))
        ])
    train(tmp_path, runner=runner_config(ITER[1], 4), **config)
    content = catalog_of(tmp_path)
    del content['crc32']
    for info in content['checkpoints']:
        info['metrics'] = dict(mIoU=metrics)
    (tmp_path / 'checkpoints.json').write_text(json.dumps(content))
    train(tmp_path, runner=runner_config(ITER[1], 6), **config)
    # the history has the scores
    assert metrics_of(tmp_path)['iter_4.pth'] == dict(mIoU=.2)
