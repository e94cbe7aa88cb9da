"""What happened: ``checkpoints.log.jsonl``. Standard library only."""
import json
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import IO, Any, Callable, Dict, Iterator, List, Optional

from .bounded_lines import BoundedLines
from .errors import (AccessError, LockedError, MissingCheckpointError,
                     StorageError)
from .storage import scheme_of
from .storage.names import temporary_beside
from .types import StorageBackend

HISTORY_NAME = 'checkpoints.log.jsonl'

#: A link would lead the lines into any file of the user, a pipe would have
#: the writer wait for ever. Windows has neither flag.
_SAFE = getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)


class History:
    """``checkpoints.log.jsonl``: one JSON object a line, only appended to.

    Args:
        directory (str): A local directory.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, HISTORY_NAME)

    def append(self, event: str, **values: Any) -> None:
        """Add one event; the line of a killed run may be torn."""
        line = _line(event, values)
        self._separate()
        with open(
                self._path,
                'ab',
                opener=lambda path, flags: os.open(path, flags | _SAFE, 0o666)
        ) as file:
            if file.tell() and not self._ends_with_newline():
                file.write(b'\n')
            file.write(line)

    def read(self,
             warn: Optional[Callable[[str], None]] = None,
             most_bytes: Optional[int] = None) -> List[Dict[str, Any]]:
        """Return all events; torn lines are left out.

        Args:
            warn (callable, optional): Told what else is. Default: None.
            most_bytes (int, optional): What comes behind them is left out.
                Default: None, which means that all is read: a run needs it.

        Raises:
            OSError: If it is there and cannot be read.
        """
        if not os.path.isfile(self._path):
            return []
        with open(self._path, 'rb') as file:
            return _events(file, self._path, warn, most_bytes)

    def _separate(self) -> None:
        """Copy a file that has other names, too.

        Such is a directory that was copied with hard links (``cp -al``): the
        lines would go into the history of the other one as well.
        """
        with suppress(FileNotFoundError):
            status = os.lstat(self._path)
            if status.st_nlink < 2 or not stat.S_ISREG(status.st_mode):
                return
            temporary = temporary_beside(self._path)
            try:
                shutil.copy(self._path, temporary)
                with open(temporary, 'rb+') as file:
                    # else a power cut leaves an empty one
                    os.fsync(file.fileno())
                os.replace(temporary, self._path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise

    def _ends_with_newline(self) -> bool:
        with open(self._path, 'rb') as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b'\n'


class StoredHistory(History):
    """The same in a storage that cannot append: each event writes it anew.

    Args:
        home (StorageBackend): It replaces files atomically.
    """

    def __init__(self, home: StorageBackend) -> None:
        self._home = home
        self._content: Optional[bytes] = None

    def append(self, event: str, **values: Any) -> None:
        """Add one event."""
        with os_errors():
            before = self._read() if self._content is None else self._content
            if before and not before.endswith(b'\n'):
                before += b'\n'
            content = before + _line(event, values)
            self._home.put(HISTORY_NAME, lambda stream: stream.write(content))
            self._content = content

    def read(self,
             warn: Optional[Callable[[str], None]] = None,
             most_bytes: Optional[int] = None) -> List[Dict[str, Any]]:
        """Return all events; as :meth:`History.read`."""
        with os_errors():
            try:
                with self._home.open(HISTORY_NAME) as file:
                    return _events(file, f'{self._home.url}/{HISTORY_NAME}',
                                   warn, most_bytes)
            except MissingCheckpointError:
                return []

    def _read(self) -> bytes:
        try:
            with self._home.open(HISTORY_NAME) as file:
                return file.read()
        except MissingCheckpointError:
            return b''


class HeardHistory(History):
    """Tells of every event, when it is written or could not be.

    Args:
        inner (History): Has the events.
        heard (callable): Called after each with its name and values.
    """

    def __init__(self, inner: History, heard: Callable[[str, Dict[str, Any]],
                                                       None]) -> None:
        self._inner = inner
        self._heard = heard

    def append(self, event: str, **values: Any) -> None:
        """Add one event."""
        try:
            self._inner.append(event, **values)
        finally:
            self._heard(event, values)

    def read(self,
             warn: Optional[Callable[[str], None]] = None,
             most_bytes: Optional[int] = None) -> List[Dict[str, Any]]:
        """Return all events; as :meth:`History.read`."""
        return self._inner.read(warn, most_bytes)


def open_history(home: StorageBackend) -> History:
    """Return the history that is kept beside a catalog."""
    if scheme_of(home.url):
        return StoredHistory(home)
    return History(home.url)


def _line(event: str, values: Dict[str, Any]) -> bytes:
    text = json.dumps({'event': event, **values}, sort_keys=True)
    return text.encode() + b'\n'


def _events(file: IO[bytes], name: str, warn: Optional[Callable[[str], None]],
            most_bytes: Optional[int]) -> List[Dict[str, Any]]:
    events = []
    lines = BoundedLines(most_bytes)
    for line in lines.of(file):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    left_out = lines.left_out(name)
    if left_out and warn is not None:
        warn(left_out)
    return events


@contextmanager
def os_errors() -> Iterator[None]:
    """Raise what a file would."""
    try:
        yield
    except LockedError as error:
        # whose it is, what failed before has told at length
        raise PermissionError('the place is no more that of this run') \
            from error
    except StorageError as error:
        kind = PermissionError if isinstance(error, AccessError) else OSError
        raise kind(str(error)) from error
