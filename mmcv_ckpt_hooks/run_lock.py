"""One run a directory: refuses the second while the first one lives.

A pid never proves life: it repeats in containers and on other machines. What
does is a kernel lock, where both runs meet it, or a lease that is renewed.
"""
import os
import threading
import time
from typing import Callable, Optional

from .errors import LockedError, MissingCheckpointError
from .held_places import forget_ended, held_at, hold, is_over, own_holding
from .holding import Holding
from .lease import (ADVICE, KernelLock, LockFile, Owner, decode, read_anew,
                    refusal, share_locks, this_run)
from .signed_file import SignedFile
from .storage.names import writer_id

#: How long a lease is watched before its owner is taken for dead; several
#: beats, also where they are slow to reach another machine.
WATCH_SECS = 30.
_LOOK_SECS = 2.

#: Two runs may have watched one lease. Both sign; the last one stays.
_CONFIRM_SECS = 2.

#: A run that is just starting or ending: pauses before it is looked at again.
_ATTEMPTS = 20
_PAUSE_SECS = 0.2

_starting = threading.Lock()


class RunLock:
    """The right of one run to write to a local directory.

    Given up by ``release``, when nothing refers to it any more, and at the
    end of the process. A write after ``release`` takes it again, unless
    another run has been there.

    Args:
        directory (str): It exists.
        name (str): File name of the lock.
        log (callable): Told in one line what was taken over or is waited
            for.
        clock (callable): Monotonic seconds. Default: ``time.monotonic``.
        wait (callable): Waits for so many seconds. Default: ``time.sleep``.

    Order: ``acquire``, on the training thread; ``check`` before each write;
    ``release``.
    """

    def __init__(self,
                 directory: str,
                 name: str,
                 log: Callable[[str], None],
                 clock: Callable[[], float] = time.monotonic,
                 wait: Callable[[float], None] = time.sleep) -> None:
        self.path = os.path.join(directory, name)
        #: as ``SignedFile.is_at`` takes it
        self._place = self.path
        self._log = log
        self._clock = clock
        self._wait = wait
        self._thread = threading.current_thread()
        self._holding: Optional[Holding] = None
        #: the run that died here before this one started
        self.dead: Optional[Owner] = None
        #: a run that has died in another place of the one that starts
        self.known_dead: Optional[Owner] = None
        #: called, in place of ``release``, when the next run of this process
        #: finds that this one is over; on that one's training thread
        self.finish: Optional[Callable[[], None]] = None

    def acquire(self) -> None:
        """Take the directory, or refuse to.

        Raises:
            LockedError: If a live run has it; names that run.
            StorageError: If the lock file cannot be read or written.
        """
        with _starting:
            for earlier, lock in held_at(self._place):
                self._end_earlier(earlier, lock())
            self._acquire()

    def check(self) -> None:
        """Make sure that the directory is this run's.

        Raises:
            LockedError: If another run has it, or had it since ``release``.
        """
        if self._holding is None or self._holding.ended:
            with _starting:
                self._acquire_again()
        else:
            self._holding.check()

    def release(self) -> None:
        """Leave the directory to the next run; more than once is fine."""
        if self._holding is not None:
            self._holding.end()
            forget_ended()

    def _acquire_again(self) -> None:
        if is_over():
            raise LockedError(f'{self.path} was left: this process ends')
        before = self._holding
        for holding, _ in held_at(self._place):
            raise refusal(self.path, holding.owner, 'it is this process')
        signed = None if before is None else self._signed()
        if before is not None and signed is not None and \
                signed.token != before.owner.token:
            raise LockedError(
                f'{self.path}: another run ({signed}) has been here since '
                'this one ended; it must be started anew to write again')
        self._acquire()

    def _end_earlier(self, holding: Holding, lock: 'Optional[RunLock]') -> \
            None:
        """Let an earlier run of this process go, if it is over.

        A run trains on one thread: that thread is back here, or gone. mmcv
        does not tell hooks that a run has raised.
        """
        if lock is None:
            holding.end()  # a beat may still be under way
        elif lock._thread.is_alive() and \
                lock._thread is not threading.current_thread():
            raise refusal(self.path, holding.owner,
                          f'it is thread {lock._thread.name} of this process')
        else:
            (lock.finish or lock.release)()
            self._log(f'An earlier run of this process ({holding.owner}) did '
                      f'not come to its end; {self.path} goes to this one')
        forget_ended()

    def _acquire(self) -> None:
        unchanged: Optional[bytes] = None
        for _ in range(_ATTEMPTS):
            file = self._open()
            try:
                taken = self._try(file, unchanged)
            except BaseException:
                file.close()
                raise
            if taken:
                return
            content = file.read()
            file.close()
            unchanged = self._watch(content)
        raise LockedError(f'{self.path}: other runs come and go. {ADVICE}')

    def _try(self, file: SignedFile, unchanged: Optional[bytes]) -> bool:
        """Claim the file if its owner is gone.

        Args:
            file (SignedFile): Open.
            unchanged (bytes, optional): Its content if that was watched for
                long enough.

        Returns:
            bool: False if the owner may live.
        """
        kernel_lock, content = file.lock(), file.read()
        before = decode(content)
        if kernel_lock is KernelLock.HELD:
            if before is None or before.beat is None:
                return False  # just starting, or ending
            raise refusal(self.path, before, 'it holds the kernel lock')
        owner = this_run(file.device, kernel_lock is KernelLock.TAKEN)
        is_watched = content == unchanged
        why = ''
        if content and before is None or \
                before is not None and before.beat is not None:
            why = _why_dead(before, owner, self.known_dead)
            if not why and is_watched:
                why = f'its lease was not renewed for {WATCH_SECS:.0f} s'
            if not why:
                return False
        if not self._sign(file, owner, is_watched
                          or kernel_lock is KernelLock.NONE):
            return False
        if why:
            self.dead = before
            self._log(f'Took over {self.path} from a run that did not leave '
                      f'it ({before or "unreadable"}): {why}')
        return True

    def _sign(self, file: SignedFile, owner: Owner, is_doubtful: bool) -> bool:
        """Name this run in the file and keep that; False if another came.

        Args:
            file (SignedFile): Open.
            owner (Owner): This run.
            is_doubtful (bool): Whether another may sign at the same time.
        """
        holding = Holding(file, owner, self._log, self._clock)
        try:
            if not file.write(owner):
                return False
            if is_doubtful:
                self._confirm(file, owner)
            self._holding = holding
            hold(holding, self)
            holding.start()
        except BaseException:
            # or the next start would watch who never began
            holding.undo()
            raise
        return True

    def _watch(self, content: bytes) -> Optional[bytes]:
        """See whether an owner renews its lease, by this clock alone.

        Clocks of two machines are never compared.

        Returns:
            bytes | None: The content, unchanged for long enough; None if
            there is nothing to wait for.
        """
        owner = decode(content)
        if not content or owner is not None and owner.beat is None:
            self._wait(_PAUSE_SECS)
            return None
        self._log(f'{self.path} names another run ({owner or "unreadable"}), '
                  'which may have been killed: waiting up to '
                  f'{WATCH_SECS:.0f} s to see whether it renews its lease')
        begun = self._clock()
        while self._clock() - begun < WATCH_SECS:
            self._wait(_LOOK_SECS)
            try:
                now = self._read_anew()
            except MissingCheckpointError:
                return None
            if now != content:
                found = decode(now)
                if found is not None and found.beat is None:
                    return None  # it has ended
                raise refusal(self.path, found or owner, 'it renews its lease')
        return content

    def _confirm(self, file: SignedFile, owner: Owner) -> None:
        self._wait(_CONFIRM_SECS)
        found = decode(file.read_anew())
        # reading it anew has taken the lock away
        lost = file.lock() is KernelLock.HELD
        if lost or found is None or found.token != owner.token:
            raise refusal(self.path, found, 'it came at the same time')

    def _open(self) -> SignedFile:
        return LockFile(self.path)

    def _read_anew(self) -> bytes:
        return read_anew(self.path)

    def _signed(self) -> Optional[Owner]:
        try:
            return decode(self._read_anew())
        except MissingCheckpointError:
            return None


def _why_dead(before: Optional[Owner], owner: Owner,
              known: Optional[Owner]) -> str:
    """Say why an owner is dead, however young its lease is; '' if unknown.

    Args:
        before (Owner, optional): It; None if that cannot be read.
        owner (Owner): This run.
        known (Owner, optional): Who has died in another place.
    """
    if before is None:
        return ''
    if share_locks(owner, before):
        return 'it holds no kernel lock here'
    if known is not None and before.writer == known.writer:
        return 'its process is dead'
    if before.writer == writer_id() and own_holding(before) is None:
        return 'it was one of this process, and is over'
    return ''


def _forget_start() -> None:
    # in a forked child: who was just starting is not here
    global _starting
    _starting = threading.Lock()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_start)
