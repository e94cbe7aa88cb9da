"""When to save; pure but for the clock and the file check it is given."""
from dataclasses import dataclass
from typing import Callable, List, Optional

from .options import TriggerOptions
from .wording import counted

#: The trigger file is looked at no more than once in so many seconds: on
#: network file systems a look is a round trip.
FILE_CHECK_SECS = 1.0


@dataclass(frozen=True)
class Progress:
    """Where a run is after an event.

    Args:
        step (int): Finished epochs or iterations, whichever the interval
            counts; None if this event is not on that scale.
        is_last (bool): Whether no further step follows.
    """
    step: Optional[int]
    is_last: bool


class Schedule:
    """Says which trigger, if any, asks for a save.

    Args:
        interval (int): Epochs or iterations between saves; -1 for never.
        save_last (bool): Whether to save at the end.
        options (TriggerOptions): The others.
        clock (callable): Monotonic seconds.
        take_file (callable): Removes the trigger file of that name and says
            whether it was there.
    """

    def __init__(self, interval: int, save_last: bool, options: TriggerOptions,
                 clock: Callable[[], float],
                 take_file: Callable[[str], bool]) -> None:
        self._interval = interval
        self._save_last = save_last
        self._options = options
        self._clock = clock
        self._take_file = take_file
        self._saved_at = clock()
        self._looked_at: Optional[float] = None
        self._is_lost = False

    def due(self, progress: Progress) -> Optional[str]:
        """Return the name of the trigger, or None.

        On the grid ``'interval'``, ``'at'`` and ``'last'``, beside it
        ``'retry'``, ``'time'`` and ``'file'``.
        """
        return self.grid(progress) or self.off_grid()

    def grid(self, progress: Progress) -> Optional[str]:
        """As :meth:`due`, on the grid alone; the same on all ranks."""
        step = progress.step
        if step is not None:
            if self._on_grid(step):
                return 'interval'
            if step in self._options.at:
                return 'at'
            if self._save_last and progress.is_last:
                return 'last'
        return None

    def off_grid(self) -> Optional[str]:
        """As :meth:`due`, beside the grid; by this rank's clock and files."""
        if self._is_lost:
            return 'retry'
        now = self._clock()
        secs = self._options.secs
        if secs is not None and now - self._saved_at >= secs:
            return 'time'
        name = self._options.file
        if name is not None and (self._looked_at is None
                                 or now - self._looked_at >= FILE_CHECK_SECS):
            self._looked_at = now
            if self._take_file(name):
                return 'file'
        return None

    def lost(self) -> None:
        """Ask for a save in the place of one that has come to nothing."""
        self._is_lost = True

    def saved(self) -> None:
        """Restart the time that ``secs`` counts."""
        self._saved_at = self._clock()
        self._is_lost = False

    def _on_grid(self, step: int) -> bool:
        return self._interval > 0 and step % self._interval == 0 and \
            step >= self._options.begin


def never_due(interval: int, save_last: bool, options: TriggerOptions,
              unit: str, steps: int) -> List[str]:
    """Say which triggers cannot come in a run of so many steps.

    Args:
        interval (int): As for :class:`Schedule`.
        save_last (bool): As well.
        options (TriggerOptions): As well.
        unit (str): ``'epochs'`` or ``'iterations'``.
        steps (int): Of the whole run.
    """
    said = []
    run = f'the run has {counted(steps, unit)}'
    if interval > 0 and options.begin > steps:
        said.append(f'triggers.begin={options.begin} is never reached: {run}, '
                    'and nothing is saved by interval')
    elif interval > 0 and steps // interval * interval < max(options.begin, 1):
        if not save_last:
            said.append(f'interval={interval} never comes: {run}, and with '
                        'save_last=False nothing is saved at the end either')
        elif options.secs is None and min(options.at, default=steps) >= steps:
            said.append(f'interval={interval} never comes: {run}, and is '
                        'saved at its end only')
    beyond = [str(step) for step in options.at if step > steps]
    if beyond:
        said.append(f'triggers.at: {", ".join(beyond)} never '
                    f'{"comes" if len(beyond) == 1 else "come"}: {run}')
    return said
