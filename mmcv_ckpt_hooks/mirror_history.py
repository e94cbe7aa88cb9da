"""The history of a mirror: what was copied there. Standard library only."""
from typing import Any, Callable, List

from .history import History, open_history
from .mirror_catalog import scores_of
from .recovery import identity_of
from .types import CheckpointInfo, StorageBackend


class MirrorHistory:
    """Events of a mirror; nothing depends on whether they can be written.

    Args:
        backend (StorageBackend): The mirror.
        warn (callable): Told once when they cannot.
    """

    def __init__(self, backend: StorageBackend, warn: Callable[[str],
                                                               None]) -> None:
        self._history: History = open_history(backend)
        self._url = backend.url
        self._warn = warn
        self._is_written = True

    def copied(self, entry: CheckpointInfo, secs: float,
               deleted: List[str]) -> None:
        """Record a copy.

        Args:
            entry (CheckpointInfo): As the mirror's catalog has it.
            secs (float): How long it took.
            deleted (list[str]): What retention deleted for it.
        """
        if entry.same_as and entry.trigger == 'best':
            self.record(
                'link',
                **identity_of(entry),
                same_as=entry.same_as,
                deleted=deleted)
        else:
            self.record(
                'save',
                **identity_of(entry),
                epoch=entry.epoch,
                trigger=entry.trigger,
                bytes=entry.bytes,
                blocked_secs=0.,
                durable_secs=secs,
                deleted=deleted,
                time=entry.created_at)
        if entry.metrics:
            # of a lost catalog they come from there
            self.record('scores', **scores_of(entry))

    def record(self, event: str, **values: Any) -> None:
        """Append an event."""
        try:
            self._history.append(event, **values)
            self._is_written = True
        except OSError as error:
            # it tells what happened; nothing depends on it
            if self._is_written:
                self._warn(f'Could not write the history of {self._url}: '
                           f'{error}')
            self._is_written = False
