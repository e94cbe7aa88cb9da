"""The tensors of a folder, read to where they are used.

Nothing in it is executed: see :mod:`loading`. A tensor may be asked for in
other parts than those it was saved in.
"""
import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, Dict, Iterable, List, Tuple

import torch

from ..compat import torch_dtypes
from ..errors import CorruptError
from ..loading import load_checkpoint
from ..wording import counted
from .chunks import Chunk, inside, overlap
from .metadata import Item
from .opening import Folder
from .verification import item_path, window

_DTYPES = {str(dtype)[len('torch.'):]: dtype for dtype in torch_dtypes()}


@dataclass(frozen=True)
class Target:
    """A part of a tensor that is to be filled.

    Args:
        name (str): Of the tensor, in the folder.
        part (Chunk): Which part of it.
        memory (Tensor): Of the part's size, on any device; of any type, to
            which the values are converted.
    """
    name: str
    part: Chunk
    memory: torch.Tensor


def whole(size: Iterable[int]) -> Chunk:
    """Return the part that is all of a tensor."""
    sizes = tuple(size)
    return Chunk((0, ) * len(sizes), sizes)


class FolderReader:
    """Reads tensors of a folder.

    Args:
        folder (Folder): Opened; who needs to know before that it is
            undamaged has verified it.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def dtype(self, name: str) -> torch.dtype:
        """Return the type of a tensor.

        Raises:
            CorruptError: If this torch has no such type.
        """
        claimed = self.folder.metadata.tensors[name].dtype.name
        if claimed not in _DTYPES:
            raise CorruptError(f'{self.folder.path}: {name} is of the type '
                               f'{claimed}, which torch {torch.__version__} '
                               'does not have')
        return _DTYPES[claimed]

    def fill(self, targets: Iterable[Target]) -> None:
        """Fill tensors, or parts of them, in place.

        Every chunk is read once, one after the other as they lie in the
        files; its CRC-32 is checked.

        Raises:
            IntegrityError: If a chunk is damaged. What lies before it is
                filled already.
        """
        wanted: Dict[Item, List[Tuple[Chunk, Target]]] = {}
        for target in targets:
            for chunk, item in self.folder.metadata.items_of(target.name):
                if overlap(chunk, target.part) is not None:
                    wanted.setdefault(item, []).append((chunk, target))
        with ExitStack() as opened, torch.no_grad():
            files: Dict[str, IO[bytes]] = {}
            for item in sorted(wanted, key=lambda one: (one.file, one.offset)):
                if item.file not in files:
                    files[item.file] = opened.enter_context(
                        self.folder.files.open(item.file))
                self._copy(files[item.file], item, wanted[item])

    def tensor(self, name: str) -> torch.Tensor:
        """Return a whole tensor, on the CPU."""
        size = self.folder.metadata.tensors[name].size
        try:
            memory = torch.empty(size, dtype=self.dtype(name))
        except RuntimeError as error:
            raise MemoryError(
                f'{self.folder.path}: no memory for {name} of '
                f'{counted(math.prod(size), "elements")}') from error
        self.fill([Target(name, whole(size), memory)])
        return memory

    def blob(self, name: str) -> Any:
        """Return what is no tensor."""
        item = self.folder.metadata.items[name, None]
        with self.folder.files.open(item.file) as file:
            return load_checkpoint(
                window(file, item), item_path(self.folder, name, item))

    def _copy(self, file: IO[bytes], item: Item,
              uses: List[Tuple[Chunk, Target]]) -> None:
        name, saved = uses[0][1].name, uses[0][0]
        path = item_path(self.folder, name, item)
        value = load_checkpoint(window(file, item), path)
        if not isinstance(value, torch.Tensor) or \
                tuple(value.shape) != saved.sizes or \
                value.dtype != self.dtype(name):
            raise CorruptError(f'{path} holds not the tensor of size '
                               f'{saved.sizes} that its metadata claims')
        for chunk, target in uses:
            part = overlap(chunk, target.part)
            assert part is not None  # so it was chosen
            place = target.memory.detach()[inside(part, target.part)]
            place.copy_(value[inside(part, chunk)])
