"""A save that all ranks write: planned together, staged and handed over."""
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from .. import distributed
from ..errors import CheckpointError
from ..executor import Repeater
from ..memory import available_memory_bytes
from ..state import capture_rank
from .board import ShardBoard
from .commit import FolderCommit
from .planning import Plan, Planner
from .shards import Shards, collect, has_shards
from .state import ShardState, live_state

Gather = Callable[[Any], List[Any]]


@dataclass
class Current:
    """The save that is under way on the training thread.

    Args:
        save (int): Its number, the same on all ranks; 0 if this one saves
            alone.
        failure (str): Why it is not possible; empty if it is.
        is_skipped (bool): Whether the one before is still being written.
        shards (Shards, optional): What this rank has.
        planner (Planner, optional): Knows its live tensors.
        plan (Plan, optional): Of all ranks.
        room (int, optional): Memory (bytes) that is available before any
            rank copies; None where nothing tells.
    """
    save: int
    failure: str = ''
    is_skipped: bool = False
    shards: Optional[Shards] = None
    planner: Optional[Planner] = None
    plan: Optional[Plan] = None
    room: Optional[int] = None


class Sharding:
    """Plans the saves of one run, and builds what this rank writes.

    A plan is made once and used again as long as no rank has other tensors:
    then the ranks only agree that it is so, in the message which they send
    anyway.

    Args:
        board (ShardBoard, optional): To the other ranks; None if there are
            none.
        neighbours (int): How many ranks this host has. Default: 1.

    Thread: training's.
    """

    def __init__(self,
                 board: Optional[ShardBoard],
                 neighbours: int = 1) -> None:
        self.board = board
        self._neighbours = neighbours
        self.commit = FolderCommit(board)
        self.current = Current(0)
        self._rank = distributed.rank()
        self._saves = 0
        self._plan: Optional[Plan] = None
        self._shape: Optional[List[Tuple[Any, ...]]] = None
        self._beat: Optional[Repeater] = None

    @contextmanager
    def planned(self, runner: Any, with_optimizer: bool, gather: Gather,
                known: Optional[List[Any]],
                would_skip: bool) -> Iterator[List[Any]]:
        """Plan a save, and yield what every rank has; by rank.

        Args:
            runner (BaseRunner): At a boundary.
            with_optimizer (bool): Whether its state is saved.
            gather (callable): Of the agreement.
            known (list, optional): As for :func:`gathering.gathered`.
            would_skip (bool): Whether this rank has no time for it.

        Order: on all ranks, unless ``known`` is given.
        """
        optimizers = runner.optimizer if with_optimizer else None
        try:
            if known is not None:
                self._plan_alone(runner, optimizers)
                yield known
            else:
                yield self._plan_together(runner, optimizers, gather,
                                          would_skip)
        finally:
            self.current = Current(0)
            beat = self.take_beat()
            if beat is not None:  # nobody has anything to do
                beat.stop()

    def begin(self) -> Dict[str, Any]:
        """Begin on rank 0 what the others wait for: it ends, or fails.

        Returns:
            dict: The fields of model and optimizer that are no tensors.

        Order: when the save before has ended.
        """
        self.commit.open(self.current.save, self.take_beat())
        return {} if self.current.shards is None else self.current.shards.rest

    def state(self, rest: Optional[Dict[str, Any]] = None) -> ShardState:
        """Return what this rank writes, of live tensors.

        Args:
            rest (dict, optional): All other fields, on rank 0. Default: None.

        Raises:
            CheckpointError: If a rank could not plan.
        """
        now = self.current
        if now.failure or now.planner is None or now.plan is None:
            raise CheckpointError(now.failure or 'nothing was planned')
        rank = self._rank if now.save else 0
        tensors = now.planner.tensors(now.plan.items[rank])
        return live_state(tensors, rest, now.plan)

    def room(self) -> Optional[int]:
        """Return how much memory (bytes) this rank's copy may have.

        INVARIANT: all ranks of a host copy at the same time. Each has its
        share of what there was before the first began: what is left by then
        would be divided twice.
        """
        now = self.current
        if not now.save:
            return available_memory_bytes()
        return None if now.room is None else now.room // self._neighbours

    def take_beat(self) -> Optional[Repeater]:
        """Have the caller end this rank's beats for the save."""
        beat, self._beat = self._beat, None
        return beat

    def _plan_alone(self, runner: Any, optimizers: Any) -> None:
        now = self.current = Current(0)
        if self._rank:
            return
        if distributed.world_size() > 1 and has_shards(runner.model):
            now.failure = 'parts of the model are on other ranks, which ' \
                'cannot be reached'
            return
        try:
            now.shards = collect(runner.model, optimizers)
            now.planner = Planner(now.shards, True)
            now.plan = now.planner.united([now.planner.local()])
        except Exception as error:  # raised where the save is made
            now.failure = f'{type(error).__name__}: {error}'

    def _plan_together(self, runner: Any, optimizers: Any, gather: Gather,
                       would_skip: bool) -> List[Any]:
        now = self.current = Current(self._saves + 1)
        self._saves += 1
        if self.board is not None:
            self._beat = self.board.start_beating()
        try:
            now.shards = collect(runner.model, optimizers)
            shape = now.shards.shape()
            now.planner = Planner(now.shards, self._rank == 0)
        except Exception as error:  # told to all ranks, and raised on all
            now.failure, shape = f'{type(error).__name__}: {error}', []
        now.room = available_memory_bytes()
        told = gather((capture_rank(runner), now.failure, would_skip, shape
                       != self._shape))
        ranks, failures, skips, changes = zip(*told)
        now.is_skipped = any(skips)
        now.failure = '; '.join(f'rank {rank}: {why}'
                                for rank, why in enumerate(failures) if why)
        if not (now.failure or now.is_skipped):
            self._settle(now, shape, any(changes), gather)
        return list(ranks)

    def _settle(self, now: Current, shape: Any, is_changed: bool,
                gather: Gather) -> None:
        assert now.planner is not None
        if is_changed:
            self._plan = self._shape = None
            plans = gather(now.planner.local())
            try:
                # every rank unites them: no further message is needed
                self._plan = now.planner.united(plans)
            except (ValueError, RuntimeError, AssertionError) as error:
                now.failure = f'the ranks do not fit together ({error})'
                return
            self._shape = shape
        now.plan = self._plan
