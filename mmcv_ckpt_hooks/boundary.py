"""The state at the end of a step, and whether it is still there.

What stops a run (an exception, a signal during validation) comes between two
boundaries. The state of the last one can still be saved if no optimizer has
begun a step and no tensor of the model has changed since.
"""
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import (Any, Callable, Dict, Iterator, List, Mapping, Optional,
                    Tuple)

import torch

from . import distributed
from .amp import mark_of_amp
from .compat import watch_steps
from .folders.layout import folder_name
from .hook_states import HookStates
from .optimizers import listed, spread
from .sharded.shards import has_shards
from .state import capture_rank, unwrapped
from .types import SaveRequest


@dataclass(frozen=True)
class Boundary:
    """Where a run was after its last finished step.

    Args:
        epoch (int): Finished epochs.
        iter (int): Finished iterations.
        step (int, optional): What a regular name is made of; None inside an
            epoch.
        started (bool): Whether it is the start: nothing was trained since.
        hooks (dict): State that hooks had there, by key; what is not known
            is left out.
    """
    epoch: int
    iter: int
    step: Optional[int] = None
    started: bool = False
    hooks: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def name(self, template: Optional[str], of_epoch: bool,
             counts_iterations: bool) -> str:
        """Return the name of a checkpoint of this step.

        Args:
            template (str, optional): Of the name of a regular one.
            of_epoch (bool): Whether it is a regular one of an epoch.
            counts_iterations (bool): Whether the runner knows no epochs.
        """
        if template is not None:
            return template.format(self.step)
        if of_epoch:
            return f'epoch_{self.epoch}.pth'
        if counts_iterations:
            return f'iter_{self.iter}.pth'
        return f'epoch_{self.epoch}_iter_{self.iter}.pth'

    def request(self, trigger: str, is_last: bool, template: Optional[str],
                by_epoch: bool, counts_iterations: bool,
                in_folder: bool) -> SaveRequest:
        """Return what to save of this step.

        Args:
            trigger (str): What asked for it.
            is_last (bool): Whether the run ends with it.
            template, by_epoch, counts_iterations: As for :meth:`name`, of a
                regular one.
            in_folder (bool): Whether it is a folder, and no file.
        """
        regular = trigger in ('interval', 'at', 'last')
        name = self.name(template if regular else None, regular and by_epoch,
                         counts_iterations)
        return SaveRequest(
            folder_name(name) if in_folder else name,
            self.epoch,
            self.iter,
            trigger,
            regular,
            is_last=is_last)


class BoundaryKeeper:
    """Remembers the last boundary, and says whether its state is intact.

    Args:
        runner (BaseRunner): With its model and optimizers.
        partial_gradients (bool): Whether gradients are carried from one
            iteration to the next, and so are a part of the state.
        begin (Boundary): The start of the run.

    Thread: training's.
    """

    def __init__(self, runner: Any, partial_gradients: bool,
                 begin: Boundary) -> None:
        self._runner = runner
        self._optimizers = listed(runner.optimizer)
        # the dicts live as long as the modules; the tensors in them may be
        # replaced
        self._tensors: List[Dict[str, Any]] = []
        for module in unwrapped(runner.model).modules():
            self._tensors += [module._parameters, module._buffers]
        self._partial_gradients = partial_gradients
        self._is_spread = distributed.world_size() > 1 and (bool(
            spread(runner.optimizer)) or has_shards(runner.model))
        self._hook_states = HookStates()
        self._unwatch: List[Callable[[], None]] = [
            watch_steps(
                one,
                lambda: self.spoil('the optimizer has begun a step since'))
            for one in self._optimizers
        ]
        self.record(begin)

    def record(self, boundary: Boundary) -> None:
        """Remember a boundary: all hooks that change the state have run."""
        self.last = replace(
            boundary, hooks=self._hook_states.copy(self._runner.hooks))
        self._amp_mark = mark_of_amp(self._runner.hooks)
        self._defect: Optional[str] = None
        self._mark = self._fingerprint()
        #: generators and data position, which go on with the next batch
        self.rank_state = capture_rank(self._runner)
        self._groups = self._hyperparameters()

    def defect(self) -> Optional[str]:
        """Say why the state of the last boundary is gone; None if it is not.
        """
        if self._is_spread:
            return "a part of the optimizer's state is on other ranks"
        if self._defect is None and self._mark != self._fingerprint():
            return 'tensors of the model have changed since'
        # also where no step was made, because a gradient was infinite
        if self._defect is None and \
                self._amp_mark != mark_of_amp(self._runner.hooks):
            return 'the loss scale has changed since'
        return self._defect

    def spoil(self, why: str) -> None:
        """Note a change that leaves no trace: one through ``Tensor.data``."""
        self._defect = why

    @contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Put back the learning rates of the boundary meanwhile."""
        groups = self._hyperparameters()
        self._set_hyperparameters(self._groups)
        try:
            yield
        finally:
            self._set_hyperparameters(groups)

    def close(self) -> None:
        """Leave nothing behind on the optimizers."""
        for unwatch in self._unwatch:
            unwatch()
        self._unwatch = []

    def _fingerprint(self) -> List[Any]:
        # a tensor's version counts its changes in place
        mark: List[Any] = []
        for tensors in self._tensors:
            for tensor in tensors.values():
                if tensor is not None:
                    mark.append(id(tensor))
                    mark.append(tensor._version)
        if self._partial_gradients:
            mark += [_gradient(one) for one in self._parameters()]
        return mark

    def _parameters(self) -> Iterator[torch.Tensor]:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                yield from group['params']

    def _hyperparameters(self) -> List[List[Dict[str, Any]]]:
        return [[_without_parameters(group) for group in one.param_groups]
                for one in self._optimizers]

    def _set_hyperparameters(self, saved: List[List[Dict[str, Any]]]) -> None:
        for optimizer, groups in zip(self._optimizers, saved):
            for group, values in zip(optimizer.param_groups, groups):
                group.update(values)


def _gradient(parameter: torch.Tensor) -> Optional[Tuple[int, int]]:
    gradient = parameter.grad
    return None if gradient is None else (id(gradient), gradient._version)


def _without_parameters(group: Dict[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in group.items() if key != 'params'}
