"""A folder as a checkpoint: its fields, with tensors that are not read yet."""
import math
from collections import OrderedDict
from typing import (Any, Callable, Dict, Iterator, List, Mapping, Optional,
                    Tuple)

import torch

from ..checkpoint_fields import check_fields
from ..errors import CorruptError, ResumeError
from ..instructions import shortened
from ..loading import load_checkpoint
from ..types import StorageBackend
from .layout import MODEL, OPTIMIZER, REST_NAME, optimizer_prefix, split_state
from .metadata import SavedTensor
from .opening import open_folder
from .reading import FolderReader, Target, whole
from .verification import verify_folder

#: What ``load_from`` loads of a folder.
_BESIDE_OPTIMIZERS = ('state_dict', 'meta', 'amp', 'resume_state')
#: ``stand_in(name, saved)`` returns what stands for a tensor.
StandIn = Callable[[str, SavedTensor], Any]


class FolderCheckpoint(Dict[str, Any]):
    """The fields of a checkpoint file; tensors of the folder are stand-ins.

    Tensors of one element are read: of them are the steps of optimizers.

    Args:
        reader (FolderReader): Of the folder.
    """

    def __init__(self, reader: FolderReader) -> None:
        self.reader = reader
        self._small: List[Target] = []
        super().__init__(fields_of(reader, self._stand_in))
        reader.fill(self._small)

    def _stand_in(self, name: str, saved: SavedTensor) -> torch.Tensor:
        if name.startswith(OPTIMIZER) and math.prod(saved.size) == 1:
            memory = torch.empty(saved.size, dtype=self.reader.dtype(name))
            self._small.append(Target(name, whole(saved.size), memory))
            return memory
        return StandInTensor.of(name, saved, self.reader.dtype(name))

    def plain(self) -> Dict[str, Any]:
        """Return it as of a file: all tensors are read."""
        return fields_of(self.reader,
                         lambda name, saved: self.reader.tensor(name))


def as_of_file(checkpoint: Dict[str, Any]) -> Dict[str, Any]:
    """Return a checkpoint with all of its tensors."""
    return checkpoint.plain() if isinstance(checkpoint,
                                            FolderCheckpoint) else checkpoint


class StandInTensor(torch.Tensor):
    """Has type and size of a tensor in the folder, and no values."""

    #: in the folder
    saved_name: str

    @staticmethod
    def of(name: str, saved: SavedTensor,
           dtype: torch.dtype) -> 'StandInTensor':
        """Return one."""
        empty = torch.empty(saved.size, dtype=dtype, device='meta')
        made = empty.as_subclass(StandInTensor)
        made.saved_name = name
        return made


def load_folder(
    files: StorageBackend,
    path: str,
    digest: Optional[str] = None,
    share: Optional[Tuple[int, int]] = (0, 1)
) -> FolderCheckpoint:
    """Load a folder for a run; nothing large is read but to verify it.

    Args:
        files (StorageBackend): The folder itself.
        path (str): Of it, for the messages.
        digest (str, optional): What the catalog has for it. Default: None.
        share (tuple[int, int], optional): Which part of the files is
            verified, see :func:`.verification.verify_folder`; None for
            none. Default: all.

    Raises:
        IntegrityError: If it is damaged.
        UnsafeCheckpointError: If loading it would need to run code.
        ResumeError: If no run can go on from it.
    """
    folder = open_folder(files, path, digest)
    if folder.is_plain:
        raise ResumeError(folder.no_counters)
    if share is not None:
        verify_folder(folder, share=share)
    checkpoint = FolderCheckpoint(FolderReader(folder))
    check_fields(checkpoint, path)
    return checkpoint


class FolderWeights(Dict[str, Any]):
    """The fields of a folder without its optimizers.

    Args:
        fields (dict): They.
        unread (tuple[str]): Names of the fields that it has besides.
    """

    def __init__(self, fields: Dict[str, Any], unread: Tuple[str,
                                                             ...]) -> None:
        super().__init__(fields)
        self.unread = unread


def load_folder_weights(files: StorageBackend, path: str) -> FolderWeights:
    """Load the fields of a folder with all tensors of the model.

    Those of the optimizers are left out.
    """
    folder = open_folder(files, path)
    verify_folder(folder)
    reader = FolderReader(folder)
    if folder.is_plain:
        return FolderWeights({'state_dict': _weights_of_plain(reader)}, ())
    rest = _rest(reader)
    fields = _fields(
        reader, rest, lambda name, saved: reader.tensor(name)
        if name.startswith(MODEL) else None, _BESIDE_OPTIMIZERS)
    return FolderWeights(fields,
                         tuple(name for name in rest if name not in fields))


