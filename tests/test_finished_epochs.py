"""Finished epochs of iteration runners, where mmcv's own count is late."""
import logging

import pytest
import torch
from foreign_files import stock_file
from mmcv.runner import Hook
from torch.utils.data import DataLoader, IterableDataset
from toy import ToyData, make_loader, make_runner, train

AMP, STOCK = 'IterBasedRunnerAmp', 'IterBasedRunner'


def run(work_dir, max_iters, name=AMP, loader=None, workflow=None, hooks=()):
    """Four iterations are one epoch."""
    return train(
        work_dir,
        loader,
        workflow,
        runner=dict(type=name, max_iters=max_iters),
        hooks=[
            dict(type='DurableCheckpointHook', interval=1, resume='auto'),
            *hooks
        ])


def epochs(work_dir):
    """Finished epochs as they are stored, by finished iterations."""
    found = {}
    for path in work_dir.glob('iter_*.pth'):
        meta = torch.load(path, weights_only=True)['meta']
        found[meta['iter']] = meta['epoch']
    return [found[step] for step in sorted(found)]


def said(caplog):
    """What a resume says is finished."""
    line, = [
        one.getMessage() for one in caplog.records
        if one.getMessage().startswith('Resumed from')
    ]
    return line.partition('.pth: ')[2]


@pytest.mark.parametrize('name', [AMP, STOCK])
def test_an_epoch_is_finished_with_its_last_iteration(tmp_path, name):
    run(tmp_path, 6, name)
    assert epochs(tmp_path) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize('at, told', [(3, '0 epochs and 3'),
                                      (4, '1 epoch and 4'),
                                      (5, '1 epoch and 5')])
def test_a_resume_says_how_many_are_finished(tmp_path, caplog, at, told):
    run(tmp_path, at)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run(tmp_path, 6)
    assert said(caplog) == f'{told} iterations are finished'
    assert epochs(tmp_path) == [0, 0, 0, 1, 1, 1]


def test_what_stock_runners_cannot_know_is_not_said(tmp_path, caplog):
    """They count anew after a resume, and their files one late."""
    run(tmp_path, 5, STOCK)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run(tmp_path, 6, STOCK)
    assert said(caplog) == '5 iterations are finished'
    path = stock_file(tmp_path / 'stock', 4)
    runner = make_runner(
        tmp_path / 'stock', runner=dict(type=AMP, max_iters=6))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        runner.resume(path)
    assert said(caplog) == '4 iterations are finished'


class Saves(Hook):
    """A tool that saves by itself, also between train iterations."""

    def __init__(self, work_dir):
        self.work_dir = str(work_dir)

    def after_val_iter(self, runner):
        runner.save_checkpoint(
            self.work_dir, 'own_{}.pth', create_symlink=False)


def test_other_phases_of_the_workflow_change_no_count(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=dict(type=AMP, max_iters=4),
        hooks=[
            dict(type='DurableCheckpointHook', interval=1),
            Saves(tmp_path)
        ])
    runner.run([make_loader(), make_loader(8)], [('train', 4), ('val', 1)])
    assert epochs(tmp_path) == [0, 0, 0, 1]
    own = torch.load(tmp_path / 'own_4.pth', weights_only=True)['meta']
    assert (own['epoch'], own['iter']) == (1, 4)
    runner.save_checkpoint(str(tmp_path), 'after_{}.pth')
    own = torch.load(tmp_path / 'after_4.pth', weights_only=True)['meta']
    assert (own['epoch'], own['iter']) == (1, 4)


class Asks(Hook):

    def __init__(self):
        self.found = []

    def before_train_iter(self, runner):
        self.found.append(runner.finished_steps())


def test_an_epoch_is_not_finished_before_its_last_iteration(tmp_path):
    asks = Asks()
    run(tmp_path, 5, hooks=[asks])
    assert asks.found == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 4)]


class OtherLoader(DataLoader):
    """Has an attribute of the name that mmcv's loaders have."""

    def epoch(self):
        return 7


def test_what_a_loader_calls_its_epoch_is_no_count(tmp_path):
    train(
        tmp_path,
        OtherLoader(ToyData(16), batch_size=4),
        runner=dict(type='EpochBasedRunner', max_epochs=1),
        hooks=[dict(type='DurableCheckpointHook', interval=1, by_epoch=False)])
    meta = torch.load(
        tmp_path / 'epoch_0_iter_1.pth', weights_only=True)['meta']
    assert meta['epoch'] == 0


class Stream(IterableDataset):
    """Its order cannot be told, but its length."""

    def __iter__(self):
        return iter(ToyData(16))

    def __len__(self):
        return 16


def test_the_passes_over_a_stream_are_counted_too(tmp_path):
    run(tmp_path, 5, loader=DataLoader(Stream(), batch_size=4))
    assert epochs(tmp_path) == [0, 0, 0, 1, 1]
