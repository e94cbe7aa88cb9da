"""What all ranks must know before one of them may act alone.

A save is collective, so that a wish of one rank (a signal, its clock, a file
that only rank 0 sees) is first told to all. Each rank contributes its wishes
at one boundary and reads everybody's at the next: by then the messages have
arrived, and nobody waits.
"""
import datetime
import itertools
import pickle
import time
from collections import deque
from dataclasses import astuple, dataclass
from typing import Any, Callable, Deque, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import distributed as dist

from . import distributed
from .compat import default_store
from .roll_call import RollCall

#: So long a rank that has to leave waits for what the others want: longer
#: than they can be behind, shorter than the grace of schedulers (30 s).
LEAVE_SECS = 10.
#: So long the others wait, at the end, for rank 0 to have committed.
COMMIT_SECS = 600.
_POLL_SECS = 0.01
#: Messages whose tensors are held. Who destroys a group has the interpreter
#: lock, and waits for gloo's threads (torch 2.0.1); they would wait for the
#: lock where theirs is the last reference to a tensor.
_HELD_MESSAGES = 16
#: The same on all ranks, which build them together.
_numbers = itertools.count()


@dataclass(frozen=True)
class Wish:
    """What is asked for besides the save grid.

    Args:
        retry (int): 1 if a save has come to nothing.
        time (int): 1 if ``secs`` have passed.
        file (int): 1 if the trigger file was there.
        save_signal (int): Number of the signal that asks for a save; 0 for
            none.
        exit_signal (int): Of the signal that asks for the end.
    """
    retry: int = 0
    time: int = 0
    file: int = 0
    save_signal: int = 0
    exit_signal: int = 0

    @property
    def trigger(self) -> Optional[str]:
        """Name of the trigger, None if nothing is asked for."""
        if self.save_signal or self.exit_signal:
            return 'signal'
        if self.file:
            return 'file'
        return 'retry' if self.retry else 'time' if self.time else None


class Agreement:
    """Unites the wishes of all ranks; with one rank each holds at once.

    Args:
        warn (callable): Told when other ranks do not answer.
        clock (callable): Monotonic seconds. Default: ``time.monotonic``.

    Order: the constructor on all ranks; then, at every boundary on all ranks,
    :meth:`read` and :meth:`offer`, until they leave.

    Thread: training's.
    """

    def __init__(self,
                 warn: Callable[[str], None],
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._warn = warn
        self._clock = clock
        self._under_way: Optional[Tuple[Any, torch.Tensor]] = None
        self._group: Any = None
        self._held: Deque[Any] = deque(maxlen=_HELD_MESSAGES)
        self.is_alone = distributed.world_size() == 1
        #: whether a rank went silent: nothing collective is possible
        self.is_broken = False
        self._roll: Optional[RollCall] = None
        if not self.is_alone:
            self._roll = RollCall(default_store(),
                                  f'mmcv_ckpt_hooks roll {next(_numbers)}',
                                  distributed.rank(), distributed.world_size())
            # of its own and on the CPU: it neither waits for a GPU nor gets
            # between the messages of training
            self._group = dist.new_group(
                backend='gloo',
                timeout=datetime.timedelta(seconds=COMMIT_SECS))

    def read(self, leaving: bool) -> Wish:
        """Return what the ranks asked for at the boundary before.

        Args:
            leaving (bool): Whether this rank has to leave: then it does not
                wait long.
        """
        if self._under_way is None:
            return Wish()
        (work, values), self._under_way = self._under_way, None
        if not self._answered(work, LEAVE_SECS if leaving else None):
            return Wish()
        return Wish(*(int(value) for value in values.tolist()))

    def offer(self, own: Wish) -> None:
        """Tell the other ranks what this one asks for."""
        values = torch.tensor(astuple(own), dtype=torch.int64)
        work = self._send(values, dist.ReduceOp.MAX)
        self._under_way = work and (work, values)

    def gather(self, value: Any) -> List[Any]:
        """Return every rank's value, by rank, on all ranks.

        Raises:
            RuntimeError: If a rank does not come in COMMIT_SECS, or is dead;
                it is named.
        """
        if self._roll is None:
            return [value]
        data = np.frombuffer(pickle.dumps(value), np.uint8)
        self._roll.come()
        try:
            sizes = [
                int(one) for one in self._gather(torch.tensor([len(data)]))
            ]
            padded = torch.zeros(max(sizes), dtype=torch.uint8)
            padded[:len(data)] = torch.from_numpy(data.copy())
            parts = self._gather(padded)
        except RuntimeError as error:
            self.is_broken = True
            raise RuntimeError(
                f'{_who_is_missing(self._roll.missing())}{error}') from error
        return [
            pickle.loads(part[:size].numpy().tobytes())
            for part, size in zip(parts, sizes)
        ]

    def wait_for_all(self) -> bool:
        """Wait until every rank has come here, at most COMMIT_SECS."""
        if self.is_alone:
            return True
        work = self._send(torch.zeros(1), dist.ReduceOp.SUM)
        return bool(work) and self._answered(work, COMMIT_SECS)

    def close(self, waits: bool = True) -> None:
        """Let the last message arrive, which nobody reads; end the group.

        Args:
            waits (bool): False where the process ends whatever becomes of the
                others: then both go with it. Default: True.

        Threads of gloo release the tensors of a message after its arrival,
        and abort a process whose interpreter has ended by then (torch 2.12).
        Those of a group that is destroyed are waited for.
        """
        if waits:
            self.read(leaving=True)
        if self._group is not None and waits and not self.is_broken:
            dist.destroy_process_group(self._group)
            # with the last reference; not before, what was sent
            self._group = None
            self._held.clear()
        self._group = None

    def _gather(self, tensor: torch.Tensor) -> List[torch.Tensor]:
        found = [
            torch.empty_like(tensor) for _ in range(distributed.world_size())
        ]
        self._held.append((tensor, found))
        dist.all_gather(found, tensor, group=self._group)
        return found

    def _send(self, values: torch.Tensor, operation: Any) -> Any:
        if self.is_broken:
            return None
        self._held.append(values)
        try:
            return dist.all_reduce(
                values, operation, group=self._group, async_op=True)
        except RuntimeError as error:
            self._give_up(error)
            return None

    def _answered(self, work: Any, limit_secs: Optional[float]) -> bool:
        """Wait for a message; None: as long as the group's timeout."""
        until = None if limit_secs is None else self._clock() + limit_secs
        try:
            while until is not None and not work.is_completed():
                if self._clock() >= until:
                    self._give_up(f'no answer in {limit_secs:g} s')
                    return False
                time.sleep(_POLL_SECS)
            work.wait()
        except RuntimeError as error:  # a peer is dead
            self._give_up(error)
            return False
        return True

    def _give_up(self, why: Any) -> None:
        self.is_broken = True
        self._warn('Other ranks cannot be reached: this rank goes on without '
                   f'them ({why})')


def _who_is_missing(ranks: Optional[Sequence[int]]) -> str:
    """Begin the message that a save of all ranks has failed."""
    what = 'not come to a save of all ranks, which needs the generators and ' \
        'the place in the data of each'
    if ranks is None:
        return f'a rank has {what}; which one is not known, since the store ' \
            'of torch.distributed, which rank 0 or torchrun has, does not ' \
            'answer: '
    if not ranks:
        return ''  # all are there: it is the network
    one = len(ranks) == 1
    return f'rank{"" if one else "s"} {", ".join(map(str, ranks))} ' \
        f'ha{"s" if one else "ve"} {what}: '
