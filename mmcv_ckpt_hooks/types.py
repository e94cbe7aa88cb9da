"""The records and protocols that pass between rooms.

Standard library only: every other module may import this one.
"""
from dataclasses import dataclass, field
from typing import IO, Any, Callable, List, Mapping, Optional, Sequence, Set

try:  # Python 3.8: Protocol is in typing since 3.8
    from typing import Protocol
except ImportError:  # pragma: no cover
    from typing_extensions import Protocol  # type: ignore

#: Beyond it no number is one of steps.
MAX_STEPS = 1 << 62
#: One metric name to its value; a Python float, never a numpy scalar.
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class SaveRequest:
    """What is to be saved, decided on the training thread.

    Args:
        name (str): File name inside the output directory.
        epoch (int): Finished epochs.
        iter (int): Finished iterations.
        trigger (str): What asked for it: ``'interval'``, ``'last'``,
            ``'time'``, ``'at'``, ``'file'``, ``'signal'``, ``'exception'``,
            ``'retry'`` (a copy beside training came to nothing) or
            ``'best'``.
        regular (bool): True on the save grid; others are superseded by the
            next regular one.
        metrics (dict): Scores known at the time of the save.
        make_latest (bool): Whether the latest pointer moves to it.
        is_last (bool): Whether the run ends with it: it is never skipped.
    """
    name: str
    epoch: int
    iter: int
    trigger: str
    regular: bool = True
    metrics: Metrics = field(default_factory=dict)
    make_latest: bool = True
    is_last: bool = False


@dataclass(frozen=True)
class CheckpointInfo:
    """One committed checkpoint as the catalog lists it.

    Args:
        name (str): File name relative to the catalog's directory.
        epoch (int): Finished epochs.
        iter (int): Finished iterations; the order of checkpoints.
        bytes (int): Size of the file.
        digest (str): ``sha256-zipdir:<hex>`` over the zip's central
            directory; empty if not known.
        metrics (dict): Scores of the evaluation at this step.
        created_at (str): UTC time of the commit, ISO 8601.
        lineage (str): Id of the run it belongs to, kept across resumes;
            empty for files of other programs.
        generation (int): Counts the starts of the lineage.
        started_iter (int): Finished iterations when that generation began.
        trigger (str): As in :class:`SaveRequest`.
        regular (bool): As in :class:`SaveRequest`.
        same_as (str): Name of the checkpoint whose content it shares;
            empty if none.
    """
    name: str
    epoch: int
    iter: int
    bytes: int
    digest: str = ''
    metrics: Metrics = field(default_factory=dict)
    created_at: str = ''
    lineage: str = ''
    generation: int = 0
    started_iter: int = 0
    trigger: str = 'interval'
    regular: bool = True
    same_as: str = ''


@dataclass(frozen=True)
class Capabilities:
    """What a storage backend can do beyond taking a whole file.

    Args:
        stream_in (bool): ``put`` passes bytes on as they are produced;
            otherwise the whole file is built first (memory or temp file).
        ranged_read (bool): ``open`` gives a seekable file that reads only
            what is asked for.
        atomic_replace (bool): ``put`` over an existing name leaves either
            the old or the new content, whenever the machine dies.
        listing (bool): ``list`` works.
        delete (bool): ``delete`` works.
        link (bool): ``link`` gives a second name without writing again.
        server_copy (bool): ``link`` copies on the server's side.
        point (bool): ``point`` works, with a link or a pointer file.
        share (bool): It is a :class:`SharingBackend`.
        exclusive (bool): Of several that replace a shared file at once one
            succeeds, if the server is as its protocol says:
            :attr:`SharedFile.is_exclusive` knows.
        folders (bool): It is a :class:`folder.FolderedBackend`.
    """
    stream_in: bool = False
    ranged_read: bool = False
    atomic_replace: bool = False
    listing: bool = False
    delete: bool = False
    link: bool = False
    server_copy: bool = False
    point: bool = False
    share: bool = False
    exclusive: bool = False
    folders: bool = False


#: Size in a listing of a storage that does not tell sizes.
UNKNOWN_BYTES = -1


@dataclass(frozen=True)
class StoredFile:
    """One entry of a backend's listing.

    Args:
        name (str): File name.
        bytes (int): Size, or :data:`UNKNOWN_BYTES`.
        leads_to (str): Where a link leads that somebody else made, as it
            says; empty for a file. One of unknown size leads to no file.
    """
    name: str
    bytes: int
    leads_to: str = ''


