"""The copies that a run's second place still lacks, made beside training.

Nothing is queued: what is to be copied is what the run's catalog has and the
mirror's has not. So a start finds what a killed run has left to do, and who
is behind copies the newest first.
"""
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set

from .catalog import Catalog
from .errors import ConfigError, IntegrityError
from .executor import BackgroundExecutor, call_later
from .mirror_log import MirrorLog
from .mirror_missing import Key, Missing, key_of
from .mirroring import MirrorPlace
from .movement import Movement, Pauses
from .sending import Gone
from .types import CheckpointInfo, StorageBackend

#: The end of a run gives up when nothing has moved for so long (seconds);
#: where copies fail, after the shorter time.
STALLED_SECS, AWAY_SECS = 120., 20.
#: The log of the end has a line so often, the first one sooner.
_SAID_SECS, _SAID_FIRST_SECS = 10., 1.
_LOOK_SECS = 0.2

#: ``later(secs, call)`` calls once, after so many seconds, unless what it
#: returns is called before.
Later = Callable[[float, Callable[[], None]], Callable[[], None]]


class Mirror:
    """Copies what a run commits to a second place, on a thread of its own.

    Training never waits for it, and its errors never end a run: what is
    committed in the first place is durable there.

    Args:
        place (MirrorPlace): Where to. If it is not open yet, it is opened
            before the first copy.
        source (StorageBackend): The run's own place.
        run (Catalog): Of that; ``begin`` was called.
        log (callable): Told one line a copy.
        warn (callable): Told once when copies fail, and what is damaged.
        clock (callable): Monotonic seconds. Default: ``time.monotonic``.
        later (Later): Default: :func:`~.executor.call_later`.

    Order: :meth:`wake` once at the start, :meth:`hear` after every event;
    :meth:`finish` or :meth:`leave`; :meth:`reopen` where the run goes on.

    Thread: :meth:`wake` and :meth:`hear` on any; :meth:`abandon` also in a
    signal's handler; the rest on the training thread.
    """

    def __init__(self,
                 place: MirrorPlace,
                 source: StorageBackend,
                 run: Catalog,
                 log: Callable[[str], None],
                 warn: Callable[[str], None],
                 clock: Callable[[], float] = time.monotonic,
                 later: Optional[Later] = None) -> None:
        #: where it is
        self.url = place.url
        self._place = place
        self._source = source
        self._run = run
        self._say = MirrorLog(place, source.url, log, warn)
        self._clock = clock
        self._later = later or call_later
        self._executor = BackgroundExecutor()
        self._changed = threading.Condition()
        self._is_wanted = self._is_running = self._is_finishing = False
        self._is_abandoned = self._is_closed = False
        # it is no place for a mirror
        self._is_off = False
        #: of attempts that failed since the last copy
        self._failures = 0
        self._is_behind = False
        self.missing = Missing(place, run)
        self._movement = Movement(clock)
        self._pauses = Pauses()
        self._stop_waiting: Callable[[], None] = lambda: None
        if place.lock is not None:
            place.lock.finish = self.leave

    def wake(self) -> None:
        """Have what is missing copied; returns at once."""
        with self._changed:
            if self._is_abandoned or self._is_off:
                return
            self._is_closed = False  # a runner may run again
            self._is_wanted = True
            if self._is_running:
                return
            self._is_running = True
        try:
            self._executor.submit(self._work)
        except BaseException as error:
            with self._changed:
                self._is_running = False
                if not isinstance(error, RuntimeError):
                    raise
                # no thread can be started now
                self._has_failed(error)

    def hear(self, event: str, values: Dict[str, Any]) -> None:
        """Take note of an event of the run; returns at once."""
        if event == 'scores':
            self._place.catalog.hear(values)
        self.wake()

    def pending(self) -> List[CheckpointInfo]:
        """Return what is still to be copied, the newest first."""
        return self.missing.look()

    def abandon(self) -> bool:
        """Let the process end without the copy under way.

        Returns:
            bool: Whether there is one.

        Thread: also a signal's handler.
        """
        self._is_abandoned = True
        return self._executor.abandon()

    def finish(self) -> None:
        """Wait until everything is copied, and leave the place.

        It gives up when nothing moves any more; an exception, such as that of
        a Ctrl-C, leaves at once. What is missing then is copied by the next
        start, or by ``mmcv-ckpt push``.
        """
        if self._is_closed:
            return
        try:
            self._is_finishing = True
            self.wake()
            self._wait()
        except BaseException:
            self.abandon()
            raise
        finally:
            self._is_finishing = False
            self._close()

    def leave(self) -> None:
        """Leave the place at once, as when training has raised.

        A copy under way may be cut off. The next start makes up for it.
        """
        if not self._is_closed:
            self.abandon()
            # what waits for a storage may hold the lock of its catalog
            self._say.not_copied(None if self._is_running else self.pending())
            self._close()
        self._place.release()  # the end of a copy may have taken it again

    def reopen(self) -> None:
        """Go on, also after an end that left something out."""
        with self._changed:
            self._is_abandoned = False
        self.wake()

    def _close(self) -> None:
        with self._changed:
            self._is_closed = True
            is_running = self._is_running
        self._stop_waiting()
        if is_running:
            self.abandon()
            self._executor.retire()
        else:
            self._executor.close()
        self._place.release()

    def _wait(self) -> None:
        self._movement.restart()
        begun = self._clock()
        said_at = begun - _SAID_SECS + _SAID_FIRST_SECS
        while True:
            with self._changed:
                if self._is_abandoned:
                    return
                if not self._is_running and not self._failures:
                    return  # nothing is left that can be copied
                self._changed.wait(_LOOK_SECS)
            now = self._clock()
            limit = AWAY_SECS if self._failures else STALLED_SECS
            if self._movement.still_secs() > limit:
                self._say.not_copied(self.missing.remembered())
                return
            if now - said_at >= _SAID_SECS:
                said_at = now
                self._say_progress()

    def _say_progress(self) -> None:
        self._say.progress(self.missing.remembered(), self._movement)

    # -- on its thread -----------------------------------------------------

    def _work(self) -> None:
        error: Optional[Exception] = None
        while True:
            with self._changed:
                self._is_wanted = False
            try:
                self._catch_up()
            except Exception as raised:  # the boundary where it is told
                error = raised
            with self._changed:
                if error is None and self._is_wanted and \
                        not self._has_to_end():
                    continue
                self._has_caught_up(error)
                self._is_running = False
                self._changed.notify_all()
                break
        if self._is_closed:
            self._place.release()  # it was not waited for

    def _has_to_end(self) -> bool:
        # a process that ends without finish waits for one copy, not for all
        return self._is_abandoned or self._is_off or \
            not threading.main_thread().is_alive()

    def _catch_up(self) -> None:
        """Copy what is missing, until nothing is."""
        place = self._place
        if not place.is_open:
            self._begin()
        tried: Set[Key] = set()
        while not self._has_to_end():
            place.follow(self._run)
            left = [one for one in self.pending() if key_of(one) not in tried]
            if not left:
                return
            info = left[0]
            # each once: somebody may delete what was just copied
            tried.add(key_of(info))
            try:
                self._copy(info)
            except Gone:
                pass  # the run's retention was faster
            except IntegrityError as error:
                self.missing.refuse(info)
                self._say.damaged(info, error)
            self.missing.forget(info)

    def _begin(self) -> None:
        """Begin in a place that was away, unless it cannot be a mirror."""
        try:
            self._place.open()
            self._place.join(self._run, is_late=True)
        except Exception as error:
            self._place.is_open = False
            self._place.release()
            if not isinstance(error, ConfigError):
                raise
            self._is_off = self.missing.is_off = True
            self._say.is_off(error)

    def _copy(self, info: CheckpointInfo) -> None:
        self._movement.begin(key_of(info))
        copied = self._place.add(info, self._source, self._advance)
        self._movement.finish(max(info.bytes, 0))
        self._failures = 0
        self._say.copied(info, copied)

    def _advance(self, nbytes: int) -> None:
        if self._is_abandoned:
            raise _Left
        self._movement.advance(nbytes)

    def _has_caught_up(self, error: Optional[Exception]) -> None:
        """Tell once when copies begin to fail, and when they do no more."""
        if error is None:
            if self._is_behind:
                self._say.caught_up()
            self._is_behind, self._failures = False, 0
        elif not self._has_to_end():
            self._has_failed(error)
            self._try_later()

    def _has_failed(self, error: Exception) -> None:
        self._failures += 1
        if not self._is_behind:
            self._is_behind = True
            self._say.behind(self.pending(), error)

    def _try_later(self) -> None:
        self._stop_waiting()
        self._stop_waiting = self._later(
            self._pauses.secs(self._failures, self._is_finishing), self.wake)


class _Left(Exception):
    """The copy under way is no longer wanted."""
