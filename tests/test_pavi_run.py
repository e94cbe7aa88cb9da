"""A real training whose checkpoints go to pavi (the shipped fake)."""
import os

import pytest
import torch
from mmcv.runner import load_checkpoint
from toy import ToyModel, names, train

from mmcv_ckpt_hooks.errors import DependencyError
from mmcv_ckpt_hooks.testing import pavi

OUT_DIR = 'pavi://project/model'


@pytest.fixture
def platform(tmp_path):
    with pavi.install(str(tmp_path / 'platform')) as installed:
        yield installed


def run(tmp_path, max_iters=4, **options):
    hook = dict(type='DurableCheckpointHook', out_dir=OUT_DIR, **options)
    return train(
        tmp_path / 'run',
        runner=dict(type='IterBasedRunnerAmp', max_iters=max_iters),
        checkpoint_config=dict(interval=2, max_keep_ckpts=1),
        evaluation=dict(
            scores=[0.5, 0.6], interval=4, by_epoch=False, save_best='mIoU'),
        hooks=[hook])


def test_hook_saves_to_pavi_where_stock_refuses_the_prefix(tmp_path, platform):
    run(tmp_path)
    # the last level of the work dir is appended, as for every out_dir
    model = os.path.join(platform.directory, 'project', 'model', 'run')
    # the SDK cannot delete: what max_keep_ckpts would remove stays
    assert sorted(os.listdir(model)) == [
        'best_mIoU_iter_4.pth', 'iter_2.pth', 'iter_4.pth'
    ]
    assert names(tmp_path / 'run') == []
    fresh = ToyModel()
    # stock mmcv reads it back through the same SDK
    loaded = load_checkpoint(fresh, f'{OUT_DIR}/run/iter_4.pth')
    assert loaded['meta']['iter'] == 4


def test_a_run_continues_from_pavi_with_an_empty_disk_but_the_catalog(
        tmp_path, platform):
    run(tmp_path)
    runner = run(tmp_path, max_iters=6, resume='auto')
    assert runner.iter == 6
    assert runner.restored.iter == 4


def test_a_run_starts_from_a_pavi_url(tmp_path, platform):
    first = run(tmp_path)
    (tmp_path / 'run' / 'checkpoints.json').unlink()
    second = run(tmp_path, max_iters=4, resume=f'{OUT_DIR}/run/iter_4.pth')
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_without_the_sdk_the_run_ends_before_training(tmp_path):
    with pytest.raises(DependencyError, match='pavi'):
        run(tmp_path)
    assert names(tmp_path / 'run') == []
