"""Whether a checkpoint is copied before it is written: if memory allows it."""
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Optional

from .copying import StagingBuffer
from .memory import available_memory_bytes
from .staging import StagedState

if TYPE_CHECKING:
    from .overlap import Overlap
    from .pending import PendingCopy

#: Part of the available memory that a staged copy may take.
_MEMORY_SHARE = 0.8


class Stager:
    """Copies what fits, and says once what does not.

    Args:
        log (callable): Told one line.
        copies (bool): Whether anything is copied at all.
    """

    def __init__(self, log: Callable[[str], None], copies: bool) -> None:
        self._log = log
        self._copies = copies
        #: how much memory (bytes) copies may share; None where nothing tells
        self.room: Callable[[], Optional[int]] = available_memory_bytes
        self._buffer = StagingBuffer()
        # the copy before, which nobody may have written
        self._last: Optional['PendingCopy'] = None
        self._said = False

    def stage(self, live: StagedState,
              overlap: Optional['Overlap']) -> StagedState:
        """Copy a checkpoint, or return the live one if it is not copied.

        Args:
            live (StagedState): Of live tensors.
            overlap (Overlap, optional): See :meth:`Saver.save`.
        """
        self._finish_last()
        if not self._fits(live.nbytes):
            return live
        try:
            self._buffer.lay_out(live)
        except (MemoryError, OSError):
            # a limit of the process, or a system that promises no more
            self._say(f'No memory for a copy of the state '
                      f'({live.nbytes >> 20} MiB)')
            return live
        copy = self._buffer.copy(
            live, overlap.later() if overlap else {}, leave_due=True)
        pending = self._last = copy.pending
        if overlap and pending is not None and not pending.is_due:
            overlap.hold(pending)
        return copy

    def reserve(self, nbytes: int, pinned: bool) -> None:
        """Map memory for the first copy; nothing happens if it does not fit.

        Args:
            nbytes (int): Of a checkpoint, as far as known.
            pinned (bool): Whether it comes from a GPU.

        Thread: any, while nothing is staged.
        """
        # without memory the first save says what happens
        with suppress(MemoryError, OSError):
            if self._fits(nbytes):
                self._buffer.reserve(nbytes, pinned)

    def release(self) -> None:
        """Give the memory back."""
        self._finish_last()
        self._buffer.release()

    def _finish_last(self) -> None:
        """Let nobody copy into the memory of the next, or of none.

        Of a save that was interrupted before it was handed over training may
        still have the copy to finish.
        """
        last, self._last = self._last, None
        if last is not None:
            last.finish()

    def _fits(self, nbytes: int) -> bool:
        if not self._copies:
            return False
        extra = nbytes - self._buffer.nbytes
        if extra <= 0:
            return True
        room = self.room()
        if room is None or extra <= room * _MEMORY_SHARE:
            return True
        self._say(f'A copy of the state ({nbytes >> 20} MiB) does not fit the '
                  f'available memory ({room >> 20} MiB)')
        return False

    def _say(self, why: str) -> None:
        if not self._said:
            self._said = True
            self._log(f'{why}: checkpoints are written while training waits')
