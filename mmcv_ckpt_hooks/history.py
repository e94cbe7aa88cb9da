"""What happened: ``checkpoints.log.jsonl``. Standard library only."""
import json
import os
import shutil
import stat
from contextlib import suppress
from typing import Any, Dict, List

from .storage.names import temporary_beside

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
        line = json.dumps({'event': event, **values}, sort_keys=True)
        self._separate()
        with open(
                self._path,
                'ab',
                opener=lambda path, flags: os.open(path, flags | _SAFE, 0o666)
        ) as file:
            if file.tell() and not self._ends_with_newline():
                file.write(b'\n')
            file.write(line.encode() + b'\n')

    def read(self) -> List[Dict[str, Any]]:
        """Return all events; torn lines are left out.

        Raises:
            OSError: If it is there and cannot be read.
        """
        events = []
        if not os.path.isfile(self._path):
            return []
        with open(self._path, 'rb') as file:
            for line in file:
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(event, dict):
                    events.append(event)
        return events

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
