"""The staged copy itself: at once, or beside training until it must be done.
"""
import ctypes
import threading
import time
from collections import deque
from types import MappingProxyType
from typing import (Any, Deque, Dict, Iterable, List, Mapping, Optional,
                    Sequence, Tuple)

import torch

from .compat import storage_pointer
from .errors import TornError
from .image import FileImage
from .staging import StagedState
from .zip_writing import data_offset

#: Copied at a time (bytes); between two pieces others may take the next.
_PIECE_BYTES = 4 << 20
#: An image this much larger than needed is given back.
_SLACK_BYTES = 1 << 20

#: Destination, source, number of bytes, index of the storage.
_Piece = Tuple[int, int, int, int]


class PendingCopy:
    """A copy that whoever needs it finishes.

    The writer's thread makes it from the front, storage by storage as it
    comes to them; the training thread, before a tensor changes, from the back.

    Args:
        live (dict[int, Tensor]): From where, by the index of the storage; in
            the order of the file.
        staged (list[Tensor]): Whereto: all storages.
        events (dict): Of each GPU, the event that its copies end with.
        owners (iterable[Tensor]): Their memory is copied; torch counts what
            is written through them, but not through ``Tensor.data``.
    """

    def __init__(self, live: Mapping[int, torch.Tensor],
                 staged: Sequence[torch.Tensor], events: Dict[torch.device,
                                                              Any],
                 owners: Iterable[torch.Tensor]) -> None:
        self._versions = [(owner, owner._version) for owner in owners]
        self._pieces: Deque[_Piece] = deque()
        # pieces of each storage that are not copied yet
        self._undone = [0] * len(staged)
        for index, source in live.items():
            if source.is_cuda:
                continue  # under way
            nbytes = source.numel() * source.element_size()
            begin, end = source.data_ptr(), staged[index].data_ptr()
            for at in range(0, nbytes, _PIECE_BYTES):
                size = min(_PIECE_BYTES, nbytes - at)
                self._pieces.append((end + at, begin + at, size, index))
                self._undone[index] += 1
        self._left = len(self._pieces)
        # INVARIANT: addresses are used: what they belong to stays until then
        self._held: Any = (live, staged)
        self._events = events
        self._changed = threading.Condition()
        #: how long :meth:`hold_back` has waited
        self.held_secs = 0.
        #: whether a tensor was written before its copy was finished, as far
        #: as torch's counters tell; False before
        self.is_torn = False

    def finish_storage(self, index: int) -> None:
        """Copy a storage, and those before it, or wait for who does.

        Thread: the writer's.
        """
        for event in self._events.values():
            event.synchronize()
        while True:
            with self._changed:
                if not self._undone[index]:
                    return
                if not self._pieces or self._pieces[0][-1] > index:
                    self._changed.wait_for(lambda: not self._undone[index])
                    return
                piece = self._pieces.popleft()
            self._copy(piece)

    def finish(self) -> None:
        """Copy what nobody has begun, and wait for the rest.

        Thread: any number of them.
        """
        for event in self._events.values():
            event.synchronize()
        self._finish_pieces()

    def check(self) -> None:
        """Finish, and see that it is a copy of one state.

        Raises:
            TornError: If it is not.
        """
        self.finish()
        if self.is_torn:
            raise TornError('parameters were written while they were copied '
                            'beside training')

    def hold_back(self) -> None:
        """Let no change that the caller makes from now on come before it.

        As :meth:`finish`, but GPUs wait for each other and not the caller.
        """
        begun = time.monotonic()
        self._finish_pieces()
        for device, event in self._events.items():
            torch.cuda.current_stream(device).wait_event(event)
        self.held_secs += time.monotonic() - begun

    def _finish_pieces(self) -> None:
        while True:
            with self._changed:
                if not self._pieces:
                    self._changed.wait_for(lambda: not self._left)
                    self._settle()
                    return
                piece = self._pieces.pop()
            self._copy(piece)

    def _copy(self, piece: _Piece) -> None:
        target, source, nbytes, index = piece
        # lets the interpreter lock go
        ctypes.memmove(target, source, nbytes)
        with self._changed:
            self._undone[index] -= 1
            self._left -= 1
            self._changed.notify_all()

    def _settle(self) -> None:
        """Look for changes, before the one that waits for the copy."""
        self.is_torn = self.is_torn or any(
            owner._version != version for owner, version in self._versions)
        self._versions, self._held = [], None


