"""What ``resume='auto'`` would take, and why not another one.

No tensor is read: of a file its pickle is outlined, of a folder the small
files are opened. A resume finds the same, and reads every byte: what that
finds only a note of ``verify`` tells.
"""
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Set, Tuple

from ..errors import (CheckpointError, IntegrityError, MissingCheckpointError,
                      ResumeError, StorageError, UnsafeCheckpointError,
                      UnverifiableError)
from ..folders.layout import REST_NAME, is_folder
from ..folders.opening import Folder, open_folder
from ..folders.place import any_folder_of
from ..glance import read_meta
from ..quick_directory import open_directory, quick_directory
from ..run_fields import check_run
from ..scanning import read_outline
from ..types import CheckpointInfo
from ..verification import open_archive, zip_digest
from ..wording import iso_time_text
from .place import Place

#: Flags of what a resume does not take.
DAMAGED = 'damaged'
NEEDS_TRUST = 'needs trust_checkpoint'
NOT_RESUMABLE = 'not resumable'


@dataclass(frozen=True)
class Refusal:
    """Why a resume does not take a checkpoint.

    Args:
        flag (str): :data:`DAMAGED`, :data:`NEEDS_TRUST` or
            :data:`NOT_RESUMABLE`.
        why (str): In words.
        stops (bool): Whether the run ends with it; it would go on to the next
            one otherwise. Default: False.
        found_at (str): When ``verify`` has found it, of what a look does not.
            Default: '', a look has.
    """
    flag: str
    why: str
    stops: bool = False
    found_at: str = ''


class Looks:
    """Looks at each checkpoint of a place once.

    Args:
        place (Place): The directory.
        damaged (dict): By name when ``verify`` has found damage that no look
            finds, in the file that is there.
    """

    def __init__(self, place: Place, damaged: Mapping[str, str]) -> None:
        self._place = place
        self._damaged = damaged
        self._seen: Dict[str, Tuple[Optional[Refusal], Dict[str, Any]]] = {}
        self._as_committed: Dict[str, bool] = {}
        self._glances: Dict[str, Tuple[Optional[Refusal], Dict[str, Any]]] = {}

    def refusal(self, info: CheckpointInfo) -> Optional[Refusal]:
        """Return why a resume does not take it; None if it does."""
        return self._look(info)[0]

    def is_as_committed(self, info: CheckpointInfo) -> bool:
        """Whether it is a file of the plugin, with the records that it had.

        Then it had all that a run needs. Only its zip directory is read, in
        a hundredth of the time of a look: whether its records, the pickle
        among them, still have these bytes a check has to find. "No" says
        nothing.
        """
        if not info.digest or not info.created_at or is_folder(info.name) or \
                info.name in self._damaged:
            return False
        if info.name not in self._as_committed:
            try:
                with self._place.files.open(info.name) as file:
                    found = quick_directory(file)
            except (StorageError, OSError):
                found = None  # a look says what it is
            self._as_committed[info.name] = found is not None and \
                found.digest == info.digest
        return self._as_committed[info.name]

    def sound(self) -> Set[str]:
        """Return the names of what was looked at and found undamaged."""
        looked = {
            name
            for name, (refusal, _) in self._seen.items() if refusal is None
            or refusal.flag == NOT_RESUMABLE or refusal.found_at
        }
        return looked.union(
            self._glances,
            (name for name, found in self._as_committed.items() if found))

    def is_damaged(self, info: CheckpointInfo) -> bool:
        """Whether it is damaged, as far as is known."""
        refusal = self._look(info)[0]
        return refusal is not None and refusal.flag == DAMAGED

    def was_found_damaged(self, info: CheckpointInfo) -> bool:
        """Whether ``verify`` has found damage that no look finds."""
        return info.name in self._damaged

    def fault(self, info: CheckpointInfo) -> Optional[Refusal]:
        """Return what is wrong with one that a resume does not come to.

        Of a file of stock mmcv the structure is read, and ``meta``: what
        stands after the first tensor, only a resume would come to.
        """
        return self._glance(info)[0]

    def counters(self, info: CheckpointInfo) -> Dict[str, Any]:
        """Return its fields ``meta`` and ``resume_state``.

        Empty if they cannot be read, or if it has no ``meta``.
        """
        return self._glance(info)[1]

    def _glance(
            self,
            info: CheckpointInfo) -> Tuple[Optional[Refusal], Dict[str, Any]]:
        if info.name in self._damaged:
            return self._look(info)
        if info.name not in self._seen and info.name not in self._glances:
            meta = None
            if not info.digest or not info.created_at:
                # what is wrong with it a look says
                with suppress(CheckpointError, OSError, zipfile.BadZipFile):
                    meta = self._meta(info)
            if meta is not None:
                told = {'meta': meta, 'resume_state': None}
                self._glances[info.name] = None, told
        if info.name in self._glances and info.name not in self._seen:
            return self._glances[info.name]
        return self._look(info)

    def _meta(self, info: CheckpointInfo) -> Optional[Dict[str, Any]]:
        """Return the field ``meta`` of a good file; None if a look is needed.
        """
        if is_folder(info.name):
            return None
        with self._place.files.open(info.name) as file:
            archive, digest = open_directory(file, info.name)
            if info.digest not in ('', digest):
                return None
            meta = read_meta(archive, info.name)
        if meta is not None:
            check_run({'meta': meta, 'state_dict': {}}, info.name)
        return meta

    def _look(
            self,
            info: CheckpointInfo) -> Tuple[Optional[Refusal], Dict[str, Any]]:
        if info.name not in self._seen:
            told: Dict[str, Any] = {}
            refusal = self._refusal(info, told) or self._found(info.name)
            self._seen[info.name] = (refusal, told)
        return self._seen[info.name]

    def _refusal(self, info: CheckpointInfo,
                 told: Dict[str, Any]) -> Optional[Refusal]:
        """Do as a resume does, in the same order."""
        try:
            if is_folder(info.name):
                return self._of_folder(info)
            with self._place.files.open(info.name) as file, \
                    open_archive(file, info.name) as archive:
                if info.digest not in ('', zip_digest(archive.infolist())):
                    return self._replaced(info)
                content = read_outline(archive, info.name)
            if isinstance(content, dict) and \
                    isinstance(content.get('meta'), dict):
                told.update(
                    meta=content['meta'],
                    resume_state=content.get('resume_state'))
            check_run(content, info.name)
        except UnverifiableError as error:
            return Refusal(NEEDS_TRUST, str(error))
        except UnsafeCheckpointError as error:
            return Refusal(NEEDS_TRUST, str(error), stops=True)
        except ResumeError as error:
            return Refusal(NOT_RESUMABLE, str(error))
        except (IntegrityError, MissingCheckpointError,
                zipfile.BadZipFile) as error:
            return Refusal(DAMAGED, str(error))
        return None

    def _found(self, name: str) -> Optional[Refusal]:
        at = self._damaged.get(name)
        return None if at is None else Refusal(
            DAMAGED, f'{name}: verify found it damaged at {iso_time_text(at)} '
            f'("mmcv-ckpt verify {self._place.path(name)}" says how)',
            found_at=at)

    def _of_folder(self, info: CheckpointInfo) -> Optional[Refusal]:
        folder = open_folder(
            any_folder_of(self._place.files, info.name), info.name)
        if info.digest not in ('', folder.digest):
            return self._replaced(info)
        if folder.is_plain:
            return Refusal(NOT_RESUMABLE, folder.no_counters)
        _check_rest(folder)
        return None

    def _replaced(self, info: CheckpointInfo) -> Refusal:
        return Refusal(
            DAMAGED, f'{info.name} is not the checkpoint that the catalog '
            f'lists ("mmcv-ckpt verify {self._place.path(info.name)}" says '
            'more)')


