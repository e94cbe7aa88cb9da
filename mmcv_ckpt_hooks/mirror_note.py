"""Where a directory's mirror is, noted beside its catalog.

``mmcv-ckpt push`` reads it. Standard library only.
"""
import json
import uuid
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Mapping, Optional, Tuple

from .errors import ConfigError, MissingCheckpointError
from .monitors import AUTO, RULES, Monitor, infer_rule
from .retention import KeepBest
from .types import StorageBackend

NOTE_NAME = 'checkpoints.mirror.json'
_LIMIT_BYTES = 1 << 16


@dataclass(frozen=True)
class MirrorNote:
    """A mirror, how to reach it, and what it keeps; as ``KeepOptions``.

    Args:
        url (str): Without credentials.
        by_epoch (bool): Whether steps are epochs.
        last (int, optional): None for all.
        every (int, optional): In steps.
        best (int, optional): Of each metric.
        bytes (int, optional): Of the budget.
        monitors (dict, optional): By metric that ranks ``'greater'`` or
            ``'less'``; empty if its name says it.
        create_symlink (bool): Whether there is a pointer to the newest.
        endpoint (str, optional): Of its ``storage_options``, which may hold
            credentials: nothing else of them is here.
        region (str, optional): As ``endpoint``.
        token (str): Of the start that wrote it; made up.
    """
    url: str
    by_epoch: bool = False
    last: Optional[int] = None
    every: Optional[int] = None
    best: Optional[int] = None
    bytes: Optional[int] = None
    monitors: Optional[Mapping[str, str]] = None
    create_symlink: bool = True
    endpoint: Optional[str] = None
    region: Optional[str] = None
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def ranking(self, auto: Optional[str]) -> Optional[KeepBest]:
        """Return what keeps the best, as far as it is known.

        Args:
            auto (str, optional): The metric that 'auto' means; None if that
                is not known.
        """
        if self.best is None:
            return None
        try:
            return KeepBest(self.best, self._ranking_by(auto))
        except ConfigError:  # only the run's EvalHook knows the direction
            return KeepBest(self.best, None)

    def _ranking_by(self, auto: Optional[str]) -> \
            Optional[Tuple[Monitor, ...]]:
        named = [(auto if key == AUTO else key, rule)
                 for key, rule in (self.monitors or {}).items()]
        found = tuple(
            Monitor(key, rule or infer_rule(key)) for key, rule in named
            if key is not None)
        return found if found and len(found) == len(named) else None


def write_note(home: StorageBackend, note: MirrorNote) -> None:
    """Note a mirror, in the place of the one before."""
    data = json.dumps(asdict(note), indent=1, sort_keys=True).encode()
    home.put(NOTE_NAME, lambda stream: stream.write(data))


def refuse_own(place: StorageBackend, token: str,
               home: StorageBackend) -> None:
    """Refuse a mirror that is the place of the run itself.

    INVARIANT: retention of a mirror never deletes the run's own checkpoints.
    One place has many URLs; what was just written there tells.

    Args:
        place (StorageBackend): Of the mirror.
        token (str): Of the note that this start wrote; empty if it could not.
        home (StorageBackend): Where to.

    Raises:
        ConfigError: If it is there, too.
        StorageError: If that cannot be known.
    """
    if token and _token_in(place) == token:
        raise ConfigError(
            f'DurableCheckpointHook: the mirror {place.url} is {home.url} '
            'itself, where the checkpoints go, under another name: give '
            'another place')


def _token_in(place: StorageBackend) -> str:
    try:
        content = json.loads(_read(place) or b'{}')
    except (ValueError, RecursionError):
        return ''
    token = content.get('token') if isinstance(content, dict) else None
    return token if isinstance(token, str) else ''


def read_note(home: StorageBackend) -> Optional[MirrorNote]:
    """Return the mirror that is noted; None if there is none.

    Raises:
        ConfigError: If the file says something else.
    """
    data = _read(home)
    if data is None:
        return None
    try:
        content = json.loads(data)
        known = {
            one.name: content[one.name]
            for one in fields(MirrorNote) if one.name in content
        }
        note = MirrorNote(**known)
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(home, error) from error
    if not _is_sound(note):
        raise _damaged(home, 'no note of a mirror')
    return note


def _is_sound(note: MirrorNote) -> bool:
    counts = note.last, note.every, note.best, note.bytes
    return isinstance(note.url, str) and all(map(_is_count, counts)) and \
        isinstance(note.by_epoch, bool) and \
        isinstance(note.create_symlink, bool) and all(
            value is None or isinstance(value, str)
            for value in (note.endpoint, note.region)) and \
        _are_monitors(note.monitors)


def _are_monitors(value: Any) -> bool:
    return value is None or isinstance(value, dict) and all(
        rule in ('', *RULES) for rule in value.values())


def _is_count(value: Any) -> bool:
    # True is an int
    return value is None or type(value) is int and value > 0


def _damaged(home: StorageBackend, why: Any) -> ConfigError:
    return ConfigError(f'{home.url}/{NOTE_NAME} is damaged ({why}): give the '
                       'URL of the mirror')


def _read(home: StorageBackend) -> Optional[bytes]:
    try:
        with home.open(NOTE_NAME) as file:
            return file.read(_LIMIT_BYTES)
    except MissingCheckpointError:
        return None
