"""Who writes to a directory: the lock file, and what can be read from it.

The file holds one JSON object. It stays when a run ends: who unlinks a lock
file may take away the one that the next run has just locked. Standard library
only.
"""
import errno
import json
import os
import socket
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from typing import Optional

from .errors import LockedError, StorageError
from .storage.mapped_errors import mapped_errors, storage_error
from .storage.names import temporary_beside, writer_id

try:
    import fcntl
    _HAS_LOCKS = True
except ImportError:  # Windows: the lease alone
    _HAS_LOCKS = False

#: The beat stands first, in a place of its own, and is all that is written
#: over: a run that was taken over and does not know it yet cannot put its name
#: back, or spoil the other's.
_BEAT_START = b'{"beat": '
_BEAT_WIDTH = 12

#: All records are padded to one length: one write replaces another's whole,
#: and needs no new block of a full disk.
_RECORD_BYTES = 1024
_BOOT_ID = '/proc/sys/kernel/random/boot_id'

#: The last level of the work dir alone goes into ``out_dir`` and a mirror.
ADVICE = 'Stop that run or wait for its end, or give this one a place of ' \
    'its own: a work_dir with another last level, or another out_dir or ' \
    'mirror.url'

#: A file system without locks, and how it says so.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS,
             errno.EINVAL)
_HELD = (errno.EACCES, errno.EAGAIN)


@dataclass(frozen=True)
class Owner:
    """The run that a lock file names.

    Args:
        host (str): Name of its machine.
        pid (int): Only to be shown: it proves neither life nor death.
        since (str): When it started, UTC, ISO 8601.
        token (str): Random; no other run has it.
        writer (str): In the names of its unfinished files.
        boot (str): Id of the machine's last start; empty if unknown.
        device (int): ``st_dev`` of the file, as that machine counts.
        kernel_lock (bool): Whether it holds a kernel lock.
        beat (int, optional): How often it has renewed its lease; None if it
            has ended as it should.
    """
    host: str
    pid: int
    since: str
    token: str
    writer: str
    boot: str
    device: int
    kernel_lock: bool
    beat: Optional[int] = 0

    def __str__(self) -> str:
        return f'host {self.host}, pid {self.pid}, since {self.since} (UTC)'


def this_run(device: int, kernel_lock: bool) -> Owner:
    """Describe a run of this process that starts now."""
    boot = ''
    with suppress(OSError), open(_BOOT_ID) as file:
        boot = file.read().strip()
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    return Owner(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=now.isoformat(sep=' ', timespec='seconds'),
        token=uuid.uuid4().hex,
        writer=writer_id(),
        boot=boot,
        device=device,
        kernel_lock=kernel_lock)


def lock_name(catalog_name: str) -> str:
    """Return the name of the lock file beside a catalog."""
    return f'{os.path.splitext(catalog_name)[0]}.lock'


def share_locks(one: Owner, other: Owner) -> bool:
    """Whether a kernel lock of one run keeps the other one out for sure.

    On one start of one machine, through one mount. Elsewhere (NFS without
    lockd, Lustre with localflock, two FUSE mounts of one bucket) each may get
    the lock.
    """
    return bool(one.boot) and one.kernel_lock and other.kernel_lock and \
        (one.boot, one.device) == (other.boot, other.device)


def refusal(path: str, owner: Optional[Owner], why: str) -> LockedError:
    """Build the error that names who has the place of a lock file."""
    return LockedError(
        f'{os.path.dirname(path)} is in use by another run: '
        f'{owner or "unknown"}; {why} on {os.path.basename(path)}. {ADVICE}')


def encode(owner: Owner) -> bytes:
    """Return the content of a lock file."""
    fields = asdict(owner)
    beat = fields.pop('beat')
    text = f', {json.dumps(fields)[1:]}'.encode()
    record = _BEAT_START + _beat_text(beat) + text
    return record.ljust(_RECORD_BYTES - 1) + b'\n'


def decode(data: bytes) -> Optional[Owner]:
    """Read the content of a lock file; None if it names nobody."""
    try:
        fields = json.loads(data.decode())
        owner = Owner(**fields)
        return replace(owner, pid=int(owner.pid))
    except (ValueError, TypeError):
        return None  # empty, half written, or not ours


def _beat_text(beat: Optional[int]) -> bytes:
    text = 'null' if beat is None else str(beat)
    return text.rjust(_BEAT_WIDTH).encode()


