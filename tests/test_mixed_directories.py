"""Directories that several runs, programs and people have used."""
import os
import shutil

import pytest
import torch
from mmcv.runner import BaseRunner
from toy import QuickEvalHook, make_loader, make_runner, names, train

from mmcv_ckpt_hooks import find_resumable
from mmcv_ckpt_hooks.errors import StorageError
from mmcv_ckpt_hooks.storage.local import LocalBackend

OURS = dict(type='DurableCheckpointHook')


def run(work_dir,
        max_iters=4,
        scores=(.5, ),
        resume_from=None,
        hook=OURS,
        **kwargs):
    runner = make_runner(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=max_iters),
        checkpoint_config=dict(interval=2, max_keep_ckpts=2),
        evaluation=dict(
            scores=scores, interval=2, by_epoch=False, save_best='mIoU'),
        hooks=[hook],
        **kwargs)
    if resume_from is not None:
        runner.resume(str(resume_from))
    runner.run([make_loader()], [('train', 1)])
    return runner


def stock(work_dir, max_iters, scores=(.9, .1)):
    return train(
        work_dir,
        runner=dict(type='IterBasedRunner', max_iters=max_iters),
        checkpoint_config=dict(interval=2),
        evaluation=dict(
            scores=scores, interval=2, by_epoch=False, save_best='mIoU'))


def test_going_back_to_an_older_run_does_not_delete_its_best(tmp_path):
    run(tmp_path, 4, scores=[.9, .1])
    shutil.copy(tmp_path / 'iter_4.pth', tmp_path.parent / 'iter_4.pth')
    run(tmp_path, 6, scores=[.2])  # another run, from the start
    assert 'best_mIoU_iter_2.pth' in ' '.join(path.name
                                              for path in tmp_path.iterdir())
    kept = [
        path for path in tmp_path.iterdir()
        if path.name.startswith('best_mIoU_iter_2.pth')
    ]
    runner = run(
        tmp_path, 12, scores=[.3], resume_from=tmp_path.parent / 'iter_4.pth')
    assert all(path.exists() for path in kept)
    assert runner.meta['hook_msgs']['best_score'] == .9


def test_adopting_files_does_not_delete_the_best_of_the_run_before(tmp_path):
    stock(tmp_path, 4)
    assert 'best_mIoU_iter_2.pth' in names(tmp_path)
    run(tmp_path, 8, scores=[.1], hook=dict(OURS, adopt_existing=True))
    assert 'best_mIoU_iter_2.pth' in names(tmp_path)


def test_a_file_that_somebody_put_in_place_of_the_best_is_not_deleted(
        tmp_path):
    run(tmp_path, 4, scores=[.5, .4])
    published = tmp_path / 'best_mIoU_iter_2.pth'
    published.unlink()
    stock(tmp_path / 'other', 2)
    shutil.copy(tmp_path / 'other' / 'iter_2.pth', published)
    run(tmp_path, 8, scores=[.8], hook=dict(OURS, resume='auto'))
    assert published.exists()


def test_a_path_to_start_from_goes_before_files_of_another_program(
        tmp_path, caplog):
    run(tmp_path / 'a', 4)
    stock(tmp_path / 'b', 8)
    runner = run(
        tmp_path / 'b',
        6,
        hook=dict(OURS, resume=str(tmp_path / 'a' / 'iter_4.pth')))
    assert runner.restored.iter == 4
    assert 'do not belong to a run that started from' in caplog.text


def test_the_same_command_again_goes_on_from_its_own_newest(tmp_path):
    run(tmp_path / 'a', 4)
    hook = dict(OURS, resume=str(tmp_path / 'a' / 'iter_4.pth'))
    run(tmp_path / 'b', 6, hook=hook)
    assert run(tmp_path / 'b', 8, hook=hook).restored.iter == 6


def test_the_same_command_again_from_a_stock_file(tmp_path):
    stock(tmp_path / 'a', 4)
    hook = dict(OURS, resume=str(tmp_path / 'a' / 'iter_4.pth'))
    run(tmp_path / 'b', 6, hook=hook)
    assert run(tmp_path / 'b', 8, hook=hook).restored.iter == 6


def test_what_stock_mmcv_went_on_to_is_not_thrown_away(tmp_path):
    run(tmp_path, 4)
    stock(tmp_path, 8)
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'iter_8.pth')
    runner = run(tmp_path, 10, hook=dict(OURS, resume='auto'))
    assert runner.restored.iter == 8


def test_epochs_that_stock_mmcv_went_on_to_are_not_thrown_away(tmp_path):
    """The name of epoch_4.pth does not tell its iterations."""
    train(
        tmp_path,
        runner=dict(type='EpochBasedRunnerAmp', max_epochs=2),
        hooks=[dict(OURS, interval=1)])
    runner = make_runner(
        tmp_path,
        runner=dict(type='EpochBasedRunner', max_epochs=4),
        checkpoint_config=dict(interval=1))
    runner.resume(str(tmp_path / 'epoch_2.pth'))
    runner.run([make_loader()], [('train', 1)])
    assert find_resumable(tmp_path) == str(tmp_path / 'epoch_4.pth')
    runner = train(
        tmp_path,
        runner=dict(type='EpochBasedRunnerAmp', max_epochs=5),
        hooks=[dict(OURS, interval=1, resume='auto')])
    assert runner.restored.name == 'epoch_4.pth'


def test_epochs_of_another_training_do_not_go_before_iterations(tmp_path):
    run(tmp_path, 8)
    train(
        tmp_path / 'other',
        runner=dict(type='EpochBasedRunner', max_epochs=12),
        checkpoint_config=dict(interval=12),
        loader=make_loader(4))
    shutil.copy(str(tmp_path / 'other' / 'epoch_12.pth'), str(tmp_path))
    assert find_resumable(tmp_path) == str(tmp_path / 'iter_8.pth')


