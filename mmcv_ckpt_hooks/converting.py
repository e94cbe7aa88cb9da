"""A checkpoint in one format to another: .pth, .safetensors and .dcp.

The source is verified before the first byte is written, and what was written
is read again before it counts as done. Nothing in the source is executed.
"""
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, List, Mapping, Optional

from .checkpoint_fields import weights_path
from .errors import CheckpointError, CorruptError, StorageError
from .flat_files.header import SUFFIX as FLAT
from .flat_files.reading import read_flat
from .flat_files.verification import verify_flat
from .flat_files.writing import FlatFile
from .folders.converting import read_folder, write_as_folder
from .folders.layout import METADATA_NAME
from .folders.opening import open_folder
from .folders.verification import verify_folder
from .loading import load_mapped
from .new_file import left_alone, put_new, refuse_existing
from .scanning import verify_loadable
from .serialization import write_checkpoint
from .staging import StagedState, reference
from .types import StorageBackend
from .wording import counted


@dataclass(frozen=True)
class Converted:
    """What was written.

    Args:
        bytes (int): Of the file, or of all files of the folder.
        tensors (int): How many it holds.
        digest (str): Of it.
        note (str): What the source did not have; empty if nothing.
        left_out (list[str]): What of the source it has not. Default: nothing.
    """
    bytes: int
    tensors: int
    digest: str
    note: str = ''
    left_out: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A checkpoint that was verified.

    Args:
        path (str): It, for the messages.
        state (StagedState): What it holds.
        content: The same with its tensors; None of a folder, whose tensors
            are read when they are written.
        card (dict): What was written beside it.
        note (str): What it does not have; empty if nothing.
        tensors (int): How many are in a folder or a safetensors file.
            Default: 0, which means that it is none of these.
    """
    path: str
    state: StagedState
    content: Optional[Any]
    card: Mapping[str, Any]
    note: str = ''
    tensors: int = 0


def read_source(files: StorageBackend, name: str, path: str) -> Source:
    """Verify a checkpoint of any format.

    Args:
        files (StorageBackend): Where it is; of a folder, the folder itself.
        name (str): Its name there; of a folder ``''``.
        path (str): It, for the messages.

    Raises:
        IntegrityError: If it is damaged.
        UnsafeCheckpointError: If loading it would need to run code.
    """
    if not name:
        folder = read_folder(files, path)
        return Source(path, folder.state, None, folder.card, folder.note,
                      folder.tensors)
    with files.open(name) as file:
        if name.endswith(FLAT):
            flat = read_flat(file, path)
            return Source(path, reference(flat.fields), flat.fields, flat.card,
                          flat.note, flat.tensors)
        report = verify_loadable(file, path)
        content = load_mapped(file, path)
    return Source(path, reference(content), content, report.info)


def write_file(source: Source, files: StorageBackend, name: str) -> Converted:
    """Write it as a .pth or a .safetensors file, as the name says.

    Raises:
        ConfigError: If the format cannot hold it, or it exists.
        StorageError: If it could not be written.
        CorruptError: If it is not there then as it was written.
    """
    path = os.path.join(files.url, name)
    files.prepare()
    if name.endswith(FLAT):
        flat = flat_file(source.state, source.card)
        size = put_new(files, name, flat.write,
                       lambda file: verify_flat(file, path, flat.digest))
        return Converted(size, flat.tensors, flat.digest, source.note,
                         _left_out(flat))
    digests: List[str] = []
    size = put_new(
        files, name, lambda stream: digests.append(
            write_checkpoint(stream, source.state, source.card)),
        lambda file: verify_loadable(file, path, digests[-1]))
    return Converted(size, source.tensors, digests[-1], source.note)


def flat_file(state: StagedState,
              card: Mapping[str, Any],
              texts: Optional[Mapping[str, str]] = None) -> FlatFile:
    """Return a safetensors file with the weights under their own names.

    Args:
        state (StagedState): The checkpoint.
        card (dict): JSON values, as for ``write_checkpoint``.
        texts (dict, optional): Further metadata. Default: None.

    Raises:
        ConfigError: If safetensors cannot hold something in it.
    """
    return FlatFile(state, weights_path(state.tree), card, texts or {})


def write_folder(source: Source, target: StorageBackend,
                 around: StorageBackend) -> Converted:
    """Write it as a folder of one rank.

    Args:
        source (Source): A file.
        target (StorageBackend): The folder itself, empty.
        around (StorageBackend): The directory that it is in.

    Raises:
        ConfigError: If there is one.
        LockedError: If a run is writing beside it.
        ResumeError: If it holds no checkpoint of a run.
        StorageError: If it could not be written.
        CorruptError: If it is not there then as it was written.
    """
    with left_alone(around):
        # INVARIANT: again, when no run can write it any more
        refuse_existing(target, '')
        try:
            digest, tensors = write_as_folder(source.content, source.path,
                                              source.card, target)
            folder = open_folder(target, target.url)
            verify_folder(folder)
            if folder.digest != digest:
                raise CorruptError(f'{target.url} has another manifest than '
                                   f'was written: digest {folder.digest}, '
                                   f'expected {digest}')
        except CheckpointError:
            _remove(target)
            raise
    size = sum(file.bytes for file in target.list())
    return Converted(size, tensors, digest, source.note)


def _remove(folder: StorageBackend) -> None:
    """Remove what is no checkpoint; that it is none is what has to be told."""
    with suppress(StorageError):
        # what makes it one first
        names = {file.name for file in folder.list()}
        for name in sorted(
                names, key=lambda name: (name != METADATA_NAME, name)):
            folder.delete(name)


def _left_out(flat: FlatFile) -> List[str]:
    if not flat.parted:
        return []
    return [
        'that ' + counted(flat.parted, 'tensors') + ' had memory in common '
        'with others, as other parts of it'
    ]
