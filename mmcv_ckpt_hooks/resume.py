"""The newest verified checkpoint of a directory, loaded."""
import logging
import os
from types import MappingProxyType
from typing import (Any, Callable, Collection, Dict, List, Optional, Tuple,
                    TypeVar)

from .card import describe
from .catalog import Catalog
from .catalog_home import read_place
from .checking import Access, Options, opened
from .checkpoint_fields import check_fields
from .distributed import rank, together, world_size
from .errors import (CheckpointError, IntegrityError, MissingCheckpointError,
                     ResumeError, StorageError, UnsafeCheckpointError)
from .folders.layout import LATEST_FOLDER, is_folder
from .folders.loading import load_folder
from .folders.place import any_folder_of, leads_to_folder
from .given_path import refuse_checkpoint, refuse_directory
from .loading import load_fields, load_mapped
from .storage import Path, open_backend, split_filename
from .types import LATEST_NAME, UNKNOWN_BYTES, CheckpointInfo, StorageBackend

Log = Callable[[str], None]
_PLAIN: Access = MappingProxyType({})
#: A checkpoint, its directory and its name.
Loaded = Tuple[Dict[str, Any], str, str]
_Result = TypeVar('_Result')

#: What to do where checkpoints are links to a disk that is away: they are
#: good, and a run that starts anew would train again what they hold.
_MOUNT = ('Mount the disk that the links lead to, and the run goes on from '
          'there. Only if it is lost for good, move all of them away to start '
          'anew')


def find_resumable(dir_or_url: Path,
                   storage_options: Options = None) -> Optional[str]:
    """Return the checkpoint of a directory that a resume would take.

    It is the newest that is undamaged and whose fields are such that a run
    can go on from them; whether they fit a model is not known.

    Args:
        dir_or_url (str | Path): A work dir, local or remote.
        storage_options (dict, optional): Of an object store. Default: None.

    Returns:
        str | None: Its path; None if there is no checkpoint at all.

    Raises:
        IntegrityError: If there are checkpoints, but none can be resumed
            from.
        UnsafeCheckpointError: If the newest would be loaded with
            ``trust_checkpoint`` only.
        StorageError: If the directory cannot be read, or not be listed and
            has no catalog; that never means that it is empty.
        ConfigError: If it is a checkpoint, and no directory of them.
    """
    refuse_checkpoint(os.fspath(dir_or_url))
    return _find_resumable(dir_or_url, dict(storage_options=storage_options))


def _find_resumable(dir_or_url: Path, access: Access) -> Optional[str]:
    backend = open_backend(dir_or_url, **access)
    try:
        catalog = read_place(backend, logging.warning)
    except MissingCheckpointError:
        return None  # no such directory; one that may not be read raises
    found = newest_usable(backend, catalog, logging.warning)
    return None if found is None else os.path.join(dir_or_url, found.name)


def newest_usable(backend: StorageBackend, catalog: Catalog,
                  log: Log) -> Optional[CheckpointInfo]:
    """As :func:`newest_loaded`, but only say which it is."""

    def look(info: CheckpointInfo) -> None:
        if is_folder(info.name):
            load_from(backend, info, False, ())
            return
        with backend.open(info.name) as file:
            fields = load_fields(file, os.path.join(backend.url, info.name),
                                 info.digest)
        check_fields(fields, info.name)

    found = _newest(backend, catalog, log, None, look)
    return None if found is None else found[0]


def newest_loaded(
    backend: StorageBackend,
    catalog: Catalog,
    log: Log,
    candidates: Optional[List[CheckpointInfo]] = None,
    trust: bool = False,
    copied: Collection[str] = ()
) -> Optional[Tuple[CheckpointInfo, Dict[str, Any]]]:
    """Try the candidates of a place, newest first.

    Args:
        backend (StorageBackend): The place.
        catalog (Catalog): Of it.
        log (callable): Told which are passed over, and why.
        candidates (list, optional): Which to try. Default: None, which means
            all that the catalog calls resumable.
        trust (bool): See :func:`loading.load_mapped`. Default: False.
        copied (collection[str]): See :func:`loading.load_mapped`. Default:
            none.

    Returns:
        tuple[CheckpointInfo, dict] | None: With the checkpoint itself; None
        if there is no candidate.

    Raises:
        IntegrityError: If there are some, but none can be resumed from.
        UnsafeCheckpointError: If loading one would need to run code: who
            trusts it loses nothing of the run.
    """
    return _newest(backend, catalog, log, candidates,
                   lambda info: load_from(backend, info, trust, copied))


def _newest(
    backend: StorageBackend, catalog: Catalog, log: Log,
    candidates: Optional[List[CheckpointInfo]],
    attempt: Callable[[CheckpointInfo], _Result]
) -> Optional[Tuple[CheckpointInfo, _Result]]:
    if candidates is None:
        candidates = catalog.resumable()
    reasons, advice = [], 'Move them away to start anew'
    for info in candidates:
        try:
            return info, attempt(info)
        except (IntegrityError, MissingCheckpointError, ResumeError) as error:
            reasons.append(str(error))
            log(f'Not resuming from {info.name}: {error}')
            if isinstance(error, MissingCheckpointError) and \
                    catalog.link(info.name):
                advice = _MOUNT
    if reasons:
        raise IntegrityError(
            f'no checkpoint in {backend.url} can be resumed from: '
            f'{"; ".join(reasons)}. {advice}')
    return None