def _weights_of_plain(reader: FolderReader) -> Dict[str, Any]:
    names = [
        name for name in reader.folder.metadata.tensors
        if name.startswith(MODEL)
    ]
    if not names:
        path, found = reader.folder.path, [*reader.folder.metadata.tensors]
        raise ResumeError(
            f'{path} has no tensors under {MODEL!r}: expected the weights of '
            f'a model there, found {shortened(found)}. Make a file of it '
            f'("mmcv-ckpt convert {path} FILE.pth"): load_from takes that if '
            'its tensors have the names of the weights; if they lie in a '
            'field of it, save that field alone with torch.save')
    return OrderedDict(
        (name[len(MODEL):], reader.tensor(name)) for name in names)


def fields_of(reader: FolderReader, stand_in: StandIn) -> Dict[str, Any]:
    """Return the fields of a checkpoint file with the content of a folder.

    Args:
        reader (FolderReader): Of a folder with ``rest.zip``.
        stand_in (callable): See :data:`StandIn`.

    Raises:
        CorruptError: If a tensor has no place among them.
    """
    return _fields(reader, _rest(reader), stand_in)


def _rest(reader: FolderReader) -> Dict[str, Any]:
    """Load what is no tensor of the model or of its optimizers."""
    path = reader.folder.file_path(REST_NAME)
    with reader.folder.files.open(REST_NAME) as file:
        rest = load_checkpoint(file, path)
    if not isinstance(rest, dict) or \
            not isinstance(rest.get('state_dict', {}), dict):
        raise CorruptError(f'{path} is no part of a checkpoint')
    return rest


def _fields(reader: FolderReader,
            rest: Mapping[str, Any],
            stand_in: StandIn,
            only: Tuple[str, ...] = ()) -> Dict[str, Any]:
    folder = reader.folder
    path = folder.file_path(REST_NAME)
    names = folder.metadata.tensors
    fields: Dict[str, Any] = {}
    for field in dict.fromkeys(['meta', 'state_dict', 'optimizer', *rest]):
        if field == 'state_dict':
            fields[field] = _state_dict(rest.get(field), names, stand_in)
        elif field == 'optimizer' and field in rest and \
                (not only or field in only):
            fields[field] = _optimizers(rest[field], names, stand_in, path)
        elif field in rest and (not only or field in only):
            fields[field] = rest[field]
    return fields


def _state_dict(rest: Any, names: Mapping[str, SavedTensor],
                stand_in: StandIn) -> Dict[str, Any]:
    found: 'OrderedDict[str, Any]' = OrderedDict(
        (name[len(MODEL):], stand_in(name, saved))
        for name, saved in names.items() if name.startswith(MODEL))
    found.update(rest or {})
    metadata = getattr(rest, '_metadata', None)
    if metadata is not None:
        setattr(found, '_metadata', metadata)
    return found


def _optimizers(rest: Any, names: Mapping[str, SavedTensor], stand_in: StandIn,
                path: str) -> Any:
    if not isinstance(rest, dict):
        raise CorruptError(f"{path}: its field 'optimizer' is no dict")
    if 'param_groups' in rest:
        return _optimizer(rest, names, stand_in, '', path)
    return {
        name: _optimizer(one, names, stand_in, str(name), path)
        for name, one in rest.items()
    }


def _optimizer(rest: Any, names: Mapping[str, SavedTensor], stand_in: StandIn,
               optimizer: str, path: str) -> Dict[str, Any]:
    """Put the tensors into the state of an optimizer, by position."""
    if isinstance(rest, dict) and 'param_names' not in rest:
        return rest  # as one piece
    known = rest.get('param_names') if isinstance(rest, dict) else None
    states = rest.get('state', {}) if isinstance(rest, dict) else None
    if not isinstance(known, list) or not isinstance(states, dict) or \
            not all(isinstance(one, dict) for one in states.values()):
        raise CorruptError(f'{path} does not say which parameters its '
                           f'optimizer {optimizer} has')
    positions = {str(name): number for number, name in enumerate(known)}
    found: Dict[Any, Dict[str, Any]] = {
        number: {}
        for number in range(len(known))
    }
    prefix = optimizer_prefix(optimizer)
    for name, parameter, key in _states(names, prefix):
        if parameter not in positions:
            raise CorruptError(f'{path}: of {parameter}, which has the state '
                               f'{key!r}, it does not know the position')
        found[positions[parameter]][key] = stand_in(name, names[name])
    for number, state in states.items():
        found.setdefault(number, {}).update(state)
    return {
        **{
            key: value
            for key, value in rest.items() if key != 'param_names'
        }, 'state': {
            number: state
            for number, state in found.items() if state
        }
    }


def _states(names: Mapping[str, SavedTensor],
            prefix: str) -> Iterator[Tuple[str, str, str]]:
    for name in names:
        if name.startswith(prefix):
            yield (name, *split_state(name, prefix))
