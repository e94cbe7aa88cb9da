"""Which checkpoints of a directory need not be kept, and why others stay."""
import argparse
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Set

from ..errors import StorageError
from ..pruning import Pruner
from ..retention import KeepAny
from ..types import LATEST_NAME, CheckpointInfo
from .choice import DAMAGED, NOT_RESUMABLE
from .keeping import Keeping, keep_options, keeping_of
from .listing import Listing
from .output import warn
from .place import Place

_NEITHER = 'it neither counts nor goes'


@dataclass(frozen=True)
class Verdict:
    """What becomes of one checkpoint.

    Args:
        info (CheckpointInfo): It.
        goes (bool): Whether it is to be deleted.
        why (list[str]): Why it stays.
        counts (bool): Whether a policy keeps it, and others go for that.
        problem (str): Why it could not be deleted. Default: ''.
    """
    info: CheckpointInfo
    goes: bool
    why: List[str]
    counts: bool
    problem: str = ''


def judge(listing: Listing,
          given: argparse.Namespace,
          unfit: Optional[Mapping[str, str]] = None) -> List[Verdict]:
    """Return what becomes of each checkpoint, by finished iterations.

    Args:
        listing (Listing): What is there.
        given (argparse.Namespace): Of the command: what to keep, and whether
            what is superseded, or others', may go.
        unfit (dict, optional): By name what a check of every byte has found
            wrong with one. Default: None, nothing was checked.

    Raises:
        ConfigError: If what to keep does not fit the place.
        StorageError: If the scores that rank could not be read.
    """
    place = listing.place
    catalog = place.catalog
    # it is lost, or its run has nothing here
    catalog.lineage = place.lineage or catalog.lineage
    unfit = {
        name: f'{found}: {_NEITHER}'
        for name, found in (unfit or {}).items()
    }
    left = {**_left_alone(listing, given), **unfit}
    there = [
        replace(info, lineage=catalog.lineage) for info in listing.checkpoints
        if info.name not in left
    ]
    keep = keep_options(given)
    if keep.best is not None and catalog.lost_scores is not None:
        # INVARIANT: any of them may be the best
        raise StorageError('--best: the scores cannot be read '
                           f'({catalog.lost_scores})')
    given_up = _superseded(place) - set(left) if given.superseded else set()
    judged = [info for info in there if info.name not in given_up]
    keeping = keeping_of(keep, place, judged, given.by)
    pruner = Pruner(place.files, catalog,
                    KeepAny([policy for _, policy in keeping.reasons]),
                    lambda message: warn(message.replace('keep.', '--')),
                    lambda message, error: warn(message), None, keeping.budget)
    pruner.ranking = keeping.ranking
    needed = listing.pinned
    # INVARIANT: a best one does not go for a better one that is damaged
    unsound = {name for name, said in left.items() if said.endswith(_NEITHER)}
    stay = {info.name for info in judged if info.trigger == 'best'} \
        if catalog.best_names() & unsound else set()
    goes = {
        info.name
        for info in pruner.superseded(frozenset(needed), judged)
    } - stay | given_up - set(needed)
    why = keeping.why(judged)
    return [
        Verdict(
            info,
            goes=info.name in goes,
            why=[] if info.name in goes else _reasons(info, left, needed, why,
                                                      keeping),
            counts=info.name not in goes and info.name not in left)
        for info in listing.checkpoints
    ]


def _left_alone(listing: Listing, given: argparse.Namespace) -> Dict[str, str]:
    """Return by name what no policy is asked about, and why not."""
    place = listing.place
    # where stock mmcv alone has written, nobody owns anything
    owned = {
        info.name
        for info in place.catalog.owned() if place.catalog.lineage
    }
    superseded = _superseded(place)
    # not only what a resume comes to: what is kept must be worth it. What a
    # structure does not tell, the check of what is kept finds
    looks = listing.looks
    found: Dict[str, str] = {}
    for info in listing.checkpoints:
        name = info.name
        is_known = name in listing.away or looks.is_as_committed(info)
        refusal = None if is_known else looks.fault(info)
        if refusal is not None and refusal.flag == DAMAGED:
            found[name] = f'damaged: {_NEITHER}'
        elif refusal is not None and refusal.flag == NOT_RESUMABLE and \
                name not in owned:
            # adopted it would be the last, and every real one would go
            found[
                name] = f'weights alone, or no checkpoint of a run: {_NEITHER}'
        elif 'iter' in listing.uncounted.get(name, ()):
            found[name] = 'of which step it is nothing tells'
        elif name in listing.away or place.catalog.link(name):
            found[name] = 'a link that somebody made'
        elif name in superseded:
            if not given.superseded:
                found[name] = 'superseded (--superseded)'
        elif name not in owned and (not given.adopt_existing or info.trigger
                                    == 'best' or name == LATEST_NAME):
            found[name] = 'of another run' if info.lineage else \
                'of another program, or copied or renamed'
            if info.trigger != 'best' and name != LATEST_NAME:
                found[name] += ' (--adopt-existing)'
    return found


def _superseded(place: Place) -> Set[str]:
    """Return the names of what the run has given up."""
    current = {info.name for info in place.catalog.owned()}
    return {
        info.name
        for info in place.checkpoints if info.lineage
        and info.lineage == place.catalog.lineage and info.name not in current
        and info.name != LATEST_NAME and not place.catalog.link(info.name)
    }


def _reasons(info: CheckpointInfo, left: Mapping[str, str],
             needed: Mapping[str, List[str]], why: Mapping[str, List[str]],
             keeping: Keeping) -> List[str]:
    if info.name in left:
        return [left[info.name]]
    found = list(why.get(info.name, [])) + list(needed.get(info.name, []))
    if not found and info.trigger == 'best':
        found.append('no better one is known')
    elif not found:
        found.append('fits' if keeping.budget is not None else 'of the newest '
                     'step')
    return found
