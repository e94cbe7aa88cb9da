"""What a run on our runners continues exactly, beside its state.

The position in the data, the random generators, accumulated gradients and the
phase of the workflow come back at the moment when training goes on: what is
built before draws random numbers, too.
"""
import copy
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import torch
from torch.utils.data import DataLoader

from . import distributed
from .compat import evaluation_methods
from .data_position import TrackedLoader
from .generators import preserved_generators, restore_generators
from .gradients import restore_gradients
from .restore import Restored
from .state import unwrapped

Workflow = List[Tuple[str, int]]


def told_apart(data_loaders: List[Any]) -> List[Any]:
    """Return the loaders, with a copy for each that was there before.

    A loader that is used in two phases of the workflow has a pass over the
    data, and so a position, in each of them.
    """
    found: List[Any] = []
    for loader in data_loaders:
        if isinstance(loader, DataLoader) and \
                any(loader is other for other in found):
            loader = copy.copy(loader)
            # of persistent workers, if it has been used
            loader._iterator = None
        found.append(loader)
    return found


class Continuation:
    """The exact continuation of one call of ``runner.run``.

    Args:
        runner (BaseRunner): One of ours.
        data_loaders (list[DataLoader]): Of :func:`told_apart`.
        sample_seeds (bool): See :class:`TrackedLoader`.
        restored (Restored, optional): What the run continues from; None for a
            fresh start.
    """

    def __init__(self, runner: Any, data_loaders: List[Any],
                 sample_seeds: bool, restored: Optional[Restored]) -> None:
        self._runner = runner
        self._pending = restored
        self._finished = restored.iter if restored else 0
        saved: Mapping[str, Any] = restored.data if restored else {}
        self._positions = saved.get('loaders', [])
        # every rank's own: ranks with the same seed shuffle alike, as with
        # torch's global generator
        self._seed = int(saved.get('seed', torch.initial_seed()))
        self._loaders = [
            TrackedLoader(loader, self._seed, distributed.rank(), number,
                          sample_seeds)
            for number, loader in enumerate(data_loaders)
        ]
        self._skips = 0
        self._trained: Optional[TrackedLoader] = None
        self._trains_at = 0

    def seek(self,
             number: int,
             epoch: int,
             used: int,
             begins_here: bool = False) -> int:
        """Go on in a data loader.

        Args:
            number (int): Which of ``data_loaders``.
            epoch (int): Finished passes, as the runner counts them, if the
                checkpoint does not tell.
            used (int): Batches of this pass that are used, likewise.
            begins_here (bool): Whether :meth:`ready` is called when the
                sampler is there. Default: False.

        Returns:
            int: Batches that are left out; 0 if the sampler of the loader
            cannot be advanced.
        """
        tracked = self._loaders[number]
        return tracked.seek(
            self.saved_position(number) or tracked.assumed(epoch, used),
            self.ready if begins_here else None, self._finished)

    def saved_position(self, number: int) -> Optional[Mapping[str, Any]]:
        """Return what the checkpoint tells of a data loader, or None."""
        if number >= len(self._positions):
            return None
        position: Mapping[str, Any] = self._positions[number]
        return position if 'used' in position else None

    def is_tracked(self, number: int) -> bool:
        """Whether a data loader's sampler can be advanced."""
        return self._loaders[number].is_tracked

    def length(self, number: int) -> int:
        """Batches of a pass over a data loader; 0 if not known."""
        return self._loaders[number].length()

    def skip(self, workflow: Workflow, finished: int, inside: bool) -> None:
        """Leave out the phases of the workflow's cycle that are done.

        Args:
            workflow (list[tuple]): As given to ``run``.
            finished (int): Finished train steps: iterations or epochs.
            inside (bool): Whether one more was begun.
        """
        cycle = sum(steps for mode, steps in workflow if mode == 'train')
        if not cycle or not finished:
            return
        # saved after the last train step of a cycle: its val phases, if it
        # has any, come then
        self._skips = finished % cycle or (0 if inside else cycle)

    def skips(self, mode: str) -> bool:
        """Whether this step of the workflow was done before the resume."""
        if not self._skips:
            return False
        if mode == 'train':
            self._skips -= 1
        return True

    def ready(self) -> None:
        """Bring back what training itself uses; the first call counts."""
        restored, self._pending = self._pending, None
        _bring_back(self._runner, restored)

    def first_epoch(self, loader: Any) -> int:
        """Return the passes to begin a loader's count with, once."""
        tracked = self._find(loader)
        return 0 if tracked is None else tracked.first_epoch()

    def count(self, loader: Any, epoch: int) -> None:
        """Take note that a batch is consumed."""
        tracked = self._find(loader)
        if tracked is not None:
            tracked.count(epoch)
            if self._runner.mode == 'train':
                self._trained, self._trains_at = tracked, self._runner.iter

    def finished_epochs(self, finished: int) -> Optional[int]:
        """Return the passes over the data of training that are over.

        Args:
            finished (int): Iterations; the last batch may be under way.

        Returns:
            int | None: None before the first batch.
        """
        return None if self._trained is None else \
            self._trained.finished_passes(finished > self._trains_at)

    def finish(self, loader: Any) -> None:
        """Take note that a pass over a loader is over."""
        tracked = self._find(loader)
        if tracked is not None:
            tracked.finish()

    def state(self, ends: bool) -> Dict[str, Any]:
        """Return seed and positions; see :meth:`TrackedLoader.position`."""
        return dict(
            seed=self._seed,
            loaders=[tracked.position(ends) for tracked in self._loaders])

    def _find(self, loader: Any) -> Optional[TrackedLoader]:
        # IterBasedRunner wraps loaders in an IterLoader
        plain = getattr(loader, '_dataloader', loader)
        for tracked in self._loaders:
            if tracked.loader is plain:
                return tracked
        return None


