"""One checkpoint checked, of any kind, for ``verify`` and ``prune``."""
import os
import time
from dataclasses import replace
from typing import IO, Any, Dict, Tuple

from ..errors import (CheckpointError, IntegrityError, UnsafeCheckpointError,
                      UnverifiableError)
from ..flat_files.header import SUFFIX as FLAT
from ..flat_files.verification import verify_flat
from ..folders.opening import open_folder
from ..folders.place import leads_to_folder
from ..folders.verification import verify_folder
from ..scanning import verify_loadable
from ..storage.mapped_errors import mapped_errors
from .outcomes import (DAMAGED, NOT_CHECKED, OK, UNSAFE, UNVERIFIABLE, Outcome,
                       Target, failure_of)
from .output import warn
from .place import Places
from .progress import progress_of

#: Device and inode, or URL and name.
Identity = Tuple[Any, Any]


def check(target: Target,
          checked: Dict[Identity, Outcome],
          places: Places,
          of: str = '') -> Outcome:
    """Check one checkpoint.

    Args:
        target (Target): The file.
        checked (dict): Outcomes by what tells a file from another; a hard
            link of one that was found good is not read again.
        places (Places): How a folder is opened.
        of (str): After its name while it is read: which one of how many.
            Default: ''.
    """
    known = target.place.catalog.find(target.name)
    digest = known.digest if known is not None else ''
    try:
        if leads_to_folder(os.path.join(target.place.files.url, target.name)):
            return _check_folder(target, digest, places, of)
        with target.place.files.open(target.name) as file:
            key = _identity(target, file)
            same = checked.get(key)
            if same is not None and digest in ('', same.digest):
                return replace(same, path=target.shown, same_as=same.path)
            size = file.seek(0, os.SEEK_END)
            began = time.perf_counter()
            with mapped_errors('cannot read', target.shown), \
                    progress_of(target.shown + of, size) as advance:
                verify = verify_flat if target.name.endswith(FLAT) else \
                    verify_loadable
                report = verify(file, target.shown, digest, advance)
            secs = time.perf_counter() - began
    except UnverifiableError as error:
        return failure_of(target.shown, UNVERIFIABLE, error)
    except IntegrityError as error:
        return failure_of(target.shown, DAMAGED, error)
    except UnsafeCheckpointError as error:
        return failure_of(target.shown, UNSAFE, error)
    except CheckpointError as error:
        warn(str(error))
        return failure_of(target.shown, NOT_CHECKED, error)
    outcome = Outcome(
        target.shown,
        OK,
        report.bytes,
        report.records,
        secs,
        report.digest,
        note=report.note)
    checked[key] = outcome
    return outcome


def _check_folder(target: Target, digest: str, places: Places,
                  of: str) -> Outcome:
    """Check a sharded checkpoint.

    Raises:
        CheckpointError: If it is damaged, or cannot be checked.
    """
    began = time.perf_counter()
    with mapped_errors('cannot read', target.shown):
        folder = open_folder(
            places.files(target.place.path(target.name)), target.shown, digest)
        with progress_of(target.shown + of, folder.bytes) as advance:
            report = verify_folder(folder, advance)
    return Outcome(
        target.shown,
        OK,
        report.bytes,
        report.records,
        time.perf_counter() - began,
        report.digest,
        note=report.note)


def _identity(target: Target, file: IO[bytes]) -> Identity:
    if not target.place.is_local:
        return target.place.files.url, target.name
    there = os.fstat(file.fileno())
    return there.st_dev, there.st_ino
