"""The sampler is advanced; the data loader stays what it was."""
import copy
import pickle

import pytest
import torch
from torch.utils.data import (BatchSampler, DataLoader, IterableDataset,
                              SequentialSampler)
from toy import ToyData, make_loader

from mmcv_ckpt_hooks.data_position import is_sized, seek, train_loaders


def batches(loader):
    return [round(float(batch['x'].sum()), 5) for batch in loader]


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('used', [0, 1, 3, 4])
def test_the_next_pass_begins_behind_the_used_batches(workers, used):
    whole = batches(make_loader())
    loader = make_loader(num_workers=workers)
    assert seek(loader, 0, used)
    assert batches(loader) == whole[used:]
    # and only that one
    assert batches(loader) == whole
    assert len(loader) == 4


def test_so_it_does_with_workers_that_stay():
    whole = batches(make_loader())
    loader = make_loader(num_workers=2, persistent_workers=True)
    seek(loader, 0, 2)
    assert batches(loader) == whole[2:]
    assert batches(loader) == whole


def test_a_loader_may_be_advanced_twice():
    loader = make_loader()
    seek(loader, 0, 3)
    seek(loader, 0, 1)
    assert batches(loader) == batches(make_loader())[1:]


def test_a_distributed_sampler_is_told_its_epoch():
    sampler = torch.utils.data.DistributedSampler(
        ToyData(16), num_replicas=2, rank=0, shuffle=True)
    loader = DataLoader(ToyData(16), batch_size=4, sampler=sampler)
    seek(loader, 5, 1)
    assert sampler.epoch == 5
    expected = list(sampler)[4:]
    assert [index for batch in loader.batch_sampler
            for index in batch] == expected


class OwnBatchSampler(BatchSampler):
    """With attributes that a repo's hooks look for (mmdet)."""
    own = 3


def test_what_hooks_read_of_a_batch_sampler_is_still_there():
    sampler = OwnBatchSampler(SequentialSampler(range(16)), 4, False)
    loader = DataLoader(ToyData(16), batch_sampler=sampler)
    seek(loader, 0, 1)
    advanced = loader.batch_sampler
    assert advanced.own == 3
    assert advanced.batch_size == 4
    assert advanced.sampler is sampler.sampler
    assert not hasattr(advanced, 'set_epoch')
    for again in (copy.copy(advanced), copy.deepcopy(advanced),
                  pickle.loads(pickle.dumps(advanced))):
        assert again.own == 3


class Stream(IterableDataset):

    def __iter__(self):
        return iter(range(8))


def test_a_stream_cannot_be_advanced_and_says_so():
    loader = DataLoader(Stream(), batch_size=2)
    assert seek(loader, 3, 0) is True
    assert not is_sized(loader)
    assert seek(DataLoader(ToyData(16), batch_size=None), 0, 2) is False


def test_only_the_train_loaders_are_advanced():
    assert train_loaders(['a', 'b', 'c'], [('train', 2), ('val', 1),
                                           ('train', 1)]) == ['a', 'c']
