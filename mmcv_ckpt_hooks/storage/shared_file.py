"""Files that several processes write to, none over another's."""
from typing import cast

from ..errors import MissingCheckpointError
from ..types import SharedFile, SharingBackend, StorageBackend
from .mapped_errors import unsupported
from .names import plain_name


def share(files: StorageBackend, name: str) -> SharedFile:
    """Return a file of a backend that other processes write to, too.

    Raises:
        UnsupportedError: If the backend has no such files.
    """
    if not files.capabilities.share:
        raise unsupported(
            files.url, 'share', 'what two processes write there at once is '
            'not kept apart')
    return cast(SharingBackend, files).share(name)


class PlainSharedFile:
    """One of a storage that minds no conditions.

    It is looked at right before it is replaced: of two that do so at the
    same moment both may succeed.

    Args:
        files (StorageBackend): Of this file alone.
        name (str): Of the file.
        where (str): What tells its place from others of the same URL.
            Default: nothing.
    """
    is_exclusive = False

    def __init__(self,
                 files: StorageBackend,
                 name: str,
                 where: str = '') -> None:
        self._name = plain_name(name, files.url)
        self.place = f'{where} {files.url}/{name}'
        self._files = files
        self._seen = b''

    def look(self) -> bytes:
        self._seen = self._read()
        return self._seen

    def replace(self, content: bytes) -> bool:
        if self._read() != self._seen:
            return False
        self._files.put(self._name, lambda stream: stream.write(content))
        self._seen = content
        return True

    def _read(self) -> bytes:
        try:
            with self._files.open(self._name) as file:
                return file.read()
        except MissingCheckpointError:
            return b''
