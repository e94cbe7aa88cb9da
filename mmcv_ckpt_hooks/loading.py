"""A checkpoint file to tensors, without executing anything from it."""
import pickle
import struct
import tarfile
import zipfile
from typing import IO, Any, Callable, Collection, Optional

from .allowlist import VOCABULARY
from .compat import trusting_load
from .errors import (CorruptError, ResumeError, UnsafeCheckpointError,
                     UnverifiableError)
from .filling import Storages
from .records import descriptor
from .scanning import check_byte_order, read_pickle
from .unpickling import ReadStorage, unpickle
from .verification import open_archive, verify_archive, verify_file

_WEIGHTS = ('state_dict', 'optimizer')
#: Smaller tensors of an optimizer may be steps, which are looked at.
_LARGE_BYTES = 1 << 10


def load_checkpoint(file: IO[bytes], path: str, trust: bool = False) -> Any:
    """Load a checkpoint to the CPU.

    The CRC-32 of every record that is read is checked. Parameters come back
    as plain tensors.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.
        trust (bool): Whether a file that needs it is unpickled in full, which
            may run any code that it holds. Default: False.

    Raises:
        IntegrityError: If the file is damaged.
        UnsafeCheckpointError: If loading it would need to run code.
        ResumeError: If a trusted file needs what is not installed here.
    """

    def load(archive: zipfile.ZipFile) -> Any:
        return _content(archive, path, Storages(archive, path).read)

    return _load(file, path, trust, load)


def load_mapped(
    file: IO[bytes],
    path: str,
    trust: bool = False,
    digest: Optional[str] = None,
    copied: Collection[str] = _WEIGHTS,
) -> Any:
    """Load a checkpoint, and verify it in the same pass over the file.

    Of a local file, the tensors in some fields are not read for that: they
    lie in the mapped file, see :func:`mapping.detach`.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.
        trust (bool): As for :func:`load_checkpoint`. Default: False.
        digest (str, optional): What the catalog has for it. Default: None.
        copied (collection[str]): Fields whose tensors the caller copies to
            where they are used, or does not use; see
            :func:`state_loading.copied_fields`. Default: both that exist.

    Raises:
        IntegrityError: If the file is damaged.
        UnsafeCheckpointError: If loading it would need to run code.
        ResumeError: If a trusted file needs what is not installed here.
    """

    def load(archive: zipfile.ZipFile) -> Any:
        storages = Storages(archive, path)
        # builds tensors and looks at none of them
        content = _content(archive, path, storages.claim)
        unread = storages.only_in(content, copied) \
            if descriptor(archive.fp) is not None else {}
        # INVARIANT: nothing leaves before all is read; and none of it is
        # mapped: who touches a page that is not there gets SIGBUS
        verify_archive(archive, path, digest, targets=storages.targets(unread))
        storages.map(unread)
        return content

    return _load(file, path, trust, load, digest)


def load_fields(file: IO[bytes],
                path: str,
                digest: Optional[str] = None) -> Any:
    """As :func:`load_mapped`, to look at the fields and not to use them.

    Large tensors in ``state_dict`` and ``optimizer`` have any values: they
    are verified, but take no memory.
    """

    def load(archive: zipfile.ZipFile) -> Any:
        storages = Storages(archive, path)
        content = _content(archive, path, storages.claim)
        unread = storages.only_in(content, _WEIGHTS, _LARGE_BYTES)
        verify_archive(archive, path, digest, targets=storages.targets(unread))
        return content

    return _load(file, path, False, load, digest)


def _load(file: IO[bytes],
          path: str,
          trust: bool,
          load: Callable[[zipfile.ZipFile], Any],
          digest: Optional[str] = None) -> Any:
    try:
        with open_archive(file, path) as archive:
            return load(archive)
    except UnverifiableError:
        if not trust:
            raise
    except UnsafeCheckpointError:
        # if it is damaged as well, that is what is wrong with it
        verify_file(file, path, digest)
        if not trust:
            raise
    return _load_trusted(file, path)


def _load_trusted(file: IO[bytes], path: str) -> Any:
    try:
        return trusting_load(file)
    except (ImportError, AttributeError) as error:
        raise ResumeError(
            f'{path} needs code that is not there ({type(error).__name__}: '
            f'{error}). Load it where it was written, and save it again '
            'without that') from error
    except (pickle.UnpicklingError, EOFError, RuntimeError, LookupError,
            ValueError, TypeError, OverflowError, struct.error,
            tarfile.TarError) as error:
        raise CorruptError(f'{path} cannot be read ({type(error).__name__}: '
                           f'{error})') from error


def _content(archive: zipfile.ZipFile, path: str, read: ReadStorage) -> Any:
    check_byte_order(archive, path)
    return unpickle(read_pickle(archive, path), VOCABULARY, read, path)
