"""What the commands print: lines, tables, JSON.

Tables are plain text; on a terminal rich draws them, if it is installed.
"""
import argparse
import json
import math
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence

if TYPE_CHECKING:
    from rich.console import Console

_GAP = '  '
#: Least width of a column that wraps (characters).
_WRAPPED_WIDTH = 14


class OutputError(OSError):
    """What a command says cannot be written."""


def open_closed_streams() -> None:
    """Have what a caller has closed (``>&-``) lead to nothing, as git does.

    Python has None then: what belongs to one stream would be printed to
    another, and the next file that is opened would be the standard output of
    every library.
    """
    for name, mode in (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w')):
        if getattr(sys, name) is None:
            # the lowest descriptor that is free is its own
            setattr(sys, name, open(os.devnull, mode))


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option by which a command prints for programs."""
    parser.add_argument(
        '--json',
        action='store_true',
        help='print one JSON object, whatever is found: it has "ok", '
        '"exit_code" and, if something is wrong, "error" and "problem"')


def status(code: int, error: Optional[Exception] = None) -> Dict[str, Any]:
    """Return what the JSON object of every command has.

    Args:
        code (int): The exit code.
        error (Exception, optional): What kept the command from its work.
            Default: None.
    """
    return {
        'ok': code == 0,
        'exit_code': code,
        'error': '' if error is None else type(error).__name__,
        'problem': '' if error is None else str(error),
    }


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        title (str): Its head.
        right (bool): Whether values are aligned to the right.
            Default: False.
        wraps (bool): Whether a narrow terminal may wrap it. Default: False.
    """
    title: str
    right: bool = False
    wraps: bool = False


def printable(text: str) -> str:
    """Escape what a terminal would act on.

    Names and metrics come from files that others wrote; an escape sequence
    in one must not reach the terminal.
    """
    if text.isprintable():
        return text
    return ''.join(
        one if one.isprintable() else one.encode('unicode_escape').decode()
        for one in text)


def print_line(text: str) -> None:
    """Print a line of text to the standard output."""
    _print(printable(text), sys.stdout)


def warn(text: str) -> None:
    """Print what is wrong to the standard error output."""
    _print(f'mmcv-ckpt: {printable(text)}', sys.stderr)


def print_json(content: Any) -> None:
    """Print one JSON value; numbers that JSON does not have become null."""
    write(json.dumps(_finite(content), indent=1, allow_nan=False) + '\n')


def write(text: str) -> None:
    """Write a text to the standard output, as it is.

    Raises:
        OutputError: If it cannot be written.
    """
    with _writing():
        sys.stdout.write(text)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]],
                styles: Sequence[str]) -> None:
    """Print a table to the standard output.

    Args:
        columns (Sequence[Column]): One a column.
        rows (Sequence[Sequence[str]]): One text a column and row.
        styles (Sequence[str]): One a row, in rich's words; empty for none.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    console = _terminal_console()
    if console is not None:
        _print_rich(console, columns, rows, styles)
        return
    for line in _plain_table(columns, rows):
        _print(line, sys.stdout)


def _plain_table(columns: Sequence[Column],
                 rows: Sequence[Sequence[str]]) -> List[str]:
    widths = _widths(columns, rows)
    lines = []
    for row in [[column.title for column in columns], *rows]:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns)
        ]
        lines.append(_GAP.join(cells).rstrip())
    return lines


def _widths(columns: Sequence[Column],
            rows: Sequence[Sequence[str]]) -> List[int]:
    return [
        max([len(column.title)] + [len(row[index]) for row in rows])
        for index, column in enumerate(columns)
    ]


def _terminal_console() -> 'Optional[Console]':
    """Return rich's console; None without rich, or where it is no use."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(file=sys.stdout, markup=False, highlight=False)
    # there rich has 80 columns, however many a table needs
    return None if console.is_dumb_terminal else console


def _print_rich(console: 'Console', columns: Sequence[Column],
                rows: Sequence[Sequence[str]], styles: Sequence[str]) -> None:
    from rich.table import Table
    from rich.text import Text
    table = Table(box=None, pad_edge=False, header_style='bold')
    least = 0
    for column, width in zip(columns, _widths(columns, rows)):
        table.add_column(
            column.title,
            justify='right' if column.right else 'left',
            overflow='fold',
            no_wrap=not column.wraps)
        least += (_WRAPPED_WIDTH if column.wraps else width) + len(_GAP)
    # on a narrower terminal lines run over: rich would leave out columns
    console.width = max(console.width, least)
    for row, style in zip(rows, styles):
        # Text: square brackets in a name are no markup
        table.add_row(*[Text(cell) for cell in row], style=style)
    with _writing():
        console.print(table)


def _print(text: str, stream: Any) -> None:
    encoding = getattr(stream, 'encoding', None) or 'utf-8'
    # a terminal that has no such character must not end the command
    text = text.encode(encoding, 'backslashreplace').decode(encoding)
    with _writing():
        print(text, file=stream)


@contextmanager
def _writing() -> Iterator[None]:
    """Tell an output that cannot be written from what a command reads."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(str(error)) from error


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
