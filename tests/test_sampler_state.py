"""Samplers with state of their own shuffle on after a resume."""
import json
import random

import numpy as np
import pytest
import torch
from exact import SIZE, DrawingModel, drawing_loader
from test_exact import ITERS, assert_same_end
from torch.utils.data import RandomSampler, Sampler

from mmcv_ckpt_hooks.held_generators import (generators_in, set_state,
                                             state_of, try_state)
from mmcv_ckpt_hooks.sampling import TrackedSampler


class Shuffled:
    """Of a repo, which keeps its generator where it likes."""

    def __init__(self, generator):
        self.numbers = generator

    def __len__(self):
        return SIZE

    def __iter__(self):
        if isinstance(self.numbers, torch.Generator):
            order = torch.randperm(SIZE, generator=self.numbers).tolist()
        else:
            order = list(range(SIZE))
            self.numbers.shuffle(order)
        return iter(order)


class Counting:
    """Counts its passes when they begin."""

    epoch = 0

    def __len__(self):
        return SIZE

    def __iter__(self):
        self.epoch += 1
        return iter(np.random.RandomState(self.epoch).permutation(SIZE))


class Around(Sampler):

    def __init__(self, inner):
        self.inner_sampler = inner

    def __len__(self):
        return len(self.inner_sampler)

    def __iter__(self):
        return iter(list(self.inner_sampler))


GENERATORS = {
    'python': lambda: random.Random(3),
    'numpy-legacy': lambda: np.random.RandomState(3),
    'numpy': lambda: np.random.default_rng(3),
    'torch': lambda: torch.Generator().manual_seed(3),
}
SAMPLERS = {
    **{
        name: lambda make=make: Shuffled(make())
        for name, make in GENERATORS.items()
    },
    'counting':
    Counting,
    'wrapped':
    lambda: Around(
        RandomSampler(range(SIZE), generator=torch.Generator().manual_seed(2))
    ),
}


@pytest.mark.parametrize('runner_type, steps', [('IterBasedRunnerAmp', ITERS),
                                                ('EpochBasedRunnerAmp', 4)])
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('name', SAMPLERS)
def test_a_sampler_goes_on_with_its_order(tmp_path, name, workers, runner_type,
                                          steps):
    assert_same_end(
        tmp_path,
        steps, [5, 9, 12],
        interval=1,
        runner_type=runner_type,
        loaders=[lambda: drawing_loader(workers, sampler=SAMPLERS[name]())])


BITS = ['PCG64', 'MT19937', 'Philox', 'SFC64']
KINDS = {
    **GENERATORS,
    **{
        name: lambda name=name: np.random.Generator(
            getattr(np.random, name)(3))
        for name in BITS
    }
}


def drawn(generator):
    if isinstance(generator, torch.Generator):
        return torch.rand(5, generator=generator).tolist()
    if isinstance(generator, random.Random):
        return [generator.random(), generator.gauss(0, 1)]
    return [*generator.normal(size=3), generator.bytes(5)]


@pytest.mark.parametrize('kind', KINDS)
def test_a_generator_goes_on_from_its_state(kind):
    generator = KINDS[kind]()
    drawn(generator)
    state = state_of(generator)
    try_state(state)
    expected = drawn(generator)
    other = KINDS[kind]()
    set_state(other, state)
    assert drawn(other) == expected


@pytest.mark.parametrize('kind', KINDS)
def test_the_state_of_another_kind_is_left_alone(kind):
    for other in KINDS:
        if other == kind or {other, kind} == {'numpy', 'PCG64'}:
            continue
        generator, same = KINDS[kind](), KINDS[kind]()
        set_state(generator, state_of(KINDS[other]()))
        assert drawn(generator) == drawn(same)


def test_the_global_generators_belong_to_nobody():
    holder = Shuffled(random._inst)
    holder.numpy = np.random.mtrand._rand
    holder.torch = torch.default_generator
    assert generators_in(holder) == []


def test_a_generator_without_a_state_of_its_own_is_left_alone():
    holder = Shuffled(random.SystemRandom())
    holder.other = np.random.RandomState(np.random.PCG64(3))
    assert generators_in(holder) == []


class CachingModel(DrawingModel):
    """With a buffer that torch does not save, and training changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer('seen', torch.zeros(4), persistent=False)

    def forward(self, x, **kwargs):
        if self.training:
            self.seen.add_(x.detach().mean(0))
        return super().forward(x + .01 * self.seen)


def test_a_buffer_that_torch_does_not_save_goes_on(tmp_path, monkeypatch,
                                                   caplog):
    monkeypatch.setattr('exact.DrawingModel', CachingModel)
    assert_same_end(tmp_path, ITERS, [4, 9], interval=1)
    assert not [line for line in caplog.messages if 'unexpected' in line]


BEYOND = {
    'RandomState':
    dict(kind='RandomState', state=['MT19937', [1] * 624, 625, 0, 0.]),
    'MT19937':
    dict(
        kind='Generator',
        state=dict(bit_generator='MT19937', state=dict(key=[1] * 624,
                                                       pos=-1))),
    'Philox':
    dict(
        kind='Generator',
        state=dict(
            bit_generator='Philox',
            state=dict(counter=[0] * 4, key=[0] * 2),
            buffer=[0] * 4,
            buffer_pos=-5,
            has_uint32=0,
            uinteger=0)),
}


@pytest.mark.parametrize('kind', BEYOND)
def test_numpy_never_reads_beyond_its_words(kind):
    with pytest.raises(ValueError, match='position'):
        try_state(json.dumps(BEYOND[kind]))


def test_a_sampler_that_has_ended_is_not_asked_for_ever():

    class Ended:
        asked = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.asked += 1
            raise StopIteration

    sampler = TrackedSampler(Ended())
    sampler.advance(0, 1000)
    assert list(sampler) == []
    assert sampler.asked == 2
