"""Where in the data a run is.

A resumed run goes on in the pass over the data and after the batch where it
stopped. The sampler is advanced; no batch is loaded for it.
"""
from typing import Any, Callable, Dict, Mapping, Optional

import torch
from torch.utils.data import DataLoader, IterableDataset

from .generators import mixed
from .resume_fields import used_defect
from .sampling import TrackedSampler, order_of, set_order

#: Keeps the seeds of workers apart from those of :mod:`sampling`.
_WORKERS = 3

Position = Mapping[str, Any]


class TrackedLoader:
    """The position of a run in one data loader.

    Args:
        loader (DataLoader): No iterator of it was created yet.
        seed (int): Of the run on this rank.
        rank (int): This process's.
        number (int): Of the loader among the run's.
        sample_seeds (bool): Whether the randomness of every sample is a
            function of seed, rank and position.
    """

    def __init__(self, loader: Any, seed: int, rank: int, number: int,
                 sample_seeds: bool) -> None:
        self.loader = loader
        self._epoch = 0
        # batches of the pass that training has consumed, not what workers
        # have loaded before they are asked for; 0 between two passes
        self._used = 0
        self._pass = 0
        self._first_epoch = 0
        self._sampler = _track(loader, seed, rank, number, sample_seeds)
        # workers may have begun it already
        self._next_pass = 0 if self._sampler is None else self._sampler.passes

    @property
    def is_tracked(self) -> bool:
        """Whether its sampler can be advanced."""
        return self._sampler is not None

    def length(self) -> int:
        """Batches of a pass; 0 if that is not known."""
        try:
            return len(self.loader)
        except TypeError:  # an IterableDataset without a length
            return 0

    def count(self, epoch: int) -> None:
        """Take note that training consumes a batch.

        Args:
            epoch (int): Passes over the data, as the runner counts them.
        """
        if self._sampler is None:
            self._used = self._used + 1 if epoch == self._epoch else 1
            self._epoch = epoch
            return
        self._epoch = epoch
        running = self._sampler.passes - 1
        if not self._used or self._pass != running:
            self._pass, self._used = running, self._sampler.skipped
        self._used += 1

    def finished_passes(self, ends: bool) -> int:
        """Return how many passes are over, as the runner counts them.

        Args:
            ends (bool): Whether a full one is, although no further batch was
                asked for.
        """
        return self._epoch + (ends and 0 < self._used == self.length())

    def finish(self) -> None:
        """Take note that the pass is over."""
        if self._used:
            self._used, self._next_pass = 0, self._pass + 1

    def position(self, ends: bool = False) -> Dict[str, Any]:
        """Return where the run is, in builtin types and tensors.

        Args:
            ends (bool): Whether a full pass is over, although no further
                batch was asked for. Default: False.
        """
        if self._sampler is None:
            return dict(epoch=self._epoch, length=self.length())
        used = self._used
        passes = self._pass if used else self._next_pass
        if ends and used == self.length():
            used, passes = 0, self._pass + 1
        if ends and not used:
            # hooks between two epochs may have gone over the loader, too
            passes = max(passes, self._sampler.passes)
        return dict(
            epoch=self._epoch,
            length=self.length(),
            passes=passes,
            used=used,
            # as it was when the pass began, if it has
            **(self._sampler.order
               if self._sampler.passes > passes else order_of(self.loader)))

    def assumed(self, epoch: int, used: int) -> Dict[str, Any]:
        """Return the position of a checkpoint that only counts iterations.

        Args:
            epoch (int): Finished passes.
            used (int): Batches of the next one that are used.
        """
        return dict(epoch=epoch, length=self.length(), passes=epoch, used=used)

    def first_epoch(self) -> int:
        """Return the passes to begin the runner's count with, once."""
        epoch, self._first_epoch = self._first_epoch, 0
        return epoch

    def seek(self,
             saved: Position,
             ready: Optional[Callable[[], None]] = None,
             finished: int = 0) -> int:
        """Go on where a run stopped, or at the same share of a pass.

        Args:
            saved (dict): Of :meth:`position`.
            ready (callable, optional): See :meth:`TrackedSampler.advance`.
                Default: None.
            finished (int): Iterations of the run. Default: 0.

        Returns:
            int: Batches of the pass that are left out.
        """
        if self._sampler is None:
            self._epoch = self._first_epoch = saved['epoch']
            return 0
        set_order(self.loader, saved, saved['epoch'])
        used, before, now = saved['used'], saved['length'], self.length()
        if before and now and before != now:
            used = used * now // before
            if used_defect(used, now, finished):
                # a sampler without an end, over data of quite another size:
                # to leave out so many would take for ever
                used %= now
        self._sampler.advance(saved['passes'], used, ready)
        self._sampler.order = {
            key: saved.get(key, [])
            for key in ('samplers', 'generators')
        }
        self._epoch = self._first_epoch = saved['epoch']
        self._pass = self._next_pass = saved['passes']
        self._used = used
        return int(used)


def _track(loader: Any, seed: int, rank: int, number: int,
           sample_seeds: bool) -> Optional[TrackedSampler]:
    if not isinstance(loader, DataLoader) or \
            isinstance(loader.dataset, IterableDataset):
        return None  # the data set itself decides on its order
    # the seed of the workers is drawn when an iterator is created, which
    # happens at other moments in a resumed run
    loader.generator = torch.Generator()
    loader.generator.manual_seed(
        int.from_bytes(mixed(_WORKERS, seed, rank, number)[:7], 'little'))
    name = 'sampler' if loader.batch_sampler is None else 'batch_sampler'
    before = getattr(loader, name)
    inner = before.inner if isinstance(before, TrackedSampler) else before
    words = (seed, rank, number) if sample_seeds and \
        name == 'batch_sampler' else None
    sampler = TrackedSampler(inner, seed, number, words)
    if inner is not before:  # run() is called again
        sampler.passes = before.passes
    # DataLoader refuses this attribute after its construction, to catch user
    # errors; iterators read it when they are created
    object.__setattr__(loader, name, sampler)
    return sampler
