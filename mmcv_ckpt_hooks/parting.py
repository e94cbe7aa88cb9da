"""How ranks leave between two boundaries: rank 0 saves, the others follow.

A rank that leaves breaks the connections of all. So none leaves before rank 0
does, but for a rank that can go on no more.
"""
import uuid
from typing import Any, List, Optional

from . import distributed
from .agreement import LEAVE_SECS, Agreement
from .best import eval_hooks
from .board import Board
from .boundary import BoundaryKeeper
from .compat import default_store


class Parting:
    """Tells a rank when to leave; one that is alone leaves when it has to.

    Args:
        runner (BaseRunner): About to run.
        agreement (Agreement): Of the same ranks.
        writes (bool): Whether this is the rank that saves.

    Order: the constructor on all ranks; anything else on any rank.
    """

    def __init__(self, runner: Any, agreement: Agreement,
                 writes: bool) -> None:
        self._writes = writes
        self._board: Optional[Board] = None
        if agreement.is_alone:
            return
        hooks = [type(one).__name__ for one in eval_hooks(runner)]
        met = agreement.gather((uuid.uuid4().hex, hooks))
        # some repos evaluate on rank 0 alone: nobody is waited for then
        self._wait_secs = LEAVE_SECS * all(one[1] == hooks for one in met)
        self._board = Board(default_store(), f'mmcv_ckpt_hooks {met[0][0]}',
                            distributed.rank(), len(met),
                            runner.logger.warning)

    def begin(self, keeper: BoundaryKeeper) -> None:
        """Tell the others what this rank has when an evaluation begins."""
        if self._board is not None:
            self._board.post(keeper.last.iter, keeper.rank_state)

    def heard(self, keeper: BoundaryKeeper, own: int,
              evaluates: bool) -> Optional[int]:
        """Return the signal to leave with; None where none is answered.

        Args:
            keeper (BoundaryKeeper): Knows the last boundary.
            own (int): The signal that this rank got; 0 for none.
            evaluates (bool): Whether an evaluation is under way.
        """
        board = self._board
        if board is None:
            return own
        if evaluates:
            self.begin(keeper)
        if self._writes:
            # in training the others would miss this rank
            return own or board.asked() if evaluates else None
        if board.step != keeper.last.iter:
            return None
        if own:
            board.ask(own)
        # until rank 0 leaves the evaluation goes on: if that of rank 0 is
        # over, it waits for this one in training, and the boundaries will do
        return board.taken(at_once=not evaluates) or \
            (own if board.is_lost else 0)

    def take(self, number: int) -> None:
        """Let the others leave, too: this rank saves now."""
        if self._board is not None:
            self._board.take(number)

    def known(self, keeper: BoundaryKeeper, waits: bool) -> List[Any]:
        """Return what every rank had at the last boundary, else this one.

        Args:
            keeper (BoundaryKeeper): Knows the boundary.
            waits (bool): Whether to wait for ranks that are a little behind.
        """
        board, step = self._board, keeper.last.iter
        states = None
        if board is not None and self._writes and board.step == step:
            states = board.states(step, self._wait_secs if waits else 0.)
        return states or [keeper.rank_state]

    def followed(self, step: int) -> int:
        """Return the signal with which rank 0 leaves; 0 if it does not.

        Args:
            step (int): Finished iterations.
        """
        board = self._board
        if board is None or self._writes or board.step != step:
            return 0
        return board.taken(at_once=True)

    def end(self, step: int) -> None:
        """Let nobody end the process before rank 0 has committed."""
        if self._board is None:
            return
        if self._writes:
            self._board.commit()
        elif self.followed(step):
            self._board.wait_for_commit()

    def finish(self, leaves: bool) -> None:
        """Tell that training has come to its end, and all is committed.

        Args:
            leaves (bool): Whether this rank ends its process now: it does
                not before rank 0 has come as far.
        """
        if self._board is None:
            return
        if self._writes:
            self._board.commit()
        elif leaves:
            self._board.wait_for_commit()
