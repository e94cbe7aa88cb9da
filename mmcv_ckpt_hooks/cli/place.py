"""A directory of checkpoints, local or remote, opened for the commands."""
import os
import stat
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from ..best_scores import BestScore
from ..catalog import Catalog
from ..catalog_home import read_place
from ..errors import ConfigError, MissingCheckpointError
from ..folders.layout import LATEST_FOLDER, METADATA_NAME
from ..storage import OBJECT_STORES, split_filename
from ..storage.links import is_pointer
from ..storage.local import LocalBackend
from ..storage.mapped_errors import mapped_errors
from ..storage.near_names import refuse_near_url
from ..types import LATEST_NAME, POINTER_FILE, CheckpointInfo, StorageBackend
from .remote import Access, is_url, names_file

Warn = Callable[[str], None]

_POINTER_LIMIT_BYTES = 4096
#: Last levels of a path that are no name of what it leads to.
_UNNAMED = ('.', '..')


@dataclass(frozen=True)
class Place:
    """A directory and what was in it when it was opened.

    Args:
        shown (str): Its path or URL as it was given.
        files (StorageBackend): The directory.
        catalog (Catalog): Of it, opened.
        checkpoints (Sequence[CheckpointInfo]): By finished iterations.
        resumable (Sequence[CheckpointInfo]): What a run may continue from,
            newest first.
    """
    shown: str
    files: StorageBackend
    catalog: Catalog
    checkpoints: Sequence[CheckpointInfo]
    resumable: Sequence[CheckpointInfo]

    @property
    def is_local(self) -> bool:
        """Whether it is a directory of this machine."""
        return isinstance(self.files, LocalBackend)

    @property
    def lineage(self) -> str:
        """The run that ``resume='auto'`` would go on with."""
        newest = self.resumable[:1]
        return newest[0].lineage if newest else self.catalog.lineage

    def newest(self,
               lineage: Optional[str] = None) -> Optional[CheckpointInfo]:
        """Return the newest checkpoint of a run, or None.

        Damaged files without an entry in the catalog do not say whose they
        are: the newest may be one.

        Args:
            lineage (str, optional): Of the run. Default: None, which means
                :attr:`lineage`.
        """
        wanted = self.lineage if lineage is None else lineage
        mine = [
            info for info in self.resumable
            if info.lineage == wanted or not info.digest
        ]
        # resumable has the regular name of a step first; max keeps the first
        return max(
            mine, key=lambda info: (info.iter, info.epoch), default=None)

    def path(self, name: str) -> str:
        """Return the path of a file as the user would give it."""
        if self.is_local:
            return os.path.join(self.shown, name)
        return f'{self.shown.rstrip("/")}/{name}'

    def best_scores(self) -> Dict[str, BestScore]:
        """Return the best scores so far by metric."""
        keys = {key for info in self.checkpoints for key in info.metrics}
        found = {
            key: self.catalog.best(key, ranked=True)
            for key in sorted(keys)
        }
        return {key: best for key, best in found.items() if best is not None}


class Places:
    """Opens every directory once, however many of its files are named.

    Args:
        access (Access): How to open URLs; an attribute.
        warn (callable): Told what is wrong with a catalog.
        most_history_bytes (int, optional): As in :func:`read_place`.
            Default: None.
    """

    def __init__(self,
                 access: Access,
                 warn: Warn,
                 most_history_bytes: Optional[int] = None) -> None:
        self.access = access
        self._warn = warn
        self._most_history_bytes = most_history_bytes
        self._opened: Dict[str, Place] = {}

    def open(self, shown: str) -> Place:
        """Return a directory with its catalog.

        Raises:
            MissingCheckpointError: If there is no such directory.
            AccessError: If it, or a file that the catalog does not list, may
                not be read.
            StorageError: If that of a URL cannot be read or not be listed.
        """
        files = self.files(shown)
        is_local = isinstance(files, LocalBackend)
        key = os.path.realpath(files.url) if is_local else files.url
        if key not in self._opened:
            catalog = read_place(files, self._warn, self._most_history_bytes)
            place = Place(shown, files, catalog, catalog.checkpoints(),
                          catalog.resumable())
            if not catalog.lineage:
                # it is lost: which scores are of the run, its files tell
                catalog.lineage = place.lineage
            self._opened[key] = place
        return self._opened[key]

    def without_catalog(self, shown: str) -> Place:
        """Return a directory whose catalog cannot be read."""
        files = self.files(shown)
        catalog = Catalog(files, files, lambda message: None)
        return Place(shown, files, catalog, (), ())

    def files(self, shown: str) -> StorageBackend:
        """Return the backend of a directory; nothing is read yet."""
        return self.access.open(shown) if is_url(shown) else \
            LocalBackend(shown)


