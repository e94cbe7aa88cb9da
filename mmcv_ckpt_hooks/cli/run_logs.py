"""The logs of mmcv that lie beside checkpoints, opened for ``report``."""
import os
from contextlib import closing
from typing import IO, Callable, Iterator, List, Optional, Tuple

from ..errors import StorageError
from ..reporting.logs import LOG_NAME, Log, read_logs
from ..storage.mapped_errors import mapped_errors
from ..wording import size_text
from .output import warn
from .place import Place, Places, is_directory, path_of

#: More is not read of all logs (bytes): a million lines take it.
_LIMIT_BYTES = 128 << 20
#: Longer lines are read as several, which are none (bytes).
_LONGEST_LINE = 4 << 20
#: More logs are not read, the newest are.
_MOST_LOGS = 2000

_Open = Callable[[str], IO[bytes]]


def logs_of(given: Optional[str], place: Place, places: Places,
            notes: List[str]) -> List[Log]:
    """Read the logs of a run.

    Args:
        given (str, optional): The directory that has them; None for that of
            the checkpoints.
        place (Place): Where the checkpoints are.
        places (Places): Opens a URL.
        notes (list[str]): Told what is left out.

    Raises:
        StorageError: If they cannot be listed.
        ConfigError: If ``given`` is no directory.
    """
    path = place.files.url if given is None else path_of(given)
    files = place.files if given is None else places.files(path)
    if given is not None:
        is_directory(path)  # raises if there is nothing
    if given is None and place.is_local or os.path.isdir(path):
        names, open_one = _local(path)
    elif files.capabilities.listing:
        names = [one.name for one in files.list()]
        open_one = files.open
    else:
        return []
    names = sorted(name for name in names if LOG_NAME.match(name))
    if len(names) > _MOST_LOGS:
        notes.append(f'Only the newest {_MOST_LOGS} of {len(names)} logs are '
                     'read.')
    left = [_LIMIT_BYTES]
    return read_logs((name, _lines(name, open_one, left, notes))
                     for name in names[-_MOST_LOGS:])


def _local(path: str) -> Tuple[List[str], _Open]:
    with mapped_errors('cannot list', path), os.scandir(path) as entries:
        # no link: it could lead to any file of who makes the page; no pipe
        names = [
            entry.name for entry in entries
            if entry.is_file(follow_symlinks=False)
        ]

    def open_one(name: str) -> IO[bytes]:
        return open(os.path.join(path, name), 'rb')

    return names, open_one


def _lines(name: str, open_one: _Open, left: List[int],
           notes: List[str]) -> Iterator[bytes]:
    """Yield lines as long as there are bytes left, of all logs together."""
    try:
        with mapped_errors('cannot read', name), \
                closing(open_one(name)) as file:
            for line in iter(lambda: file.readline(_LONGEST_LINE), b''):
                left[0] -= len(line)
                if left[0] < 0:
                    notes.append(
                        f'Logs are read up to {size_text(_LIMIT_BYTES)}: '
                        f'{name} is not, or not to its end.')
                    return
                yield line
    except StorageError as error:
        warn(str(error))
        notes.append(str(error))
