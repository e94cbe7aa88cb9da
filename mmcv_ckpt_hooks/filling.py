"""Memory for the storages of a checkpoint, filled while it is verified."""
import zipfile
from typing import Any, Collection, Dict, List, Mapping

import torch

from .compat import is_lazy, storage_pointer
from .mapping import map_file, tensors_in, viewed
from .records import data_starts, descriptor, read_record
from .scanning import storage_record
from .serialization import host_memory
from .wording import counted


class Storages:
    """Finds the records of the storages that a pickle names.

    Args:
        archive (ZipFile): Of :func:`verification.open_archive`.
        path (str): Its name, for the messages.
    """

    def __init__(self, archive: zipfile.ZipFile, path: str) -> None:
        self._archive = archive
        self._path = path
        self._folder = archive.infolist()[0].filename.split('/')[0]
        # by the names of their records
        self._flats: Dict[str, torch.Tensor] = {}

    def claim(self, key: str, dtype: torch.dtype, numel: int) -> torch.Tensor:
        """Return memory for a storage; nothing is in it yet.

        Args:
            key (str): As the pickle names it.
            dtype (dtype): Its type.
            numel (int): Its elements.

        Raises:
            CorruptError: If the file does not have such a storage.
            MemoryError: If there is no memory for it.
        """
        record = storage_record(
            self._archive, self._path, key,
            numel * torch.empty(0, dtype=dtype).element_size())
        try:
            flat = torch.empty(numel, dtype=dtype)
        except RuntimeError as error:
            # not the file's fault
            raise MemoryError(
                f'{self._path}: no memory for {record.filename} of '
                f'{counted(record.file_size, "bytes")}') from error
        self._flats[record.filename] = flat
        return flat

    def read(self, key: str, dtype: torch.dtype, numel: int) -> torch.Tensor:
        """Return a storage; its CRC-32 is checked. As :meth:`claim`."""
        flat = self.claim(key, dtype, numel)
        self._fill(self._archive.getinfo(f'{self._folder}/data/{key}'), flat)
        return flat

    def only_in(self,
                content: Any,
                fields: Collection[str],
                least_bytes: int = 0) -> Dict[str, List[torch.Tensor]]:
        """Return the storages that could stay in a mapped file.

        Args:
            content: Of claimed storages.
            fields (collection[str]): Keys of what may stay there.
            least_bytes (int): Smaller ones are left out. Default: 0.

        Returns:
            dict[str, list[Tensor]]: By the names of their records, the
            tensors of each storage that occurs nowhere else.
        """
        found: Dict[str, List[torch.Tensor]] = {}
        if not isinstance(content, dict):
            return found
        names = {
            storage_pointer(flat): name
            for name, flat in self._flats.items()
            if flat.numel() and flat.numel() *
            flat.element_size() >= least_bytes
        }
        for tensor in tensors_in([content.get(key) for key in fields]):
            name = names.get(storage_pointer(tensor))
            if is_lazy(tensor):
                # what is to be done to it would get lost
                names.pop(storage_pointer(tensor), None)
            elif name is not None:
                found.setdefault(name, []).append(tensor)
        others = [value for key, value in content.items() if key not in fields]
        for tensor in tensors_in(others):
            names.pop(storage_pointer(tensor), None)
        return {name: found[name] for name in names.values() if name in found}

    def targets(self, unread: Collection[str]) -> Dict[str, memoryview]:
        """Return the memory of storages; see :func:`records.check_data`.

        Args:
            unread (collection[str]): Names of records without.
        """
        return {
            name: host_memory(flat)
            for name, flat in self._flats.items()
            if name not in unread and flat.numel()
        }

    def map(self, unread: Mapping[str, List[torch.Tensor]]) -> None:
        """Have tensors lie in the mapped file; read what cannot.

        Args:
            unread (dict[str, list[Tensor]]): Of :meth:`only_in`.

        Raises:
            CorruptError: If the file has changed.
        """
        number = descriptor(self._archive.fp)
        file = map_file(number) if unread and number is not None else None
        starts = data_starts(self._archive, self._path) if unread else {}
        for name, tensors in unread.items():
            flat = self._flats[name]
            there = None if file is None else file.storage(
                starts[name], flat.dtype, flat.numel())
            if there is None:
                self._fill(self._archive.getinfo(name), flat)
                continue
            for tensor in tensors:
                tensor.data = viewed(there, tensor)

    def _fill(self, record: zipfile.ZipInfo, flat: torch.Tensor) -> None:
        if flat.numel():
            for _ in read_record(
                    self._archive, record, self._path,
                    target=host_memory(flat)):
                pass
