"""Samplers whose order, and the randomness of whose samples, can be continued.

The order of a pass, and what the augmentation of a sample draws, must not
depend on what was drawn before: both come from streams of their own, which are
functions of the seed and of the position in the data.

Source: torch v2.12 (and v2.0), utils/data/dataloader.py: an index sampler's
``__iter__`` is called once or twice a pass, and its first ``next`` is asked
for when the workers start, or when training asks for the first batch.
"""
from typing import Any, Callable, Iterator, List, Optional

import torch
from torch.utils.data import DataLoader, get_worker_info

from .generators import (GeneratorStream, cpu_state, mixed, seed_cpu,
                         set_cpu_state)

#: What streams are for; the words keep them apart.
_ORDER, _SAMPLE = 1, 2


class SeededBatch(List[Any]):
    """Indices of a batch; reading one seeds the generators for its sample.

    Fetchers read the indices one by one and load a sample after each, in a
    worker or, without workers, in the main process. There the generators go
    on afterwards as if nothing had been drawn.

    Args:
        indices (iterable): Of the batch.
        words (tuple[int]): Which batch it is.
    """

    def __init__(self, indices: Any, words: Any) -> None:
        super().__init__(indices)
        self._words = words

    def __iter__(self) -> Iterator[Any]:
        outer = cpu_state() if get_worker_info() is None else None
        try:
            for number, index in enumerate(super().__iter__()):
                seed_cpu(mixed(_SAMPLE, *self._words, number))
                yield index
        finally:
            if outer is not None:
                set_cpu_state(outer)

    def __reduce__(self) -> Any:
        # the default reads the indices by __iter__
        return SeededBatch, (tuple(super().__iter__()), self._words)


class TrackedSampler:
    """A (batch) sampler that knows its passes and can begin inside one.

    Args:
        inner: The batch sampler (or sampler) of a data loader.
        seed (int): Of the run on this rank.
        number (int): Of the loader among the run's.
        words (tuple[int], optional): Mixed into the seeds of the samples;
            None leaves their randomness alone. Default: None.
    """

    def __init__(self,
                 inner: Any,
                 seed: int = 0,
                 number: int = 0,
                 words: Optional[Any] = None) -> None:
        self.inner = inner
        self._seed = seed
        self._number = number
        self._words = words
        #: passes that were begun
        self.passes = 0
        #: batches that the last pass left out
        self.skipped = 0
        #: states of the generators that samplers hold, when that pass began
        self.generators: List[torch.Tensor] = []
        self._skip = 0
        self._ready: Optional[Callable[[], None]] = None

    def advance(self,
                passes: int,
                batches: int,
                ready: Optional[Callable[[], None]] = None) -> None:
        """Begin the next pass inside an epoch.

        Args:
            passes (int): That are finished.
            batches (int): Of the next one that are used already.
            ready (callable, optional): Called once, when the sampler is
                there and before a batch is loaded. Default: None.
        """
        self.passes, self._skip, self._ready = passes, batches, ready

    def __iter__(self) -> Iterator[Any]:
        # a generator: a loader with workers makes two iterators for its first
        # pass and uses the second
        number, self.passes = self.passes, self.passes + 1
        self.skipped, self._skip = self._skip, 0
        self.generators = generators_of(self.inner)
        stream = GeneratorStream(
            mixed(_ORDER, self._seed, self._number, number))
        end = object()
        with stream:
            batches = iter(self.inner)
            for _ in range(self.skipped):
                if next(batches, end) is end:
                    break
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()
        position = self.skipped
        while True:
            # samplers draw when they are asked for the first index, some for
            # every one
            with stream:
                batch = next(batches, end)
            if batch is end:
                return
            yield batch if self._words is None else SeededBatch(
                batch, (*self._words, number, position))
            position += 1

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name == 'inner':  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self.inner, name)


def samplers_of(*roots: Any) -> List[Any]:
    """Return what is a sampler in these, from the outer to the inner ones.

    Args:
        roots: Samplers, or data loaders, which are not returned.
    """
    found: List[Any] = []
    left = list(roots)
    while left:
        one = left.pop(0)
        if isinstance(one, TrackedSampler):
            one = one.inner
        if one is None or any(one is other for other in found):
            continue
        found.append(one)
        left += [
            getattr(one, 'batch_sampler', None),
            getattr(one, 'sampler', None)
        ]
    return [one for one in found if not isinstance(one, DataLoader)]


def generators_of(sampler: Any) -> List[torch.Tensor]:
    """Return the state of every generator that samplers hold themselves."""
    return [one.get_state() for one in held_generators(sampler)]


def held_generators(sampler: Any) -> List[torch.Generator]:
    """Return the generators that samplers hold themselves."""
    held: List[torch.Generator] = []
    for one in samplers_of(sampler):
        generator = getattr(one, 'generator', None)
        if isinstance(generator, torch.Generator) and \
                all(generator is not other for other in held):
            held.append(generator)
    return held
