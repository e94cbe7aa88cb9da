"""A checkpoint to a safetensors file, from which all of it comes back.

Weights have their own names, so that any reader finds them. The other tensors
are named by their place (``optimizer.state.0.exp_avg``); what is no tensor is
JSON in the metadata, and so is the CRC-32 of each tensor.
"""
import json
from typing import IO, Any, Dict, List, Mapping, Tuple

import torch

from ..checksums import crc32
from ..errors import ConfigError, CorruptError
from ..serialization import blocks_of
from ..staging import StagedState, TensorRef
from ..wording import counted
from .dtypes import name_of
from .header import (BITS, LIMIT_BYTES, TEXTS, VALUES_LIMIT, Entry, digest_of,
                     header_bytes, values_in)
from .metadata import OWN_KEY, VERSION
from .tree_text import Encoder, decode

#: What ``transformers`` asks for before it takes a file.
_FORMAT = {'format': 'pt'}


class FlatFile:
    """A safetensors file that can be written.

    Every tensor is looked at when it is made, for its CRC-32: the header
    comes before the data.

    Args:
        state (StagedState): The checkpoint; storages may be such that are
            read when they are asked for.
        weights (tuple): Where in it the weights are: these keys are left out
            of their names.
        card (dict): JSON values, as for ``write_checkpoint``.
        texts (dict): Further metadata, for people. Default: none.

    Raises:
        ConfigError: If safetensors cannot hold something in it.
    """

    def __init__(self,
                 state: StagedState,
                 weights: Tuple[str, ...],
                 card: Mapping[str, Any],
                 texts: Mapping[str, str] = {}) -> None:
        self._state = state
        self._weights = weights
        self._refs: Dict[str, TensorRef] = {}
        # by storage, offset, size and stride
        self._first: Dict[Any, str] = {}
        tree = Encoder(self._name).encode(state.tree)
        try:
            # INVARIANT: nothing is written that no reader takes
            decode(tree, self._refs.__getitem__)
        except CorruptError as error:
            raise ConfigError(
                'a safetensors file cannot hold what is no tensor here '
                f'({error}). Convert to .pth or .dcp') from error
        self._order: List[str] = sorted(
            self._refs,
            # large elements first: all are aligned then
            key=lambda name: (-_itemsize(self._refs[name]), name))
        own = dict(
            version=VERSION,
            card=dict(card),
            crc32={name: self._crc(name)
                   for name in self._order},
            tree=tree)
        self.header = header_bytes(self._entries(), {
            **texts,
            **_FORMAT, OWN_KEY: json.dumps(own)
        })
        size, values = len(self.header), values_in(self.header)
        if size > LIMIT_BYTES or values > VALUES_LIMIT:
            raise ConfigError(
                'a safetensors file cannot hold what is no tensor here, '
                f'{counted(size, "bytes")} with {counted(values, "values")}: '
                f'at most {LIMIT_BYTES} with {VALUES_LIMIT}. Convert to .pth '
                'or .dcp')

    @property
    def digest(self) -> str:
        """Of the header, with the CRC-32 of every tensor."""
        return digest_of(self.header)

    @property
    def tensors(self) -> int:
        """How many there are."""
        return len(self._order)

    @property
    def parted(self) -> int:
        """How many tensors shared memory with others, as other parts of it.

        They share none in the file. Those that are the same come back as the
        same.
        """
        spans: Dict[int, List[Tuple[int, int]]] = {}
        for storage, start, size, stride in self._first:
            stop = start + 1 + sum(
                (length - 1) * step for length, step in zip(size, stride))
            spans.setdefault(storage, []).append((start, stop))
        count = 0
        for found in spans.values():
            end = 0
            for start, stop in sorted(found):
                count += start < end
                end = max(end, stop)
        return count

    def write(self, stream: IO[bytes]) -> None:
        """Write it; the same bytes each time."""
        stream.write(self.header)
        for name in self._order:
            for block in blocks_of(self._values(name)):
                stream.write(block)

    def _name(self, ref: TensorRef, path: Tuple[Any, ...]) -> str:
        """Return the name of a tensor; of a tied one that of the first.

        Each has values of its own in the file: who reads weights finds all.
        """
        if name_of(ref.dtype) is None:
            raise ConfigError(
                f'safetensors cannot hold {".".join(map(str, path))} of type '
                f'{ref.dtype}: convert to .pth')
        count = len(self._weights)
        if len(path) > count and path[:count] == self._weights:
            path = path[count:]
        plain = '.'.join(map(str, path)) or 'tensor'
        # what no UTF-8 has, other readers would refuse
        plain = name = plain.encode(errors='backslashreplace').decode()
        number = 1
        while name in self._refs or name == TEXTS:
            number += 1
            name = f'{plain}~{number}'
        self._refs[name] = ref
        key = ref.storage, ref.offset, ref.size, ref.stride
        return self._first.setdefault(key, name) if 0 not in ref.size else name

    def _values(self, name: str) -> torch.Tensor:
        ref = self._refs[name]
        flat = self._state.storages[ref.storage].reshape(-1)
        return torch.as_strided(flat, ref.size, ref.stride,
                                ref.offset).contiguous()

    def _crc(self, name: str) -> str:
        found = 0
        for block in blocks_of(self._values(name)):
            found = crc32(block, found)
        return f'{found:08x}'

    def _entries(self) -> Dict[str, Entry]:
        found, start = {}, 0
        for name in self._order:
            ref = self._refs[name]
            stop = start + _itemsize(ref) * torch.Size(ref.size).numel()
            found[name] = Entry(_told(ref), ref.size, start, stop)
            start = stop
        return found


def _told(ref: TensorRef) -> str:
    name = name_of(ref.dtype)
    assert name is not None  # so it was taken
    return name


def _itemsize(ref: TensorRef) -> int:
    return BITS[_told(ref)] // 8
