"""Where in the data a run is.

A resumed run goes on in the data epoch and behind the batch where it stopped.
The sampler is advanced; no batch is loaded for it.
"""
import itertools
from typing import Any, Iterator, List


class AdvancingBatchSampler:
    """A batch sampler whose next pass can begin behind some batches.

    Args:
        inner: The batch sampler (or sampler) of a data loader.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._skip = 0

    def advance(self, batches: int) -> None:
        """Leave out this many batches of the next pass."""
        self._skip = batches

    def __iter__(self) -> Iterator[Any]:
        # a generator: a loader with workers makes two iterators for its first
        # pass and uses the second
        skip, self._skip = self._skip, 0
        yield from itertools.islice(self._inner, skip, None)

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        if name == '_inner':  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._inner, name)


def is_sized(loader: Any) -> bool:
    """Whether the length of a pass over a data loader is known."""
    try:
        return len(loader) > 0
    except TypeError:  # an IterableDataset without a length
        return False


def seek(loader: Any, epoch: int, batches: int) -> bool:
    """Let the next pass over a data loader begin inside an epoch.

    Args:
        loader (DataLoader): Its iterator is not created yet.
        epoch (int): Passes that are finished; told to a distributed sampler.
        batches (int): Batches of this pass that are used already.

    Returns:
        bool: False if the loader has no batch sampler to advance (an
        ``IterableDataset``).
    """
    sampler = getattr(loader, 'sampler', None)
    set_epoch = getattr(sampler, 'set_epoch', None)
    if set_epoch is not None:
        set_epoch(epoch)
    if not batches:
        return True
    inner = getattr(loader, 'batch_sampler', None)
    if inner is None:
        return False
    if not isinstance(inner, AdvancingBatchSampler):
        inner = AdvancingBatchSampler(inner)
        # DataLoader refuses this attribute after its construction, to catch
        # user errors; iterators read it when they are created
        object.__setattr__(loader, 'batch_sampler', inner)
    inner.advance(batches)
    return True


def train_loaders(data_loaders: List[Any], workflow: List[Any]) -> List[Any]:
    """Return the loaders that the workflow's train phases use."""
    return [
        loader for loader, (mode, _) in zip(data_loaders, workflow)
        if mode == 'train'
    ]
