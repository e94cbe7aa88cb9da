"""The stream that ``put`` hands out, and the file behind it."""
import io
from contextlib import contextmanager, suppress
from typing import IO, Any, Callable, Iterator, Optional, cast

from ..errors import StorageError
from .mapped_errors import mapped_errors

#: Collects the small writes (zip headers); larger ones pass by it.
_BUFFER_BYTES = 1 << 20


class WriteOnlyStream:
    """Counts the bytes that pass; cannot seek, tell or be closed.

    Its own errors are mapped, so that an ``OSError`` of the code that writes
    into it can be told from one of the storage.

    Args:
        stream (file): Binary, writable, takes every write in full.
        what (str): What could not be done, for errors.
        path (str): To which file, for errors.
    """

    def __init__(self, stream: IO[bytes], what: str, path: str) -> None:
        self._stream = stream
        self._what = what
        self._path = path
        self.size_bytes = 0

    def write(self, data: Any) -> int:
        """Take all bytes of a buffer and return their number."""
        with mapped_errors(self._what, self._path, missing=StorageError):
            written = self._stream.write(data)
        self.size_bytes += written
        return written

    def flush(self) -> None:
        """Pass on what is buffered; nothing is synced to the disk."""
        with mapped_errors(self._what, self._path, missing=StorageError):
            self._stream.flush()


def fill_file(path: str,
              write: Callable[[IO[bytes]], Any],
              what: str,
              target: str,
              sync: Optional[Callable[[int], Any]] = None,
              claim: Optional[Callable[[int], Any]] = None) -> int:
    """Create a file, have it written, and close it; it stays on errors.

    Args:
        path (str): Of the new file.
        write (callable): As in :meth:`StorageBackend.put`; what it raises
            passes through.
        what (str): What could not be done, for errors.
        target (str): To which file, for errors.
        sync (callable, optional): Called with the file's descriptor when it
            is complete. Default: None.
        claim (callable, optional): Called with the descriptor when it is
            new. Default: None.

    Returns:
        int: Size in bytes.
    """
    with _written_file(path, what, target, sync, claim) as stream:
        write(cast(IO[bytes], stream))
    return stream.size_bytes


@contextmanager
def _written_file(
        path: str, what: str, target: str, sync: Optional[Callable[[int],
                                                                   None]],
        claim: Optional[Callable[[int], Any]]) -> Iterator[WriteOnlyStream]:
    with mapped_errors(what, target, missing=StorageError):
        # open() honours the umask and setgid directories, which
        # tempfile.mkstemp (mode 0600) does not
        raw = open(path, 'xb', buffering=0)
        if claim is not None:
            claim(raw.fileno())
    file = io.BufferedWriter(raw, _BUFFER_BYTES)
    stream = WriteOnlyStream(file, what, target)
    try:
        yield stream
        stream.flush()
        if sync is not None:
            with mapped_errors(what, target, missing=StorageError):
                sync(raw.fileno())
    except BaseException:
        # the buffered rest is not worth a write, whose error would hide the
        # first
        with suppress(OSError):
            raw.close()
        raise
    with mapped_errors(what, target, missing=StorageError):
        file.close()
