"""Two real ranks: what one of them wants, both do, in the same step."""
import json
import types
import weakref

import pytest
import torch
from launching import run_to_the_end
from torch import distributed as dist
from toy import names

from mmcv_ckpt_hooks import agreement as module
from mmcv_ckpt_hooks import distributed
from mmcv_ckpt_hooks.agreement import Agreement, Wish


def run_ranks(work_dir, scene):
    """Return exit codes and outputs of both."""
    ranks = run_to_the_end('agreement_worker.py', work_dir, scene)
    return [rank.returncode for rank in ranks], [rank.output for rank in ranks]


def saves(work_dir):
    """Iteration and trigger of every save."""
    path = work_dir / 'checkpoints.log.jsonl'
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [(event['iter'], event['trigger']) for event in events
            if event['event'] == 'save']


@pytest.mark.parametrize('scene, codes, expected', [
    ('signal on one rank', [143, 143], [(4, 'signal')]),
    ('signals at different times', [143, 143], [(3, 'signal')]),
    ('request on one rank', [0, 0], [(4, 'signal'), (8, 'last')]),
    ('file', [0, 0], [(4, 'file'), (8, 'last')]),
    ('clock', [0, 0], [(2, 'time'), (4, 'time'), (6, 'time'), (8, 'last')]),
    ('again', [143, 143], [(8, 'last'), (12, 'signal')]),
])
def test_both_ranks_do_what_one_wants(tmp_path, scene, codes, expected):
    found, outputs = run_ranks(tmp_path, scene)
    assert found == codes, outputs
    assert saves(tmp_path) == expected
    assert 'when all 2 ranks have finished a step' in outputs[0]
    # a group of its own for every run, of which none outlives it
    for output in outputs:
        assert output.count('LEFT 1 True') == 1 + (scene == 'again'), outputs


def test_a_dead_rank_does_not_keep_the_other_from_leaving(tmp_path):
    (code, dead), outputs = run_ranks(tmp_path, 'dead')
    assert (code, dead) == (143, 9), outputs
    # without the dead one, whom a collective would wait for
    assert names(tmp_path) == ['iter_6.pth', 'latest.pth']
    assert 'Other ranks cannot be reached' in outputs[0]


def test_a_group_is_destroyed_before_its_tensors_go(monkeypatch):
    """torch 2.0.1 waits for ever where one of gloo's threads drops the last.
    """
    sent, alive = [], []

    def all_gather(found, tensor, group):
        sent.extend(weakref.ref(one) for one in (*found, tensor))
        for one in found:
            one.copy_(tensor)

    def all_reduce(values, operation, group, async_op):
        sent.append(weakref.ref(values))
        return types.SimpleNamespace(
            is_completed=lambda: True, wait=lambda: None)

    class Group:

        def __del__(self):
            alive.extend(one() is not None for one in sent)

    monkeypatch.setattr(distributed, 'world_size', lambda: 2)
    monkeypatch.setattr(module, 'default_store', lambda: None)
    monkeypatch.setattr(
        module, 'dist',
        types.SimpleNamespace(
            ReduceOp=dist.ReduceOp,
            new_group=lambda **_: Group(),
            all_gather=all_gather,
            all_reduce=all_reduce,
            destroy_process_group=lambda group: None))
    agreement = Agreement(print)
    assert agreement.gather(dict(a=[1])) == [dict(a=[1])] * 2
    agreement.offer(Wish(file=1))
    assert agreement.read(leaving=False) == Wish(file=1)
    agreement.close()
    assert alive == [True] * 7


class Work:
    """A message that does not arrive by itself."""

    def __init__(self):
        self.looks = 0

    def is_completed(self):
        self.looks += 1
        return False


def test_a_rank_that_has_to_leave_does_not_wait_for_ever(monkeypatch):
    now = [0.]
    said = []
    agreement = Agreement(said.append, lambda: now[0])
    work = Work()
    agreement._under_way = work, torch.zeros(4)

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(module, 'time', types.SimpleNamespace(sleep=sleep))
    assert agreement.read(leaving=True) == Wish()
    assert now[0] == pytest.approx(module.LEAVE_SECS, abs=0.1)
    assert agreement.is_broken
    assert 'no answer in 10 s' in said[0]


def test_one_rank_needs_no_messages():
    agreement = Agreement(print)
    assert agreement.is_alone
    assert agreement.read(leaving=False) == Wish()
    assert agreement.wait_for_all()


@pytest.mark.parametrize('wish, trigger', [
    (Wish(), None),
    (Wish(time=1), 'time'),
    (Wish(retry=1, time=1), 'retry'),
    (Wish(retry=1, file=1), 'file'),
    (Wish(time=1, file=1), 'file'),
    (Wish(time=1, save_signal=10), 'signal'),
    (Wish(exit_signal=15), 'signal'),
])
def test_what_a_wish_is_called(wish, trigger):
    assert wish.trigger == trigger
