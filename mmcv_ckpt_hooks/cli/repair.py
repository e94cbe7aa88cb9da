"""``checkpoints.json`` brought up to date with the files."""
import json
from typing import Dict, List

from ..card import describe
from ..catalog import CATALOG_NAME
from ..errors import ConfigError, MissingCheckpointError
from ..guarded import lock_of, taken
from .output import warn
from .place import Place

_SHOWN_NAMES = 5


def repair_catalog(place: Place) -> Dict[str, List[str]]:
    """Bring ``checkpoints.json`` up to date with the files.

    What it lists rightly stays as it is, with the scores that were joined
    after the save. Only zip directories are read: a file whose content is
    damaged is still found by its CRC-32 values.

    Returns:
        dict: ``read_anew``: the names whose entries were wrong or missing;
            ``gone``: those that were listed, but are not there.

    Raises:
        LockedError: If a run is writing there.
        ConfigError: If it is no local directory.
    """
    if not place.is_local:
        raise ConfigError(
            f'--repair-catalog is for local directories, but {place.shown} is '
            'a URL: there the start of a run brings the catalog up to date')
    lock = lock_of(place.files, CATALOG_NAME, warn)
    with taken(lock):
        return _repair(place)


def _repair(place: Place) -> Dict[str, List[str]]:
    catalog, files = place.catalog, place.files
    listed = _listed_digests(place)
    there = catalog.checkpoints()
    anew = []
    for info in there:
        found = describe(files, info.name, info.bytes)
        # no digest: it is damaged, and the old entry says what it should be
        if found.digest and found.digest != listed.get(info.name):
            # INVARIANT: what was found out without the file, from the history,
            # is not lost: scores, and whose a best one is
            anew.append(info if info.digest == found.digest else found)
    gone = sorted(set(listed) - {info.name for info in there})
    # a commit writes the whole catalog: if only names are gone, any will do
    for info in anew or (there[:1] if gone else []):
        catalog.commit(info)
    return {'read_anew': [info.name for info in anew], 'gone': gone}


def _listed_digests(place: Place) -> Dict[str, str]:
    """Return what the catalog's file has, before it met the directory."""
    try:
        with place.files.open(CATALOG_NAME) as file:
            content = json.loads(file.read())
        return {one['name']: one['digest'] for one in content['checkpoints']}
    except (MissingCheckpointError, ValueError, KeyError, TypeError):
        return {}  # opening it has warned already


def repair_text(repaired: Dict[str, List[str]]) -> str:
    """Say in a few words what was repaired."""
    parts = [
        f'{what} {_names_text(repaired[key])}'
        for key, what in (('read_anew', 'read anew from the files:'),
                          ('gone', 'no longer listed:')) if repaired[key]
    ]
    return '; '.join(parts) or 'agrees with the files'


def _names_text(names: List[str]) -> str:
    rest = len(names) - _SHOWN_NAMES
    more = f' and {rest} more' if rest > 0 else ''
    return ', '.join(names[:_SHOWN_NAMES]) + more
