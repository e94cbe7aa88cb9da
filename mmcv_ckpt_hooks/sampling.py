"""Samplers whose order, and the randomness of whose samples, can be continued.

The order of a pass, and what the augmentation of a sample draws, must not
depend on what was drawn before: both come from streams of their own, which are
functions of the seed and of the position in the data.

Source: torch v2.12 (and v2.0), utils/data/dataloader.py: an index sampler's
``__iter__`` is called once or twice a pass, and its first ``next`` is asked
for when the workers start, or when training asks for the first batch.
"""
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from torch.utils.data import DataLoader, Sampler, get_worker_info

from .generators import (GeneratorStream, cpu_state, mixed, seed_cpu,
                         set_cpu_state)
from .held_generators import generators_in, set_state, state_of

#: Attributes by which samplers shuffle differently.
_SHUFFLED_BY = ('epoch', 'seed')
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
        #: what samplers shuffle by, as it was when that pass began
        self.order: Dict[str, Any] = {}
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
        self.order = order_of(self.inner)
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
        if not isinstance(one, DataLoader):
            # wrappers call it as they like
            left += [
                value for value in getattr(one, '__dict__', {}).values()
                if isinstance(value, (Sampler, TrackedSampler))
            ]
    return [one for one in found if not isinstance(one, DataLoader)]


def order_of(*roots: Any) -> Dict[str, Any]:
    """Return what decides on the order of the next pass.

    Args:
        roots: As for :func:`samplers_of`.

    Returns:
        dict: ``samplers``, a dict of numbers for each, and ``generators``,
        the state of each generator that they hold themselves.
    """
    samplers = samplers_of(*roots)
    return dict(
        samplers=[{
            name: getattr(one, name)
            for name in _SHUFFLED_BY
            if isinstance(getattr(one, name, None), int)
        } for one in samplers],
        generators=[state_of(one) for one in _held_generators(samplers)])


def set_order(loader: Any, saved: Mapping[str, Any], epoch: int) -> None:
    """Have samplers begin a pass as another did.

    Args:
        loader (DataLoader): Theirs.
        saved (dict): Of :func:`order_of`; what is not there is left alone.
        epoch (int): Passes over the data, as the runner counts them.
    """
    samplers = samplers_of(loader)
    for one in samplers:
        # mmdet's infinite samplers have a set_epoch that only raises
        if hasattr(one, 'set_epoch') and hasattr(one, 'epoch'):
            one.set_epoch(epoch)
    for one, values in zip(samplers, saved.get('samplers', [])):
        for name in _SHUFFLED_BY:
            if name in values and isinstance(getattr(one, name, None), int):
                setattr(one, name, values[name])
    for held, state in zip(
            _held_generators(samplers), saved.get('generators', [])):
        set_state(held, state)


def _held_generators(samplers: List[Any]) -> List[Any]:
    held: List[Any] = []
    for sampler in samplers:
        held += [
            one for one in generators_in(sampler)
            if all(one is not other for other in held)
        ]
    return held
