"""Where the checkpoints of a work dir are, noted there for people.

Nothing depends on it but what ``mmcv-ckpt ls WORK_DIR`` says. Standard library
only.
"""
import json
import os
from contextlib import suppress
from typing import Any, Dict, Mapping, Optional

from .errors import StorageError
from .storage import scheme_of
from .storage.local import LocalBackend
from .storage.names import same_place
from .storage.object_url import whereabouts

PLACE_NOTE = 'checkpoints.place.json'
_LIMIT_BYTES = 1 << 16
_KEYS = ('url', 'endpoint', 'region')


def note_place(work_dir: Optional[str], url: str,
               storage_options: Optional[Mapping[str, Any]]) -> None:
    """Note where the checkpoints go, if that is not the work dir itself.

    What cannot be noted is left out.

    Args:
        work_dir (str, optional): Of the runner.
        url (str): A path or URL, without credentials.
        storage_options (dict, optional): Of the hook.
    """
    if work_dir is None:
        return
    if same_place(url, work_dir):
        path = os.path.join(work_dir, PLACE_NOTE)
        if os.path.lexists(path):  # of a start that had another out_dir
            with suppress(OSError):
                os.remove(path)
        return
    found = dict(url=url if scheme_of(url) else os.path.abspath(url))
    if scheme_of(url) == 's3':
        found.update(whereabouts(storage_options or {}))
    data = json.dumps(found, indent=1, sort_keys=True).encode()
    with suppress(OSError, StorageError):
        LocalBackend(
            work_dir, durable=False).put(PLACE_NOTE,
                                         lambda stream: stream.write(data))


def read_place_note(directory: str) -> Dict[str, str]:
    """Return ``url`` and, if noted, ``endpoint`` and ``region``.

    Returns:
        dict[str, str]: Empty if nothing is noted that can be read.
    """
    with suppress(OSError, ValueError, RecursionError, StorageError):
        # which waits for no pipe
        with LocalBackend(directory).open(PLACE_NOTE) as file:
            content = json.loads(file.read(_LIMIT_BYTES))
        if isinstance(content, dict) and isinstance(content.get('url'), str):
            return {
                key: content[key]
                for key in _KEYS if isinstance(content.get(key), str)
            }
    return {}
