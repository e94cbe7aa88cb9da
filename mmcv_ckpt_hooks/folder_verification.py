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
    lock, stop = Lock(), Event()
    reports: List[VerifyReport] = []

    def advance(done: int) -> None:
        if progress is not None:
            with lock:
                progress(done)

    left = iter([
        job for name in sorted(names)[number::count]
        for job in _jobs(folder, name, advance)
    ])

    def check_all() -> None:
        for job in left:
            if stop.is_set():
                return
            reports.append(job())

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


def _jobs(folder: Folder, name: str,
          advance: Advance) -> List[Callable[[], VerifyReport]]:
    """Return what is to be done to check a file, in any order."""
    if name == REST_NAME:
        return [lambda: _verify_rest(folder, advance)]
    jobs = [lambda: _verify_items(folder, name, advance)]
    if not folder.is_plain:
        jobs.append(lambda: _verify_digest(folder, name, advance))
    return jobs


def _verify_items(folder: Folder, name: str, advance: Advance) -> VerifyReport:
    """Check what lies in a file of tensors."""
    records = 0
    with folder.files.open(name) as file:
        # who reads from elsewhere reads once: the digest covers all
        by_digest = not folder.is_plain and descriptor(file) is None
        for held, chunk, item in folder.items(name):
            path = item_path(folder, held, item)
            with open_archive(window(file, item), path) as archive:
                if not by_digest:
                    records += verify_archive(
                        archive,
                        path,
                        progress=advance if folder.is_plain else None).records
                content = read_outline(archive, path)
            if chunk is not None:
                _check_content(content, folder, held, chunk, path)
    return VerifyReport(folder.file_path(name), 0, records, '', {})


def _verify_digest(folder: Folder, name: str,
                   advance: Advance) -> VerifyReport:
    content = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    with folder.files.open(name) as file, \
            reading(folder.file_path(name), 'it'):
        readinto: Any = getattr(file, 'readinto')
        while True:
            size = readinto(buffer)
            if not size:
                break
            content.update(buffer[:size])
            advance(size)
    check_digest(folder.path, name, folder.manifest[name], content.hexdigest())
    return VerifyReport(folder.file_path(name), 0, 0, '', {})


def _check_content(content: Any, folder: Folder, name: str, chunk: Chunk,
                   path: str) -> None:
    dtype = folder.metadata.tensors[name].dtype
    if not isinstance(content, Tensor) or content.dtype != dtype or \
            content.shape != chunk.sizes:
        found = f'{content.dtype} of {content.shape}' \
            if isinstance(content, Tensor) else shortened(content)
        raise CorruptError(f'{path} holds {found}, expected {dtype} of '
                           f'{chunk.sizes}')
