"""A staged checkpoint to a torch zip stream.

The format is torch's own (zip, stored, one record a storage, ``data.pkl``
with persistent ids), written front to back into a stream that cannot seek;
:mod:`zip_writing` has the headers. The CRC-32 of a block is computed while
the stream writes the one before. An extra record, ``checkpoint_info.json``,
tells a reader without torch which checkpoint this is; torch ignores it.

Source: torch/serialization.py (``_save``).
"""
import ctypes
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any, Callable, Iterable, Iterator, Mapping, Tuple

import torch

from .checksums import crc32
from .compat import STORAGE_NAMES
from .staging import StagedState, TensorRef
from .verification import ARCHIVE, BYTE_ORDER, INFO_RECORD, zip_digest
from .zip_writing import descriptor, local_header

#: One write of tensor data (bytes): large enough for the disk, small enough
#: to let the interpreter lock go around.
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class _StorageRef:
    index: int
    dtype: torch.dtype
    numel: int


def write_checkpoint(stream: IO[bytes], state: StagedState,
                     info: Mapping[str, Any]) -> str:
    """Write a checkpoint as a torch zip file.

    The storages come first: where they are does not depend on the rest.

    Args:
        stream (file): Binary; ``write`` is called and, where there is one,
            ``lend``; see :meth:`StorageBackend.put`.
        state (StagedState): What to write. Storages on a GPU are fetched
            block by block.
        info (dict): JSON values for the record ``checkpoint_info.json``.

    Returns:
        str: Digest of the file (see :func:`verification.zip_digest`).

    Raises:
        TornError: If tensors changed while they were copied.
    """
    layout = state.layout()
    out = _Copied(stream) if state.image is None else \
        _InPlace(stream, state.image)
    for index, flat in enumerate(state.storages):
        if state.pending is not None:
            state.pending.finish_storage(index)
        _write_record(out, layout.records[index], blocks_of(flat))
    out.end()
    if state.pending is not None:
        state.pending.check()
    for name, data in (('data.pkl', _pickled(state)), ('byteorder',
                                                       BYTE_ORDER),
                       (INFO_RECORD, json.dumps(info,
                                                sort_keys=True).encode()),
                       ('version', b'3\n')):
        record = layout.add(f'{ARCHIVE}/{name}', len(data))
        _write_record(_Copied(stream), record, [memoryview(data)])
    stream.write(layout.directory())
    return zip_digest(layout.records)


def _write_record(out: '_Copied', record: zipfile.ZipInfo,
                  blocks: Iterable[memoryview]) -> None:
    out.write(local_header(record))
    checksum = 0
    for block in blocks:
        checksum = crc32(block, checksum)
        out.pass_on(block)
    record.CRC = checksum
    out.write(descriptor(record))


def blocks_of(flat: torch.Tensor) -> Iterator[memoryview]:
    """Yield the bytes of a tensor, block by block, on the CPU."""
    flat, step = flat.reshape(-1), _BLOCK_BYTES // flat.element_size()
    for start in range(0, flat.numel(), step):
        part = flat[start:start + step].cpu()
        # the part lives as long as this block is used
        yield host_memory(part)


class _Copied:
    """Bytes of any place to a stream, which copies them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        """Write what comes next in the file."""
        self._stream.write(data)

    def pass_on(self, block: memoryview) -> None:
        """Write the next block of tensor data."""
        self._stream.write(block)

    def end(self) -> None:
        """Write what is left."""


class _InPlace(_Copied):
    """Bytes of an image of the file: tensor data lies in its place already."""

    def __init__(self, stream: IO[bytes], image: memoryview) -> None:
        super().__init__(stream)
        self._image = image
        self._lend: Callable[[memoryview],
                             Any] = getattr(stream, 'lend', stream.write)
        self._at = self._sent = 0

    def write(self, data: bytes) -> None:
        self._image[self._at:self._at + len(data)] = data
        self._at += len(data)

    def pass_on(self, block: memoryview) -> None:
        self._at += len(block)
        while self._at - self._sent >= _BLOCK_BYTES:
            self._send(self._sent + _BLOCK_BYTES)

    def end(self) -> None:
        # small records may have filled more than a block
        while self._at - self._sent >= _BLOCK_BYTES:
            self._send(self._sent + _BLOCK_BYTES)
        if self._at > self._sent:
            self._send(self._at)

    def _send(self, until: int) -> None:
        self._lend(self._image[self._sent:until])
        self._sent = until


def host_memory(tensor: torch.Tensor) -> memoryview:
    """View the bytes of a contiguous CPU tensor of any type.

    The caller keeps the tensor alive. numpy has no bfloat16 and torch < 1.10
    cannot view other types as bytes, hence the address.
    """
    nbytes = tensor.numel() * tensor.element_size()
    raw = (ctypes.c_char * nbytes).from_address(tensor.data_ptr())
    return memoryview(raw).cast('B')


class _CheckpointPickler(pickle.Pickler):
    """Pickles tensors by reference, in the very shape of ``torch.save``."""

    def __init__(self, file: IO[bytes], state: StagedState) -> None:
        # torch's protocol; its weights_only loader knows these opcodes
        super().__init__(file, protocol=2)
        self._state = state

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, TensorRef):
            return NotImplemented
        flat = self._state.storages[value.storage]
        storage = _StorageRef(value.storage, value.dtype, flat.numel())
        arguments: Tuple[Any, ...] = (storage, value.offset, value.size,
                                      value.stride, False, OrderedDict())
        if value.dtype in STORAGE_NAMES:
            return torch._utils._rebuild_tensor_v2, arguments
        return (torch._utils._rebuild_tensor_v3, arguments + (value.dtype, ))

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, _StorageRef):
            return None
        name = STORAGE_NAMES.get(value.dtype)
        if name is not None:
            return ('storage', getattr(torch, name), str(value.index), 'cpu',
                    value.numel)
        itemsize = torch.empty(0, dtype=value.dtype).element_size()
        return ('storage', torch.UntypedStorage, str(value.index), 'cpu',
                value.numel * itemsize)


def _pickled(state: StagedState) -> bytes:
    buffer = io.BytesIO()
    _CheckpointPickler(buffer, state).dump(state.tree)
    return buffer.getvalue()
