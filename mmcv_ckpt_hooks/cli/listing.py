"""What a directory holds, as a resume would see it."""
import os
import stat
import zipfile
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import AbstractSet, Any, Dict, List, Mapping, Optional, Tuple

from ..card import steps_in_name
from ..counting import finished_steps, is_count
from ..errors import (CheckpointError, IntegrityError, MissingCheckpointError,
                      UnsafeCheckpointError, UnverifiableError)
from ..folders.layout import is_folder
from ..folders.opening import open_folder
from ..folders.place import any_folder_of
from ..lineage import by_step
from ..scanning import read_outline
from ..types import CheckpointInfo
from ..verification import open_archive, zip_digest
from .output import warn
from .place import Place, latest_target

#: Flag of a format without checksums.
NEEDS_TRUST = 'needs trust_checkpoint'

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
        resume (str, optional): The checkpoint that ``resume='auto'`` would
            take.
        damaged (dict): What is damaged, by name, and how.
        away (dict): Links that lead to no file, by name, and how.
        untrusted (set[str]): What is not loaded without
            ``trust_checkpoint``.
        flags (dict): The flags of every checkpoint, by name.
        uncounted (dict): By name which of ``'epoch'`` and ``'iter'`` a file
            does not tell; the entry has 0.
        latest (str, optional): The checkpoint that ``latest.pth`` leads to.
        bytes (int): Of all files, each once.
    """
    place: Place
    checkpoints: List[CheckpointInfo]
    resume: Optional[str]
    damaged: Mapping[str, str]
    away: Mapping[str, str]
    untrusted: AbstractSet[str]
    flags: Mapping[str, List[str]]
    uncounted: Mapping[str, AbstractSet[str]]
    latest: Optional[str]
    bytes: int


def look(place: Place) -> Listing:
    """List a directory; of the files' content only pickles are read."""
    latest = latest_target(place, warn)
    inodes = _inodes(place)
    away = _links_to_nothing(place, inodes)
    resume, passed_over = _resume_choice(place, away)
    for info in place.checkpoints:
        # the catalog found no digest: there is no readable zip directory
        if not info.digest and info.name not in {*passed_over, *away}:
            problem = _structure_problem(place, info)
            if problem:
                passed_over[info.name] = problem
    damaged = {
        name: problem
        for name, problem in passed_over.items() if problem != NEEDS_TRUST
    }
    untrusted = set(passed_over) - set(damaged)
    same = _second_names(place, inodes, passed_over)
    counted = [_counted(place, info) for info in place.checkpoints]
    uncounted = {info.name: unknown for info, unknown in counted if unknown}
    checkpoints = sorted((replace(info, same_as=same.get(info.name, ''))
                          for info, _ in counted),
                         key=by_step)
    flags: Dict[str, List[str]] = {info.name: [] for info in checkpoints}
    for flag, names in (('damaged', [*damaged]), (NEEDS_TRUST, [*untrusted]),
                        ('resume', [resume]), ('latest', [latest])):
        for name in names:
            if name is not None:
                flags[name].append(flag)
    for key, best in place.best_scores().items():
        flags[best.name].append(f'best {key}')
    continued = {info.name for info in place.resumable}
    for info in checkpoints:
        flags[info.name] += _link_flags(place, info.name, away)
        flags[info.name] += _kinship_flags(place, info, info.name in continued)
    sizes = {
        inodes[info.name]: info.bytes
        for info in checkpoints if info.name in inodes
    }
    return Listing(place, checkpoints, resume, damaged, away, untrusted, flags,
                   uncounted, latest, sum(sizes.values()))


# -- what a resume takes ---------------------------------------------------


def _resume_choice(
        place: Place,
        away: Mapping[str, str]) -> Tuple[Optional[str], Dict[str, str]]:
    """Go through the candidates as a resume does, but read no content."""
    passed_over: Dict[str, str] = {}
    for info in place.resumable:
        if info.name in away:
            continue
        problem = _structure_problem(place, info)
        if not problem:
            return info.name, passed_over
        passed_over[info.name] = problem
    return None, passed_over


def _structure_problem(place: Place, info: CheckpointInfo) -> str:
    """Return why a resume does not take a file; empty if it does.

    Its zip directory is damaged, or by its format (:data:`NEEDS_TRUST`) it
    has none.
    """
    try:
        if is_folder(info.name):
            folder = any_folder_of(place.files, info.name)
            found = open_folder(folder, info.name).digest
        else:
            with place.files.open(info.name) as file, \
                    open_archive(file, info.name) as archive:
                found = zip_digest(archive.infolist())
    except UnverifiableError:
        return NEEDS_TRUST
    except (IntegrityError, MissingCheckpointError, UnsafeCheckpointError,
            zipfile.BadZipFile) as error:
        return str(error)
    if info.digest and info.digest != found:
        return (f'{info.name} is not the checkpoint that the catalog lists '
                f'("mmcv-ckpt verify {place.path(info.name)}" says more)')
    return ''


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
                  passed_over: Mapping[str, str]) -> Dict[str, str]:
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
                one.name in passed_over or _structure_problem(place, one)
                for one in (copied, info)):
            found[info.name] = copied.name
    return found


# -- what they say of themselves -------------------------------------------


def _counted(place: Place,
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
    meta: Any = None
    try:
        with place.files.open(info.name) as file, \
                open_archive(file, info.name) as archive:
            content = read_outline(archive, info.name)
    except (CheckpointError, zipfile.BadZipFile):
        return info, unknown  # what is wrong with it is said elsewhere
    if isinstance(content, dict):
        meta = content.get('meta')
    if not isinstance(meta, dict) or not all(
            is_count(meta.get(key, 0)) for key in ('epoch', 'iter')):
        return info, unknown
    counted = {'meta': meta, 'resume_state': content.get('resume_state')}
    # what neither name nor optimizer tells is taken as it is
    epoch, finished = finished_steps(
        counted, info.name, epoch_runner=True, log=lambda message: None)
    return replace(info, epoch=epoch, iter=finished), unknown - set(meta)


def _link_flags(place: Place, name: str, away: Mapping[str, str]) -> List[str]:
    if name in away:
        return [away[name]]
    return ['link'] if place.catalog.link(name) else []


def _kinship_flags(place: Place, info: CheckpointInfo,
                   resumable: bool) -> List[str]:
    flags = []
    if info.same_as:
        flags.append(f'same as {info.same_as}')
    if place.lineage and not info.lineage:
        flags.append('not owned')
    elif info.lineage != place.lineage:
        flags.append('other run')
    elif not resumable:
        flags.append('superseded')
    return flags
