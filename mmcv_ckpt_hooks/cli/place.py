"""A directory of checkpoints, opened for the commands."""
import os
import stat
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional

from ..catalog import LATEST_NAME, Catalog
from ..errors import ConfigError, MissingCheckpointError
from ..storage import scheme_of
from ..storage.local import LocalBackend
from ..storage.mapped_errors import mapped_errors
from ..types import POINTER_FILE, CheckpointInfo

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """A directory and what is in it.

    Args:
        shown (str): The path as it was given.
        files (LocalBackend): The directory.
        catalog (Catalog): Of it, opened.
    """
    shown: str
    files: LocalBackend
    catalog: Catalog

    def path(self, name: str) -> str:
        """Return the path of a file as the user would give it."""
        return os.path.join(self.shown, name)

    def current_lineage(self) -> str:
        """Return the run that ``resume='auto'`` would go on with."""
        resumable = self.catalog.resumable()
        return resumable[0].lineage if resumable else self.catalog.lineage

    def newest(self) -> Optional[CheckpointInfo]:
        """Return what a resume would look at first, or None."""
        resumable = self.catalog.resumable()
        return resumable[0] if resumable else None


class Places:
    """Opens every directory once, however many of its files are named.

    Args:
        warn (callable): Told what is wrong with a catalog.
    """

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self._open: Dict[str, Place] = {}

    def open(self, shown: str) -> Place:
        """Return a directory with its catalog.

        Raises:
            MissingCheckpointError: If there is no such directory.
            AccessError: If it, or a file that the catalog does not list, may
                not be read.
        """
        files = LocalBackend(shown)
        key = os.path.realpath(files.url)
        if key not in self._open:
            catalog = Catalog(files, files, self._warn)
            catalog.open()
            self._open[key] = Place(shown, files, catalog)
        return self._open[key]


def local_path(given: str) -> str:
    """Return the local path that an argument names.

    Raises:
        ConfigError: If it is a URL of another kind.
    """
    scheme = scheme_of(given)
    if scheme not in ('', 'file'):
        raise ConfigError(
            f'{given!r} is no local path: this version of mmcv-ckpt reads '
            'local and mounted directories only. Copy or mount it first')
    return os.path.expanduser(given[7:] if scheme else given)


def is_directory(path: str) -> bool:
    """Whether a path is a directory; otherwise it is a file.

    Raises:
        MissingCheckpointError: If there is nothing.
        AccessError: If it may not be looked at, which is another thing.
    """
    if os.path.islink(path) and not os.path.exists(path):
        raise MissingCheckpointError(
            f'{path} points to {os.readlink(path)}, which does not exist')
    with mapped_errors('cannot find', path):
        return stat.S_ISDIR(os.stat(path).st_mode)


def latest_target(place: Place, warn: Warn) -> Optional[str]:
    """Return the checkpoint that ``latest.pth`` leads to.

    A symlink, else a hard link, else the pointer file: see
    :meth:`LocalBackend.point`.
    """
    path = place.files.url + os.sep + LATEST_NAME
    names = [info.name for info in place.catalog.checkpoints()]
    if os.path.islink(path):
        return _symlink_target(place, path, names, warn)
    if os.path.exists(path):
        for name in reversed(names):
            other = os.path.join(place.files.url, name)
            if os.path.exists(other) and os.path.samefile(path, other):
                return name
        return None  # a copy: stock mmcv on Windows
    try:
        with place.files.open(POINTER_FILE) as file:
            text = file.read(4096).decode(errors='replace').strip()
    except MissingCheckpointError:
        return None
    name = os.path.basename(text)
    return name if name in names else None


def _symlink_target(place: Place, path: str, names: List[str],
                    warn: Warn) -> Optional[str]:
    directory, name = os.path.split(os.path.realpath(path))
    if directory == os.path.realpath(place.files.url) and name in names:
        return name
    state = 'is elsewhere' if os.path.exists(path) else 'does not exist'
    warn(f'{place.path(LATEST_NAME)} points to {os.readlink(path)}, which '
         f'{state}')
    return None
