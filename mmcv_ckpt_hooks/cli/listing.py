"""What a directory holds, as a resume would see it."""
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import AbstractSet, Any, Dict, List, Mapping, Optional, Tuple

from ..card import steps_in_name
from ..counting import finished_steps, is_count
from ..errors import StorageError
from ..folders.layout import is_folder
from ..lineage import by_step
from ..types import CheckpointInfo
from .choice import Choice, Looks, Refusal, resume_choice
from .output import warn
from .pinned import pinned_in
from .place import Place, latest_target
from .verified import verified_in

#: Device and inode.
_Inode = Tuple[int, int]


@dataclass(frozen=True)
class Listing:
    """What ``ls`` found out.

    Args:
        place (Place): The directory.
        checkpoints (list[CheckpointInfo]): By finished iterations, which
            those of other programs tell in their meta; ``same_as`` is true
            of the files.
        choice (Choice): What ``resume='auto'`` would do.
        lineage (str): Of what it takes; of the last run, if it takes none.
        refused (dict): What it would not take, by name, and why. Those of the
            plugin that it does not come to are not looked at.
        away (dict): Links that lead to no file, by name, and how.
        flags (dict): The flags of every checkpoint, by name.
        uncounted (dict): By name which of ``'epoch'`` and ``'iter'`` a file
            does not tell; the entry has 0.
        latest (str, optional): The checkpoint that ``latest.pth`` leads to.
        pinned (dict): By name why no policy of a run deletes it.
        verified (dict): By name when ``mmcv-ckpt verify`` has read every byte
            of the file that is there, and it was good.
        looks (Looks): At the checkpoints, as many as were taken.
        bytes (int): Of all files, each once.
    """
    place: Place
    checkpoints: List[CheckpointInfo]
    choice: Choice
    lineage: str
    refused: Mapping[str, Refusal]
    away: Mapping[str, str]
    flags: Mapping[str, List[str]]
    uncounted: Mapping[str, AbstractSet[str]]
    latest: Optional[str]
    pinned: Mapping[str, List[str]]
    verified: Mapping[str, str]
    looks: Looks
    bytes: int


def look(place: Place) -> Listing:
    """List a directory; no tensor is read."""
    latest = latest_target(place, warn)
    inodes = _inodes(place)
    away = _links_to_nothing(place, inodes)
    verified, damaged = verified_in(place, warn)
    looks = Looks(place, damaged)
    choice = resume_choice(place, looks, away)
    taken = next(
        (info for info in place.resumable if info.name == choice.taken), None)
    lineage = place.catalog.lineage if taken is None else taken.lineage
    refused = _refused(place, looks, {*choice.refused, *away})
    refused = {**choice.refused, **refused}
    same = _second_names(place, inodes, looks)
    counted = [_counted(looks, info) for info in place.checkpoints]
    uncounted = {info.name: unknown for info, unknown in counted if unknown}
    checkpoints = sorted((replace(info, same_as=same.get(info.name, ''))
                          for info, _ in counted),
                         key=by_step)
    flags: Dict[str, List[str]] = {info.name: [] for info in checkpoints}
    for name, refusal in refused.items():
        flags[name].append(refusal.flag)
    for flag, chosen in (('resume', choice.taken), ('latest', latest)):
        if chosen is not None:
            flags[chosen].append(flag)
    for key, best in place.best_scores().items():
        flags[best.name].append(f'best {key}')
    continued = {info.name for info in place.resumable}
    for info in checkpoints:
        flags[info.name] += _link_flags(place, info.name, away)
        flags[info.name] += _kinship_flags(lineage, info, info.name
                                           in continued)
    sizes = {
        inodes[info.name]: info.bytes
        for info in checkpoints if info.name in inodes
    }
    return Listing(place, checkpoints, choice, lineage, refused,
                   away, flags, uncounted, latest,
                   pinned_in(place, choice, latest), verified, looks,
                   sum(sizes.values()))


def _refused(place: Place, looks: Looks,
             known: AbstractSet[str]) -> Dict[str, Refusal]:
    """Return what a resume would not take of what it does not come to."""
    found = {}
    for info in place.checkpoints:
        if info.name not in known and not _is_whole(place, looks, info):
            with suppress(StorageError):  # it does not come to it
                refusal = looks.fault(info)
                found.update({} if refusal is None else {info.name: refusal})
    return found


