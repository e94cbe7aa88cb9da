"""The recorder (``recorder.c``): built, loaded into a process, and read.

``strace`` is not everywhere and ``ptrace`` may be forbidden; a library that
the loader puts before libc needs neither, and is no part of our own code.
"""
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import List, Optional

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.join(HERE, 'recorder.c')

#: When a process dies, counted in its successful file operations.
NEVER, BEFORE, AFTER, TORN = range(4)


@dataclass(frozen=True)
class Operation:
    """One recorded call, or a ``mark`` of the program between two.

    Args:
        kind (str): ``open``, ``write``, ``fsync``, ``close``, ``rename``,
            ``link``, ``symlink``, ``unlink``, ``mkdir``, ``rmdir``,
            ``truncate``, ``ftruncate`` or ``mark``.
        number (int): Operations up to and with this one.
        fd (int): Descriptor, or -1.
        offset (int): Of a write; size of a truncation.
        flags (int): Of an open.
        path (str): Absolute path, or the text of a mark.
        other (str): New name of a rename or link; target of a symlink.
        data (bytes): Of a write.
    """
    kind: str
    number: int
    fd: int = -1
    offset: int = 0
    flags: int = 0
    path: str = ''
    other: str = ''
    data: bytes = b''

    def changes_something(self) -> bool:
        """Whether a directory or a file is another after it."""
        if self.kind == 'open':
            return bool(self.flags & (os.O_CREAT | os.O_TRUNC))
        return self.kind not in ('fsync', 'close', 'mark')


def find_compiler() -> Optional[str]:
    """The C compiler, or None."""
    names = (os.environ.get('CC'), 'cc', 'gcc', 'clang')
    return next((name for name in names if name and shutil.which(name)), None)


def why_not() -> Optional[str]:
    """Why nothing can be recorded on this machine, or None."""
    if not sys.platform.startswith('linux'):
        return f'the recorder needs Linux, this is {sys.platform}'
    if find_compiler() is None:
        return 'the recorder needs a C compiler: found no cc, gcc or clang'
    return None


def build() -> str:
    """Compile the recorder unless that was done; return its path."""
    with open(SOURCE, 'rb') as file:
        mark = hashlib.sha256(file.read()).hexdigest()[:12]
    folder = os.path.join(tempfile.gettempdir(),
                          f'mmcv-ckpt-recorder-{os.getuid()}')
    os.makedirs(folder, mode=0o700, exist_ok=True)
    library = os.path.join(folder, f'{mark}.so')
    if not os.path.exists(library):
        partial = f'{library}.{os.getpid()}'
        command = [find_compiler(), '-Wall', '-shared', '-fPIC', '-O1']
        command += ['-o', partial, SOURCE, '-ldl', '-lpthread']
        subprocess.run(command, check=True)
        os.rename(partial, library)
    return library


def environment(library: str) -> 'dict[str, str]':
    """Of a process that has the recorder; it sleeps until it is armed."""
    return dict(os.environ, LD_PRELOAD=library)


class Recorder:
    """The recorder in this process, which was started with it."""

    def __init__(self) -> None:
        self._calls = ctypes.CDLL(None)
        self._calls.crash_arm.argtypes = [
            ctypes.c_char_p, ctypes.c_char_p, ctypes.c_long, ctypes.c_int,
            ctypes.c_long
        ]

    def arm(self,
            directory: str,
            log: str,
            at: int = 0,
            when: int = NEVER,
            torn_bytes: int = 0) -> None:
        """Record what happens below a directory from now on.

        Args:
            directory (str): Absolute, without symlinks.
            log (str): File to append to, elsewhere.
            at (int): Number of the operation to die at.
            when (int): ``BEFORE`` or ``AFTER`` it, or in the middle of it if
                it is a write (``TORN``).
            torn_bytes (int): So much is written then, modulo its size.
        """
        self._calls.crash_arm(directory.encode(), log.encode(), at, when,
                              torn_bytes)

    def mark(self, text: str) -> None:
        """Put a line between the operations."""
        self._calls.crash_mark(text.encode())


def read_log(path: str) -> List[Operation]:
    """Return what was recorded, in order.

    A process that was killed from outside may leave half a record.
    """
    operations = []
    with open(path, 'rb') as file:
        for head in file:
            words = head.split()
            if not head.endswith(b'\n') or len(words) != 9:
                break
            kind = words[0].decode()
            number, _, fd, offset, flags, *sizes = map(int, words[1:])
            first, second, data = (file.read(size) for size in sizes)
            if file.read(1) != b'\n':
                break
            operations.append(
                Operation(kind, number, fd, offset, flags, os.fsdecode(first),
                          os.fsdecode(second), data))
        assert not file.read(1 << 20).count(b'\n'), f'{path} is damaged'
    return operations
