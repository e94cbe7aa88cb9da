"""The command line ``mmcv-ckpt``: one file a command.

Exit codes are stable: 0 all well, 1 something checked is damaged, 2 wrong
usage, or something is missing or may not be read, 3 loading something could
run code, 130 interrupted. With ``--json`` the standard output has one JSON
object, except when interrupted, and the standard error output what people
read.

Neither torch nor mmcv is imported by these modules.
"""
import argparse
import os
import sys
from contextlib import suppress
from typing import Optional, Sequence

from ..errors import CheckpointError, IntegrityError, UnsafeCheckpointError
from .advice import for_command
from .arguments import parse
from .output import OutputError, open_closed_streams, print_json, status, warn

EXIT_DAMAGED = 1
EXIT_USAGE = 2
EXIT_UNSAFE = 3
EXIT_INTERRUPTED = 130
#: As a shell reports a program that SIGPIPE ended.
EXIT_BROKEN_PIPE = 141


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command.

    Args:
        argv (Sequence[str], optional): Arguments without the program's name.
            Default: None, which means ``sys.argv[1:]``.

    Returns:
        int: The exit code.

    Raises:
        SystemExit: After ``--help`` (0) and on wrong usage (2).
    """
    open_closed_streams()
    try:
        arguments = parse(argv)
        if arguments.run is None:
            return EXIT_USAGE  # it has shown what there is
        return _run(arguments)
    except OSError as error:
        _discard_rest()
        if isinstance(error, BrokenPipeError):
            return EXIT_BROKEN_PIPE  # what reads us (``head``) has ended
        with suppress(OSError):  # it may be the one that is full
            warn(f'cannot write the output: {error}')
        return EXIT_USAGE


def _run(arguments: argparse.Namespace) -> int:
    """Run the command; only an output that cannot be written is an error."""
    try:
        code = int(arguments.run(arguments))
    except (BrokenPipeError, OutputError):
        raise
    except (CheckpointError, OSError, MemoryError) as raised:
        error = for_command(raised, arguments.command)
        warn(str(error))
        code = _exit_code(error)
        if arguments.json:
            print_json({**arguments.nothing(arguments), **status(code, error)})
    except KeyboardInterrupt:
        warn('interrupted')
        code = EXIT_INTERRUPTED
    sys.stdout.flush()  # a broken pipe shows here, not at the exit
    return code


def _discard_rest() -> None:
    """Keep the interpreter's own flush at the exit from failing again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _exit_code(error: Exception) -> int:
    if isinstance(error, IntegrityError):
        return EXIT_DAMAGED
    return EXIT_UNSAFE if isinstance(error,
                                     UnsafeCheckpointError) else EXIT_USAGE
