"""What a safetensors file holds, told by its header alone.

As :mod:`outline` of the other formats. Standard library only.
"""
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple

from .. import outline
from ..errors import CorruptError
from ..instructions import shortened
from .decoding import Decoder
from .header import BITS, TORCH_NAMES, Entry, Header
from .metadata import malformed


@dataclass(frozen=True, repr=False, eq=False)
class FlatTensor(outline.Tensor):
    """Stands for a tensor, also of a type that torch does not have.

    Args:
        lies_at (tuple[int, int]): Its first byte behind the header, and the
            one behind its last. Default: none.
    """
    lies_at: Tuple[int, int] = (0, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        start, stop = self.lies_at
        return stop - start


def outlined(header: Header, own: Any, path: str) -> Any:
    """Return what a file holds, with outlines in the place of tensors.

    Args:
        header (Header): Of the file.
        own (dict, optional): Of :func:`metadata.own_of`; of a file of another
            program None: it holds weights.
        path (str): Of the file, for the messages.

    Raises:
        CorruptError: If what is no tensor could not be built.
    """
    tensors = {
        name: _tensor(name, one)
        for name, one in header.entries.items()
    }
    if own is None:
        return {'state_dict': OrderedDict(tensors)}
    try:
        return _Outliner(tensors.__getitem__).decode(own['tree'])
    except CorruptError as error:
        raise malformed(path, str(error)) from error


def _tensor(name: str, entry: Entry) -> FlatTensor:
    kind = outline.Dtype(
        TORCH_NAMES.get(entry.dtype, entry.dtype),
        max(1, BITS[entry.dtype] // 8))
    return FlatTensor(kind, entry.shape, name, (entry.start, entry.stop))


class _Outliner(Decoder):
    """Describes the values."""
    vocabulary = outline.VOCABULARY

    def size(self, lengths: List[Any]) -> Tuple[int, ...]:
        if not all(type(length) is int for length in lengths):
            raise ValueError(f'a size is {shortened(lengths)}')
        return tuple(lengths)

    def dtype(self, text: str) -> outline.Dtype:
        prefix, _, name = text.partition('.')
        found = outline.torch_dtype(name) if prefix == 'torch' else None
        if found is None:
            raise ValueError(f'torch has no type {shortened(text)}')
        return found

    def device(self, text: str) -> outline.Device:
        return outline.torch_device(text)

    def values(self, code: str, kind: outline.NumpyType,
               shape: Optional[List[int]], data: bytes) -> outline.NumpyValue:
        return outline.NumpyValue(kind, tuple(shape or ()))
