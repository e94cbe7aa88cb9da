"""The staged copy itself: at once, or beside training."""
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch

from .compat import copy_all, storage_pointer
from .image import FileImage
from .pending import PendingCopy
from .staging import StagedState
from .zip_writing import data_offset

#: An image this much larger than needed is given back.
_SLACK_BYTES = 1 << 20

_Copies = Tuple[List[torch.Tensor], List[torch.Tensor]]


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

    def copy(self,
             state: StagedState,
             later: Mapping[int, torch.Tensor] = MappingProxyType({}),
             leave_due: bool = False) -> StagedState:
        """Copy every storage.

        Args:
            state (StagedState): Of live tensors.
            later (dict[int, Tensor]): By their addresses (see
                :func:`compat.storage_pointer`), the storages that may be
                copied after the return, and whose they are. Default: none.
            leave_due (bool): Whether the caller finishes what is due at once
                (:attr:`PendingCopy.is_due`): others can help then. Default:
                False.

        Returns:
            StagedState: The copy, with what is left of it to do. On return no
            other live tensor is referred to.
        """
        self.lay_out(state)
        assert self._image is not None
        if any(flat.is_cuda for flat in state.storages):
            self._image.pin()
        is_due = leave_due and not later
        live: Dict[int, torch.Tensor] = {}
        gpus = _Gpus(self._streams)
        for index, (flat, view) in enumerate(zip(state.storages, self._views)):
            # elsewhere an address is none that memmove could use
            is_late = flat.device.type in ('cpu', 'cuda') and \
                storage_pointer(flat) in later
            if is_late or is_due and flat.device.type == 'cpu':
                live[index] = flat
            if flat.is_cuda:
                gpus.add(flat, view, is_late)
            elif index not in live:
                view.copy_(flat.reshape(-1))
        pending, events = None, gpus.start()
        if later:
            pending = PendingCopy(live, self._views, events, later.values())
        else:
            gpus.wait()
        if is_due:
            pending = PendingCopy(live, self._views, {}, [], is_due)
        return replace(
            state,
            storages=list(self._views),
            image=self._image.view,
            pending=pending)

    def release(self) -> None:
        """Give the memory back."""
        if self._image is not None:
            self._image.unpin()
        self._key, self._views, self._image = [], [], None

    def lay_out(self, state: StagedState) -> None:
        """Have memory for a copy of that state.

        Raises:
            MemoryError, OSError: The system gives none.
        """
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
        # of each GPU: whereto and from where, at once and later
        self._copies: Dict[torch.device, Tuple[_Copies, _Copies]] = {}

    def add(self, flat: torch.Tensor, view: torch.Tensor,
            is_late: bool) -> None:
        """Have a storage copied, in the order of training or beside it."""
        pairs = self._copies.setdefault(flat.device, (([], []), ([], [])))
        targets, sources = pairs[is_late]
        targets.append(view)
        sources.append(flat.reshape(-1))

    def start(self) -> Dict[torch.device, Any]:
        """Begin, and return of each GPU an event that comes after it."""
        events = {}
        for device, (at_once, later) in self._copies.items():
            training = torch.cuda.current_stream(device)
            if device not in self._streams:
                self._streams[device] = torch.cuda.Stream(device)
            stream = self._streams[device]
            # in its turn among the kernels of training: those to come wait
            copy_all(*at_once)
            stream.wait_stream(training)
            with torch.cuda.stream(stream):
                # the memory is held until training is held back
                copy_all(*later)
            events[device] = stream.record_event()
        return events

    def wait(self) -> None:
        """Wait until everything is copied."""
        for device in self._copies:
            # without an argument only the current device is waited for
            torch.cuda.synchronize(device)
