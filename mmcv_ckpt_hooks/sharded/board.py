"""What the writers of all ranks tell each other while training goes on.

They use the store by which torch's ranks have met: a collective on a worker
would come between those of training. Each rank beats while it takes part in a
save, so that one that was killed or stopped is known by its silence.
"""
import json
import threading
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from ..errors import OutOfSpaceError, StorageError
from ..executor import Repeater

#: So long (seconds) a rank may be silent before the save is given up.
LOST_SECS = 30.
#: So long (seconds) a rank may write nothing, although it lives.
STUCK_SECS = 600.
BEAT_SECS = 1.
#: So many saves back their ends are told.
_ENDS = 8
_POLL_SECS = 0.05


class ShardBoard:
    """A message board for the saves of one hook.

    Args:
        store (Store): torch's.
        name (str): Of this board, the same on all ranks, and of no other.
        rank (int): This one.
        world_size (int): How many there are.

    Order: the constructor on all ranks, and something collective before
    anything is read.

    Thread: the writer's; :meth:`start_beating` is called on training's.
    """

    def __init__(self, store: Any, name: str, rank: int,
                 world_size: int) -> None:
        self._store = store
        self._name = name
        self._rank = rank
        self._world_size = world_size
        self._progress = 0
        # of the last saves why they are not committed; empty if they are
        self._ends: Dict[str, str] = {}
        with _reached():
            if rank == 0:
                self._set('call', dict(save=0, attempt=0))
                self._set('ends', {})
            self._set(f'at {rank}', [0, 0])

    # -- rank 0 ------------------------------------------------------------

    def call(self, save: int, attempt: int, **values: Any) -> None:
        """Have the other ranks write their parts."""
        with _reached():
            self._set('call', dict(save=save, attempt=attempt, **values))

    def conclude(self, save: int, why: str = '') -> None:
        """Tell the others that a save is committed, or why it is not."""
        self._ends[str(save)] = why
        # a rank may look when the next one has ended, too; saves that are
        # left out have a number and no end
        while len(self._ends) > _ENDS:
            del self._ends[next(iter(self._ends))]
        with _reached():
            self._set('ends', self._ends)

    def results(self, save: int, attempt: int) -> Dict[int, Any]:
        """Wait for what the other ranks have written, by rank.

        Raises:
            StorageError: Naming the ranks that failed or fell silent.
        """
        return {
            rank: self._result(rank, save, attempt)
            for rank in range(1, self._world_size)
        }

    # -- the others --------------------------------------------------------

    def heard(self, save: int, attempt: int) -> Optional[Dict[str, Any]]:
        """Wait for what rank 0 says of a save, after an attempt.

        Returns:
            dict | None: What to write now; None if all is committed.

        Raises:
            StorageError: If it is not; if rank 0 fell silent.
        """
        ear = self._ear(0)
        if not attempt:
            with _reached():
                self._set(f'at {self._rank}', [save, attempt])
        while True:
            with _reached():
                call: Dict[str, Any] = self._get('call')
                ends: Dict[str, str] = self._get('ends')
            if ends.get(str(save)):
                raise StorageError(ends[str(save)])
            if str(save) in ends:
                return None
            if call['save'] > save:
                raise StorageError('rank 0 has given this save up: this rank '
                                   'was silent meanwhile')
            if call['save'] == save and call['attempt'] > attempt:
                return call
            ear.listen()

    def report(self, save: int, attempt: int, **values: Any) -> None:
        """Tell rank 0 what this one has written, or why it has not."""
        with _reached():
            self._set(f'result {self._rank}', values)
            self._set(f'at {self._rank}', [save, attempt])

    # -- all of them -------------------------------------------------------

    def start_beating(self) -> Repeater:
        """Be known to live; the caller stops it."""
        beat = Repeater(_Beat(self._beat, lambda: self._progress), BEAT_SECS)
        beat.start()
        return beat

    def advance(self, nbytes: int) -> None:
        """Note that this rank comes on."""
        self._progress += nbytes

    def _beat(self) -> bool:
        try:
            self._store.add(f'{self._name} beat {self._rank}', 1)
        except RuntimeError:
            return False  # who waits for an answer tells of it
        return True

    def _beats(self, rank: int) -> int:
        with _reached():
            return int(self._store.add(f'{self._name} beat {rank}', 0))

    def _ear(self, rank: int) -> '_Ear':
        # INVARIANT: to wait for who comes on is to come on, or whoever waits
        # for this one would lose it. Two that wait for each other, each in a
        # save of its own, do not go on for ever: the later save is told
        return _Ear(lambda: self._beats(rank), f'rank {rank}',
                    lambda: self.advance(1))

    def _result(self, rank: int, save: int, attempt: int) -> Any:
        ear = self._ear(rank)
        while True:
            with _reached():
                at = self._get(f'at {rank}')
            if at == [save, attempt]:
                break
            if at[0] > save:
                raise StorageError(f'rank {rank} has given this save up: rank '
                                   '0 was silent meanwhile')
            ear.listen()
        with _reached():
            result = self._get(f'result {rank}')
        if 'why' in result:
            # where there is no space, room can be made
            kind = OutOfSpaceError if result['no_space'] else StorageError
            raise kind(f'rank {rank} could not write its part '
                       f'({result["why"]})')
        self.advance(1)
        return result

    def _set(self, key: str, value: Any) -> None:
        self._store.set(f'{self._name} {key}', json.dumps(value))

    def _get(self, key: str) -> Any:
        # it is there: the constructor has set it
        return json.loads(bytes(self._store.get(f'{self._name} {key}')))