def _check_rest(folder: Folder) -> None:
    """Check what is no tensor: of those the metadata tell.

    Raises:
        ResumeError: If no run can go on from it.
    """
    path = folder.file_path(REST_NAME)
    with folder.files.open(REST_NAME) as file, \
            open_archive(file, path) as archive:
        content = read_outline(archive, path)
    if isinstance(content, dict):
        # by itself the rest is a part, which is refused
        content = {
            **{
                key: value
                for key, value in content.items() if key != 'optimizer'
            }, 'state_dict': {}
        }
    check_run(content, folder.path)


@dataclass(frozen=True)
class Choice:
    """What a resume would do.

    Args:
        taken (str, optional): The checkpoint that it takes. Default: None.
        stops_at (str, optional): The one at which the run ends with an error.
            Default: None, which with nothing taken means: at the last one.
        refused (dict): By name what it has passed over, or stops at.
    """
    taken: Optional[str] = None
    stops_at: Optional[str] = None
    refused: Dict[str, Refusal] = field(default_factory=dict)


def resume_choice(place: Place, looks: Looks, away: Mapping[str,
                                                            str]) -> Choice:
    """Go through the candidates as a resume does.

    Args:
        place (Place): The directory.
        looks (Looks): At it.
        away (dict): Links that lead to no file, by name.
    """
    refused: Dict[str, Refusal] = {}
    for info in place.resumable:
        if info.name in away:
            continue
        refusal = looks.refusal(info)
        if refusal is None:
            return Choice(info.name, refused=refused)
        refused[info.name] = refusal
        if refusal.stops:
            return Choice(stops_at=info.name, refused=refused)
    return Choice(refused=refused)
