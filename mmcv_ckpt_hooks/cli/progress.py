"""How far a long check or copy is, on the standard error output.

A bar on a terminal; elsewhere, as in the log of a job, a line now and then.
"""
import sys
import time
from contextlib import contextmanager
from typing import Callable, Iterator, Optional

from ..wording import rate_text, size_text
from .output import printable

Advance = Callable[[int], None]

#: Smaller files are done before a bar or a rate could be read (bytes).
WORTH_A_BAR_BYTES = 64 << 20
#: From line to line where there is no terminal (seconds).
_LINE_SECS = 30.


@contextmanager
def progress_of(name: str, total_bytes: int) -> Iterator[Optional[Advance]]:
    """Show the progress of one file while the block runs.

    Args:
        name (str): Of the file.
        total_bytes (int): Its size.

    Yields:
        callable | None: To be called with the bytes just done; None where
            nothing is shown.
    """
    if total_bytes < WORTH_A_BAR_BYTES:
        yield None
        return
    if not sys.stderr.isatty():
        yield _Lines(printable(name), total_bytes)
        return
    try:
        import rich.progress  # noqa: F401  the extra [cli]
    except ImportError:
        with _percent(printable(name), total_bytes) as advance:
            yield advance
        return
    with _bar(printable(name), total_bytes) as advance:
        yield advance


class _Lines:
    """A line for each :data:`_LINE_SECS` that something takes.

    Args:
        name (str): Of the file.
        total_bytes (int): Its size.
    """

    def __init__(self, name: str, total_bytes: int) -> None:
        self._name = name
        self._total = total_bytes
        self._done = 0
        self._begun = self._told = time.monotonic()

    def __call__(self, done_bytes: int) -> None:
        self._done += done_bytes
        now = time.monotonic()
        if now - self._told < _LINE_SECS:
            return
        self._told = now
        print(
            f'{self._name}: {size_text(self._done)} of '
            f'{size_text(self._total)}, '
            f'{rate_text(self._done, now - self._begun)}',
            file=sys.stderr)
        sys.stderr.flush()


@contextmanager
def _bar(name: str, total_bytes: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (BarColumn, DownloadColumn, Progress, TextColumn,
                               TimeRemainingColumn, TransferSpeedColumn)
    with Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            # standard output may be a file: what goes there stays there
            redirect_stdout=False,
            redirect_stderr=False) as progress:
        task = progress.add_task(escape(name), total=total_bytes)
        yield lambda done_bytes: progress.advance(task, done_bytes)


@contextmanager
def _percent(name: str, total_bytes: int) -> Iterator[Advance]:
    done, shown = 0, -1

    def advance(done_bytes: int) -> None:
        nonlocal done, shown
        done += done_bytes
        percent = done * 100 // total_bytes
        if percent != shown:
            shown = percent
            print(f'\r{name} {percent:3d} %', end='', file=sys.stderr)
            sys.stderr.flush()

    try:
        yield advance
    finally:
        blank = ' ' * (len(name) + 6)
        print(f'\r{blank}\r', end='', file=sys.stderr)
        sys.stderr.flush()
