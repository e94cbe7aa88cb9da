"""The sampler is advanced; the data loader stays what it was."""
import copy
import itertools
import pickle
import random
import time

import numpy as np
import pytest
import torch
from torch.utils.data import (BatchSampler, DataLoader, Dataset,
                              IterableDataset, SequentialSampler)
from toy import ToyData, ToyModel, make_loader, make_runner, train

from mmcv_ckpt_hooks.data_position import TrackedLoader
from mmcv_ckpt_hooks.generators import GeneratorStream, mixed
from mmcv_ckpt_hooks.resume_fields import used_defect
from mmcv_ckpt_hooks.sampling import SeededBatch, samplers_of


def tracked(loader, seed=1, sample_seeds=True):
    return TrackedLoader(loader, seed, 0, 0, sample_seeds)


def sums(loader):
    return [round(float(batch['x'].sum()), 5) for batch in loader]


def position(passes, used, length=4, epoch=0):
    return dict(epoch=epoch, passes=passes, used=used, length=length)


@pytest.mark.parametrize('kwargs', [
    dict(),
    dict(num_workers=2),
    dict(num_workers=2, persistent_workers=True),
    dict(shuffle=True)
])
@pytest.mark.parametrize('used', [0, 1, 3, 4])
def test_the_next_pass_begins_behind_the_used_batches(kwargs, used):
    whole = make_loader(**kwargs)
    tracked(whole)
    passes = [sums(whole) for _ in range(3)]
    loader = make_loader(**kwargs)
    assert tracked(loader).seek(position(1, used)) == used
    assert sums(loader) == passes[1][used:]
    # and only that one
    assert sums(loader) == passes[2]
    assert len(loader) == 4
    assert (passes[0] == passes[1]) is ('shuffle' not in kwargs)


def test_what_is_consumed_counts_and_not_what_workers_have_loaded():
    loader = make_loader(32, num_workers=2)
    one = tracked(loader)
    batches = iter(loader)
    assert one.position()['used'] == 0
    for used in (1, 2, 3):
        next(batches)  # workers are up to four batches ahead
        one.count(0)
        assert one.position()['used'] == used
        assert one.position()['passes'] == 0


def test_a_pass_that_only_workers_have_begun_is_the_next_one():
    loader = make_loader(32, num_workers=2, shuffle=True)
    one = tracked(loader)
    before = one.position()
    batches = iter(loader)  # of a phase of the workflow that comes later
    assert one.position() == before
    assert before['passes'] == 0
    del batches


def test_a_pass_that_has_ended_is_followed_by_the_next():
    loader = make_loader()
    one = tracked(loader)
    for _ in loader:
        one.count(0)
    assert one.position() == dict(
        epoch=0, length=4, passes=0, used=4, samplers=[{}, {}], generators=[])
    # a runner that never asks a loader for more than it has
    assert one.position(ends=True)['passes'] == 1
    assert one.position(ends=True)['used'] == 0
    next(iter(loader))
    one.count(1)
    assert one.position()['passes'] == 1 and one.position()['used'] == 1


def test_another_length_goes_on_at_the_same_share():
    loader = make_loader(32)
    assert tracked(loader).seek(position(0, 2, length=4)) == 4
    assert len(sums(loader)) == 4


class OwnBatchSampler(BatchSampler):
    """With attributes that a repo's hooks look for (mmdet)."""
    own = 3


def test_what_hooks_read_of_a_batch_sampler_is_still_there():
    sampler = OwnBatchSampler(SequentialSampler(range(16)), 4, False)
    loader = DataLoader(ToyData(16), batch_sampler=sampler)
    tracked(loader)
    wrapped = loader.batch_sampler
    assert wrapped.own == 3
    assert wrapped.batch_size == 4
    assert wrapped.sampler is sampler.sampler
    assert not hasattr(wrapped, 'set_epoch')
    for again in (copy.copy(wrapped), copy.deepcopy(wrapped),
                  pickle.loads(pickle.dumps(wrapped))):
        assert again.own == 3


def test_run_called_again_wraps_once_and_goes_on_counting():
    loader = make_loader(shuffle=True)
    tracked(loader)
    first, second = sums(loader), sums(loader)
    tracked(loader)
    assert len(samplers_of(loader)) == 2
    assert not isinstance(loader.batch_sampler.inner, type(
        loader.batch_sampler))
    assert len({tuple(first), tuple(second), tuple(sums(loader))}) == 3


class Stream(IterableDataset):

    def __iter__(self):
        return iter(range(8))