def describe_path(path: str,
                  access: Access = _PLAIN) -> Optional[CheckpointInfo]:
    """Say which checkpoint a path leads to; None if it is gone."""
    backend, _, name = opened(path, access)
    try:
        return describe(
            backend, name, UNKNOWN_BYTES, in_folder=leads_to_folder(path))
    except MissingCheckpointError:
        return None


def continues(info: CheckpointInfo, start: CheckpointInfo,
              catalog: Catalog) -> bool:
    """Whether a checkpoint is of a run that was started from another.

    A run keeps the lineage of what it resumes from; from a file of another
    program, which has none, it begins a lineage at that step.
    """
    if start.lineage:
        return info.lineage == start.lineage
    return any(other.lineage == info.lineage and other.generation == 0
               and other.started_iter == start.iter
               for other in catalog.checkpoints())


def load_verified(path: Path,
                  trust: bool,
                  log: Log,
                  copied: Collection[str] = (),
                  access: Access = _PLAIN) -> Loaded:
    """Load the checkpoint of an explicit path.

    ``latest.pth`` means the newest that verifies in its directory; any other
    path means that file.

    Args:
        path (str | Path): A path or URL.
        trust (bool): See :func:`loading.load_mapped`.
        log (callable): Told what is passed over, and why.
        copied (collection[str]): See :func:`loading.load_mapped`. Default:
            none.
        access (dict): Of ``CheckpointOptions.access``. Default: none.

    Returns:
        tuple[dict, str, str]: The checkpoint, its directory and its name.

    Raises:
        IntegrityError: If it is damaged; names the newest good one.
        ResumeError: If it holds no checkpoint of a run.
        ConfigError: If it is a directory.
    """
    path = os.fspath(path)
    refuse_directory(path)
    if leads_to_folder(path):
        # a shell completes the name of a folder with a slash
        path = path.rstrip('/')
    directory, name = split_filename(path)
    backend = open_backend(directory, **access)
    if name in (LATEST_NAME, LATEST_FOLDER) and backend.capabilities.listing:
        catalog = Catalog(backend, backend, warn=log)
        catalog.open()
        found = newest_loaded(
            backend, catalog, log, trust=trust, copied=copied)
        if found is not None:
            return found[1], directory, found[0].name
    backend, directory, name = opened(path, access)
    try:
        if leads_to_folder(path):
            # each rank verifies a part of it
            return together(
                lambda: load_folder(
                    any_folder_of(backend, name, access),
                    os.path.join(backend.url, name),
                    share=(rank(), world_size())),
                f'loading {name}'), directory, name
        with backend.open(name) as file:
            checkpoint = load_mapped(
                file, os.path.join(backend.url, name), trust, copied=copied)
    except (IntegrityError, UnsafeCheckpointError) as error:
        better = _better_one(directory, name, access)
        raise type(error)(f'{error}{better}') from error
    check_fields(checkpoint, path)
    return checkpoint, directory, name


def load_from(backend: StorageBackend,
              info: CheckpointInfo,
              trust: bool,
              copied: Collection[str],
              verified: bool = False) -> Dict[str, Any]:
    """Verify and load a checkpoint that a catalog lists.

    Args:
        verified (bool): Whether another rank has verified it: of a folder
            this one reads its part alone. Default: False.
    """
    if is_folder(info.name):
        return load_folder(
            any_folder_of(backend, info.name),
            os.path.join(backend.url, info.name), info.digest,
            None if verified else (0, 1))
    with backend.open(info.name) as file:
        checkpoint = load_mapped(file, os.path.join(backend.url, info.name),
                                 trust, info.digest, copied)
    check_fields(checkpoint, info.name)
    return dict(checkpoint)


def load_found(backend: StorageBackend, info: CheckpointInfo,
               loaded: Optional[Dict[str, Any]], trust: bool,
               copied: Collection[str]) -> Dict[str, Any]:
    """Return on all ranks what rank 0 has found, verified and loaded.

    Raises:
        Exception: If a rank cannot load it; of a folder on all ranks, before
            any of them has changed its run.
    """
    if not is_folder(info.name):
        return loaded or load_from(backend, info, trust, copied)
    return together(
        lambda: loaded or load_from(backend, info, trust, copied, True),
        f'loading {info.name}')


def _better_one(directory: str, name: str, access: Access) -> str:
    try:
        newest = _find_resumable(directory, access)
    except (StorageError, CheckpointError):
        newest = None
    if newest is None or os.path.basename(newest) == name:
        return ''
    return f'. The newest good one there is {os.path.basename(newest)}'
