"""Logger hooks that read checkpoints right after a save still find them.

``MMSegWandbHook`` and ``PaviLoggerHook`` are the real ones; only the clients
of the two services are stubs, which copy what they are given.
"""
import json

import pytest
import torch

from mmcv_ckpt_hooks import verify_checkpoint

pytestmark = pytest.mark.mmseg
RUNS = ('logger_hooks', )

STEPS = (3, 6, 9, 12)


@pytest.fixture
def run(runs):
    return runs['logger_hooks']


@pytest.fixture
def artifacts(run):
    path = run.work_dir.parent / 'wandb_stub' / 'artifacts.jsonl'
    return [json.loads(line) for line in path.open()]


def test_wandb_gets_every_checkpoint_of_its_step(artifacts):
    # the last one twice: the EvalHook calls the logger hooks, too
    assert {
        artifact['files'][0]: artifact['aliases']
        for artifact in artifacts
    } == {
        f'iter_{step}.pth': [f'iter_{step}', 'latest']
        for step in STEPS
    }
    assert all(len(artifact['files']) == 1 for artifact in artifacts)


def test_what_wandb_takes_is_complete(run):
    """Copied the moment it was added: saves are in the background."""
    for step in STEPS:
        path = run.work_dir.parent / 'wandb_stub' / f'iter_{step}.pth'
        assert_is_step(path, step)


def test_pavi_gets_every_checkpoint_of_its_step(run):
    folder = run.work_dir.parent / 'pavi_stub'
    assert {int(path.name) for path in folder.iterdir()} == set(STEPS)
    for step in STEPS:
        assert_is_step(folder / str(step) / f'iter_{step}.pth', step)


def assert_is_step(path, step):
    verify_checkpoint(str(path))
    assert torch.load(path)['meta']['iter'] == step
