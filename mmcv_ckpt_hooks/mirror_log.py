"""What is said of the copies to a mirror. Standard library only."""
from typing import TYPE_CHECKING, Callable, Optional, Sequence

from .storage import scheme_of
from .types import CheckpointInfo
from .wording import written

if TYPE_CHECKING:
    from .mirror_missing import Missing
    from .mirroring import Copied, MirrorPlace
    from .movement import Movement

_SHOWN_NAMES = 3


class MirrorLog:
    """Words for a run's log.

    Args:
        place (MirrorPlace): The mirror.
        source (str): Where the run's own checkpoints are.
        log (callable): Told one line.
        warn (callable): Told one line.
    """

    def __init__(self, place: 'MirrorPlace', source: str,
                 log: Callable[[str], None], warn: Callable[[str],
                                                            None]) -> None:
        self._place = place
        self._url = place.url
        self._log = log
        self._warn = warn
        #: what makes up for copies that are missing
        self._later = 'The next start of this run does it'
        if not scheme_of(source):
            self._later += f', or "mmcv-ckpt push {source}"'

    def copied(self, info: CheckpointInfo, copied: 'Copied') -> None:
        """Tell of a copy."""
        how = f'a copy of {copied.twin} there' if copied.twin else \
            written(info.bytes, copied.secs)
        gone = f'; deleted {", ".join(copied.deleted)}' \
            if copied.deleted else ''
        self._log(f'Copied checkpoint {info.name} to {self._url}: {how}{gone}')

    def damaged(self, info: CheckpointInfo, error: Exception) -> None:
        """Tell of what is damaged in the first place."""
        self._warn(f'Mirror {self._url}: {info.name} is not copied: {error}')

    def is_off(self, error: Exception) -> None:
        """Tell of a place that cannot be a mirror."""
        self._warn(f'{error}. Nothing is copied there')

    def behind(self, left: Sequence[CheckpointInfo], error: Exception) -> None:
        """Tell that copies begin to fail, if the start has not."""
        if str(error) == self._place.away:
            return
        lacks = f'{_names(left)} not there' if left else 'it cannot be used'
        self._warn(f'Mirror {self._url} falls behind: {lacks} '
                   f'({type(error).__name__}: {error}). Training goes on; it '
                   'is tried again after every save, and in between after '
                   'growing pauses')

    def caught_up(self) -> None:
        """Tell that they fail no more."""
        self._log(f'Mirror {self._url} has caught up')

    def progress(self, left: Sequence[CheckpointInfo],
                 movement: 'Movement') -> None:
        """Tell how far the copies are, at the end of a run."""
        total = movement.finished_bytes + sum(
            max(info.bytes, 0) for info in left)
        names = _names(left) if left else 'the catalog is'
        self._log(f'Mirror {self._url}: {names} still to be copied, '
                  f'{movement.done_bytes / 1e6:.1f} of {total / 1e6:.1f} MB '
                  'are there. Ctrl-C leaves at once: the next start goes on '
                  'with it')

    def not_copied(self, left: Optional[Sequence[CheckpointInfo]]) -> None:
        """Tell what the end of a run leaves out; None: copies under way."""
        names = 'what is not there yet is' if left is None else _names(left)
        if left is None or left:
            self._warn(f'Mirror {self._url}: {names} not copied'
                       f'{_unseen(self._place)}. {self._later}')


def mirror_state(url: str, missing: 'Missing') -> str:
    """Return what is there when a run ends.

    Args:
        url (str): Of the mirror.
        missing (Missing): What it lacks.
    """
    if missing.is_off:
        return f'{url}: nothing is copied there'
    left = missing.remembered()
    if left:
        return f'{url}: {_names(left)} not there{_unseen(missing.place)}'
    return f'{url} has all that it keeps'


def _unseen(place: 'MirrorPlace') -> str:
    # what earlier starts have copied is known by its catalog alone
    return '' if place.is_open else ', as far as is known: the mirror could ' \
        'not be looked at'


def _names(left: Sequence[CheckpointInfo]) -> str:
    names = [info.name for info in left]
    more = ', ...' if len(names) > _SHOWN_NAMES else ''
    return f'{", ".join(names[:_SHOWN_NAMES])}{more} ' + ('is' if len(names)
                                                          == 1 else 'are')
