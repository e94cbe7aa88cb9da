"""Whether a folder is a complete, undamaged checkpoint.

Standard library only: neither torch nor mmcv is needed, and nothing is
unpickled.
"""
import hashlib
from threading import Event, Lock
from typing import IO, Any, Callable, List, Optional, Tuple, cast

from .errors import CorruptError
from .executor import run_together
from .folder_chunks import Chunk
from .folder_layout import REST_NAME
from .folder_manifest import ListedFile
from .folder_metadata import Item
from .folder_opening import Folder, check_digest
from .instructions import shortened
from .outline import Tensor
from .records import descriptor, reading
from .scanning import read_outline, verify_loadable
from .storage.window import Window
from .verification import VerifyReport, open_archive, verify_archive

_BLOCK_BYTES = 1 << 20
#: Folders from this size on (bytes) are checked by two threads.
_LARGE_BYTES = 64 << 20
#: Of a folder of torch.distributed.checkpoint alone.
PLAIN_NOTE = 'written by torch.distributed.checkpoint alone: it has no ' \
    'digests, and no state of a run beside its tensors'

Advance = Callable[[int], None]


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
    left, stop, lock = iter(sorted(names)[number::count]), Event(), Lock()
    reports: List[VerifyReport] = []

    def advance(done: int) -> None:
        if progress is not None:
            with lock:
                progress(done)

    def check_all() -> None:
        for name in left:
            if stop.is_set():
                return
            reports.append(
                _verify_rest(folder, advance) if name ==
                REST_NAME else _verify_file(folder, name, advance))

    if folder.bytes < _LARGE_BYTES:
        check_all()
    else:
        # reading, CRC-32 and SHA-256 release the interpreter lock
        run_together(check_all, 2, stop.set)
    info = next((one.info for one in reports if one.info), {})
    return VerifyReport(folder.path, folder.bytes,
                        sum(one.records for one in reports), folder.digest,
                        info, PLAIN_NOTE if folder.is_plain else '')


def read_rest(folder: Folder) -> Any:
    """Return what ``rest.pth`` holds, with outlines in the place of tensors.
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


def _verify_rest(folder: Folder, progress: Advance) -> VerifyReport:
    with folder.files.open(REST_NAME) as file:
        return verify_loadable(file, folder.file_path(REST_NAME),
                               folder.manifest[REST_NAME].digest, progress)


def _verify_file(folder: Folder, name: str, progress: Advance) -> VerifyReport:
    """Check a file of tensors."""
    listed, records = folder.manifest.get(name), 0
    with folder.files.open(name) as file:
        # who reads from elsewhere reads once: the digest covers all
        by_digest = listed is not None and descriptor(file) is None
        for held, chunk, item in folder.items(name):
            path = item_path(folder, held, item)
            with open_archive(window(file, item), path) as archive:
                if not by_digest:
                    report = verify_archive(
                        archive,
                        path,
                        progress=progress if listed is None else None)
                    records += report.records
                content = read_outline(archive, path)
            if chunk is not None:
                _check_content(content, folder, held, chunk, path)
        if listed is not None:
            check_digest(folder.path, name, listed,
                         _sha256(file, folder, name, listed, progress))
    return VerifyReport(folder.file_path(name), 0, records, '', {})


def _check_content(content: Any, folder: Folder, name: str, chunk: Chunk,
                   path: str) -> None:
    dtype = folder.metadata.tensors[name].dtype
    if not isinstance(content, Tensor) or content.dtype != dtype or \
            content.shape != chunk.sizes:
        found = f'{content.dtype} of {content.shape}' \
            if isinstance(content, Tensor) else shortened(content)
        raise CorruptError(f'{path} holds {found}, expected {dtype} of '
                           f'{chunk.sizes}')


def _sha256(file: IO[bytes], folder: Folder, name: str, listed: ListedFile,
            progress: Advance) -> str:
    content = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    with reading(folder.file_path(name), 'it'):
        file.seek(0)
        readinto: Any = getattr(file, 'readinto')
        while True:
            size = readinto(buffer)
            if not size:
                return content.hexdigest()
            content.update(buffer[:size])
            progress(size)