class SharedFile(Protocol):
    """A small file that several processes write to, none over another's.

    Thread: one at a time, which may be another than that of the backend.
    """

    #: Tells it from all others that this process knows; no credentials.
    place: str

    @property
    def is_exclusive(self) -> bool:
        """Whether of several that replace it at once one succeeds.

        Final when it was replaced for the first time.
        """

    def look(self) -> bytes:
        """Read it as the storage has it now; empty if it is not there.

        Raises:
            StorageError: If that cannot be known.
        """

    def replace(self, content: bytes) -> bool:
        """Write it, if it is as it was looked at, or replaced, last.

        It gives up early where nobody answers. An answer that was lost is
        made up for: what is there tells.

        Args:
            content (bytes): Other than all that anybody else writes.

        Returns:
            bool: False if it is not: somebody else came first.

        Raises:
            StorageError: If it could not be written, or nobody knows.
        """


class StorageBackend(Protocol):
    """A flat directory of files, local or remote.

    Names are relative and contain no separator. A verb that the backend does
    not declare in ``capabilities`` raises ``UnsupportedError``. Foreign errors
    are mapped to the ``StorageError`` tree; a refusal (permission, 403) is
    never reported as a missing file.

    Order: ``prepare`` once, before any other verb.

    Thread: one thread at a time; the saver calls from its worker.
    """

    #: Where it is, as a path or URL without credentials.
    url: str
    capabilities: Capabilities

    def prepare(self) -> None:
        """Create the directory if needed and check that it can be written.

        Raises:
            StorageError: If training would not be able to save here.
        """

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        """Commit a file: complete and durable under ``name`` on return.

        Args:
            name (str): The file's name; an existing file is replaced.
            write (callable): Called with a write-only binary stream
                (``write`` only: no seek, no tell); again, with a new one, if
                a remote storage found damaged what it got. It may also have
                ``lend(data)``, which takes a memoryview without copying it:
                the bytes stay as they are until ``put`` returns.

        Returns:
            int: Size in bytes.

        Raises:
            StorageError: If nothing was committed; an older file of that
                name is unchanged. (If only the sync of the directory failed,
                the new file has its name, but a power cut may take it.) An
                error raised by ``write`` itself passes through, with the
                same promise.
        """

    def open(self, name: str) -> IO[bytes]:
        """Open a committed file for reading, seekable.

        Raises:
            MissingCheckpointError: If it is not there.
        """

    def sweep(self) -> List[str]:
        """Remove what writers that no longer live left unfinished.

        Returns:
            list[str]: Names of what was removed; always empty where nothing
            unfinished can be left behind.
        """

    def list(self) -> List[StoredFile]:
        """List committed files; leftovers of unfinished writes are not.

        So is a link that somebody else made under a checkpoint's name; the
        one that :meth:`point` makes is not.
        """

    def delete(self, name: str) -> None:
        """Delete a file; one that is not there already is no error."""

    def link(self, source: str, name: str) -> None:
        """Give the content of ``source`` a second name, atomically.

        An existing ``name`` is replaced. Nothing is written twice where
        ``capabilities.link`` or ``server_copy`` is declared. A ``source``
        that is a link out of the directory becomes a second such link.
        """

    def point(self, name: str, target: Optional[str]) -> None:
        """Make ``name`` (``latest.pth``) lead to ``target``, atomically.

        A backend without links stores the target's name in a pointer file
        (:data:`POINTER_FILE`) instead: a name that ends in ``.pth`` is always
        a checkpoint.

        Args:
            name (str): An existing file of that name is replaced.
            target (str, optional): None removes ``name`` if it is a link to
                a file here; one that is a file of its own stays.
        """


class SharingBackend(StorageBackend, Protocol):
    """What a backend that declares ``share`` has besides the verbs."""

    def share(self, name: str) -> SharedFile:
        """Return a file that other processes write to, too; nothing is done.
        """


#: What leads to the newest checkpoint, as stock mmcv names it.
LATEST_NAME = 'latest.pth'
#: Name of the file that holds the newest checkpoint's name where links are
#: not allowed (the same name that mmengine uses).
POINTER_FILE = 'last_checkpoint'


class RetentionPolicy(Protocol):
    """Says which checkpoints to keep; pure, and knows nothing of files."""

    def keep(self, checkpoints: Sequence[CheckpointInfo]) -> Set[str]:
        """Choose what to keep.

        Args:
            checkpoints (Sequence): What this run owns, by finished
                iterations, oldest first.

        Returns:
            set[str]: Names to keep.
        """
