"""The begin and the end of a start, as events of the history."""
import datetime
import math
from typing import Any, Callable, Dict, Optional

from .boundary import Boundary
from .saver import Saver


class StartEvents:
    """Records when a start begins, and when and why it ends.

    A start that is killed has no end.

    Args:
        runner (BaseRunner): About to train.
        saver (Saver): The run's own.
        last (callable): Returns the last boundary.

    Order: :meth:`begin`; :meth:`because` as soon as it is known; :meth:`end`
    when nothing is being written, as often as that is seen; :meth:`begin`
    again where the runner runs again.

    Thread: training's.
    """

    def __init__(self, runner: Any, saver: Saver,
                 last: Callable[[], Boundary]) -> None:
        self._runner = runner
        self._saver = saver
        self._last = last
        self._why: Dict[str, Any] = {}
        self._recorded: Dict[str, Any] = {}

    def begin(self) -> None:
        """Record where it begins, from what, and how far it is to come."""
        self._why, self._recorded = {}, {}
        restored = getattr(self._runner, 'restored', None)
        self._record(
            'start',
            resumed_from=None if restored is None else restored.name,
            max_epochs=_steps(self._runner.max_epochs),
            max_iters=_steps(self._runner.max_iters))

    def because(self, why: str, **what: str) -> None:
        """Take note of why it ends; what raises on the way out is no reason.

        Args:
            why (str): ``'finished'``, ``'signal'`` or ``'exception'``.
            what (str): Which signal, or the type of the exception.
        """
        if why != 'exception' or not self._why:
            self._why = dict(what, why=why)

    def end(self) -> None:
        """Record the end, once; nothing where no reason is known."""
        if self._why and self._why != self._recorded:
            self._recorded = self._why
            self._record('end', **self._why)

    def reopen(self) -> None:
        """Begin again, unless it has not ended, recorded or not."""
        if self._why:
            self.begin()

    def _record(self, event: str, **values: Any) -> None:
        last, catalog = self._last(), self._saver.catalog
        now = datetime.datetime.now(datetime.timezone.utc)
        self._saver.record(
            event,
            epoch=last.epoch,
            iter=last.iter,
            lineage=catalog.lineage,
            generation=catalog.generation,
            time=now.isoformat(timespec='seconds'),
            **values)


def _steps(length: Any) -> Optional[int]:
    """Return a length as JSON has it, None for one without an end.

    That of a stock runner may be any number.
    """
    return None if length is None or not math.isfinite(length) else int(length)
