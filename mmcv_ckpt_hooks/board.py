"""What ranks tell each other without waiting for one another.

During an evaluation nothing collective is possible: ranks come to its end at
different times, and one may be dead. What they have to know stands in the
store by which torch's ranks have met, where each reads when it likes.
"""
import base64
import pickle
import time
from typing import Any, Callable, List, Optional

from .agreement import COMMIT_SECS

#: So seldom a rank looks whether another one wants to leave.
LOOK_SECS = 1.
_POLL_SECS = 0.05


class Board:
    """A message board of one run and one hook.

    Args:
        store (Store, optional): torch's. None: nothing can be told.
        name (str): Of this board, the same on all ranks, and of no other.
        rank (int): This one.
        world_size (int): How many there are.
        warn (callable): Told once when the store is gone.
        clock (callable): Monotonic seconds. Default: ``time.monotonic``.

    Order: a rank that got a signal calls :meth:`ask`; rank 0, when it sees
    that, :meth:`take`, saves, and :meth:`commit`. The others go on until it
    has taken: it may not look any more. Then they :meth:`wait_for_commit`.

    Thread: training's.
    """

    def __init__(self,
                 store: Any,
                 name: str,
                 rank: int,
                 world_size: int,
                 warn: Callable[[str], None],
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._name = name
        self._rank = rank
        self._world_size = world_size
        self._warn = warn
        self._clock = clock
        self._looked_at: Optional[float] = None
        self._has_asked = self._has_taken = False
        #: finished iterations of what this rank has posted; None for nothing
        self.step: Optional[int] = None
        #: whether the store has gone, and so the rank that had it
        self.is_lost = False

    def post(self, step: int, state: Any) -> None:
        """Let the others read this rank's state of a boundary; once a step."""
        if self.step == step:
            return
        before, self.step = self.step, step
        text = base64.b64encode(pickle.dumps(state)).decode()
        self._set(f'state {self._rank}', text)
        # which is counted up after it: who sees the step finds its state
        self._add(f'step {self._rank}',
                  step - before if before is not None else step + 1)

    def states(self, step: int, limit_secs: float) -> Optional[List[Any]]:
        """Return what all ranks have posted of a boundary, by rank.

        None if one of them has not after so many seconds.
        """
        until = self._clock() + limit_secs
        for rank in range(self._world_size):
            while self._add(f'step {rank}') != step + 1:
                if self._is_silent() or self._clock() >= until:
                    return None
                time.sleep(_POLL_SECS)
        texts = [
            self._get(f'state {rank}') for rank in range(self._world_size)
        ]
        return None if self.is_lost else [
            pickle.loads(base64.b64decode(text)) for text in texts
        ]

    def ask(self, number: int) -> None:
        """Tell rank 0 of a signal that asks for the end; once."""
        if not self._has_asked:
            self._has_asked = True
            # the first one counts, as in one process
            if self._add('asking', 1) == 1:
                self._add('asked', number)

    def asked(self) -> int:
        """Return the signal that another rank got; 0 for none."""
        return self._add('asked') if self._may_look() else 0

    def take(self, number: int) -> None:
        """Tell the others that rank 0 saves now, and leaves; once."""
        if not self._has_taken:
            self._has_taken = True
            self._add('taken', number)

    def taken(self, at_once: bool = False) -> int:
        """Return the signal with which rank 0 leaves; 0 if it does not.

        Args:
            at_once (bool): Whether to look although it was just done.
                Default: False.
        """
        return self._add('taken') if at_once or self._may_look() else 0

    def commit(self) -> None:
        """Tell the others that what rank 0 has saved is durable."""
        self._add('committed', 1)

    def wait_for_commit(self) -> None:
        """Wait until rank 0 has committed or is gone; at most COMMIT_SECS.

        A launcher ends all ranks when one of them ends.
        """
        until = self._clock() + COMMIT_SECS
        while not (self._add('committed') or self._is_silent()
                   or self._clock() >= until):
            time.sleep(_POLL_SECS)

    def _may_look(self) -> bool:
        now = self._clock()
        if self._looked_at is not None and now - self._looked_at < LOOK_SECS:
            return False
        self._looked_at = now
        return True

    def _is_silent(self) -> bool:
        return self._store is None or self.is_lost

    def _add(self, key: str, number: int = 0) -> int:
        """Add to a number, which begins with 0, and return it."""
        if self._is_silent():
            return 0
        try:
            return int(self._store.add(f'{self._name} {key}', number))
        except RuntimeError as error:
            self._lose(error)
            return 0

    def _set(self, key: str, text: str) -> None:
        if not self._is_silent():
            try:
                self._store.set(f'{self._name} {key}', text)
            except RuntimeError as error:
                self._lose(error)

    def _get(self, key: str) -> bytes:
        if not self._is_silent():
            try:
                return bytes(self._store.get(f'{self._name} {key}'))
            except RuntimeError as error:
                self._lose(error)
        return b''

    def _lose(self, error: RuntimeError) -> None:
        self.is_lost = True
        self._warn('The store of torch.distributed cannot be reached: signals '
                   f'of other ranks are not seen in evaluations ({error})')
