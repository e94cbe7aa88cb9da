"""What a lock file does for who holds it, wherever it lies."""
from typing import Optional, Protocol

from .lease import KernelLock, Owner


class SignedFile(Protocol):
    """A lock file that is open: on a disk, or in an object store.

    Thread: one at a time.
    """

    #: Where it is, as users know it.
    path: str
    #: ``st_dev``, as this machine counts; 0 if it is on no disk.
    device: int

    def lock(self) -> KernelLock:
        """Ask for the kernel lock."""

    def refresh(self) -> None:
        """See to it that ``read`` tells what is there now, or was just now."""

    def read(self) -> bytes:
        """Return the content, as it was seen last where to see it takes long.
        """

    def read_anew(self) -> bytes:
        """Return what the storage has.

        Raises:
            MissingCheckpointError: If it is not there.
        """

    def write(self, owner: Owner) -> bool:
        """Name the owner; False if somebody else came first."""

    def write_beat(self, beat: Optional[int]) -> None:
        """Renew the lease, or end it with None; ``read`` tells whose it is."""

    def is_in_place(self) -> bool:
        """Whether the path leads to this file; not if that was deleted."""

    def is_at(self, place: str) -> bool:
        """Whether a place of this process is that of this file."""

    def reopen(self) -> 'SignedFile':
        """Open what the path leads to now, which is created if it is gone."""

    def close(self) -> None:
        """Close it, which ends the kernel lock; again does no harm."""
