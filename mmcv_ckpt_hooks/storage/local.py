"""Files in a local (or mounted) directory, committed by rename."""
import errno
import os
import stat
import sys
import time
from contextlib import suppress
from typing import IO, Any, Callable, List, Optional

from ..errors import StorageError
from ..folders.layout import is_folder
from ..types import POINTER_FILE, Capabilities, StoredFile
from .leftovers import claim, sweep_abandoned
from .links import check_target, found_link, is_pointer, leads_away
from .local_folders import folders_in, found_folder, remove_folder
from .mapped_errors import mapped_errors, raise_if_full
from .names import is_temporary, plain_name, temporary_beside
from .streams import fill_file

#: Windows refuses to replace a file while a virus scanner or a reader has it
#: open: pauses before the next attempts, and the two error codes.
_SHARING_PAUSES_SECS = (0.05, 0.2, 0.8, 2.)
_SHARING_VIOLATIONS = (5, 32)

_WRITE = 'cannot write checkpoint'


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
        link=True,
        point=True,
        folders=True)

    def __init__(self, path: str, durable: bool = True) -> None:
        self.url = os.path.abspath(os.path.expanduser(path))
        self._durable = durable

    def prepare(self) -> None:
        with mapped_errors('cannot create the checkpoint directory', self.url):
            self._make_directories()
        probe = self._temporary('probe')
        with mapped_errors('cannot write to the checkpoint directory',
                           self.url):
            with open(probe, 'xb'):
                pass
            os.unlink(probe)

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        path, temporary = self._path(name), self._temporary(name)
        try:
            # INVARIANT: the bytes are on the disk before the name is; else a
            # power cut leaves an empty .pth
            size_bytes = fill_file(temporary, write, _WRITE, path,
                                   _sync_file if self._durable else None,
                                   claim)
            with mapped_errors(_WRITE, path, missing=StorageError):
                _replace(temporary, path)
                self._sync_directory(self.url)
        except BaseException:
            _unlink_quietly(temporary)
            raise
        return size_bytes

    def open(self, name: str) -> IO[bytes]:
        path = self._path(name)
        with mapped_errors('cannot read checkpoint', path):
            check_target(path)
            file = open(path, 'rb', opener=_open_at_once)
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                # a pipe or a device: it may never end
                file.close()
                raise StorageError(f'cannot read checkpoint {path}: it is no '
                                   'regular file. Move it away')
            return file

    def sweep(self) -> List[str]:
        return sweep_abandoned(self.url)

    def list(self) -> List[StoredFile]:
        found: List[StoredFile] = []
        with mapped_errors('cannot list the checkpoint directory', self.url):
            with os.scandir(self.url) as entries:
                for entry in entries:
                    # a run that prunes may delete it meanwhile
                    with suppress(FileNotFoundError):
                        file = None if is_temporary(entry.name) else \
                            _found(entry)
                        found += [] if file is None else [file]
        return sorted(found, key=lambda file: file.name)

    def delete(self, name: str) -> None:
        with mapped_errors('cannot delete checkpoint', self._path(name)):
            try:
                if not remove_folder(self._path(name)):
                    os.unlink(self._path(name))
            except FileNotFoundError:
                return
            self._sync_directory(self.url)

    def folder(self, name: str) -> 'LocalBackend':
        return LocalBackend(self._path(name), self._durable)

    def folders(self) -> List[str]:
        with mapped_errors('cannot list the checkpoint directory', self.url):
            return folders_in(self.url)

    def is_link(self, name: str) -> bool:
        return os.path.islink(self._path(name))

    def move(self, name: str, other: str) -> None:
        with mapped_errors(f'cannot move {name} to', self._path(other)):
            os.rename(self._path(name), self._path(other))
            self._sync_directory(self.url)

    def link(self, source: str, name: str) -> None:
        """Hard link; where the file system has none, a durable copy.

        A symlink that leads away, or to nothing, gets a second symlink: what
        is there is another's, may be large, and may come back.
        """
        path, temporary = self._path(name), self._temporary(name)
        with mapped_errors(f'cannot link {source} to', path):
            if leads_away(self._path(source)):
                os.symlink(os.readlink(self._path(source)), temporary)
                self._commit_link(temporary, path)
                return
            try:
                # Linux would link a symlink itself, not its file
                os.link(os.path.realpath(self._path(source)), temporary)
            except FileNotFoundError:
                raise
            except (OSError, NotImplementedError) as error:
                raise_if_full(error)
                # FAT, some FUSE and network file systems have no links
                self._copy(source, name)
                return
            self._commit_link(temporary, path)

    def point(self, name: str, target: Optional[str]) -> None:
        """Relative symlink, else hard link, else a pointer file."""
        path, temporary = self._path(name), self._temporary(name)
        if target is None:
            with mapped_errors('cannot remove the link', path):
                is_link = self._is_link(path)
            if is_link:
                self.delete(name)
            return
        with mapped_errors(f'cannot point {name} to', self._path(target)):
            os.stat(self._path(target))  # a pointer never dangles
            if self._link_somehow(target, temporary):
                self._commit_link(temporary, path)
                return
            self.put(POINTER_FILE,
                     lambda stream: stream.write(target.encode() + b'\n'))
            # INVARIANT: a stale latest.pth is worse than none, and a .pth
            # name never holds text
            self.delete(name)

    def _is_link(self, path: str) -> bool:
        """Whether a path is one of the links that :meth:`point` makes."""
        if os.path.islink(path):
            return is_pointer(path)
        if not os.path.exists(path):
            return False
        with os.scandir(self.url) as entries:
            return any(
                entry.name.endswith('.pth') and entry.path != path
                and not entry.is_symlink()
                and os.path.samestat(entry.stat(), os.stat(path))
                for entry in entries)

    def _link_somehow(self, target: str, temporary: str) -> bool:
        """Symlink or hard link; False where neither is allowed."""
        for make, source in ((os.symlink, target), (os.link,
                                                    self._path(target))):
            try:
                make(source, temporary)
                return True
            except (OSError, NotImplementedError) as error:
                # no privilege (Windows), EPERM, EOPNOTSUPP (FAT, CIFS)
                raise_if_full(error)
        return False

    def _commit_link(self, temporary: str, path: str) -> None:
        try:
            _replace(temporary, path)
        finally:
            # POSIX: rename does nothing, and leaves the old name, when both
            # are links to one file
            _unlink_quietly(temporary)
        self._sync_directory(self.url)

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
        return os.path.join(self.url, plain_name(name, self.url))

    def _temporary(self, name: str) -> str:
        return temporary_beside(self._path(name))

    def _make_directories(self) -> None:
        os.makedirs(self.url, exist_ok=True)
        path = os.path.realpath(self.url)
        while not os.path.ismount(path):
            path = os.path.dirname(path)
            # INVARIANT: a power cut must not take the directory with its
            # checkpoints. mmcv's runner creates the work dir before us, so
            # that nobody knows how much of the path is new
            self._sync_directory(path)

    def _sync_directory(self, path: str) -> None:
        if not self._durable or os.name == 'nt':
            return  # Windows cannot open a directory for fsync
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except PermissionError:
            return  # may be entered and written, but not read
        try:
            os.fsync(descriptor)
        except OSError as error:
            # some network and FUSE file systems refuse fsync on directories
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                raise
        finally:
            os.close(descriptor)


def _found(entry: 'os.DirEntry[str]') -> Optional[StoredFile]:
    if entry.is_symlink():
        return found_link(entry.path)
    if is_folder(entry.name):
        return found_folder(entry.path) if entry.is_dir() else None
    status = entry.stat()
    return StoredFile(entry.name, status.st_size) \
        if stat.S_ISREG(status.st_mode) else None


def _open_at_once(path: str, flags: int) -> int:
    # without the flag, which Windows lacks, a pipe waits for a writer
    return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0))


def _sync_file(descriptor: int) -> None:
    if sys.platform == 'darwin':
        import fcntl
        try:
            # macOS: fsync leaves the data in the drive's cache
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            # network file systems have no such call
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOTTY):
                raise
    os.fsync(descriptor)


def _replace(source: str, target: str) -> None:
    """Rename over an existing file; Windows may need several attempts."""
    for pause_secs in _SHARING_PAUSES_SECS:
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if getattr(error, 'winerror', None) not in _SHARING_VIOLATIONS:
                raise
        time.sleep(pause_secs)
    os.replace(source, target)


def _unlink_quietly(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
