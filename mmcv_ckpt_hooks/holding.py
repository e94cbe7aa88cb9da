"""A directory that this process owns, and keeps for as long as it says so."""
import os
import queue
import threading
from contextlib import suppress
from typing import Callable, Optional

from .errors import LockedError, StorageError
from .executor import Repeater
from .lease import KernelLock, Owner, decode
from .signed_file import SignedFile

#: A lease is renewed so often. Each time is one small synced write, or one
#: request.
BEAT_SECS = 5.

#: Who has not renewed its lease for so long was stopped, and looks again
#: before it believes what it remembers.
_DOUBTFUL_SECS = 2 * BEAT_SECS


class Holding:
    """Keeps a lock file that was claimed, and notices when it is lost.

    Args:
        file (SignedFile): Open; names the owner already.
        owner (Owner): This run.
        log (callable): Told once what goes wrong between saves.
        clock (callable): Monotonic seconds.

    Thread: all methods on any. ``abandon`` also inside the garbage collector
    or a signal's handler, on a thread that may be in another method.
    """

    def __init__(self, file: SignedFile, owner: Owner,
                 log: Callable[[str], None], clock: Callable[[],
                                                             float]) -> None:
        self._file = file
        self.owner = owner
        self.path = file.path
        self._log = log
        self._clock = clock
        self._mutex = threading.Lock()
        self._beats = 0
        self._renewed_at = clock()
        self._is_failing = False
        self._lost: Optional[str] = None
        self.ended = False
        self._left = threading.Event()
        #: whether the end of the process leaves it as a killed one does
        self.dies = False
        # INVARIANT: a queue, whose `put` may interrupt its own `get`; an event
        # or a lock would hang a garbage collector
        self._orders: 'queue.SimpleQueue[None]' = queue.SimpleQueue()
        self._repeater = Repeater(self._beat_or_end, 0.)

    def start(self) -> None:
        """Renew the lease from now on."""
        self._repeater.start()

    def is_of_this_process(self) -> bool:
        """Whether it was claimed here, and not before a fork."""
        return self.owner.pid == os.getpid()

    @property
    def is_on_disk(self) -> bool:
        """Whether its lock file is on a disk, and in no store."""
        return bool(self._file.device)

    def is_at(self, place: str) -> bool:
        """Whether its lock file is there; nothing is opened."""
        return self._file.is_at(place)

    def check(self) -> None:
        """Make sure that the directory is still this run's.

        Raises:
            LockedError: If another run has it.
            StorageError: If that cannot be found out.
        """
        if not self.is_of_this_process():
            raise LockedError(f'{self.path} is the lock of the process that '
                              f'this one (pid {os.getpid()}) was forked from')
        with self._mutex:
            if self.ended:
                raise LockedError(f'{self.path} was left meanwhile')
            self._file.refresh()
            if self._clock() - self._renewed_at > _DOUBTFUL_SECS:
                self._renew()
            else:
                self._look()
        if self._lost is not None:
            raise LockedError(self._lost)

    def beat(self) -> bool:
        """Renew the lease; False if there is none to renew any more."""
        try:
            with self._mutex:
                if self.ended or self._lost is not None:
                    return False
                self._renew()
            self._is_failing = False
        except StorageError as error:
            # the kernel lock goes on, and a save would fail by itself
            if not self._is_failing:
                self._log('The lease that keeps other runs out was not '
                          f'renewed ({error}). Training goes on; it is tried '
                          f'again every {BEAT_SECS:.0f} s')
            self._is_failing = True
        if self._lost is not None:
            self._log(f'Nothing is saved any more: {self._lost}')
            return False
        return not self.ended

    def end(self) -> None:
        """Leave the directory; once, and only where it was claimed."""
        if not self.is_of_this_process():
            return
        self._orders.put(None)
        self._repeater.stop()
        with self._mutex:
            self._end()

    def undo(self) -> None:
        """Take back a claim of which nobody knows whether it was written."""
        is_mine = False
        with suppress(StorageError):
            is_mine = self._is_mine(self._file.read_anew())
        # what another has signed is not looked for
        self.ended = not is_mine
        self.end()

    def abandon(self) -> None:
        """Have the thread of the beat leave the directory, soon.

        Nothing is waited for, and nothing asked of the storage.
        """
        if self.is_of_this_process():
            self._orders.put(None)

    def wait_until_left(self, secs: float) -> None:
        """Wait until it was left, but no longer than so."""
        if self._lost is None:
            self._left.wait(max(0., secs))

    def _beat_or_end(self) -> bool:
        try:
            self._orders.get(timeout=BEAT_SECS)
        except queue.Empty:
            return self.beat()
        with self._mutex:
            self._end()
        return False

    # -- with the mutex ----------------------------------------------------

    def _renew(self) -> None:
        # somebody in this process may have opened and closed the file, to
        # copy the directory: that took the lock away
        if self._file.lock() is KernelLock.HELD:
            self._lose()
        self._look()
        if self._lost is None:
            self._beats += 1
            self._file.write_beat(self._beats)
            # a NFS client notices a foreign write by its own
            self._look()
            self._renewed_at = self._clock()

    def _look(self) -> None:
        """See whether the file still names this run."""
        if self._lost is not None:
            return
        if not self._file.is_in_place():
            self._open_again()
        elif not self._is_mine(self._file.read()):
            self._lose()

    def _is_mine(self, content: bytes) -> bool:
        found = decode(content)
        return found is not None and found.token == self.owner.token

    def _open_again(self) -> None:
        """Follow the path: the file was deleted or replaced.

        Or it is the same one, where inode numbers change (FUSE, CIFS).
        """
        file = self._file.reopen()
        try:
            is_held = file.lock() is KernelLock.HELD
            content = file.read()
            is_lost = is_held or content != b'' and not self._is_mine(content)
            if not is_lost and not content:
                is_lost = not file.write(self.owner)
        except BaseException:
            file.close()
            raise
        if is_lost:
            file.close()
            self._lose()
            return
        self._file.close()
        self._file = file
        # if both were one file, closing the first took the lock away
        file.lock()

    def _lose(self) -> None:
        try:
            other = decode(self._file.read_anew())
        except StorageError:
            other = None
        self._lost = \
            f'{self.path}: this run ({self.owner}) has lost the directory ' \
            f'to another ({other or "unknown"}), which took this one for ' \
            'dead: it was stopped, or could not renew its lease. What is ' \
            'there is left to the other one; stop this one'

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        with suppress(StorageError):
            # if that fails, the next run may wait a little longer
            self._look()
            if self._lost is None:
                self._file.write_beat(None)
        self._file.close()
        self._left.set()