class StockContinuation:
    """What a runner that is not ours goes on with: all but the data.

    mmcv builds the iterators of its loaders after ``before_run``, and each
    draws its seeds from torch's generator. In a run that was never stopped
    the pass in which the checkpoint lies has drawn them before, the next one
    has not.

    Args:
        runner (BaseRunner): In its ``before_run``.
        restored (Restored): What it continues from.
    """

    def __init__(self, runner: Any, restored: Restored) -> None:
        self._runner = runner
        self._pending: Optional[Restored] = restored
        if restored.data.get('pass_ended'):
            restore_generators(restored.generators)
            self._pending = replace(restored, generators={})

    def ready(self) -> None:
        """Bring back what training itself uses; the first call counts.

        Called first in ``before_train_epoch``, before the pass of an epoch
        begins, and in ``before_train_iter``, when the first batch is there.
        """
        restored, self._pending = self._pending, None
        _bring_back(self._runner, restored)


def _bring_back(runner: Any, restored: Optional[Restored]) -> None:
    if restored is not None:
        restore_generators(restored.generators)
        restore_gradients(unwrapped(runner.model), restored.gradients)


class EvaluationGuard:
    """Keeps evaluations from changing what training draws, and its mode.

    A checkpoint is saved before the evaluation of its step, and a resumed run
    does not repeat that. mmcv leaves the model of an epoch runner in eval mode
    after an evaluation by iteration (mmcv#2199).

    Args:
        runner (BaseRunner): Any.
        keeps_mode (bool): Whether train and eval mode come back, too. Default:
            True.
    """

    def __init__(self, runner: Any, keeps_mode: bool = True) -> None:
        self._runner = runner
        self._keeps_mode = keeps_mode
        #: the generators as training has left them; None while it goes on
        self.outer: Optional[Dict[str, Any]] = None

    def guard(self, eval_hook: Any) -> None:
        """Guard what an EvalHook does, once."""
        for name in evaluation_methods(eval_hook):
            evaluate = getattr(eval_hook, name)
            if getattr(evaluate, 'is_guarded', False):
                continue

            def guarded(runner: Any, evaluate: Any = evaluate) -> Any:
                with self.preserved():
                    return evaluate(runner)

            guarded.is_guarded = True  # type: ignore[attr-defined]
            setattr(eval_hook, name, guarded)

    @contextmanager
    def preserved(self) -> Iterator[None]:
        """Preserve generators and modes while something else runs."""
        modes = [(module, module.training)
                 for module in self._runner.model.modules()
                 if self._keeps_mode]
        with preserved_generators() as saved:
            outer, self.outer = self.outer, self.outer or saved
            try:
                yield
            finally:
                self.outer = outer
                for module, mode in modes:
                    module.training = mode
