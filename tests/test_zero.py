"""Optimizers that keep their state on several ranks, on real ones."""
import json

import pytest
import torch
from checkpoint_files import equal
from launching import run_to_the_end
from mmcv.runner import load_checkpoint
from toy import ToyModel, names

from mmcv_ckpt_hooks import distributed, save_checkpoint
from mmcv_ckpt_hooks.errors import CheckpointError
from mmcv_ckpt_hooks.optimizers import capture_optimizer, consolidated
from mmcv_ckpt_hooks.sizes import optimizer_bytes

STEPS = 8


def train(directory, kill_at=0, scene='zero', world_size=2, steps=STEPS):
    ranks = run_to_the_end(
        'zero_worker.py',
        directory,
        steps,
        kill_at,
        scene,
        world_size=world_size)
    for rank in ranks:
        assert rank.returncode == 0, rank.output[-3000:]
    line = [one for one in ranks[0].output.splitlines() if 'RESULT' in one][0]
    return json.loads(line.partition('RESULT ')[2])


def optimizer_of(path):
    return torch.load(path)['optimizer']


@pytest.mark.parametrize('world_size', [2, 4])
def test_a_run_goes_on_with_the_same_bits(tmp_path, world_size):
    whole = train(tmp_path / 'whole', world_size=world_size)
    cut = train(tmp_path / 'cut', kill_at=5, world_size=world_size)
    resumed = train(tmp_path / 'cut', world_size=world_size)
    assert resumed['model'] == whole['model']
    assert resumed['optimizer'] == whole['optimizer']
    for rank in range(world_size):
        assert {**cut['losses'][rank], **resumed['losses'][rank]} == \
            whole['losses'][rank]


def test_it_is_saved_as_a_plain_optimizer(tmp_path):
    train(tmp_path / 'zero')
    train(tmp_path / 'plain', scene='plain')
    assert names(tmp_path / 'zero') == names(tmp_path / 'plain') == \
        ['iter_2.pth', 'iter_4.pth', 'iter_6.pth', 'iter_8.pth', 'latest.pth']
    for name in names(tmp_path / 'zero'):
        assert equal(
            optimizer_of(tmp_path / 'zero' / name)['state'],
            optimizer_of(tmp_path / 'plain' / name)['state'])


@pytest.mark.parametrize('scenes', ['zero-plain', 'plain-zero'])
def test_a_plain_optimizer_goes_on_with_it_and_it_with_a_plain_one(
        tmp_path, scenes):
    before, behind = scenes.split('-')
    whole = train(tmp_path / 'whole')
    train(tmp_path / 'cut', kill_at=5, scene=before)
    resumed = train(tmp_path / 'cut', scene=behind)
    assert resumed['model'] == whole['model']
    assert resumed['optimizer'] == whole['optimizer']


@pytest.mark.parametrize('world_size', [1, 3])
def test_another_number_of_ranks_restores_all_of_it(tmp_path, world_size):
    train(tmp_path, kill_at=5)
    # nothing is left to train
    resumed = train(tmp_path, world_size=world_size, steps=4)
    assert 'iter_4.pth' in resumed['log'] and not resumed['losses'][0]
    whole = train(tmp_path / 'whole', steps=4)
    assert resumed['optimizer'] == whole['optimizer']
    assert resumed['model'] == whole['model']


def test_what_one_rank_saves_alone_says_why_not(tmp_path):
    """An exception may have reached this rank only: nobody else is asked."""
    stopped = train(tmp_path, kill_at=5, scene='raises')
    assert "is not saved, because a part of the optimizer's state is on " \
        'other ranks; iter_4.pth, the last one committed, stands' in \
        stopped['log']
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'latest.pth']


class Spread(torch.optim.SGD):
    """As fairscale's OSS, of which another rank has a part."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)
        self._all_states = []
        self.asked = []

    def consolidate_state_dict(self, recipient_rank=0):
        self.asked.append(recipient_rank)
        self._all_states = [1]

    def state_dict(self):
        if not self._all_states:
            raise RuntimeError('has not been consolidated')
        return super().state_dict()


def test_what_was_gathered_is_dropped_behind_a_save():
    first, second = Spread(ToyModel().parameters()), \
        Spread(ToyModel().parameters())
    with consolidated(dict(first=first, second=second)):
        assert first._all_states and second._all_states
        assert sorted(capture_optimizer(dict(a=first, b=second))) == \
            ['a', 'b']
    assert not first._all_states and not second._all_states
    assert first.asked == second.asked == [0]


def test_on_one_rank_nobody_has_to_gather(tmp_path):
    model = ToyModel()
    save_checkpoint(model, str(tmp_path / 'a.pth'), Spread(model.parameters()))
    assert load_checkpoint(ToyModel(), str(tmp_path / 'a.pth'))['optimizer']


def test_a_save_by_one_rank_needs_what_the_caller_has_gathered(
        tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, 'world_size', lambda: 2)
    model = ToyModel()
    optimizer = Spread(model.parameters())
    with pytest.raises(
            CheckpointError, match='consolidate_state_dict on all of them'):
        save_checkpoint(model, str(tmp_path / 'a.pth'), optimizer)
    optimizer.consolidate_state_dict()
    for name in 'ab':  # once for both
        save_checkpoint(model, str(tmp_path / f'{name}.pth'), optimizer)
    assert names(tmp_path) == ['a.pth', 'b.pth']


def test_the_plan_counts_the_whole_state():
    model = ToyModel()
    whole = torch.optim.AdamW(model.parameters())
    optimizer = Spread(model.parameters())
    optimizer.optim = torch.optim.AdamW(model.parameters())
    optimizer.param_groups = optimizer.optim.param_groups
    optimizer.state[model.first.weight] = dict(exp_avg=torch.zeros(3))
    assert optimizer_bytes(optimizer) == optimizer_bytes(whole) > 100


def test_another_error_of_an_optimizer_stays_what_it_is(tmp_path):
    model = ToyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.state_dict = lambda: [][0]
    with pytest.raises(IndexError):
        save_checkpoint(model, str(tmp_path / 'a.pth'), optimizer)
