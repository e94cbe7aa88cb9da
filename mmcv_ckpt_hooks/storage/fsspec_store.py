"""What fsspec knows: ``hdfs://``, ``sftp://``, ``gcs://`` and others."""
import datetime
import io
import re
import time
from contextlib import suppress
from typing import IO, Any, Callable, Dict, List, Mapping, Optional, cast

from ..errors import ConfigError, MissingCheckpointError, StorageError
from ..types import POINTER_FILE, Capabilities, StoredFile
from ..wording import counted
from .fsspec_errors import fsspec_errors
from .fsspec_files import Reader, Stream
from .fsspec_known import class_of, has_verb, where_of
from .mapped_errors import unsupported
from .names import (TEMPORARY_MARK, is_temporary, plain_name, temporary_beside,
                    writer_id)
from .object_url import secrets_of
from .shared_file import PlainSharedFile

#: Object stores: what is written appears when it is closed, and replaces what
#: was there at once.
_ON_CLOSE = frozenset(
    ['s3', 's3a', 'gs', 'gcs', 'abfs', 'abfss', 'az', 'oss', 'oci'])
#: Where a file that is renamed replaces another at once, if the file system
#: renames (local: fsspec 2024.5 on). Elsewhere the other may have to go first.
_BY_RENAME = frozenset(['file', 'local', 'sftp', 'ssh'])
#: What nothing was written to for so long (seconds) was abandoned; clocks of
#: servers go wrong by minutes.
_ABANDONED_SECS = 3600.
_PROBE = f'.probe{TEMPORARY_MARK}mmcv_ckpt_hooks'
#: A colon that no port follows; the password may hold slashes.
_PASSWORD = re.compile(r'://(?:[^/@]*:[^/@]*@|[^/]*:(?!\d*(?:/|$)))')
_WRITE, _READ = 'cannot write checkpoint', 'cannot read checkpoint'


