"""Whether loading a checkpoint would be refused, without loading it.

The instructions of its pickle are walked through: nothing is built, imported
or called. Standard library only.
"""
import io
import pickle
import struct
import zipfile
from typing import IO, Any, Callable, Optional

from .errors import CorruptError, UnsafeCheckpointError
from .instructions import (Refused, Unpickler, harmless, is_allowed,
                           refuse_instruction, refused_name)
from .records import read_record
from .verification import VerifyReport, open_archive, verify_file

#: Largest pickle that is read (bytes): 20,000 tensors take about 4 MB.
_PICKLE_LIMIT_BYTES = 256 << 20
#: What a pickle that is read wrongly raises.
READING_ERRORS = (pickle.UnpicklingError, EOFError, LookupError, TypeError,
                  ValueError, AttributeError, OverflowError, RuntimeError,
                  struct.error)
TRUST = ('If you trust who made the file, load it once with '
         'trust_checkpoint=True')


def verify_loadable(
        file: IO[bytes],
        path: str,
        digest: Optional[str] = None,
        progress: Optional[Callable[[int], None]] = None) -> VerifyReport:
    """Check a file as :func:`verify_file`, then what its pickle asks for.

    Raises:
        IntegrityError: If it is damaged.
        UnsafeCheckpointError: If it is not, but names or does what is not
            needed to hold weights.
    """
    report = verify_file(file, path, digest, progress)
    with open_archive(file, path) as archive:
        data = read_pickle(archive, path)
    try:
        _Walk(io.BytesIO(data)).load()
    except Refused as error:
        raise UnsafeCheckpointError(
            f'{path} is undamaged, but loading it would be refused: {error}. '
            f'{TRUST}') from error
    except READING_ERRORS as error:
        raise unreadable(path, error) from error
    return report


def read_pickle(archive: zipfile.ZipFile, path: str) -> bytes:
    """Read the record that holds the pickle.

    Raises:
        UnsafeCheckpointError: If it is too large for one.
    """
    folder = archive.infolist()[0].filename.split('/')[0]
    record = archive.getinfo(f'{folder}/data.pkl')
    if record.file_size > _PICKLE_LIMIT_BYTES:
        raise UnsafeCheckpointError(
            f'{path}: its pickle has {record.file_size} bytes, expected at '
            f'most {_PICKLE_LIMIT_BYTES}')
    return b''.join(read_record(archive, record, path))


def unreadable(path: str, error: Exception) -> CorruptError:
    """Return the error for a pickle that no program would have written."""
    return CorruptError(f'{path} is malformed: its pickle cannot be read '
                        f'({type(error).__name__}: {str(error)[:200]})')


class _Name:
    """Stands for a name that may be called."""


class _Value:
    """Stands for anything that the pickle builds."""


_NAME, _VALUE = _Name(), _Value()


class _Walk(Unpickler):
    """Goes through the instructions; only text is kept, which names need."""

    def find_class(self, module: str, name: str) -> Any:
        if not is_allowed(module, name):
            raise refused_name(module, name)
        return _NAME

    def _push(self) -> None:
        self.append(_VALUE)

    def _replace_top(self) -> None:
        self.stack[-1] = _VALUE

    def _replace_two(self) -> None:
        self.stack[-2:] = [_VALUE]

    def _replace_three(self) -> None:
        self.stack[-3:] = [_VALUE]

    def _replace_marked(self) -> None:
        self.pop_mark()
        self.append(_VALUE)

    def _call(self) -> None:
        self.stack.pop()
        if self.stack[-1] is not _NAME:
            raise Refused('it calls what has no name')
        self.stack[-1] = _VALUE

    def _change(self) -> None:
        self.stack.pop()
        self._check_target()

    def _check_target(self) -> None:
        if self.stack[-1] is not _VALUE:
            raise Refused('it changes what it has not built')

    def _set_item(self) -> None:
        self.stack.pop()
        self._change()

    def _change_by_marked(self) -> None:
        self.pop_mark()
        self._check_target()

    dispatch = {
        **dict.fromkeys(Unpickler.dispatch, refuse_instruction),
        **harmless(),
        **{
            getattr(pickle, name)[0]: walk
            for names, walk in (
                ('EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET', _push),
                ('TUPLE1 BINPERSID', _replace_top),
                ('TUPLE2', _replace_two),
                ('TUPLE3', _replace_three),
                ('TUPLE FROZENSET', _replace_marked),
                ('REDUCE', _call),
                ('BUILD APPEND', _change),
                ('SETITEM', _set_item),
                ('SETITEMS APPENDS ADDITEMS', _change_by_marked),
            )
            for name in names.split()
        },
    }
