"""A folder written by one process, of tensors that it has."""
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import IO, Any, Dict, List, Mapping, Sequence, Tuple

import torch

from ..errors import CheckpointError
from ..serialization import write_checkpoint
from ..staging import reference
from ..types import StorageBackend
from ..version import version_tuple
from .chunks import Chunk
from .folder import Sum, bytes_digest, items_digest, manifest, manifest_digest
from .layout import (MANIFEST_NAME, METADATA_NAME, MIN_TORCH, MODEL, REST_NAME,
                     optimizer_prefix, part_name)


@dataclass(frozen=True)
class Piece:
    """A part of a tensor, to be written.

    Args:
        name (str): Of the tensor.
        size (tuple[int]): Of all of it.
        part (Chunk): Which part.
        values (Tensor): Of it.
        place (tuple): Where in the saved tree the tensor is.
    """
    name: str
    size: Tuple[int, ...]
    part: Chunk
    values: torch.Tensor
    place: Tuple[Any, ...]


def split_checkpoint(
        checkpoint: Mapping[str, Any],
        names: Mapping[str, Sequence[str]]) -> Tuple[List[Piece], Any]:
    """Split a checkpoint file's content for a folder.

    Args:
        checkpoint (dict): With ``state_dict``.
        names (dict): Of the parameters of each optimizer by position; that
            of the only one has the key ``''``.

    Returns:
        tuple[list[Piece], dict]: The tensors of model and optimizers, and
        what is left.
    """
    pieces: List[Piece] = []
    rest = dict(checkpoint)
    weights = checkpoint['state_dict']
    left: 'OrderedDict[str, Any]' = OrderedDict()
    for key, value in weights.items():
        if isinstance(value, torch.Tensor):
            pieces.append(_all_of(f'{MODEL}{key}', value, ('state_dict', key)))
        else:
            left[key] = value
    if hasattr(weights, '_metadata'):
        setattr(left, '_metadata', weights._metadata)
    rest['state_dict'] = left
    if '' in names:
        rest['optimizer'] = _split_state(checkpoint['optimizer'], names[''],
                                         '', ('optimizer', ), pieces)
    elif names:
        rest['optimizer'] = {
            key:
            _split_state(one, names[key], key,
                         ('optimizer', key), pieces) if key in names else one
            for key, one in checkpoint['optimizer'].items()
        }
    return pieces, rest


def _split_state(saved: Mapping[str, Any], names: Sequence[str],
                 optimizer: str, place: Tuple[Any, ...],
                 pieces: List[Piece]) -> Dict[str, Any]:
    states: Dict[Any, Dict[str, Any]] = {}
    for number, state in saved.get('state', {}).items():
        parameter = names[number]
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                pieces.append(
                    _all_of(f'{optimizer_prefix(optimizer)}{parameter}.{key}',
                            value, (*place, 'state', parameter, key)))
            else:
                states.setdefault(number, {})[key] = value
    return {**saved, 'state': states, 'param_names': list(names)}


def _all_of(name: str, value: torch.Tensor, place: Tuple[Any, ...]) -> Piece:
    size = tuple(value.shape)
    return Piece(name, size, Chunk((0, ) * len(size), size), value, place)


def write_folder(files: StorageBackend, by_rank: Sequence[Sequence[Piece]],
                 rest: Any, card: Mapping[str, Any]) -> str:
    """Write a folder, ``.metadata`` last.

    Args:
        files (StorageBackend): The folder itself, prepared and empty.
        by_rank (list[list[Piece]]): What lies in the file of each rank.
        rest (dict): What is no tensor of model and optimizers.
        card (dict): JSON values for ``checkpoint_info.json``.

    Returns:
        str: Its digest.

    Raises:
        CheckpointError: If this torch is too old.
    """
    _check_torch()
    sums: Dict[str, Sum] = {}
    places: List[Tuple[Piece, str, int, int]] = []
    for rank, pieces in enumerate(by_rank):
        name = part_name(rank)
        writer = _Items(pieces)
        size = files.put(name, writer.write)
        sums[name] = size, items_digest(writer.digests)
        places += [(piece, name, start, length)
                   for piece, (start, length) in zip(pieces, writer.places)]
    digests: List[str] = []
    size = files.put(
        REST_NAME, lambda stream: digests.append(
            write_checkpoint(stream, reference(rest), card)))
    sums[REST_NAME] = size, digests[-1]
    metadata = pickle.dumps(_metadata(places), protocol=4)
    sums[METADATA_NAME] = len(metadata), bytes_digest(metadata)
    content = manifest(sums)
    files.put(MANIFEST_NAME, lambda stream: stream.write(content))
    # INVARIANT: it is the commit
    files.put(METADATA_NAME, lambda stream: stream.write(metadata))
    return manifest_digest(content)


class _Items:
    """Writes tensors one after the other.

    Args:
        pieces (list[Piece]): What is written.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        #: begin and length of each (bytes)
        self.places: List[Tuple[int, int]] = []
        self.digests: List[str] = []

    def write(self, stream: IO[bytes]) -> None:
        """Write them; again, if the storage found them damaged."""
        counted: Any = _Counted(stream)
        self.places, self.digests = [], []
        for piece in self._pieces:
            start = counted.count
            self.digests.append(
                write_checkpoint(counted, reference(piece.values), {}))
            self.places.append((start, counted.count - start))


class _Counted:

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.count = 0

    def write(self, data: Any) -> None:
        self._stream.write(data)
        self.count += len(data)


def _check_torch() -> None:
    if version_tuple(torch.__version__) < version_tuple(MIN_TORCH) or \
            not torch.distributed.is_available():
        raise CheckpointError(
            f'a sharded checkpoint needs torch >= {MIN_TORCH} with '
            f'torch.distributed, found torch {torch.__version__}')


def _metadata(places: Sequence[Tuple[Piece, str, int, int]]) -> Any:
    from torch.distributed.checkpoint import metadata as records
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    tensors: Dict[str, Any] = {}
    stored: Dict[Any, Any] = {}
    for piece, file, start, length in places:
        tensor = tensors.setdefault(
            piece.name,
            records.TensorStorageMetadata(
                records.TensorProperties(piece.values.dtype),
                torch.Size(piece.size), []))
        tensor.chunks.append(
            records.ChunkStorageMetadata(
                torch.Size(piece.part.offsets), torch.Size(piece.part.sizes)))
        index = records.MetadataIndex(piece.name, piece.part.offsets,
                                      len(tensor.chunks) - 1)
        stored[index] = _StorageInfo(file, start, length)
    return records.Metadata(tensors, {
        piece.name: piece.place
        for piece, *_ in places
    }, stored)
