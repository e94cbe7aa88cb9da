"""A sharded checkpoint as the content of a file, and back.

No process group and no GPU is needed, and nothing in it is executed.
"""
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Tuple

import torch

from ..checkpoint_fields import check_fields
from ..errors import CorruptError
from ..staging import StagedState, TensorRef, reference
from ..types import StorageBackend
from .export import split_checkpoint, write_folder
from .layout import METADATA_NAME
from .loading import fields_of
from .metadata import SavedTensor
from .opening import open_folder
from .reading import FolderReader
from .verification import verify_folder


@dataclass(frozen=True)
class FolderContent:
    """A folder that was verified; its tensors are read when they are written.

    Args:
        state (StagedState): What a file would hold.
        tensors (int): How many it has.
        card (dict): What was written beside it.
        note (str): What it does not have; empty if nothing.
    """
    state: StagedState
    tensors: int
    card: Mapping[str, Any]
    note: str


def read_folder(files: StorageBackend, path: str) -> FolderContent:
    """Verify a folder, and return it as a file would hold it.

    Args:
        files (StorageBackend): The folder itself.
        path (str): Of it, for the messages.

    Raises:
        IntegrityError: If it is damaged.
        UnsafeCheckpointError: If loading it would need to run code.
    """
    folder = open_folder(files, path)
    report = verify_folder(folder)
    reader, later = FolderReader(folder), _Later()

    def stand_in(tensor: str, saved: SavedTensor) -> TensorRef:
        return later.refer(reader, tensor, saved)

    tree = _plain_tree(reader, stand_in) if folder.is_plain else \
        fields_of(reader, stand_in)
    return FolderContent(
        later.staged(tree), len(folder.metadata.tensors), report.info,
        report.note)


def write_as_folder(checkpoint: Any, path: str, card: Mapping[str, Any],
                    target: StorageBackend) -> Tuple[str, int]:
    """Write the content of a file as a folder of one rank.

    A parameter whose name its optimizer does not tell has its position as a
    name.

    Args:
        checkpoint (dict): Loaded.
        path (str): Of the file, for the messages.
        card (dict): JSON values for ``checkpoint_info.json``.
        target (StorageBackend): The folder itself, empty.

    Returns:
        tuple[str, int]: Its digest, and how many tensors it has.

    Raises:
        ResumeError: If it is no checkpoint of a run.
    """
    check_fields(checkpoint, path)
    pieces, rest = split_checkpoint(checkpoint,
                                    _names(checkpoint.get('optimizer')))
    target.prepare()
    digest = write_folder(target, [pieces], rest, card)
    return digest, len(pieces)


def _names(optimizer: Any) -> Dict[str, List[str]]:
    if not optimizer:
        return {}
    by_name = {'': optimizer} if 'param_groups' in optimizer else optimizer
    return {
        key: _parameter_names(one)
        for key, one in by_name.items() if _is_by_position(one)
    }


def _is_by_position(optimizer: Any) -> bool:
    """Whether it is as torch's optimizers save it; others stay one piece."""
    return isinstance(optimizer, dict) and 'param_groups' in optimizer and all(
        isinstance(number, int) for number in [
            *optimizer.get('state', {}), *(
                one for group in optimizer['param_groups']
                for one in group['params'])
        ])


def _parameter_names(optimizer: Mapping[str, Any]) -> List[str]:
    found: Dict[int, str] = {}
    for group in optimizer['param_groups']:
        # of one that was given named parameters (torch >= 2.6)
        told = group.get('param_names') or []
        for index, number in enumerate(group['params']):
            found[number] = str(told[index] if index < len(told) else number)
    count = max([*found, *optimizer.get('state', {})], default=-1) + 1
    return [found.get(number, str(number)) for number in range(count)]


class _Unread:
    """Stands for the storage of a tensor until it is written."""

    def __init__(self, reader: FolderReader, name: str,
                 saved: SavedTensor) -> None:
        self._reader = reader
        self._name = name
        self._saved = saved
        self.dtype = reader.dtype(name)

    def numel(self) -> int:
        """Elements of it."""
        return self._saved.nbytes // self._saved.dtype.itemsize

    def element_size(self) -> int:
        """Bytes of one."""
        return self._saved.dtype.itemsize

    def reshape(self, *shape: int) -> torch.Tensor:
        """Return it, read: the memory is that of who asks."""
        return self._reader.tensor(self._name).reshape(*shape)


class _Later:
    """The storages of tensors that are read when they are written."""

    def __init__(self) -> None:
        self._storages: List[Any] = []
        self._refs: List[TensorRef] = []

    def refer(self, reader: FolderReader, name: str,
              saved: SavedTensor) -> TensorRef:
        """Return what stands for a tensor in the tree."""
        unread = _Unread(reader, name, saved)
        stride: List[int] = []
        step = 1
        for length in reversed(saved.size):
            stride.insert(0, step)
            step *= max(length, 1)
        ref = TensorRef(
            len(self._storages), unread.dtype, 0, saved.size, tuple(stride))
        self._storages.append(unread)
        self._refs.append(ref)
        return ref

    def staged(self, tree: Any) -> StagedState:
        """Return the tree with its own tensors and those that come later."""
        state = reference(tree)
        for ref in self._refs:
            ref.storage += len(state.storages)
        return StagedState(state.tree, state.storages + self._storages)


def _plain_tree(reader: FolderReader,
                stand_in: Callable[[str, SavedTensor], Any]) -> Dict[str, Any]:
    """Return what a folder of torch alone holds, as it was saved."""
    metadata = reader.folder.metadata
    tree: Dict[Any, Any] = {}
    for name, saved in metadata.tensors.items():
        _put(tree, metadata.paths.get(name, (name, )), stand_in(name, saved))
    for name in metadata.blobs:
        _put(tree, metadata.paths.get(name, (name, )), reader.blob(name))
    found: Dict[str, Any] = _with_lists(tree)
    optimizer = found.get('optimizer')
    if isinstance(optimizer, dict) and 'param_groups' in optimizer and \
            isinstance(optimizer.get('state'), dict):
        # torch flattens positions to text
        optimizer['state'] = {
            int(key) if isinstance(key, str) and key.isdecimal() else key:
            state
            for key, state in optimizer['state'].items()
        }
    if isinstance(found.get('state_dict'), dict):
        found['state_dict'] = OrderedDict(found['state_dict'])
    return found


def _put(tree: Dict[Any, Any], keys: Tuple[Any, ...], value: Any) -> None:
    for key in keys[:-1]:
        inner = tree.setdefault(key, _Node())
        if type(inner) is not _Node:
            raise CorruptError(f'{METADATA_NAME}: {keys[0]} is a tensor, and '
                               'has parts')
        tree = inner
    if not keys or keys[-1] in tree:
        raise CorruptError(f'{METADATA_NAME}: two tensors have one place')
    tree[keys[-1]] = value


class _Node(Dict[Any, Any]):
    """A level of a tree: a dict, or a list if its keys are positions."""


def _with_lists(node: Dict[Any, Any]) -> Any:
    values = {
        key: _with_lists(value) if type(value) is _Node else value
        for key, value in node.items()
    }
    if values and all(isinstance(key, int) for key in values):
        return [values[key] for key in sorted(values)]
    return values