class StagingBuffer:
    """Copies checkpoints into one image, which is allocated once.

    Thread: training's thread only, but for :meth:`reserve`; the caller makes
    sure that the state copied before is no longer read.
    """

    def __init__(self) -> None:
        self._image: Optional[FileImage] = None
        self._streams: Dict[torch.device, Any] = {}
        self._key: List[Tuple[torch.dtype, int]] = []
        self._views: List[torch.Tensor] = []

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return 0 if self._image is None else len(self._image)

    def reserve(self, nbytes: int, pinned: bool) -> None:
        """Allocate and map memory before it is needed.

        Args:
            nbytes (int): Of the file image.
            pinned (bool): Whether GPUs will copy into it.

        Thread: any, while no copy is made.
        """
        self._allocate(nbytes)
        assert self._image is not None
        self._image.touch()
        if pinned:
            self._image.pin()

    def copy(
        self,
        state: StagedState,
        later: Mapping[int, torch.Tensor] = MappingProxyType({})
    ) -> StagedState:
        """Copy every storage.

        Args:
            state (StagedState): Of live tensors.
            later (dict[int, Tensor]): By their addresses (see
                :func:`compat.storage_pointer`), the storages that may be
                copied after the return, and whose they are. Default: none.

        Returns:
            StagedState: The copy, with what is left of it to do. On return no
            other live tensor is referred to.
        """
        self._lay_out(state)
        assert self._image is not None
        if any(flat.is_cuda for flat in state.storages):
            self._image.pin()
        live: Dict[int, torch.Tensor] = {}
        gpus = _Gpus(self._streams)
        for index, (flat, view) in enumerate(zip(state.storages, self._views)):
            is_late = storage_pointer(flat) in later
            if is_late:
                live[index] = flat
            if flat.is_cuda:
                gpus.copy(flat, view, is_late)
            elif not is_late:
                view.copy_(flat)
        pending = None
        if later:
            pending = PendingCopy(live, self._views, gpus.events(),
                                  later.values())
        else:
            gpus.wait()
        return StagedState(state.tree, list(self._views), self._image.view,
                           pending)

    def release(self) -> None:
        """Give the memory back."""
        if self._image is not None:
            self._image.unpin()
        self._key, self._views, self._image = [], [], None

    def _lay_out(self, state: StagedState) -> None:
        key = [(flat.dtype, flat.numel()) for flat in state.storages]
        if self._image is not None and key == self._key:
            return
        layout = state.layout()
        self._views, self._key = [], []
        spare = self.nbytes - layout.end
        if self._image is None or \
                not 0 <= spare <= _SLACK_BYTES + layout.end // 50:
            self._allocate(layout.end)
        assert self._image is not None
        self._key = key
        self._views = [
            self._image.tensor(dtype, numel, data_offset(record))
            for (dtype, numel), record in zip(key, layout.records)
        ]

    def _allocate(self, nbytes: int) -> None:
        # INVARIANT: what no longer fits is freed before more is allocated
        self.release()
        self._image = FileImage(max(1, nbytes))


class _Gpus:
    """The copies of one save from GPUs; each of them has a stream for it.

    Args:
        streams (dict): Of each GPU; new ones are added.
    """

    def __init__(self, streams: Dict[torch.device, Any]) -> None:
        self._streams = streams
        self._used: Dict[torch.device, Any] = {}

    def copy(self, flat: torch.Tensor, view: torch.Tensor,
             is_late: bool) -> None:
        """Have a storage copied, in the order of training or beside it."""
        device = flat.device
        if device not in self._used:
            if device not in self._streams:
                self._streams[device] = torch.cuda.Stream(device)
            self._used[device] = self._streams[device]
            # what was computed before the save
            self._used[device].wait_stream(torch.cuda.current_stream(device))
        if not is_late:
            # in its turn among the kernels of training: those to come wait
            view.copy_(flat, non_blocking=True)
            return
        with torch.cuda.stream(self._used[device]):
            view.copy_(flat, non_blocking=True)
        # its memory is used for nothing else before
        flat.record_stream(self._used[device])

    def wait(self) -> None:
        """Wait until everything is copied."""
        for device in self._used:
            # without an argument only the current device is waited for
            torch.cuda.synchronize(device)

    def events(self) -> Dict[torch.device, Any]:
        """Return of each GPU the event that comes behind all its copies."""
        for device, stream in self._used.items():
            stream.wait_stream(torch.cuda.current_stream(device))
        return {
            device: stream.record_event()
            for device, stream in self._used.items()
        }