@pytest.mark.parametrize('batch_size', [2, None])
def test_a_stream_cannot_be_advanced_and_says_so(batch_size):
    loader = DataLoader(Stream(), batch_size=batch_size)
    one = tracked(loader)
    assert not one.is_tracked
    assert one.length() == 0
    assert one.seek(position(3, 2)) == 0
    assert len(list(loader)) == 8 // (batch_size or 1)


def test_a_loader_without_batches_is_advanced_too():
    loader = DataLoader(ToyData(6), batch_size=None, shuffle=True)
    tracked(loader)
    whole = sums(loader)
    again = DataLoader(ToyData(6), batch_size=None, shuffle=True)
    tracked(again).seek(position(0, 2, length=6))
    assert sums(again) == whole[2:]


# -- randomness -------------------------------------------------------------


class Drawing(Dataset):

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.tensor(
            [random.random(),
             np.random.rand(),
             float(torch.rand(())), index],
            dtype=torch.float64)


def drawn(workers, seed=1, rank=0, **kwargs):
    loader = DataLoader(Drawing(), 5, num_workers=workers, **kwargs)
    TrackedLoader(loader, seed, rank, 0, True)
    return torch.cat(list(loader) + list(loader))


def test_a_sample_draws_the_same_wherever_it_is_loaded():
    alone = drawn(0)
    assert torch.equal(alone, drawn(1))
    assert torch.equal(alone, drawn(3, persistent_workers=True))
    # every sample its own, in both passes, from all three generators
    for column in range(3):
        assert len(alone[:, column].unique()) == 24
    assert not torch.equal(alone, drawn(0, seed=2))
    assert not torch.equal(alone, drawn(0, rank=1))


class ManyAtOnce(Drawing):
    """As ``torch.utils.data.Subset`` of torch >= 2.0."""

    def __getitems__(self, indices):
        return [self[index] for index in indices]


def test_data_sets_that_load_a_batch_at_once_are_seeded_too():
    loader = DataLoader(ManyAtOnce(), 5)
    tracked(loader)
    assert torch.equal(torch.cat(list(loader)), drawn(0)[:12])


def test_training_draws_as_if_no_data_were_loaded():

    def draw():
        return random.random(), np.random.rand(), float(torch.rand(()))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [draw() for _ in range(4)]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    loader = DataLoader(Drawing(), 5, shuffle=True)
    tracked(loader)
    found = [draw()]
    for _ in loader:
        found.append(draw())
    assert found == expected


def test_a_sample_that_fails_leaves_the_generators_alone():

    class Failing(Drawing):

        def __getitem__(self, index):
            torch.rand(3)
            raise OSError('gone')

    loader = DataLoader(Failing(), 5)
    tracked(loader)
    before = torch.get_rng_state()
    with pytest.raises(OSError, match='gone'):
        next(iter(loader))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_sample_seeds_samples_draw_from_the_global_generators():
    loader = DataLoader(Drawing(), 5)
    tracked(loader, sample_seeds=False)
    torch.manual_seed(1)
    first = next(iter(loader))
    torch.manual_seed(1)
    assert torch.equal(next(iter(loader))[:, 2], first[:, 2])
    assert not isinstance(next(iter(loader.batch_sampler)), SeededBatch)


def test_a_batch_of_indices_is_a_list_and_can_be_sent():
    batch = SeededBatch([3, 1], (1, 2))
    assert batch == [3, 1] and len(batch) == 2 and batch[0] == 3
    sent = pickle.loads(pickle.dumps(batch))
    assert type(sent) is SeededBatch and sent == batch
    torch.manual_seed(7)
    before = torch.get_rng_state()
    values = []
    for one in (batch, sent):
        values.append([(index, float(torch.rand(()))) for index in one])
    assert values[0] == values[1]
    assert torch.equal(torch.get_rng_state(), before)


class DrawsEveryTime(torch.utils.data.Sampler):
    """A sampler of a research repo: global numpy, index by index."""

    def __init__(self):
        pass

    def __iter__(self):
        for _ in range(16):
            yield int(np.random.randint(16))

    def __len__(self):
        return 16


def test_samplers_that_draw_all_the_time_have_a_stream_of_their_own():

    def order(skip=0, noise=0):
        loader = make_loader(sampler=DrawsEveryTime())
        tracked(loader).seek(position(0, skip))
        found = []
        for batch in loader:
            np.random.rand(noise)
            found.append(round(float(batch['x'].sum()), 5))
        return found

    whole = order()
    assert len(set(whole)) > 1
    assert order(noise=5) == whole
    assert order(skip=2, noise=1) == whole[2:]


