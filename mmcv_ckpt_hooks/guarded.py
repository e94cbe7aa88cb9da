"""A place that is written to only as long as the run owns it."""
import os
from contextlib import contextmanager
from typing import (IO, Any, Callable, Dict, Iterator, List, Optional, Tuple,
                    cast)

from .folders.folder import FolderedBackend, folder_of
from .history import History, open_history, os_errors
from .lease import lock_name
from .run_lock import RunLock
from .storage import scheme_of
from .storage.leftovers import sweep_dead
from .storage.local import LocalBackend
from .storage.shared_file import share
from .stored_lock import StoredLock
from .types import SharedFile, StorageBackend, StoredFile


class GuardedBackend:
    """Asks before everything that changes a file.

    A run that was stopped for minutes, and whose directory another run has
    taken over, must not replace that one's checkpoints or catalog.

    Args:
        inner (StorageBackend): Who does the work.
        check (callable): Raises an error if the directory is another run's.
    """

    def __init__(self, inner: StorageBackend, check: Callable[[],
                                                              None]) -> None:
        self._inner = inner
        self._check = check
        self.url = inner.url
        self.capabilities = inner.capabilities

    def prepare(self) -> None:
        self._inner.prepare()

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        self._check()

        def write_and_check(stream: IO[bytes]) -> Any:
            result = write(stream)
            # INVARIANT: asked when only the sync and the rename are left; to
            # write gigabytes takes minutes
            self._check()
            return result

        return self._inner.put(name, write_and_check)

    def open(self, name: str) -> IO[bytes]:
        return self._inner.open(name)

    def sweep(self) -> List[str]:
        self._check()
        return self._inner.sweep()

    def list(self) -> List[StoredFile]:
        return self._inner.list()

    def delete(self, name: str) -> None:
        self._check()
        self._inner.delete(name)

    def link(self, source: str, name: str) -> None:
        self._check()
        self._inner.link(source, name)

    def point(self, name: str, target: Optional[str]) -> None:
        self._check()
        self._inner.point(name, target)

    def share(self, name: str) -> SharedFile:
        return share(self._inner, name)

    def folder(self, name: str) -> StorageBackend:
        return GuardedBackend(folder_of(self._inner, name), self._check)

    def folders(self) -> List[str]:
        return cast(FolderedBackend, self._inner).folders()

    def is_link(self, name: str) -> bool:
        return cast(FolderedBackend, self._inner).is_link(name)

    def move(self, name: str, other: str) -> None:
        self._check()
        cast(FolderedBackend, self._inner).move(name, other)


class GuardedHistory(History):
    """A history of a directory, which is asked of before every event.

    INVARIANT: who has lost the directory, or has left it to another run, adds
    nothing to that one's history.

    Args:
        inner (History): Has the events.
        check (callable): As that of :class:`GuardedBackend`.
    """

    def __init__(self, inner: History, check: Callable[[], None]) -> None:
        self._inner = inner
        self._check = check

    def append(self, event: str, **values: Any) -> None:
        """Add one event."""
        with os_errors():
            self._check()
        self._inner.append(event, **values)

    def read(self,
             warn: Optional[Callable[[str], None]] = None,
             most_bytes: Optional[int] = None) -> List[Dict[str, Any]]:
        """Return all events; as :meth:`History.read`."""
        return self._inner.read(warn, most_bytes)


def lock_of(home: StorageBackend, catalog_name: str,
            log: Callable[[str], None]) -> Optional[RunLock]:
    """Return the lock of a place, which lies beside its catalog.

    Args:
        home (StorageBackend): Where the catalog is.
        catalog_name (str): Its file name, which names the lock.
        log (callable): See :class:`RunLock`.

    Returns:
        RunLock | None: None where no file can be shared.
    """
    name = lock_name(catalog_name)
    if isinstance(home, LocalBackend):
        return RunLock(home.url, name, log)
    if home.capabilities.share:
        return StoredLock(home, name, log)
    return None


def guarded(lock: Optional[RunLock], backend: StorageBackend,
            home: StorageBackend) -> Tuple[StorageBackend, StorageBackend]:
    """Put a place and the home of its catalog under a lock, if there is one.
    """
    if lock is None:
        return backend, home
    ours = GuardedBackend(backend, lock.check)
    return ours, ours if home is backend else GuardedBackend(home, lock.check)


def guarded_history(lock: Optional[RunLock], home: StorageBackend) -> History:
    """Return the history beside a catalog, under the lock if there is one.

    Args:
        lock (RunLock, optional): Of the place.
        home (StorageBackend): Of :func:`guarded`, which guards what is written
            through it: the history of a directory is not.
    """
    history = open_history(home)
    if lock is None or scheme_of(home.url):
        return history
    return GuardedHistory(history, lock.check)


@contextmanager
def left_on_failure(lock: Optional[RunLock]) -> Iterator[None]:
    """Release a lock if the rest of the start fails."""
    try:
        yield
    except BaseException:
        if lock is not None:
            lock.release()
        raise


@contextmanager
def taken(lock: Optional[RunLock]) -> Iterator[None]:
    """Have a lock for as long as something else than a run writes."""
    if lock is None:
        yield
        return
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def take(lock: RunLock, backend: StorageBackend,
         home: StorageBackend) -> List[str]:
    """Acquire a lock; remove what a run that died there left unfinished.

    Returns:
        list[str]: Names of what was removed.

    Raises:
        LockedError: If a live run has the place.
    """
    lock.acquire()
    if lock.dead is None:
        return []
    local = {
        place.url
        for place in (backend, home) if os.path.isdir(place.url)
    }
    return [
        name for directory in sorted(local)
        for name in sweep_dead(directory, lock.dead.writer)
    ]
