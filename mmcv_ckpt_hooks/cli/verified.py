"""When ``verify`` last read every byte of a checkpoint: a note beside it.

Also of what it found damaged: a resume reads as much, and passes over it.

The note is about a file as it was then: its size, the time of its last change
and its inode. Of one that was written, copied or replaced since it says
nothing. What a disk loses later no note can tell: so it has a date.
"""
import datetime
import hashlib
import json
import os
from contextlib import suppress
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from ..errors import MissingCheckpointError, StorageError
from ..flat_files.header import SUFFIX as FLAT
from ..storage.names import is_plain
from .choice import Looks
from .outcomes import DAMAGED, NOT_CHECKED, OK
from .place import Place

VERIFIED_NAME = 'checkpoints.verified.json'
_VERSION = 1
#: A larger one is not ours (bytes): 100,000 checkpoints.
_LIMIT_BYTES = 16 << 20
#: Of a strange name so much is told (characters).
_SHOWN = 80

Warn = Callable[[str], None]


def file_state(place: Place, name: str) -> str:
    """Return what tells a checkpoint from what may be there later.

    Args:
        place (Place): A local directory.
        name (str): Of a file or a folder in it.

    Raises:
        OSError: If it is not there.
    """
    path = os.path.join(place.files.url, name)
    if not os.path.isdir(path):
        return _state_of(os.stat(path))
    content = hashlib.sha256()
    for inner in sorted(os.listdir(path)):
        state = _state_of(os.stat(os.path.join(path, inner)))
        content.update(f'{inner} {state}\n'.encode(errors='surrogateescape'))
    return f'folder-{content.hexdigest()}'


def _state_of(status: os.stat_result) -> str:
    return f'{status.st_size}-{status.st_mtime_ns}-{status.st_ino}'


def verified_in(place: Place,
                warn: Warn) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Return by name when a checkpoint was verified that is still as it was.

    Args:
        place (Place): The directory; of a remote one nothing is noted.
        warn (callable): Told of notes that cannot be read.

    Returns:
        tuple[dict, dict]: Of those that were good; of those that were
        damaged, under each name that the file has.
    """
    notes = dict(_standing(place, _read(place, warn), warn))
    latest = {
        one['state']: one
        for one in sorted(notes.values(), key=lambda one: str(one['at']))
    }
    damaged = {
        state: one['at']
        for state, one in latest.items() if one['found'] == DAMAGED
    }
    good = {
        name: latest[one['state']]['at']
        for name, one in notes.items() if one['state'] not in damaged
    }
    bad = {}
    for info in place.checkpoints if damaged else ():
        with suppress(OSError):  # a link to nothing
            state = file_state(place, info.name)
            bad.update({info.name: damaged[state]} if state in damaged else {})
    return good, bad


class Notes:
    """What a ``verify`` found, noted in each place once it was told.

    Nothing is noted, and nothing said, of remote places and where the user may
    not write.

    Args:
        warn (callable): Told of notes that cannot be read or written.
    """

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self._places: Dict[int, Place] = {}
        # by place and name; None for what is not to be noted
        self._found: Dict[int, Dict[str, Optional[Dict[str, str]]]] = {}
        self._begun: Tuple[Place, str, Optional[Dict[str, str]]]

    def begin(self, place: Place, name: str) -> None:
        """Look at a checkpoint before it is read."""
        note = None
        # "mmcv-ckpt ls" shows no safetensors
        if place.is_local and not name.endswith(FLAT):
            with suppress(OSError):  # the check says that it is not there
                note = {'state': file_state(place, name), 'at': _now()}
        self._begun = place, name, note

    def end(self, status: str) -> None:
        """Say what the check of it has found.

        Args:
            status (str): Of the :class:`~.outcomes.Outcome`.
        """
        place, name, note = self._begun
        if status == NOT_CHECKED:
            return  # what an earlier one has found stands
        if note is not None:
            note['found'] = status
            if status != OK and not _is_hidden(place, name, status):
                note = None
        # INVARIANT: of the state before: what came while it was read is not
        # what was read
        self._places[id(place)] = place
        self._found.setdefault(id(place), {})[name] = note

    def write(self) -> None:
        """Write the notes, beside those of other checkpoints."""
        for key, found in self._found.items():
            place = self._places[key]
            if place.is_local and os.access(place.files.url, os.W_OK):
                self._write(place, found)

    def _write(self, place: Place,
               found: Dict[str, Optional[Dict[str, str]]]) -> None:
        written = _read(place, self._warn)
        before = dict(_standing(place, written, self._warn))
        notes = {
            name: note
            for name, note in {
                **before,
                **found
            }.items() if note is not None
        }
        if notes == written:
            return
        content = {'version': _VERSION, 'verified': notes}
        data = json.dumps(content, indent=1, sort_keys=True).encode()
        try:
            place.files.put(VERIFIED_NAME, lambda stream: stream.write(data))
        except (StorageError, OSError) as error:
            # the verdict stands: only "mmcv-ckpt ls" does not know of it
            self._warn(f'what was verified is not noted: {error}')


def _is_hidden(place: Place, name: str, status: str) -> bool:
    """Whether it is damage that no look at the structure finds.

    What the catalog does not agree with is another matter: it is not written
    into the file, and goes when the catalog learns of it.
    """
    known = place.catalog.find(name)
    with suppress(StorageError):  # it has gone meanwhile
        return status == DAMAGED and (known is None or
                                      not Looks(place, {}).is_damaged(known))
    return False


def _now() -> str:
    return datetime.datetime.now(
        datetime.timezone.utc).isoformat(timespec='seconds')


def _standing(place: Place, written: Dict[str, Any],
              warn: Warn) -> Iterator[Tuple[str, Any]]:
    for name, one in written.items():
        if not _is_note(name, one):
            warn(f'{place.path(VERIFIED_NAME)} says of {name[:_SHOWN]!r} what '
                 'no "mmcv-ckpt verify" writes: it is passed over')
            continue
        with suppress(OSError):  # it is gone
            if one['state'] == file_state(place, name):
                # INVARIANT: one that says nothing else was good
                found = DAMAGED if one.get('found') == DAMAGED else OK
                yield name, {
                    'state': one['state'],
                    'at': one['at'],
                    'found': found
                }


def _is_note(name: str, one: Any) -> bool:
    """Whether it is one of ours: of something in the directory itself."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # half a character
        return False
    return is_plain(name) and '\0' not in name and \
        isinstance(one, dict) and all(
            isinstance(one.get(key), str) for key in ('state', 'at'))


def _read(place: Place, warn: Warn) -> Dict[str, Any]:
    if not place.is_local:
        return {}
    try:
        with place.files.open(VERIFIED_NAME) as file:
            data = file.read(_LIMIT_BYTES + 1)
        if len(data) > _LIMIT_BYTES:
            raise ValueError(f'it has more than {_LIMIT_BYTES >> 20} MiB')
        content = json.loads(data)
        if content['version'] != _VERSION:
            raise ValueError(f'version {content["version"]!r}')
        if not isinstance(content['verified'], dict):
            raise ValueError('"verified" is no object')
        verified: Dict[str, Any] = content['verified']
        return verified
    except MissingCheckpointError:
        return {}
    except (StorageError, ValueError, TypeError, KeyError,
            RecursionError) as error:
        warn(f'{place.path(VERIFIED_NAME)} cannot be read ({error}): the next '
             '"mmcv-ckpt verify" writes it anew')
        return {}
