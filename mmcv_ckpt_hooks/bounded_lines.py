"""Lines of a file that anybody may have written. Standard library only."""
from typing import IO, Iterator, Optional

from .wording import counted

#: A line that is longer is passed over: none of ours is (bytes).
LONGEST_LINE_BYTES = 4 << 20
#: Of a file that is only looked at no more is read (bytes).
MOST_BYTES = 128 << 20


class BoundedLines:
    """Reads lines, none of which takes all memory, and knows what it left.

    Args:
        most_bytes (int, optional): What comes behind them is not read.
            Default: None, which means that all is.
    """

    def __init__(self, most_bytes: Optional[int] = None) -> None:
        self._most_bytes = most_bytes
        self._read_bytes = 0
        self._long = 0
        self._is_cut = False

    def of(self, file: IO[bytes]) -> Iterator[bytes]:
        """Yield the lines of a file."""
        is_going_on = False
        for part in iter(lambda: file.readline(LONGEST_LINE_BYTES), b''):
            self._read_bytes += len(part)
            if self._most_bytes is not None and \
                    self._read_bytes > self._most_bytes:
                self._is_cut = True
                return
            begins, ends = not is_going_on, part.endswith(b'\n')
            is_long = begins and len(part) == LONGEST_LINE_BYTES and not ends
            self._long += is_long
            is_going_on = not ends
            if begins and not is_long:
                yield part

    def left_out(self, name: str) -> str:
        """Say what was not read; '' if all was.

        Args:
            name (str): Of the file.
        """
        said = []
        if self._long:
            said.append(f'{counted(self._long, "lines")} of {name} longer '
                        f'than {counted(LONGEST_LINE_BYTES, "bytes")} left '
                        'out')
        if self._most_bytes is not None and self._is_cut:
            said.append(f'{name} is read up to '
                        f'{counted(self._most_bytes, "bytes")}: what comes '
                        'after is left out')
        return '; '.join(said)