class FsspecBackend:
    """A directory of any file system of fsspec.

    ``put`` streams in blocks. On object stores a file appears when it is
    complete; elsewhere it is written under another name and renamed. Where a
    rename does not replace, ``atomic_replace`` is not declared: the file of
    that name is deleted before. Nothing is synced: when the data reach a disk
    is up to the file system.

    Args:
        url (str): A URL without a password.
        options (dict, optional): Arguments of the file system. Default: None.

    Raises:
        ConfigError: If the URL holds a password, or nothing serves it.
        DependencyError: If fsspec, or what it needs for the URL, is missing.
    """

    def __init__(self,
                 url: str,
                 options: Optional[Mapping[str, Any]] = None) -> None:
        if _PASSWORD.search(url):
            # not repeated: it is a secret
            raise ConfigError('a URL must not hold a password: give it in '
                              'storage_options')
        self.url = url.rstrip('/')
        self._scheme = url.partition('://')[0]
        self._class = class_of(self.url, self._scheme)
        self._options: Dict[str, Any] = dict(options or {})
        self._root = self._class._strip_protocol(self.url).rstrip('/')
        self._connected: Any = None
        self._is_store = self._scheme in _ON_CLOSE
        self.capabilities = Capabilities(
            stream_in=True,
            ranged_read=True,
            atomic_replace=self._is_store or self._scheme == 'memory'
            or self._scheme in _BY_RENAME and has_verb(self._class, 'mv'),
            listing=True,
            delete=True,
            server_copy=has_verb(self._class, 'cp_file'),
            point=True,
            share=True)

    def prepare(self) -> None:
        """Create the directory; save and delete a file there."""
        with self._errors('cannot create', missing=StorageError):
            if not self._is_store:  # there it could mean to make a bucket
                self._files.makedirs(self._root, exist_ok=True)
        self.put(_PROBE, lambda stream: stream.write(b'probe'))
        # one that keeps everything can be saved to
        with suppress(StorageError):
            self._remove(_PROBE)

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        plain_name(name, self.url)
        written = name if self._is_store else temporary_beside(name)
        with self._errors(_WRITE, name, StorageError):
            file = self._files.open(self._path(written), 'wb')
        stream = Stream(file, lambda: self._errors(_WRITE, name, StorageError))
        try:
            write(cast(IO[bytes], stream))
            with self._errors(_WRITE, name, StorageError):
                file.close()
                self._check_size(written, stream.size_bytes)
                if written != name:
                    self._rename(written, name)
        except BaseException:
            self._abandon(file, written, name)
            raise
        return stream.size_bytes

    def open(self, name: str) -> IO[bytes]:
        plain_name(name, self.url)
        with self._errors(_READ, name):
            self._files.invalidate_cache()
            file = self._files.open(self._path(name), 'rb')
            file.seek(0, io.SEEK_END)
            size = file.tell()
        return cast(IO[bytes],
                    Reader(file, size, lambda: self._errors(_READ, name)))

    def sweep(self) -> List[str]:
        """Delete what other processes left unfinished an hour ago."""
        swept: List[str] = []
        with self._errors('cannot sweep', missing=StorageError):
            names = [] if self._is_store else self._names()
        for name in names:
            if is_temporary(name) and writer_id() not in name and \
                    self._is_old(name):
                # who may not delete it leaves it
                with suppress(StorageError):
                    self._remove(name)
                    swept.append(name)
        return swept

    def list(self) -> List[StoredFile]:
        missing = StorageError if self._is_store else MissingCheckpointError
        with self._errors('cannot list', missing=missing):
            found = self._entries()
        files = [
            StoredFile(name, one['size']) for name, one in found.items()
            if not is_temporary(name)
        ]
        return sorted(files, key=lambda file: file.name)

    def folders(self) -> List[str]:
        """Return the names of the directories that are there."""
        with self._errors('cannot list', missing=StorageError):
            self._files.invalidate_cache()
            found = self._files.ls(self._root, detail=True)
        return sorted(one['name'].rstrip('/').rpartition('/')[2]
                      for one in found if one['type'] == 'directory')

    def delete(self, name: str) -> None:
        plain_name(name, self.url)
        with suppress(MissingCheckpointError):
            self._remove(name)

    def link(self, source: str, name: str) -> None:
        """Copy in the file system."""
        plain_name(name, self.url)
        plain_name(source, self.url)
        if not self.capabilities.server_copy:
            raise unsupported(self.url, 'link',
                              f'{self._class.__name__} cannot copy')
        with self._errors(f'cannot copy {source} to', name):
            size = self._size(source)
            if source == name:
                return
            written = name if self._is_store else temporary_beside(name)
            self._files.cp_file(self._path(source), self._path(written))
            self._check_size(written, size)
            if written != name:
                self._rename(written, name)

    def point(self, name: str, target: Optional[str]) -> None:
        """Store the target's name in a pointer file."""
        plain_name(name, self.url)
        if target is None:
            self.delete(POINTER_FILE)
            return
        plain_name(target, self.url)
        with self._errors('cannot look for', target):
            self._size(target)  # a pointer never dangles
        line = target.encode() + b'\n'
        self.put(POINTER_FILE, lambda stream: stream.write(line))

    def share(self, name: str) -> PlainSharedFile:
        # of its own: connections are for one thread
        options = {**self._options, 'skip_instance_cache': True}
        return PlainSharedFile(
            FsspecBackend(self.url, options), name, where_of(self._options))

    # -- inside ------------------------------------------------------------

    @property
    def _files(self) -> Any:
        """The file system; connects when it is needed first."""
        if self._connected is None:
            options = {
                **self._class._get_kwargs_from_urls(self.url),
                **self._options
            }
            try:
                self._connected = self._class(**options)
            except TypeError as error:
                raise StorageError(
                    f'storage_options for {self.url}: {error}') from error
        return self._connected

    def _entries(self) -> Dict[str, Dict[str, Any]]:
        """Return the files by name; as they are now, not as remembered."""
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            if not self._is_store:
                raise
            # there a directory is what has objects; but the bucket is there
            found = []
            self._files.info(self._root.lstrip('/').partition('/')[0])
        # some list the prefix itself, as a file
        return {
            one['name'].rpartition('/')[2]: one
            for one in found
            if one['type'] == 'file' and not one['name'].endswith('/')
        }

    def _names(self) -> List[str]:
        return sorted(self._entries())

    def _size(self, name: str) -> int:
        self._files.invalidate_cache()
        return int(self._files.info(self._path(name))['size'])

    def _check_size(self, name: str, expected: int) -> None:
        found = self._size(name)
        if found != expected:
            raise StorageError(
                f'{self.url}/{name} has {counted(found, "bytes")}, expected '
                f'{expected}: does another program write there?')

    def _rename(self, source: str, name: str) -> None:
        one, other = self._path(source), self._path(name)
        if not self.capabilities.atomic_replace:
            # some refuse to replace, and do not say so
            with suppress(FileNotFoundError):
                self._delete(other)
        if has_verb(self._class, 'mv'):
            self._files.mv(one, other)
            return
        self._files.cp_file(one, other)
        self._delete(one)

    def _remove(self, name: str) -> None:
        with self._errors('cannot delete checkpoint', name):
            self._delete(self._path(name))

    def _delete(self, path: str) -> None:
        try:
            # rm takes brackets in a name for a pattern
            self._files.rm_file(path)
        except NotImplementedError:
            self._files.rm(path)

    def _abandon(self, file: Any, written: str, name: str) -> None:
        """Leave nothing of a file that was not finished."""
        with suppress(StorageError):
            with self._errors(_WRITE, name, StorageError):
                if self._is_store:
                    file.discard()
                    file.closed = True  # or it is finished when it is freed
                else:
                    file.close()
        if not self._is_store:
            with suppress(StorageError):
                self._remove(written)

    def _is_old(self, name: str) -> bool:
        with suppress(StorageError):
            with self._errors('cannot look at', name):
                changed: datetime.datetime = self._files.modified(
                    self._path(name))
                if changed.tzinfo is None:
                    changed = changed.replace(tzinfo=datetime.timezone.utc)
                return time.time() - changed.timestamp() > _ABANDONED_SECS
        return False

    def _path(self, name: str) -> str:
        return f'{self._root}/{name}'

    def _errors(self,
                what: str,
                name: str = '',
                missing: Any = MissingCheckpointError) -> Any:
        return fsspec_errors(what, f'{self.url}/{name}' if name else self.url,
                             missing, secrets_of(self._options))
