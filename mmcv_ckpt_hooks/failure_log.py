"""What failed saves say, at once: nobody may be left to ask later."""
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from .catalog import Catalog
from .commit import Committer
from .errors import CheckpointError, LockedError
from .types import SaveRequest


def failure_logger(logger: Any) -> Callable[[str, Exception], None]:
    """Return what logs a failure, and its error."""

    def log(message: str, error: Exception) -> None:
        # what our own errors say is clear without a traceback
        known = isinstance(error, CheckpointError)
        logger.error(message, exc_info=None if known else error)

    return log


class FailureLog:
    """Words the failures at one place; each is passed on.

    Args:
        catalog (Catalog): Of that place.
        committer (Committer): Of that place.
        log (callable): Told a line, and the error.
    """

    def __init__(self, catalog: Catalog, committer: Committer,
                 log: Callable[[str, Exception], None]) -> None:
        self._catalog = catalog
        self._committer = committer
        self._log = log
        self._told_lost = ''

    @contextmanager
    def of_save(self, request: SaveRequest) -> Iterator[None]:
        """Tell what a save that fails has left."""
        try:
            yield
        except Exception as error:  # passed on; the executor keeps it
            why = self._why(error)
            deleted, self._committer.made_room = self._committer.made_room, []
            gone = ', '.join(deleted)
            but = f', but {gone} was deleted to make room' if gone else ''
            if deleted:
                self._committer.record(
                    'delete', iter=request.iter, deleted=deleted)
            known = self._catalog.find(request.name)
            if known is not None and known.iter == request.iter and \
                    known.lineage == self._catalog.lineage and \
                    known.generation == self._catalog.generation:
                message = f'Checkpoint {request.name} is saved, but what ' \
                    f'follows failed {why}'
            else:
                self._committer.tally.failed += 1
                message = f'Checkpoint {request.name} was not saved {why}. ' \
                    f'What was committed before is unchanged{but}'
            self._log(message, error)
            raise

    @contextmanager
    def of(self, failed: str) -> Iterator[None]:
        """Tell that something failed.

        Args:
            failed (str): What it is that was not done.
        """
        try:
            yield
        except Exception as error:  # passed on; the executor keeps it
            self._log(f'{failed} {self._why(error)}', error)
            raise

    def _why(self, error: Exception) -> str:
        """Word an error; of a place that stays lost all is told once."""
        text = str(error)
        if isinstance(error, LockedError):
            told, self._told_lost = self._told_lost, text
            text = 'as before' if told == text else text
        return f'({type(error).__name__}: {text})'