def test_streams_are_told_apart_by_every_word():
    keys = {mixed(*words) for words in ((1, 2), (2, 1), (1, ), (1, 2, 0))}
    assert len(keys) == 4
    assert mixed(-1) == mixed(2**64 - 1)

    def first(key):
        with GeneratorStream(key):
            return torch.rand(()), np.random.rand(), random.random()

    assert first(mixed(1)) == first(mixed(1)) != first(mixed(2))


def test_twenty_thousand_batches_are_passed_over_without_loading_one():

    class Untouchable(Dataset):

        def __len__(self):
            return 20001 * 2

        def __getitem__(self, index):
            loaded.append(index)
            return index

    class Counted(SequentialSampler):

        def __iter__(self):
            for index in super().__iter__():
                drawn.append(index)
                yield index

    loaded, drawn = [], []
    loader = DataLoader(Untouchable(), 2, sampler=Counted(range(20001 * 2)))
    one = tracked(loader)
    begun = time.monotonic()
    one.seek(position(0, 20000, length=20001))
    assert len(next(iter(loader))) == 2
    print(f'20,000 batches were left out in {time.monotonic() - begun:.3f} s')
    # each index is asked for once, and no other sample is read
    assert loaded == [40000, 40001]
    assert drawn == list(range(20001 * 2))


# -- more batches than a run can have used ------------------------------------


class Endless(torch.utils.data.Sampler):
    """As mmdet's infinite samplers: it has a length and no end."""

    def __init__(self, length):
        self.length, self.asked = length, 0

    def __iter__(self):
        for number in itertools.count():
            self.asked += 1
            assert self.asked < 100000
            yield number % 16

    def __len__(self):
        return self.length


@pytest.mark.parametrize('used, length, finished, fits', [
    (4, 4, 0, True),
    (1 << 61, 1 << 61, 0, True),
    (5, 4, 0, True),
    (160000, 500, 160000, True),
    (160000 * 64, 500 * 64, 160000, True),
    (5000, 0, 5, True),
    (1 << 61, 4, 160000, False),
    (10000, 0, 5, False),
])
def test_how_many_batches_a_run_can_have_used(used, length, finished, fits):
    assert (used_defect(used, length, finished) == '') is fits


def endless_run(directory, length, steps):
    sampler = Endless(length)
    loader = make_loader(batch_size=1, sampler=sampler)
    train(
        directory,
        loader,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        model=BatchOfTwo(),
        hooks=[dict(type='DurableCheckpointHook', interval=2, resume='auto')])
    return sampler


class BatchOfTwo(ToyModel):
    """BatchNorm needs more than one sample."""

    def train_step(self, data, optimizer, **kwargs):
        return super().train_step(
            {
                key: torch.cat([value, value])
                for key, value in data.items()
            }, optimizer, **kwargs)


def test_an_endless_sampler_goes_on_beyond_its_length(tmp_path):
    endless_run(tmp_path, 2, 8)
    # 8 are used of passes of 2: of passes of 4 as many samples are 16
    assert endless_run(tmp_path, 4, 10).asked in (18, 19)


def test_data_of_quite_another_size_are_not_passed_over_for_ever(tmp_path):
    """8 of 2; of 10 ** 6 that would be 4 * 10 ** 6."""
    endless_run(tmp_path, 2, 8)
    assert endless_run(tmp_path, 10**6, 10).asked in (2, 3)


class Points(IterableDataset):
    """Points one after the other; no sampler decides on their order."""

    def __iter__(self):
        return iter(ToyData(16))

    def __len__(self):
        return 16


@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'EpochBasedRunnerAmp'])
@pytest.mark.parametrize('data, warned', [(Points, True), (ToyData, False)])
def test_data_that_cannot_be_continued_are_told_of_once_a_start(
        tmp_path, caplog, kind, data, warned):
    limit = 'max_epochs' if 'Epoch' in kind else 'max_iters'

    def start(steps):
        caplog.clear()
        loaders = [DataLoader(data(), batch_size=4) for _ in range(2)]
        runner = make_runner(
            tmp_path,
            runner=dict(type=kind, **{limit: steps}),
            hooks=[
                dict(
                    type='DurableCheckpointHook',
                    interval=3,
                    by_epoch=False,
                    resume='auto')
            ])
        runner.run(loaders, [('train', 1), ('train', 1)])
        return [
            line for line in caplog.messages
            if 'cannot be continued' in line or 'cannot be advanced' in line
        ]

    said = start(1)
    assert len(said) == warned
    assert not said or 'a resume begins the pass anew' in said[0]
    said = start(3)
    # an epoch that is over has no position
    assert len(said) == (warned and kind == 'IterBasedRunnerAmp')
    assert not said or 'after iteration 1' in said[0]