def path_of(given: str) -> str:
    """Return the local path, or the URL, that an argument names.

    Raises:
        ConfigError: If it was meant as a URL, and is none.
    """
    refuse_near_url(given, OBJECT_STORES)
    if is_url(given):
        return given
    path = os.path.expanduser(given[7:] if '://' in given else given)
    real = os.path.realpath(path)
    # behind a link ".." is where that leads to; who makes a path absolute by
    # its text alone comes to another directory
    return path if real == os.path.realpath(os.path.abspath(path)) else real


def split_path(path: str) -> Tuple[str, str]:
    """Split the path of a file; links are followed: they are in no catalog.
    """
    if is_url(path):
        return split_filename(path)
    real = os.path.realpath(path) if os.path.islink(path) else path
    if os.path.basename(real) in _UNNAMED:
        real = os.path.realpath(real)
    directory, name = os.path.split(real)
    return directory or '.', name


def is_directory(path: str) -> bool:
    """Whether a path is a directory; otherwise it is a file.

    Of a URL its last level tells.

    Raises:
        MissingCheckpointError: If there is nothing.
        AccessError: If it may not be looked at, which is another thing.
        ConfigError: If it is neither: reading a pipe could wait for ever.
    """
    if is_url(path):
        return not names_file(path)
    if os.path.islink(path) and not os.path.exists(path):
        raise MissingCheckpointError(
            f'{path} is a link to {os.readlink(path)}, which is not there')
    with mapped_errors('cannot find', path):
        mode = os.stat(path).st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise ConfigError(f'{path} is neither a file nor a directory')
    return stat.S_ISDIR(mode)


def latest_target(place: Place, warn: Warn) -> Optional[str]:
    """Return the name of the checkpoint that ``latest.pth`` leads to.

    Or ``latest.dcp``; a run has one of them. A symlink, else a hard link,
    else the pointer file: see :meth:`LocalBackend.point`.
    """
    path = os.path.join(place.files.url, LATEST_FOLDER)
    if not place.is_local or not os.path.lexists(path):
        path = os.path.join(place.files.url, LATEST_NAME)
    names = [info.name for info in place.checkpoints]
    if place.is_local and os.path.islink(path):
        # what it names may be a link itself
        name = os.path.basename(os.readlink(path))
        if is_pointer(path) and name in names:
            return name
        found = _same_file(place, path, names)
        if found is None:
            _warn_of_stray(place, path, warn)
        return found
    if place.is_local and os.path.exists(path):
        return _same_file(place, path, names)
    try:
        with place.files.open(POINTER_FILE) as file:
            text = file.read(_POINTER_LIMIT_BYTES).decode(errors='replace')
    except MissingCheckpointError:
        return None
    name = os.path.basename(text.strip())  # mmengine writes a whole path
    return name if name in names else None


def _warn_of_stray(place: Place, path: str, warn: Warn) -> None:
    found = 'is not in this directory' if os.path.exists(path) else \
        'does not exist'
    target = os.readlink(path)
    if os.path.isdir(path) and os.path.basename(target) == target:
        found = f'has no {METADATA_NAME}'
    shown = place.path(os.path.basename(path))
    warn(f'{shown} points to {target}, which {found}')


def _same_file(place: Place, path: str, names: List[str]) -> Optional[str]:
    """Return the checkpoint that a path leads to, or None.

    Of a copy, as stock mmcv makes on Windows, that cannot be known.
    """
    for name in reversed(names):
        other = os.path.join(place.files.url, name)
        if os.path.exists(other) and os.path.exists(path) and \
                os.path.samefile(path, other):
            return name
    return None
