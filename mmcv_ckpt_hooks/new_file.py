"""A file that replaces none, and has its name once it was checked.

Writing takes minutes: meanwhile a run may commit a checkpoint of that name.
"""
import os
from contextlib import contextmanager, suppress
from typing import IO, Any, Callable, Iterator

from .catalog import CATALOG_NAME
from .errors import (CheckpointError, ConfigError, MissingCheckpointError,
                     StorageError)
from .folders.folder import is_there
from .guarded import lock_of, taken
from .storage.leftovers import claim
from .storage.local import LocalBackend
from .storage.mapped_errors import mapped_errors, raise_if_full
from .storage.names import temporary_beside
from .types import StorageBackend

Write = Callable[[IO[bytes]], Any]


def put_new(files: StorageBackend, name: str, write: Write,
            check: Write) -> int:
    """Write a file; what fails, or comes too late, leaves nothing.

    On this machine it has a temporary name until it was checked, and then
    gets its own one only if nobody has that. Elsewhere nothing can be renamed:
    where a run has written, none can write until all is done. Without hard
    links, and where no run has ever written, what comes between the last look
    and the end is replaced.

    Args:
        files (StorageBackend): Where to, prepared.
        name (str): Of the file.
        write (callable): As for :meth:`StorageBackend.put`.
        check (callable): Called with the file, opened for reading; raises
            what is wrong with it.

    Returns:
        int: Size in bytes.

    Raises:
        ConfigError: If there is a file of that name.
        LockedError: If a run is writing there, and there are no hard links.
        StorageError: If it could not be written.
    """
    if isinstance(files, LocalBackend):
        return _put_here(files, name, write, check)
    with left_alone(files):
        return _put_elsewhere(files, name, write, check)


def refuse_existing(files: StorageBackend, name: str) -> None:
    """Refuse a target that is there.

    Args:
        files (StorageBackend): Where it comes to; of a folder, the folder
            itself.
        name (str): Its name there; of a folder ``''``.

    Raises:
        ConfigError: If there is one.
    """
    with suppress(MissingCheckpointError):
        if name:
            files.open(name).close()
            raise _exists(files, name)
        if files.list():
            raise ConfigError(f'{files.url} is not empty: give another name')


@contextmanager
def left_alone(files: StorageBackend) -> Iterator[None]:
    """Keep runs out of a place for as long as something is written there.

    Where no run has ever written nothing is left behind, no lock either.

    Raises:
        LockedError: If a run is writing there.
    """
    lock = lock_of(files, CATALOG_NAME, lambda message: None) \
        if is_there(files, CATALOG_NAME) else None
    with taken(lock):
        yield


def _exists(files: StorageBackend, name: str) -> ConfigError:
    return ConfigError(
        f'{os.path.join(files.url, name)} exists: give another name')


def _put_here(files: LocalBackend, name: str, write: Write,
              check: Write) -> int:
    path = os.path.join(files.url, name)
    stage = temporary_beside(path)
    staged = os.path.basename(stage)
    try:
        size = files.put(staged, write)
        with mapped_errors('cannot write', path), open(stage, 'r+b') as file:
            # a run that starts there removes what nobody holds
            claim(file.fileno())
            check(file)
            _name(files, stage, name)
    finally:
        files.delete(staged)  # and the name is on the disk
    return size


def _name(files: LocalBackend, stage: str, name: str) -> None:
    path = os.path.join(files.url, name)
    try:
        # INVARIANT: unlike a rename it never replaces
        os.link(stage, path)
    except FileExistsError:
        # NFS: done, but the answer was lost, and the second one is this
        if not (os.path.exists(path) and os.path.samefile(stage, path)):
            raise _exists(files, name) from None
    except (OSError, NotImplementedError) as error:
        # FAT, some FUSE and network file systems have no links
        if isinstance(error, OSError):
            raise_if_full(error)
        with left_alone(files):
            refuse_existing(files, name)
            files.move(os.path.basename(stage), name)


def _put_elsewhere(files: StorageBackend, name: str, write: Write,
                   check: Write) -> int:

    def write_and_look(stream: IO[bytes]) -> None:
        write(stream)
        # INVARIANT: asked when only the end of the upload is left
        refuse_existing(files, name)

    size = files.put(name, write_and_look)
    try:
        with files.open(name) as file:
            check(file)
    except CheckpointError:
        # what is wrong with it is what has to be told
        with suppress(StorageError):
            files.delete(name)
        raise
    return size