def _is_whole(place: Place, looks: Looks, info: CheckpointInfo) -> bool:
    """Whether it has all that a run needs, as what the plugin wrote has.

    Where a look is a request, or several files, the catalog is believed.
    """
    if looks.was_found_damaged(info):
        return False
    if not place.is_local or is_folder(info.name):
        return bool(info.digest and info.created_at)
    return looks.is_as_committed(info)


# -- which files they are --------------------------------------------------


def _inodes(place: Place) -> Dict[str, _Inode]:
    """Return the files by name; links that lead to none are left out.

    In a remote place each name is a file of its own.
    """
    if not place.is_local:
        return {
            info.name: (-1, index)
            for index, info in enumerate(place.checkpoints)
        }
    found = {}
    for info in place.checkpoints:
        with suppress(OSError):
            status = os.stat(os.path.join(place.files.url, info.name))
            is_there = stat.S_ISDIR if is_folder(info.name) else stat.S_ISREG
            if is_there(status.st_mode):
                found[info.name] = status.st_dev, status.st_ino
    return found


def _links_to_nothing(place: Place, inodes: Mapping[str,
                                                    _Inode]) -> Dict[str, str]:
    links = {
        info.name: place.catalog.link(info.name)
        for info in place.checkpoints if info.name not in inodes
    }
    return {
        name: f'link to {target}, which is not there'
        for name, target in links.items() if target
    }


def _second_names(place: Place, inodes: Mapping[str, _Inode],
                  looks: Looks) -> Dict[str, str]:
    """Return by name of which other one it has the content.

    It is the same file, or one that was written as a copy and still has the
    digest: a run that fell back saves the step again. Copies of others may
    differ within a tensor, which no digest tells.
    """
    of_inode: Dict[_Inode, str] = {}
    by_name = {info.name: info for info in place.checkpoints}
    found = {}
    # stable: what a run wrote, then what others made of it
    for info in sorted(
            place.checkpoints,
            key=lambda info: (not info.lineage, not info.regular)):
        if info.name not in inodes:
            continue
        first = of_inode.setdefault(inodes[info.name], info.name)
        copied = by_name.get(info.same_as)
        if first != info.name:
            found[info.name] = first
        elif copied and copied.digest == info.digest and not any(
                looks.refusal(one) for one in (copied, info)):
            found[info.name] = copied.name
    return found


# -- what they say of themselves -------------------------------------------


def _counted(looks: Looks,
             info: CheckpointInfo) -> Tuple[CheckpointInfo, AbstractSet[str]]:
    """Return an entry with the finished steps, whoever wrote the file.

    Returns:
        tuple[CheckpointInfo, set[str]]: The entry, and which of ``'epoch'``
        and ``'iter'`` neither the file nor its name tells.
    """
    told = steps_in_name(info.name)
    unknown = {'epoch', 'iter'} - set(told)
    # ours have a card, which tells the time; names tell one of the two
    if info.created_at or not unknown:
        return info, set()
    counters: Dict[str, Any] = {}
    with suppress(StorageError):
        counters = looks.counters(info)
    meta = counters.get('meta')
    if not isinstance(meta, dict) or not all(
            is_count(meta.get(key, 0)) for key in ('epoch', 'iter')):
        return info, unknown
    # what neither name nor optimizer tells is taken as it is
    epoch, finished = finished_steps(
        counters, info.name, epoch_runner=True, log=lambda message: None)
    return replace(info, epoch=epoch, iter=finished), unknown - set(meta)


def _link_flags(place: Place, name: str, away: Mapping[str, str]) -> List[str]:
    if name in away:
        return [away[name]]
    return ['link'] if place.catalog.link(name) else []


def _kinship_flags(lineage: str, info: CheckpointInfo,
                   resumable: bool) -> List[str]:
    flags = []
    if info.same_as:
        flags.append(f'same as {info.same_as}')
    if lineage and not info.lineage:
        flags.append('not owned')
    elif info.lineage != lineage:
        flags.append('other run')
    elif not resumable:
        flags.append('superseded')
    return flags
