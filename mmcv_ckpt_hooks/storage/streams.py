"""The stream that ``put`` hands out, and the file behind it."""
from contextlib import contextmanager, suppress
from typing import IO, Any, Callable, Iterator, Optional, Union, cast

from ..errors import StorageError
from .block_file import BlockFile
from .mapped_errors import mapped_errors


class WriteOnlyStream:
    """Counts the bytes that pass; cannot seek, tell or be closed.

    Its own errors are mapped, so that an ``OSError`` of the code that writes
    into it can be told from one of the storage.

    Args:
        stream (file | BlockFile): Binary, takes every write in full.
        what (str): What could not be done, for errors.
        path (str): To which file, for errors.
    """

    def __init__(self, stream: Union[IO[bytes], BlockFile], what: str,
                 path: str) -> None:
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
        """Nothing: what is buffered goes on when the file is complete."""


class BlockStream(WriteOnlyStream):
    """A stream into a file, which also takes bytes without copying them.

    Args:
        file (BlockFile): Where they go.
        what (str): What could not be done, for errors.
        path (str): To which file, for errors.
    """

    def __init__(self, file: BlockFile, what: str, path: str) -> None:
        super().__init__(file, what, path)
        self._file = file

    def lend(self, data: memoryview) -> int:
        """Take bytes that stay as they are until ``put`` returns."""
        with mapped_errors(self._what, self._path, missing=StorageError):
            lent = self._file.lend(data)
        self.size_bytes += lent
        return lent


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
        claim: Optional[Callable[[int], Any]]) -> Iterator[BlockStream]:
    with mapped_errors(what, target, missing=StorageError):
        # open() honours the umask and setgid directories, which
        # tempfile.mkstemp (mode 0600) does not
        raw = open(path, 'xb', buffering=0)
    try:
        with mapped_errors(what, target, missing=StorageError):
            if claim is not None:
                claim(raw.fileno())
            # without a sync the page cache is where it shall go
            file = BlockFile(raw, direct=sync is not None)
        try:
            stream = BlockStream(file, what, target)
            yield stream
            with mapped_errors(what, target, missing=StorageError):
                file.finish()
        finally:
            file.close()
        if sync is not None:
            with mapped_errors(what, target, missing=StorageError):
                sync(raw.fileno())
    except BaseException:
        # an error of the close would hide the first
        with suppress(OSError):
            raw.close()
        raise
    with mapped_errors(what, target, missing=StorageError):
        raw.close()
