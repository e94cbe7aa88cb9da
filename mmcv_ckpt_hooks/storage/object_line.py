"""The way to an object store: how long it is tried."""
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Callable, Iterator, Optional, Tuple, TypeVar

from .object_errors import passes, reason
from .object_url import ObjectPlace
from .patience import say_waiting
from .retrying import Retries

#: What fails for so long is waited for, and that is said (seconds).
_SILENT_SECS = 5.
#: Who gives up earlier is told then (seconds).
_LONG_SECS = 20.

_Result = TypeVar('_Result')


class ObjectLine:
    """Makes requests, and makes them again for as long as is worth it.

    INVARIANT: who has waited for ``retry_secs`` in vain does not do so again
    at once. A save makes a dozen requests, and the one after waits for it.

    Args:
        place (ObjectPlace): Where to.
        clock (callable): Monotonic seconds. Default: ``time.monotonic``.

    Thread: any.
    """

    def __init__(self,
                 place: ObjectPlace,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._place = place
        self._secs = place.retry_secs
        self._first = replace(
            place, retry_secs=_SILENT_SECS).connect(), Retries(_SILENT_SECS)
        self._patient = place.connect(), Retries(self._secs)
        self._quick = place.connect(quick=True), Retries(
            place.patience_secs(quick=True), attempts=2)
        self._clock = clock
        self._silent_since: Optional[float] = None
        self._has_said = False

    @property
    def store(self) -> Any:
        """The client's store, as patient as is worth it now."""
        return self._chosen()[0]

    def reach(self,
              call: Callable[[Any], _Result],
              quick: bool = False) -> _Result:
        """Return what a request gives; it is made again if it may pass.

        Args:
            call (callable): Called with the client's store.
            quick (bool): Whether to give up early. Default: False.
        """
        chosen = self._quick if quick else self._chosen()

        def run(way: Tuple[Any, Retries]) -> _Result:
            return way[1].run(lambda: call(way[0]), passes)

        with self.watched():
            if chosen is self._patient and self._secs > _LONG_SECS:
                try:
                    return run(self._first)
                except Exception as error:  # judged, and made again
                    if not passes(error):
                        raise
                    self._say(error)
            return run(chosen)

    def again(self, attempt: Callable[[], _Result],
              passes: Callable[[Exception], bool]) -> _Result:
        """Return what many requests give, which may take any time.

        Args:
            attempt (callable): Makes them.
            passes (callable): Whether an error is a reason to make all of
                them again.
        """
        return self._patient[1].run(attempt, passes, is_long=True)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Remember whether a request, in the end, was answered."""
        try:
            yield
        except Exception as error:  # passed on
            self._silent_since = self._clock() if passes(error) else None
            raise
        self._silent_since = None
        self._has_said = False

    def _say(self, error: Exception) -> None:
        """Say, once an outage, what nobody sees: training may wait for it."""
        if not self._has_said:
            self._has_said = True
            say_waiting(self._place.url, reason(error, self._place.secrets),
                        self._secs)

    def _chosen(self) -> Tuple[Any, Retries]:
        since = self._silent_since
        if since is None or self._clock() - since > self._secs:
            return self._patient
        return self._quick
