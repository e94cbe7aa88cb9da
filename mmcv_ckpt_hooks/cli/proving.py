"""What ``prune`` keeps is read, to the last byte, before others go."""
import argparse
from typing import Any, Dict, List

from ..errors import (ConfigError, CorruptError, StorageError,
                      UnsafeCheckpointError)
from .checks import check
from .listing import Listing
from .outcomes import DAMAGED, OK, UNSAFE, UNVERIFIABLE, Outcome, Target
from .output import warn
from .place import Places
from .verdicts import Verdict, judge

#: What keeps all others, by what the check of the newest has found.
_ERRORS = {
    DAMAGED: CorruptError,
    UNVERIFIABLE: CorruptError,
    UNSAFE: UnsafeCheckpointError
}


def proven(listing: Listing, given: argparse.Namespace,
           places: Places) -> List[Verdict]:
    """Return what becomes of each checkpoint, where what is kept is good.

    One that turns out not to be neither counts nor goes, and the choice is
    made again. Where nothing would go, nothing is read.

    Args:
        listing (Listing): What is there.
        given (argparse.Namespace): As for :func:`judge`.
        places (Places): How a folder is opened.

    Raises:
        CorruptError: If what a resume would take is damaged.
        UnsafeCheckpointError: If loading it could run code.
        StorageError: If nothing can be continued from, or chosen by.
        ConfigError: As :func:`judge`.
    """
    verdicts = judge(listing, given)
    checks = _Checks(listing, places)
    if any(one.goes for one in verdicts):
        checks.make_sure()
    unfit: Dict[str, str] = {}
    # INVARIANT: the bytes are read: a note of an older "verify" knows nothing
    # of what the disk has lost since
    while any(one.goes for one in verdicts):
        kept = [one.info.name for one in verdicts if one.counts]
        found = {name: checks.status_of(name) for name in kept}
        wrong = {
            name: status
            for name, status in found.items() if status not in (OK, UNSAFE)
        }
        if not wrong:
            break
        unfit.update(wrong)
        try:
            verdicts = judge(listing, given, unfit)
        except ConfigError as error:
            # there was a choice as long as these seemed to be good
            raise StorageError(
                f'Without what is damaged ({", ".join(sorted(unfit))}) '
                f'nothing can be chosen: {error}. Nothing is deleted') \
                from error
    return verdicts


class _Checks:
    """Reads each checkpoint once, however often the choice is made.

    Args:
        listing (Listing): What is there.
        places (Places): How a folder is opened.
    """

    def __init__(self, listing: Listing, places: Places) -> None:
        self._listing = listing
        self._places = places
        # what tells a second name of a file
        self._files: Dict[Any, Outcome] = {}
        self._outcomes: Dict[str, Outcome] = {}

    def make_sure(self) -> None:
        """Check what is left to go on from.

        Raises:
            CorruptError: If it is damaged, or has no checksums.
            UnsafeCheckpointError: If loading it could run code.
            StorageError: If there is none, or it could not be read.
        """
        # INVARIANT: good ones do not go for one that nobody can load
        name = self._listing.choice.taken
        if name is None:
            raise StorageError(
                f'Nothing in {self._listing.place.shown} can be continued '
                'from: nothing is deleted')
        if self.status_of(name) == OK:
            return
        outcome = self._outcomes[name]
        kind = _ERRORS.get(outcome.status, StorageError)
        raise kind(f'{outcome.problem}. Nothing is deleted: a resume would '
                   'need one of the others')

    def status_of(self, name: str) -> str:
        """Return what a check finds, and tell what is wrong."""
        if name not in self._outcomes:
            place = self._listing.place
            outcome = check(
                Target(place.path(name), place, name), self._files,
                self._places)
            self._outcomes[name] = outcome
            is_told = outcome.status in (DAMAGED, UNVERIFIABLE)
            if is_told and name != self._listing.choice.taken:
                warn(f'{outcome.problem}. It neither counts nor goes')
        return self._outcomes[name].status
