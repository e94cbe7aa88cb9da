"""What a checkpoint file says of itself, written and read in one place.

The record ``checkpoint_info.json`` inside the file; for files of other
programs their name. Standard library only.
"""
import math
import os
import re
import zipfile
from dataclasses import fields, replace
from typing import Any, Dict, Optional, Tuple, Type, TypeVar, cast

from .errors import IntegrityError
from .folders.folder import read_card as read_folder
from .folders.layout import is_folder
from .quick_directory import open_directory
from .types import (LATEST_NAME, MAX_STEPS, UNKNOWN_BYTES, CheckpointInfo,
                    Metrics, StorageBackend)
from .verification import read_info

CARD_VERSION = 1

_Record = TypeVar('_Record')

#: ``epoch_3_iter_1200.pth``, ``iter_1200.pth``, ``best_mIoU_epoch_3.pth``.
_EPOCH = re.compile(r'(?:^|_)epoch_(\d+)(?=[_.\-]|$)')
_ITER = re.compile(r'(?:^|_)iter_(\d+)(?=[_.\-]|$)')


def steps_in_name(name: str) -> Dict[str, int]:
    """Return the finished ``epoch`` and ``iter`` that a file name tells."""
    found = {}
    for key, pattern in (('epoch', _EPOCH), ('iter', _ITER)):
        match = pattern.search(name)
        if match and int(match.group(1)) < MAX_STEPS:
            found[key] = int(match.group(1))
    return found


def card(info: CheckpointInfo) -> Dict[str, Any]:
    """Return the content of ``checkpoint_info.json``."""
    return {
        'format': CARD_VERSION,
        'name': info.name,
        'lineage': info.lineage,
        'generation': info.generation,
        'started_iter': info.started_iter,
        'epoch': info.epoch,
        'iter': info.iter,
        'trigger': info.trigger,
        'regular': info.regular,
        'metrics': dict(info.metrics),
        'created_at': info.created_at,
    }


def describe(files: StorageBackend,
             name: str,
             size: int,
             known: Optional[CheckpointInfo] = None,
             leads_to: str = '',
             in_folder: bool = False) -> CheckpointInfo:
    """Build a catalog entry from a file; nothing is unpickled.

    A damaged file gets an entry, too, with what its name tells: who resumes
    must see that it is there, and why it cannot be taken.

    Args:
        files (StorageBackend): Where it is.
        name (str): Its name.
        size (int): In bytes.
        known (CheckpointInfo, optional): What the catalog had. Default: None.
        leads_to (str): Where a ``latest.pth`` that is a link leads: that name
            tells the step. Default: ''.
        in_folder (bool): Whether it is a folder, whatever its name is.
            Default: False, which means that the name tells.
    """
    steps = steps_in_name(os.path.basename(leads_to) or name)
    is_best = name.startswith('best_')
    entry = CheckpointInfo(
        name,
        epoch=steps.get('epoch', 0),
        iter=steps.get('iter', 0),
        bytes=size,
        trigger='best' if is_best else 'interval',
        regular=not is_best)
    try:
        digest, info = read_folder(files, name) \
            if in_folder or is_folder(name) else _read_file(files, name)
    except (IntegrityError, zipfile.BadZipFile):
        # what was known says whose it is, and in which turn a resume passes
        # it over with a reason
        return entry if known is None else replace(
            known, bytes=size, digest='')
    told = {
        key: info[key]
        for key, annotation in _VALUES.items()
        if key in info and _fits(info[key], annotation)
    }
    if is_best:
        # a link has the content, and so the card, of the regular checkpoint
        told.update(trigger='best', regular=False)
    if is_best or info.get('name', name) != name and \
            name != LATEST_NAME:
        # INVARIANT: nobody's, so never deleted: whether it is still the best
        # only the catalog knew, and under another name it is a copy that the
        # user made
        told.update(lineage='', generation=0)
    return replace(entry, digest=digest, **told)


def _read_file(files: StorageBackend, name: str) -> Tuple[str, Dict[str, Any]]:
    with files.open(name) as file:
        archive, digest = open_directory(file, name)
        return digest, read_info(archive, name)


#: Type of every value of the card that an entry takes over.
_VALUES: Dict[str, Any] = {
    'lineage': str,
    'generation': int,
    'started_iter': int,
    'epoch': int,
    'iter': int,
    'trigger': str,
    'regular': bool,
    'metrics': Metrics,
    'created_at': str,
}
#: Larger ones are no counts, and have no float.
_LARGEST = 2**63 - 1


def checked(record: Type[_Record], values: Any) -> _Record:
    """Build a record from JSON; keys of other versions are left out.

    Raises:
        TypeError: If a value is missing or none that could be.
    """
    known = {one.name: one.type for one in fields(cast(Any, record))}
    given = {key: values[key] for key in values if key in known}
    for key, value in given.items():
        lowest = UNKNOWN_BYTES if key == 'bytes' else 0
        if not _fits(value, known[key], lowest):
            raise TypeError(f'{key}={value!r}')
    return record(**given)


def _fits(value: Any, annotation: Any, lowest: int = 0) -> bool:
    """Whether a value of a record is of its type, and one that could be.

    No count is negative, and no best score infinite or NaN; the scores of a
    checkpoint may be, in those of other versions.
    """
    if annotation is Metrics:
        return isinstance(value, dict) and all(
            _is_number(score) for score in value.values())
    if annotation is float:
        return _is_number(value) and math.isfinite(value)
    if annotation is int:
        return _is_number(value) and isinstance(value, int) and \
            value >= lowest
    return isinstance(value, annotation)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) <= _LARGEST