class KernelLock(Enum):
    """What came of asking for a kernel lock."""
    TAKEN = 'taken'
    HELD = 'held by another process'
    NONE = 'not known to the file system'


class LockFile:
    """The one descriptor that this process has of a lock file.

    INVARIANT: nothing else in this process opens the file while this is open:
    POSIX takes a process's record locks away when it closes any descriptor
    of the file. Record locks they are, nevertheless, because a forked data
    loader worker does not inherit them: it outlives a killed trainer by
    seconds, and with ``flock`` it would keep the lock.

    Args:
        path (str): Created if it is not there.
        exclusive (bool): Whether it must not be there. Default: False.

    Raises:
        FileExistsError: If ``exclusive`` and it is there.
        StorageError: If it cannot be opened.
    """

    def __init__(self, path: str, exclusive: bool = False) -> None:
        self.path = path
        self._real_path = os.path.realpath(path)
        flags = os.O_RDWR | os.O_CREAT | (os.O_EXCL if exclusive else 0)
        try:
            # 0o666 less the umask, as open() does
            self._descriptor = os.open(path, flags, 0o666)
        except FileExistsError:
            raise
        except OSError as error:
            raise storage_error(
                error,
                f'cannot open the lock file {path}',
                missing=StorageError) from error
        self.device = os.fstat(self._descriptor).st_dev

    def lock(self) -> KernelLock:
        """Ask for the kernel lock; again and again does no harm."""
        if not _HAS_LOCKS:
            return KernelLock.NONE
        with mapped_errors('cannot lock', self.path):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _HELD:
                    return KernelLock.HELD
                if error.errno in _NO_LOCKS:
                    return KernelLock.NONE
                raise
        return KernelLock.TAKEN

    def read(self) -> bytes:
        """Return the content."""
        with mapped_errors('cannot read the lock file', self.path):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            return os.read(self._descriptor, _RECORD_BYTES * 4)

    def refresh(self) -> None:
        """Nothing: to read it is to ask."""

    def read_anew(self) -> bytes:
        """See :func:`read_anew`."""
        return read_anew(self.path)

    def write(self, owner: Owner) -> bool:
        """Name the owner, in a file that no other directory has."""
        with mapped_errors('cannot write the lock file', self.path):
            # not before it is ours: another's lock would be left behind
            if _HAS_LOCKS and os.fstat(self._descriptor).st_nlink > 1:
                self._separate()
        data = encode(owner)
        self._write_at(0, data)
        with mapped_errors('cannot write the lock file', self.path):
            os.ftruncate(self._descriptor, len(data))  # if it was not ours
        return True

    def write_beat(self, beat: Optional[int]) -> None:
        """Renew the lease, or end it with None."""
        self._write_at(len(_BEAT_START), _beat_text(beat))

    def is_in_place(self) -> bool:
        """Whether the path still leads to this file."""
        with mapped_errors('cannot find the lock file', self.path):
            try:
                there = os.stat(self.path)
            except FileNotFoundError:
                return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def is_at(self, place: str) -> bool:
        """Whether a path leads to this file; nothing is opened."""
        if os.path.realpath(place) == self._real_path:
            return True
        with suppress(OSError):
            return os.path.samefile(place, self.path)
        return False

    def reopen(self) -> 'LockFile':
        """Open what the path leads to now."""
        return LockFile(self.path)

    def close(self) -> None:
        """Close the file, which ends the kernel lock; once is enough."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _separate(self) -> None:
        """Put a new file, locked, in the place of one with other names.

        Such is a directory that was copied with hard links (``cp -al``).
        """
        temporary = temporary_beside(self.path)
        new = LockFile(temporary, exclusive=True)
        try:
            new.lock()
            os.replace(temporary, self.path)
        except BaseException:
            new.close()
            with suppress(OSError):
                os.unlink(temporary)
            raise
        self.close()
        self._descriptor = new._descriptor

    def _write_at(self, offset: int, data: bytes) -> None:
        with mapped_errors('cannot write the lock file', self.path):
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            os.write(self._descriptor, data)
            # not for a power cut: other machines see what NFS and FUSE
            # clients hold back only when it is synced
            getattr(os, 'fdatasync', os.fsync)(self._descriptor)


def read_anew(path: str) -> bytes:
    """Read a lock file as the storage has it, and not a cache.

    Source: nfs(5), close-to-open consistency.

    Raises:
        MissingCheckpointError: If it is not there.
    """
    with mapped_errors('cannot read the lock file', path):
        with open(path, 'rb') as file:
            return file.read(_RECORD_BYTES * 4)