def test_old_files_of_stock_mmcv_do_not_go_before_a_younger_run(tmp_path):
    stock(tmp_path, 8)
    run(tmp_path, 4)
    runner = run(tmp_path, 6, hook=dict(OURS, resume='auto'))
    assert runner.restored.iter == 4


def test_a_replaced_file_whose_directory_was_not_synced_is_not_refused(
        tmp_path, monkeypatch):
    run(tmp_path, 4)
    resumed = tmp_path / 'iter_2.pth'
    sync = LocalBackend._sync_directory
    failing = []

    def fail_once(self, path):
        if failing and not list(tmp_path.glob('.iter_4*')):
            failing.pop()
            raise StorageError('no sync')
        sync(self, path)

    monkeypatch.setattr(LocalBackend, '_sync_directory', fail_once)
    put = LocalBackend.put

    def watched(self, name, write):
        if name == 'iter_4.pth':
            failing.append(True)
        return put(self, name, write)

    monkeypatch.setattr(LocalBackend, 'put', watched)
    run(tmp_path,
        4,
        scores=[.1],
        resume_from=resumed,
        hook=dict(OURS, write=dict(background=False)))
    monkeypatch.undo()
    # whichever of the two it is, it verifies
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'iter_4.pth')


def test_a_best_whose_checkpoint_somebody_deleted_is_written(tmp_path):

    class Deleting(QuickEvalHook):

        def after_train_iter(self, runner):
            for path in tmp_path.glob('iter_*.pth'):
                path.unlink()
            super().after_train_iter(runner)

    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        checkpoint_config=dict(interval=2),
        hooks=[dict(OURS, write=dict(background=False))])
    runner.register_hook(
        Deleting([.5], interval=2, by_epoch=False, save_best='mIoU'),
        priority='LOW')
    runner.run([make_loader()], [('train', 1)])
    assert 'best_mIoU_iter_2.pth' in names(tmp_path)


def test_a_tools_own_save_over_a_checkpoint_is_resumed_from(tmp_path):
    runner = run(tmp_path, 4)
    runner.model.first.weight.data.add_(1)
    runner.save_checkpoint(str(tmp_path), filename_tmpl='iter_{}.pth')
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'iter_4.pth')


def test_a_latest_pointer_of_before_does_not_dangle(tmp_path):
    run(tmp_path, 4)
    assert (tmp_path / 'latest.pth').exists()
    run(tmp_path, 8, hook=dict(OURS, resume='auto', create_symlink=False))
    assert not (tmp_path / 'latest.pth').is_symlink()


@pytest.mark.parametrize('name', ['IterBasedRunner', 'EpochBasedRunner'])
def test_a_stock_runner_without_lr_hook_resumes(tmp_path, name):
    limit = 'max_iters' if name == 'IterBasedRunner' else 'max_epochs'

    def go(steps):
        runner = make_runner(
            tmp_path,
            runner={
                'type': name,
                limit: steps
            },
            checkpoint_config=dict(
                interval=1, by_epoch=name == 'EpochBasedRunner'),
            hooks=[dict(OURS, resume='auto')])
        if steps == 1:
            runner._hooks = [
                hook for hook in runner.hooks if not hasattr(hook, 'base_lr')
            ]
        runner.run([make_loader()], [('train', 1)])
        return runner

    go(1)
    assert go(2).optimizer.param_groups[0]['lr'] == .01


def test_a_runner_of_another_repo_that_counts_iterations_saves(tmp_path):

    class Plain(BaseRunner):

        def train(self, loader):
            self.model.train()
            self.mode = 'train'
            self.data_loader = loader
            for batch in loader:
                self.data_batch = batch
                self.call_hook('before_train_iter')
                self.outputs = self.model.train_step(batch, self.optimizer)
                self.call_hook('after_train_iter')
                self._iter += 1

        def val(self, loader):
            """Not used."""

        def run(self, loaders, workflow):
            self.call_hook('before_run')
            self.call_hook('before_epoch')
            self.train(loaders[0])
            self.call_hook('after_run')

        def save_checkpoint(self,
                            out_dir,
                            filename_tmpl='iter_{}.pth',
                            save_optimizer=True,
                            meta=None,
                            create_symlink=True):
            torch.save(dict(meta={}, own=1), f'{out_dir}/x.pth')

    runner = make_runner(
        tmp_path,
        runner=dict(type=Plain, max_iters=4),
        checkpoint_config=dict(interval=2),
        hooks=[OURS])
    runner.run([make_loader()], [('train', 1)])
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']


def test_a_file_without_checksums_does_not_hide_an_older_good_one(tmp_path):
    run(tmp_path, 4)
    torch.save(
        dict(meta=dict(epoch=1, iter=7), state_dict={}),
        tmp_path / 'iter_8.pth',
        _use_new_zipfile_serialization=False)
    runner = run(tmp_path, 6, hook=dict(OURS, resume='auto'))
    assert runner.restored.iter == 4


@pytest.mark.skipif(os.name == 'nt', reason='a backslash separates there')
@pytest.mark.parametrize('is_checkpoint', [True, False])
def test_a_name_of_windows_is_one_name(tmp_path, is_checkpoint):
    """As archives that were made there leave them behind."""
    run(tmp_path, 2)
    stray = tmp_path / 'work\\iter_2.pth'
    if is_checkpoint:
        shutil.copy(tmp_path / 'iter_2.pth', stray)
    else:
        stray.write_text('text')
    for max_iters, hook in ((2, OURS), (4, dict(OURS, resume='auto'))):
        run(tmp_path, max_iters, hook=hook)
    assert {stray.name, 'iter_4.pth'} <= set(names(tmp_path))
