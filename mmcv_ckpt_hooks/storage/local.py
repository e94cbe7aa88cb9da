"""Files in a local (or mounted) directory, committed by rename."""
import errno
import os
import stat
import sys
import uuid
from contextlib import contextmanager
from typing import IO, Any, Callable, Iterator, List

from ..errors import (AccessError, MissingCheckpointError, OutOfSpaceError,
                      StorageError)
from ..types import POINTER_FILE, Capabilities, StoredFile

#: In the name of every unfinished file. Such a name never ends in ``.pth``:
#: tools that glob for checkpoints must not meet it.
TEMPORARY_MARK = '.tmp-'

#: Collects the small writes (zip headers); larger ones pass by it.
_BUFFER_BYTES = 1 << 20

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_ACCESS = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def _mapped_errors(what: str, path: str) -> Iterator[None]:
    """Turn an ``OSError`` into the matching ``StorageError``."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        message = f'{what} {path}: {error.strerror or error}'
        if error.errno == errno.ENOENT:
            raise MissingCheckpointError(message) from error
        if error.errno in _NO_ACCESS:
            raise AccessError(
                f'{message}. Check the owner and mode of the directory and '
                'whether it is mounted read-only') from error
        if error.errno in _NO_SPACE:
            raise OutOfSpaceError(
                f'{message}. Free space or lower max_keep_ckpts') from error
        raise StorageError(message) from error


class _WriteOnly:
    """The stream that ``put`` hands out: counts bytes, cannot seek."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size_bytes = 0

    def write(self, data: Any) -> int:
        written = self._stream.write(data)
        self.size_bytes += written
        return written

    def flush(self) -> None:
        self._stream.flush()


class LocalBackend:
    """A directory; a file appears under its name complete or not at all.

    Args:
        path (str): The directory.
        durable (bool): Whether a commit waits until the data and the
            directory entry are on the disk. Default: True.

    Source: POSIX ``rename``: a crash leaves the old or the new file, and
    only after ``fsync`` of the file its content, after ``fsync`` of the
    directory its name.
    """
    capabilities = Capabilities(
        stream_in=True,
        ranged_read=True,
        atomic_replace=True,
        listing=True,
        delete=True,
        link=True)

    def __init__(self, path: str, durable: bool = True) -> None:
        self.url = os.path.abspath(os.path.expanduser(path))
        self._durable = durable

    def prepare(self) -> None:
        with _mapped_errors('cannot create the checkpoint directory',
                            self.url):
            os.makedirs(self.url, exist_ok=True)
        probe = self._temporary('probe')
        with _mapped_errors('cannot write to the checkpoint directory',
                            self.url):
            with open(probe, 'xb'):
                pass
            os.unlink(probe)

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        temporary = self._temporary(name)
        try:
            with _mapped_errors('cannot write checkpoint', self._path(name)):
                # open() honours the umask and setgid directories, which
                # tempfile.mkstemp (mode 0600) does not
                with open(temporary, 'xb', buffering=_BUFFER_BYTES) as file:
                    stream = _WriteOnly(file)
                    write(stream)  # type: ignore[arg-type]
                    file.flush()
                    if self._durable:
                        # INVARIANT: the bytes are on the disk before the
                        # name is; else a power cut leaves an empty .pth
                        _sync_file(file.fileno())
                os.replace(temporary, self._path(name))
                self._sync_directory()
        except BaseException:
            _unlink_quietly(temporary)
            raise
        return stream.size_bytes

    def open(self, name: str) -> IO[bytes]:
        with _mapped_errors('cannot read checkpoint', self._path(name)):
            return open(self._path(name), 'rb')

    def list(self) -> List[StoredFile]:
        found = []
        with _mapped_errors('cannot list the checkpoint directory', self.url):
            with os.scandir(self.url) as entries:
                for entry in entries:
                    if TEMPORARY_MARK in entry.name or entry.is_symlink():
                        continue
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        found.append(StoredFile(entry.name, status.st_size))
        return sorted(found, key=lambda file: file.name)

    def delete(self, name: str) -> None:
        with _mapped_errors('cannot delete checkpoint', self._path(name)):
            try:
                os.unlink(self._path(name))
            except FileNotFoundError:
                return
            self._sync_directory()

    def link(self, source: str, name: str) -> None:
        """Hard link; where the file system has none, a durable copy."""
        path, temporary = self._path(name), self._temporary(name)
        with _mapped_errors(f'cannot link {source} to', path):
            try:
                os.link(self._path(source), temporary)
            except FileNotFoundError:
                raise
            except OSError as error:
                if error.errno in _NO_SPACE:
                    raise
                # FAT, some FUSE and network file systems have no links
                self._copy(source, name)
                return
            try:
                os.replace(temporary, path)
            finally:
                # POSIX: rename does nothing, and leaves the old name, when
                # both are links to one file
                _unlink_quietly(temporary)
            self._sync_directory()

    def point(self, name: str, target: str) -> None:
        """Relative symlink, else hard link, else a pointer file."""
        path, temporary = self._path(name), self._temporary(name)
        with _mapped_errors(f'cannot point {name} to', target):
            try:
                os.symlink(target, temporary)
            except (OSError, NotImplementedError):
                # no privilege (Windows), EPERM/EOPNOTSUPP (FAT, CIFS)
                self._point_without_symlink(name, target)
                return
            try:
                os.replace(temporary, path)
            finally:
                _unlink_quietly(temporary)
            self._sync_directory()

    def _point_without_symlink(self, name: str, target: str) -> None:
        temporary = self._temporary(name)
        try:
            os.link(self._path(target), temporary)
            os.replace(temporary, self._path(name))
            self._sync_directory()
        except OSError:
            # INVARIANT: a stale latest.pth is worse than none; the pointer
            # file takes over, and a .pth name never holds text
            _unlink_quietly(self._path(name))
            self.put(POINTER_FILE,
                     lambda stream: stream.write(target.encode() + b'\n'))
        finally:
            _unlink_quietly(temporary)

    def _copy(self, source: str, name: str) -> None:

        def write(stream: IO[bytes]) -> None:
            with open(self._path(source), 'rb', buffering=0) as original:
                while True:
                    block = original.read(4 << 20)
                    if not block:
                        return
                    stream.write(block)

        self.put(name, write)

    def _path(self, name: str) -> str:
        # INVARIANT: nothing outside the directory is ever touched
        if os.path.basename(name) != name or name in ('', '.', '..'):
            raise StorageError(
                f'checkpoint name {name!r} must be a plain file name: it may '
                f'not lead out of {self.url}')
        return os.path.join(self.url, name)

    def _temporary(self, name: str) -> str:
        return self._path(
            f'.{name}{TEMPORARY_MARK}{os.getpid()}-{uuid.uuid4().hex[:8]}')

    def _sync_directory(self) -> None:
        if not self._durable or os.name == 'nt':
            return  # Windows cannot open a directory for fsync
        descriptor = os.open(self.url, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # some network and FUSE file systems refuse fsync on directories
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)


def _sync_file(descriptor: int) -> None:
    if sys.platform == 'darwin':
        import fcntl

        # macOS: fsync leaves the data in the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
