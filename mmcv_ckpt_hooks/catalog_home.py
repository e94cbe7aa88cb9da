"""Where a catalog is kept and found: beside the checkpoints if that works.

Standard library only.
"""
from typing import IO, Any, Callable, Optional

from .catalog import BEST_CATALOG_NAME, CATALOG_NAME, Catalog
from .catalog_file import read_catalog
from .errors import (ConfigError, MissingCheckpointError, ResumeError,
                     StorageError)
from .storage.local import LocalBackend
from .storage.mapped_errors import unsupported
from .types import StorageBackend

#: What a place that cannot be listed needs to be known by.
_COPIED = (CATALOG_NAME, BEST_CATALOG_NAME)


def catalog_home(backend: StorageBackend, work_dir: Optional[str],
                 warn: Callable[[str], None]) -> StorageBackend:
    """Return the place of the catalog of a place.

    Args:
        backend (StorageBackend): Where the checkpoints are.
        work_dir (str, optional): Of the runner.
        warn (callable): Told what a copy of the catalog cannot do.

    Raises:
        ConfigError: If there is none.
    """
    able = backend.capabilities
    if able.listing and able.atomic_replace:
        return backend
    if work_dir is None:
        raise ConfigError(
            f'{backend.url} cannot hold the catalog, because it cannot list '
            'or replace files; the runner needs a work_dir')
    if able.listing:
        return LocalBackend(work_dir)
    return CopiedHome(work_dir, backend, warn)


def read_place(files: StorageBackend,
               warn: Callable[[str], None],
               most_history_bytes: Optional[int] = None) -> Catalog:
    """Open the catalog of a place that is only read.

    Args:
        files (StorageBackend): The place.
        warn (callable): Told what is wrong with the catalog.
        most_history_bytes (int, optional): Of the history, for a lost
            catalog; who deletes by scores needs all of it. Default: None,
            which means all.

    Raises:
        MissingCheckpointError: If there is no such directory.
        StorageError: If what is there cannot be known, which never means that
            nothing is.
    """
    catalog = Catalog(files, files, warn)
    catalog.most_history_bytes = most_history_bytes
    catalog.open()
    if not files.capabilities.listing and not catalog.checkpoints():
        raise unsupported(files.url, 'listing',
                          f'and there is no {CATALOG_NAME} that tells')
    return catalog


class CopiedHome(LocalBackend):
    """A work dir whose catalog is copied to a place that cannot be listed.

    Who comes there with an empty disk has nothing else to know it by. While
    the work dir has a catalog, that one counts.

    Args:
        work_dir (str): The work dir.
        place (StorageBackend): Where the checkpoints are.
        warn (callable): Told once what fails between two copies.
    """

    def __init__(self, work_dir: str, place: StorageBackend,
                 warn: Callable[[str], None]) -> None:
        super().__init__(work_dir)
        self._place = place
        self._warn = warn
        self._is_failing = False

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        size = super().put(name, write)
        if name not in _COPIED:
            return size
        with super().open(name) as file:
            content = file.read()
        try:
            self._place.put(name, lambda stream: stream.write(content))
            self._is_failing = False
        except StorageError as error:
            # nothing depends on it as long as the work dir is there
            if not self._is_failing:
                self._warn(
                    f'{name} was not copied to {self._place.url} ({error}): '
                    f'without {self.url} nothing tells what is there. Every '
                    'save tries again')
            self._is_failing = True
        return size

    def open(self, name: str) -> IO[bytes]:
        """Open the file of the work dir, else the copy if it is a catalog.

        Raises:
            ResumeError: If the copy is damaged: what it would tell is lost,
                and who starts anew replaces what is there.
        """
        try:
            return super().open(name)
        except MissingCheckpointError:
            if name not in _COPIED:
                raise
        try:
            read_catalog(self._place, name)
        except ValueError as error:
            raise ResumeError(
                f'{self._place.url}/{name} is damaged ({error}), {self.url} '
                'has none, and what is there cannot be listed. Put that of '
                'the run back into the work dir, or remove the damaged one '
                'to start anew') from error
        return self._place.open(name)
