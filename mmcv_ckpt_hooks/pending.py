"""A copy that is made beside training, and finished before it must be."""
import ctypes
import random
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import (Any, Deque, Dict, Iterable, Iterator, List, Mapping,
                    Optional, Sequence, Tuple)

import torch

from .compat import is_inference
from .errors import TornError
from .executor import Follower

#: Copied at a time (bytes); between two pieces others may take the next.
_PIECE_BYTES = 4 << 20
#: What is looked at of each storage, before and after its copy (bytes).
_SAMPLE_BYTES = 1 << 10

#: Destination, source, number of bytes, index of the storage.
_Piece = Tuple[int, int, int, int]


class PendingCopy:
    """A copy that whoever needs it finishes.

    A thread makes it from the front and the writer follows, storage by
    storage; the training thread, before a tensor changes, comes from the back.

    Args:
        live (dict[int, Tensor]): From where, by the index of the storage; in
            the order of the file.
        staged (list[Tensor]): Whereto: all storages.
        events (dict): Of each GPU, the event that its copies end with.
        owners (iterable[Tensor]): Their memory is copied; torch counts what
            is written through them, but not through ``Tensor.data``: that is
            seen where it falls on a sample.
        is_due (bool): Whether training waits for it before it goes on:
            nothing changes meanwhile. Default: False.
    """

    def __init__(self,
                 live: Mapping[int, torch.Tensor],
                 staged: Sequence[torch.Tensor],
                 events: Dict[torch.device, Any],
                 owners: Iterable[torch.Tensor],
                 is_due: bool = False) -> None:
        self.is_due = is_due
        self._versions = [(owner, owner._version) for owner in owners
                          if not is_inference(owner)]
        # INVARIANT: addresses are used: what they belong to stays until then
        self._held: Any = (live, staged)
        self._samples = _samples_of(live.values())
        self._pieces: Optional[Deque[_Piece]] = None
        # pieces of each storage that are not copied yet, and all of them
        self._undone: List[int] = []
        self._left = 0
        self._events = events
        self._changed = threading.Condition()
        #: how long :meth:`hold_back` has waited
        self.held_secs = 0.
        #: whether a tensor was written before all was copied, as far as
        #: torch's counters and the samples tell; False before
        self.is_torn = False

    def _cut(self) -> Deque[_Piece]:
        """Cut into pieces: not before it is needed, and once."""
        if self._pieces is None:
            live, staged = self._held
            pieces, undone = _pieces_of(live, staged)
            # last: a Ctrl-C before leaves nothing half done
            self._undone, self._left = undone, len(pieces)
            self._pieces = pieces
        return self._pieces

    def run_ahead(self) -> None:
        """Copy from the front what nobody has begun, ahead of the writer."""
        while True:
            with self._changed:
                pieces = self._cut()
                if not pieces:
                    return
                piece = pieces.popleft()
            self._copy(piece)

    def finish_storage(self, index: int) -> None:
        """Copy a storage, and those before it, or wait for who does.

        Thread: the writer's.
        """
        self._wait_for_gpus()
        while True:
            with self._changed:
                pieces = self._cut()
                if not self._undone[index]:
                    return
                if not pieces or pieces[0][-1] > index:
                    # another thread has the rest of it, or gives it back
                    self._changed.wait()
                    continue
                piece = pieces.popleft()
            self._copy(piece)

    def finish(self) -> None:
        """Copy what nobody has begun, and wait for the rest.

        Thread: any number of them.
        """
        try:
            self._wait_for_gpus()
        finally:
            self._finish_pieces()

    def check(self) -> None:
        """Finish, and see that it is a copy of one state.

        Raises:
            TornError: If it is not.
        """
        self.finish()
        if self.is_torn:
            raise TornError(
                'parameters were written between this save and the next step, '
                'while they were copied. A later step is saved in its place, '
                'if there is one. From now on they are copied before training '
                "goes on; write=dict(staging='copy') does so from the start")

    def hold_back(self) -> None:
        """Let no change that the caller makes from now on come before it.

        As :meth:`finish`, but GPUs wait for each other and not the caller.
        """
        begun = time.monotonic()
        for device, event in self._events.items():
            torch.cuda.current_stream(device).wait_event(event)
        self._finish_pieces()
        self.held_secs += time.monotonic() - begun

    def _wait_for_gpus(self) -> None:
        for event in self._events.values():
            event.synchronize()

    def _finish_pieces(self) -> None:
        while True:
            with self._changed:
                pieces = self._cut()
                if not pieces and not self._left:
                    self._settle()
                    return
                if not pieces:
                    self._changed.wait()
                    continue
                piece = pieces.pop()
            self._copy(piece)

    def _copy(self, piece: _Piece) -> None:
        target, source, nbytes, index = piece
        is_copied = False
        try:
            # lets the interpreter lock go
            ctypes.memmove(target, source, nbytes)
            is_copied = True
        finally:
            with self._changed:
                if is_copied:
                    self._undone[index] -= 1
                    self._left -= 1
                    if not self._left and not self._events:
                        self._settle()
                elif self._pieces is not None:
                    # Ctrl-C: copying it twice does no harm
                    self._pieces.appendleft(piece)
                self._changed.notify_all()

    def _settle(self) -> None:
        """Look for changes, before the one that waits for the copy."""
        self.is_torn = self.is_torn or any(
            owner._version != version
            for owner, version in self._versions) or any(
                ctypes.string_at(address, len(before)) != before
                for address, before in self._samples)
        self._versions, self._samples, self._held = [], [], None


def _pieces_of(
        live: Mapping[int, torch.Tensor],
        staged: Sequence[torch.Tensor]) -> Tuple[Deque[_Piece], List[int]]:
    """Return the pieces, and how many each storage has."""
    pieces: Deque[_Piece] = deque()
    counts = [0] * len(staged)
    for index, source in live.items():
        if source.is_cuda:
            continue  # under way
        nbytes = source.numel() * source.element_size()
        begin, end = source.data_ptr(), staged[index].data_ptr()
        for at in range(0, nbytes, _PIECE_BYTES):
            size = min(_PIECE_BYTES, nbytes - at)
            pieces.append((end + at, begin + at, size, index))
            counts[index] += 1
    return pieces, counts


def _samples_of(tensors: Iterable[torch.Tensor]) -> List[Tuple[int, bytes]]:
    """Return of each an address in it, another one each time, and the bytes.
    """
    samples, anywhere = [], random.Random()
    for tensor in tensors:
        nbytes = tensor.numel() * tensor.element_size()
        if tensor.is_cuda or not nbytes:
            continue
        size = min(_SAMPLE_BYTES, nbytes)
        address = tensor.data_ptr() + int(anywhere.random() *
                                          (nbytes - size + 1))
        samples.append((address, ctypes.string_at(address, size)))
    return samples


def finish_due(copy: Optional[PendingCopy]) -> None:
    """Finish a copy that training waits for; others have time."""
    if copy is None or not copy.is_due:
        return
    try:
        copy.hold_back()
    except BaseException:  # whoever catches a Ctrl-C may change the state
        copy.hold_back()
        raise


@contextmanager
def copied_ahead(copy: Optional[PendingCopy]) -> Iterator[None]:
    """Have a copy made beside what is done here; at the end it is finished.

    Args:
        copy (PendingCopy, optional): None for none.
    """
    if copy is None:
        yield
        return
    follower = Follower(1)
    try:
        follower.submit(copy.run_ahead)
        yield
    finally:
        try:
            # INVARIANT: its memory is for the next one then
            copy.finish()
        finally:
            # its thread would stay
            follower.close()
