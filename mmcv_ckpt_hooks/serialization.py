"""A staged checkpoint to a torch zip stream.

The format is torch's own (zip, stored, one record a storage, ``data.pkl``
with persistent ids), written front to back into a stream that cannot seek:
sizes are known before, CRC-32 values follow each record in a data descriptor
and stand in the central directory. An extra record, ``checkpoint_info.json``,
tells a reader without torch which checkpoint this is; torch ignores it.

Source: torch/serialization.py (``_save``), caffe2/serialize/inline_container.h
(64-byte alignment of records), APPNOTE.TXT 4.3.9 (data descriptors).
"""
import ctypes
import io
import json
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any, Mapping, Tuple

import torch

from .compat import STORAGE_NAMES
from .staging import StagedState, TensorRef
from .verification import ARCHIVE, INFO_RECORD, zip_digest

#: torch maps records into memory at this alignment (bytes).
_ALIGNMENT = 64
#: One write of tensor data (bytes): large enough for the disk, small enough
#: to let the interpreter lock go around.
_BLOCK_BYTES = 8 << 20
#: Any fixed time: a checkpoint's bytes depend on its content only.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
#: Of the numbers in the records, as torch writes and checks it.
BYTE_ORDER = sys.byteorder.encode()
#: A padding field in the local header: id, length, then the padding.
_PADDING_ID = 0x4246


@dataclass(frozen=True)
class _StorageRef:
    index: int
    dtype: torch.dtype
    numel: int


def write_checkpoint(stream: IO[bytes], state: StagedState,
                     info: Mapping[str, Any]) -> str:
    """Write a checkpoint as a torch zip file.

    Args:
        stream (file): Binary; only ``write`` and ``flush`` are called.
        state (StagedState): What to write. Storages on a GPU are fetched one
            at a time.
        info (dict): JSON values for the record ``checkpoint_info.json``.

    Returns:
        str: Digest of the file (see :func:`verification.zip_digest`).
    """
    # zipfile writes data descriptors when the stream has no tell()
    with zipfile.ZipFile(_Appender(stream), 'w') as archive:  # type: ignore
        _add(archive, 'data.pkl', _pickled(state))
        _add(archive, 'byteorder', BYTE_ORDER)
        for index, flat in enumerate(state.storages):
            _add_storage(archive, f'data/{index}', flat)
        _add(archive, INFO_RECORD, json.dumps(info, sort_keys=True).encode())
        _add(archive, 'version', b'3\n')
        digest = zip_digest(archive.infolist())
    return digest


class _Appender:
    """Only what ``zipfile`` needs of a stream that cannot seek."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.write = stream.write
        self.flush = stream.flush


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    with archive.open(_record(archive, name, len(data)), 'w') as record:
        record.write(data)


def _add_storage(archive: zipfile.ZipFile, name: str,
                 flat: torch.Tensor) -> None:
    nbytes = flat.numel() * flat.element_size()
    with archive.open(_record(archive, name, nbytes), 'w') as record:
        if not nbytes:
            return
        host = flat.cpu().contiguous()
        view = host_memory(host)
        for start in range(0, nbytes, _BLOCK_BYTES):
            record.write(view[start:start + _BLOCK_BYTES])


def host_memory(tensor: torch.Tensor) -> memoryview:
    """View the bytes of a contiguous CPU tensor of any type.

    The caller keeps the tensor alive. numpy has no bfloat16 and torch < 1.10
    cannot view other types as bytes, hence the address.
    """
    nbytes = tensor.numel() * tensor.element_size()
    raw = (ctypes.c_char * nbytes).from_address(tensor.data_ptr())
    return memoryview(raw).cast('B')


def _record(archive: zipfile.ZipFile, name: str,
            nbytes: int) -> zipfile.ZipInfo:
    record = zipfile.ZipInfo(f'{ARCHIVE}/{name}', _ZIP_TIME)
    record.file_size = nbytes
    # zipfile decides in the same way whether the header gets a zip64 field
    zip64_bytes = 20 if nbytes * 1.05 > zipfile.ZIP64_LIMIT else 0
    assert archive.fp is not None
    header_bytes = 30 + len(record.filename) + zip64_bytes + 4
    padding = -(archive.fp.tell() + header_bytes) % _ALIGNMENT
    record.extra = struct.pack('<HH', _PADDING_ID, padding) + bytes(padding)
    return record


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
