"""The lock of a run whose checkpoints and catalog go to a store.

There is no kernel lock. Of two runs that replace the same version of the lock
one succeeds, and whether its owner lives is told by the lease alone.
"""
import os
import time
from dataclasses import replace
from typing import Callable, Optional

from .errors import ConfigError, MissingCheckpointError
from .held_places import own_holding
from .lease import KernelLock, Owner, decode, encode
from .run_lock import RunLock
from .signed_file import SignedFile
from .storage.shared_file import share
from .types import SharedFile, StorageBackend

#: What was seen so lately (seconds) is believed: a save asks many times.
_FRESH_SECS = 1.


class StoredLockFile:
    """As :class:`~.signed_file.SignedFile`, over a shared file.

    A beat is one request: that the file is replaced only as it was seen last
    tells whether it is still this run's.

    Args:
        path (str): Its URL.
        shared (SharedFile): The file.
        clock (callable): Monotonic seconds.
        owner (Owner, optional): Whose it was when it was looked at last.
            Default: None.

    Raises:
        StorageError: If it cannot be read.
    """
    device = 0

    def __init__(self,
                 path: str,
                 shared: SharedFile,
                 clock: Callable[[], float],
                 owner: Optional[Owner] = None) -> None:
        self.path = path
        self._shared = shared
        self._clock = clock
        self._owner = owner
        self._look()

    def lock(self) -> KernelLock:
        return KernelLock.NONE

    def refresh(self) -> None:
        if self._clock() - self._looked_at > _FRESH_SECS:
            self._look()

    def read(self) -> bytes:
        return self._content

    def read_anew(self) -> bytes:
        self._look()
        return _there(self._content, self.path)

    def write(self, owner: Owner) -> bool:
        self._owner = owner
        return self._replace(encode(owner))

    def write_beat(self, beat: Optional[int]) -> None:
        if self._owner is None:
            return
        content = encode(replace(self._owner, beat=beat))
        if self._replace(content):
            return
        # deleted, or the answer to the beat before was lost
        if not self._content or self._is_mine(self._content):
            self._replace(content)

    def is_in_place(self) -> bool:
        return self._content != b''

    def is_at(self, place: str) -> bool:
        return place == self._shared.place

    def reopen(self) -> 'StoredLockFile':
        return StoredLockFile(self.path, self._shared, self._clock,
                              self._owner)

    def close(self) -> None:
        """Nothing is open."""

    def _look(self) -> None:
        begun = self._clock()
        content = self._shared.look()
        if self._owner is not None and content and not self._is_mine(content):
            # over http:// nothing tells that a bit was changed on the way,
            # and the run would give up its place for good
            content = self._shared.look()
        self._content, self._looked_at = content, begun

    def _is_mine(self, content: bytes) -> bool:
        found = decode(content)
        return found is not None and self._owner is not None and \
            found.token == self._owner.token

    def _replace(self, content: bytes) -> bool:
        begun = self._clock()
        if not self._shared.replace(content):
            self._look()
            return False
        self._content, self._looked_at = content, begun
        return True


def _there(content: bytes, path: str) -> bytes:
    if not content:
        raise MissingCheckpointError(f'{path} is not there')
    return content


class StoredLock(RunLock):
    """The right of one run to write to a store; as :class:`RunLock`.

    Args:
        home (StorageBackend): Where the catalog is; it can share files.
        name (str): File name of the lock.
        log (callable): See :class:`RunLock`; also told where two runs that
            start at the same time are not kept apart.
        clock, wait: See :class:`RunLock`.
    """

    def __init__(self,
                 home: StorageBackend,
                 name: str,
                 log: Callable[[str], None],
                 clock: Callable[[], float] = time.monotonic,
                 wait: Callable[[float], None] = time.sleep) -> None:
        super().__init__(home.url, name, log, clock, wait)
        self.path = f'{home.url}/{name}'
        self._shared = share(home, name)
        self._place = self._shared.place

    def _open(self) -> SignedFile:
        return StoredLockFile(self.path, self._shared, self._clock)

    def _read_anew(self) -> bytes:
        return _there(self._shared.look(), self.path)

    def _watch(self, content: bytes) -> Optional[bytes]:
        owner = decode(content)
        own = None if owner is None else own_holding(owner)
        if own is not None:
            raise ConfigError(
                f'{os.path.dirname(self.path)} is {os.path.dirname(own.path)} '
                'itself, where this process writes already, under another '
                'name: give another place')
        return super()._watch(content)

    def _confirm(self, file: SignedFile, owner: Owner) -> None:
        if self._shared.is_exclusive:
            return  # nobody else has written since
        self._log(f'{self.path}: the storage knows no conditional writes. A '
                  'run that starts while this one trains is refused there, '
                  'one that starts in the same seconds may not be')
        super()._confirm(file, owner)