class _Beat:
    """One beat after the other, until nothing has moved for STUCK_SECS.

    Args:
        beat (callable): Beats once; returns whether it could.
        progress (callable): Returns a number that grows.
    """

    def __init__(self, beat: Callable[[], bool],
                 progress: Callable[[], int]) -> None:
        self._beat = beat
        self._progress = progress
        self._seen: Tuple[int, int] = (0, progress())

    def __call__(self) -> bool:
        now, (count, before) = self._progress(), self._seen
        self._seen = (count + 1 if now == before else 0, now)
        return self._seen[0] * BEAT_SECS < STUCK_SECS and self._beat()


class _Ear:
    """Waits between two looks, until a rank has been silent for too long.

    Its own looks are counted, and not the time: a process that was stopped
    with all the others must not take them for dead.

    Args:
        beats (callable): Returns how often the rank has beaten.
        who (str): For the message.
        heard (callable): Called when it has beaten.
    """

    def __init__(self, beats: Callable[[], int], who: str,
                 heard: Callable[[], None]) -> None:
        self._beats = beats
        self._who = who
        self._heard = heard
        self._seen = -1
        self._looks = 0
        # whoever replaces time.sleep would make all ranks seem silent
        self._pause = threading.Event()

    def listen(self) -> None:
        """Wait a little.

        Raises:
            StorageError: If it is silent.
        """
        self._looks += 1
        per_beat = int(BEAT_SECS / _POLL_SECS)
        if self._looks % per_beat == 0:
            beats = self._beats()
            if beats != self._seen:
                self._seen = beats
                self._looks = 0
                self._heard()
            elif self._looks * _POLL_SECS >= LOST_SECS:
                raise StorageError(
                    f'{self._who} does not answer (no sign of life for '
                    f'{LOST_SECS:g} s)')
        self._pause.wait(_POLL_SECS)


@contextmanager
def _reached() -> Iterator[None]:
    """Map the errors of the store: who has it is gone."""
    try:
        yield
    except RuntimeError as error:
        raise StorageError('the store of torch.distributed cannot be reached '
                           f'({error}): the launcher that has it, or '
                           'rank 0, is gone') from error
