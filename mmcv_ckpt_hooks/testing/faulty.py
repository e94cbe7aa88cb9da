"""A backend that fails when and where a test says."""
from dataclasses import dataclass
from typing import IO, Any, Callable, Dict, List, Optional, Sequence, cast

from ..folders.folder import FolderedBackend, folder_of
from ..storage.shared_file import share
from ..types import SharedFile, StorageBackend, StoredFile

_VERBS = ('prepare', 'put', 'open', 'list', 'delete', 'link', 'point', 'sweep',
          'share', 'look', 'replace', 'folders', 'move')


@dataclass(frozen=True)
class Fault:
    """One failure to come.

    Args:
        verb (str): A verb of ``StorageBackend``, such as ``'put'``, or of a
            ``SharedFile``: ``'look'``, ``'replace'``.
        error (BaseException): What is raised. A storage that behaves raises
            a ``StorageError``.
        nth (int): The first call of the verb that fails, from 1. Default: 1.
        times (int, optional): How many calls in a row fail; None means all
            that follow. Default: 1.
        after_bytes (int, optional): Only for ``'put'``: so many bytes are
            taken before it fails. Default: None, which means that nothing is
            called at all.
    """
    verb: str
    error: BaseException
    nth: int = 1
    times: Optional[int] = 1
    after_bytes: Optional[int] = None

    def __post_init__(self) -> None:
        if self.verb not in _VERBS:
            raise ValueError(f'verb must be one of {_VERBS}, but got '
                             f'{self.verb!r}')
        if self.after_bytes is not None and self.verb != 'put':
            raise ValueError("after_bytes is only for 'put', but the verb is "
                             f'{self.verb!r}')

    def hits(self, verb: str, call: int) -> bool:
        """Whether the call of that number, counted from 1, fails."""
        if verb != self.verb or call < self.nth:
            return False
        return self.times is None or call < self.nth + self.times


class FaultyBackend:
    """Passes everything on to another backend, but for the faults.

    ``calls`` lists what was asked for, such as ``'put iter_1.pth'``.

    Args:
        inner (StorageBackend): Does the work.
        faults (Sequence[Fault]): What goes wrong. Default: ().
    """

    def __init__(self, inner: StorageBackend,
                 faults: Sequence[Fault] = ()) -> None:
        self.inner = inner
        self.faults = list(faults)
        self.url = inner.url
        self.capabilities = inner.capabilities
        self.calls: List[str] = []
        self._counts: Dict[str, int] = {}

    def prepare(self) -> None:
        self._enter('prepare')
        self.inner.prepare()

    def put(self, name: str, write: Callable[[IO[bytes]], Any]) -> int:
        fault = self._enter('put', name)
        if fault is None:
            return self.inner.put(name, write)

        def write_some(stream: IO[bytes]) -> None:
            failing = _FailingStream(stream, fault)
            write(cast(IO[bytes], failing))
            # fewer bytes than the fault waits for
            raise fault.error

        return self.inner.put(name, write_some)

    def open(self, name: str) -> IO[bytes]:
        self._enter('open', name)
        return self.inner.open(name)

    def sweep(self) -> List[str]:
        self._enter('sweep')
        return self.inner.sweep()

    def list(self) -> List[StoredFile]:
        self._enter('list')
        return self.inner.list()

    def delete(self, name: str) -> None:
        self._enter('delete', name)
        self.inner.delete(name)

    def link(self, source: str, name: str) -> None:
        self._enter('link', source, name)
        self.inner.link(source, name)

    def point(self, name: str, target: Optional[str]) -> None:
        self._enter('point', name, *([] if target is None else [target]))
        self.inner.point(name, target)

    def share(self, name: str) -> SharedFile:
        self._enter('share', name)
        return _FaultyFile(self, name)

    def folder(self, name: str) -> 'FaultyBackend':
        """Return a folder that has the same faults, counted together."""
        inside = FaultyBackend(folder_of(self.inner, name), self.faults)
        inside.faults, inside.calls = self.faults, self.calls
        inside._counts = self._counts
        return inside

    def folders(self) -> List[str]:
        self._enter('folders')
        return cast(FolderedBackend, self.inner).folders()

    def is_link(self, name: str) -> bool:
        return cast(FolderedBackend, self.inner).is_link(name)

    def move(self, name: str, other: str) -> None:
        self._enter('move', name, other)
        cast(FolderedBackend, self.inner).move(name, other)

    def _enter(self, verb: str, *names: str) -> Optional[Fault]:
        """Record a call; raise its fault, or return one that comes later."""
        self.calls.append(' '.join((verb, *names)))
        call = self._counts[verb] = self._counts.get(verb, 0) + 1
        for fault in self.faults:
            if fault.hits(verb, call):
                if fault.after_bytes is None:
                    raise fault.error
                return fault
        return None


class _FaultyFile:
    """A shared file that fails as its backend was told to."""

    def __init__(self, backend: FaultyBackend, name: str) -> None:
        self._backend = backend
        self._inner = share(backend.inner, name)
        self._name = name
        self.place = self._inner.place

    @property
    def is_exclusive(self) -> bool:
        return self._inner.is_exclusive

    def look(self) -> bytes:
        self._backend._enter('look', self._name)
        return self._inner.look()

    def replace(self, content: bytes) -> bool:
        self._backend._enter('replace', self._name)
        return self._inner.replace(content)


class _FailingStream:
    """Takes some bytes, then raises at every write."""

    def __init__(self, stream: IO[bytes], fault: Fault) -> None:
        self._stream = stream
        self._error = fault.error
        self._left_bytes = fault.after_bytes or 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast('B')
        if len(view) > self._left_bytes:
            self._stream.write(view[:self._left_bytes])
            self._left_bytes = 0
            raise self._error
        self._left_bytes -= len(view)
        return self._stream.write(view)

    def flush(self) -> None:
        self._stream.flush()
