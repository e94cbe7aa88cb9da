"""Whether a folder is a complete, undamaged checkpoint.

Standard library only: neither torch nor mmcv is needed, and nothing is
unpickled.
"""
from functools import partial
from threading import Event, Lock
from typing import (IO, Any, Callable, Dict, Iterator, List, Optional,
                    Sequence, Tuple, cast)

from ..errors import CorruptError
from ..executor import run_together
from ..instructions import shortened
from ..outline import Tensor
from ..scanning import read_outline, verify_loadable
from ..storage.window import Window
from ..verification import VerifyReport, open_archive, verify_archive
from .chunks import Chunk
from .folder import items_digest
from .layout import REST_NAME
from .metadata import Item
from .opening import Folder, check_digest

#: Folders from this size on (bytes) are checked by two threads, so much of
#: a file at a time.
_LARGE_BYTES = 64 << 20
#: Of a folder of torch.distributed.checkpoint alone.
PLAIN_NOTE = 'written by torch.distributed.checkpoint alone: it has no ' \
    'digests, and no state of a run beside its tensors'

Advance = Callable[[int], None]
Job = Callable[[], VerifyReport]
#: Name, chunk (None: no tensor) and place.
Held = Tuple[str, Optional[Chunk], Item]


def verify_folder(
    folder: Folder,
    progress: Optional[Advance] = None,
    share: Tuple[int, int] = (0, 1)
) -> VerifyReport:
    """Check every file, and that what is in it is what the metadata says.

    Args:
        folder (Folder): Its small files were checked when it was opened.
        progress (callable, optional): Called with the number of bytes just
            checked. Default: None.
        share (tuple[int, int]): Which part of the files is checked: the first
            of one, or that of a rank among several. Default: ``(0, 1)``,
            which means all.

    Returns:
        VerifyReport: What was checked.

    Raises:
        IntegrityError: It names file and defect.
        UnsafeCheckpointError: If it is undamaged, but loading it could run
            code.
    """
    names = folder.metadata.files if folder.is_plain else [
        *folder.metadata.files, REST_NAME
    ]
    number, count = share
    lock, stop = Lock(), Event()
    reports: List[VerifyReport] = []

    def advance(done: int) -> None:
        if progress is not None:
            with lock:
                progress(done)

    check = _Check(folder, advance)
    left = iter([
        job for name in sorted(names)[number::count]
        for job in check.jobs(name)
    ])

    def check_all() -> None:
        for job in left:
            if stop.is_set():
                return
            reports.append(job())

    if folder.bytes < _LARGE_BYTES:
        check_all()
    else:
        # reading and CRC-32 release the interpreter lock
        run_together(check_all, 2, stop.set)
    check.finish()
    info = next((one.info for one in reports if one.info), {})
    return VerifyReport(folder.path, folder.bytes,
                        sum(one.records for one in reports), folder.digest,
                        info, PLAIN_NOTE if folder.is_plain else '')


def read_rest(folder: Folder) -> Any:
    """Return what ``rest.zip`` holds, with outlines in the place of tensors.
    """
    path = folder.file_path(REST_NAME)
    with folder.files.open(REST_NAME) as file, \
            open_archive(file, path) as archive:
        return read_outline(archive, path)


def window(file: IO[bytes], item: Item) -> IO[bytes]:
    """Return an item as a file of its own."""
    return cast(IO[bytes], Window(file, item.offset, item.length))


def item_path(folder: Folder, name: str, item: Item) -> str:
    """Return what an item is called in messages."""
    return f'{folder.file_path(item.file)} ({shortened(name)[1:-1]})'


class _Check:
    """Checks the files of a folder, some items at a time.

    Args:
        folder (Folder): Opened.
        advance (callable): Told of the bytes that are checked.
    """

    def __init__(self, folder: Folder, advance: Advance) -> None:
        self._folder = folder
        self._advance = advance
        # of each file, by the place of the item
        self._digests: Dict[str, Dict[int, str]] = {}

    def jobs(self, name: str) -> Iterator[Job]:
        """Yield what is to be done for a file, in any order."""
        if name == REST_NAME:
            yield self._verify_rest
            return
        self._digests[name] = {}
        part: List[Held] = []
        nbytes = 0
        for held in self._folder.items(name):
            part.append(held)
            nbytes += held[2].length
            if nbytes >= _LARGE_BYTES:
                yield partial(self._verify_items, name, part)
                part, nbytes = [], 0
        yield partial(self._verify_items, name, part)

    def finish(self) -> None:
        """Hold what all items have given against the manifest."""
        for name, digests in self._digests.items():
            if not self._folder.is_plain:
                check_digest(
                    self._folder.path, name, self._folder.manifest[name],
                    items_digest(digests[place] for place in sorted(digests)))

    def _verify_rest(self) -> VerifyReport:
        with self._folder.files.open(REST_NAME) as file:
            return verify_loadable(file, self._folder.file_path(REST_NAME),
                                   self._folder.manifest[REST_NAME].digest,
                                   self._advance)

    def _verify_items(self, name: str, part: Sequence[Held]) -> VerifyReport:
        records = 0
        with self._folder.files.open(name) as file:
            for held, chunk, item in part:
                path = item_path(self._folder, held, item)
                with open_archive(window(file, item), path) as archive:
                    report = verify_archive(
                        archive, path, progress=self._advance)
                    content = read_outline(archive, path)
                records += report.records
                self._digests[name][item.offset] = report.digest
                if chunk is not None:
                    _check_content(content, self._folder, held, chunk, path)
        return VerifyReport(self._folder.file_path(name), 0, records, '', {})


def _check_content(content: Any, folder: Folder, name: str, chunk: Chunk,
                   path: str) -> None:
    dtype = folder.metadata.tensors[name].dtype
    if not isinstance(content, Tensor) or content.dtype != dtype or \
            content.shape != chunk.sizes:
        found = f'{content.dtype} of {content.shape}' \
            if isinstance(content, Tensor) else shortened(content)
        raise CorruptError(f'{path} holds {found}, expected {dtype} of '
                           f'{chunk.sizes}')
