"""A sharded checkpoint's files from the run's place into its mirror.

Standard library only.
"""
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, Callable, Dict, Iterator, List

from ..catalog import Catalog
from ..checked_copy import copy_checked, copy_records, records_of
from ..errors import (CorruptError, IntegrityError, MissingCheckpointError,
                      OutOfSpaceError, StorageError)
from ..latest import set_aside
from ..records import reading
from ..replacing import replaced_in_catalog
from ..sending import Gone, writing_of
from ..types import CheckpointInfo, StorageBackend
from ..verification import open_archive, zip_digest
from .folder import (bytes_digest, folder_of, is_there, items_digest, make_way,
                     manifest_digest, remove)
from .layout import MANIFEST_NAME, METADATA_NAME, REST_NAME, WRITING_NAME
from .opening import Folder, check_digest, open_folder
from .verification import item_path, verify_folder, window

#: So many files are opened before the first is copied: what is open can be
#: copied to its end, whatever the run deletes meanwhile. A process may have
#: 256 of them on macOS, and loaders and loggers have some.
_OPEN_AT_ONCE = 64
#: What the folder has while it is copied.
_MARK = b'copied'


def send_folder(info: CheckpointInfo, source: StorageBackend,
                place: StorageBackend, catalog: Catalog,
                advance: Callable[[int], None], log: Callable[[str],
                                                              None]) -> int:
    """Put a sharded checkpoint there; it is not in the catalog yet.

    Its files are those of the manifest, in the order of a save: ``.metadata``
    comes last. Each is held against its digest and CRC-32 as it is sent.

    Args:
        info, source, place, catalog, advance, log: As for :func:`send`.

    Returns:
        int: The bytes of all of them.

    Raises:
        Gone: If the source is.
        IntegrityError: If it is damaged.
        StorageError: If it could not be copied.
    """
    path = os.path.join(source.url, info.name)
    with ExitStack() as stack, _gone_or_damaged(source, info.name, path):
        folder = open_folder(
            folder_of(source, info.name), path, info.digest or None)
        sent = _Sent(folder, stack)
        set_aside(place, catalog, info.name, log)
        if is_there(place, info.name):
            # INVARIANT: what is there goes before the first file of this one
            # comes, since both have one name: not for one that is damaged
            verify_folder(folder, lambda nbytes: advance(0))
        with replaced_in_catalog(place, catalog, info.name):
            make_way(place, info.name, info.lineage)
            try:
                _copy(sent, folder_of(place, info.name), advance)
            except (IntegrityError, MissingCheckpointError, OutOfSpaceError):
                # it takes space, and may never be tried again
                with suppress(StorageError):  # the next start sweeps it
                    remove(place, info.name)
                raise
    return folder.bytes


@contextmanager
def _gone_or_damaged(source: StorageBackend, name: str,
                     path: str) -> Iterator[None]:
    """Tell a folder that the run has deleted meanwhile from a damaged one.
    """
    try:
        yield
    except (IntegrityError, MissingCheckpointError) as error:
        if is_there(source, name):
            raise
        raise Gone(MissingCheckpointError(f'{path} is gone ({error})')) \
            from error


def _copy(sent: '_Sent', target: StorageBackend,
          advance: Callable[[int], None]) -> None:
    target.prepare()
    target.put(WRITING_NAME, lambda stream: stream.write(_MARK))
    for name in sent.names:
        target.put(name, writing_of(sent.copy_of(name), advance))
    target.delete(WRITING_NAME)


class _Sent:
    """The files of a folder, each with the checks that it passes.

    Args:
        folder (Folder): Opened.
        stack (ExitStack): Closes what is opened.
    """

    def __init__(self, folder: Folder, stack: ExitStack) -> None:
        self._folder = folder
        manifest = [] if folder.is_plain else [MANIFEST_NAME]
        listed = folder.metadata.files if folder.is_plain else folder.manifest
        parts = sorted({*listed} - {METADATA_NAME})
        #: in the order in which they are written
        # INVARIANT: a folder without .metadata is no checkpoint: it is last
        self.names: List[str] = [*parts, *manifest, METADATA_NAME]
        self._opened: Dict[str, IO[bytes]] = {
            name: stack.enter_context(folder.files.open(name))
            for name in self.names[-_OPEN_AT_ONCE:]
        }

    def copy_of(self, name: str) -> Callable[[Callable[[Any], None]], None]:
        """Return what hands on the bytes of a file."""

        def copy(give: Callable[[Any], None]) -> None:
            with ExitStack() as stack:
                file = self._opened.get(name) or stack.enter_context(
                    self._folder.files.open(name))
                self._copy(name, file, give)

        return copy

    def _copy(self, name: str, file: IO[bytes], give: Callable[[Any],
                                                               None]) -> None:
        folder = self._folder
        if name in (MANIFEST_NAME, METADATA_NAME):
            give(self._small(name, file))
        elif name == REST_NAME and not folder.is_plain:
            copy_checked(file, folder.file_path(name),
                         folder.manifest[name].digest, give)
        else:
            self._copy_items(name, file, give)

    def _small(self, name: str, file: IO[bytes]) -> bytes:
        """Return all of a file that was checked when the folder was opened.
        """
        path = self._folder.file_path(name)
        with reading(path, 'it'):
            file.seek(0)
            data = file.read()
        if name == METADATA_NAME and not self._folder.is_plain:
            check_digest(self._folder.path, name, self._folder.manifest[name],
                         bytes_digest(data))
        elif name == MANIFEST_NAME and \
                manifest_digest(data) != self._folder.digest:
            raise CorruptError(f'{path} has changed while it was copied')
        return data

    def _copy_items(self, name: str, file: IO[bytes],
                    give: Callable[[Any], None]) -> None:
        folder = self._folder
        records, digests = [], []
        for held, _, item in folder.items(name):
            path = item_path(folder, held, item)
            with open_archive(window(file, item), path) as archive:
                digests.append(zip_digest(archive.infolist()))
                records += records_of(archive, path, item.offset)
        if not folder.is_plain:
            check_digest(folder.path, name, folder.manifest[name],
                         items_digest(digests))
        copy_records(file, folder.file_path(name), records, give)
