"""Where there are checkpoints if the directory asked for has none."""
import os
import shlex
from contextlib import suppress
from typing import Iterable, List

from ..errors import StorageError
from ..folders.layout import is_checkpoint
from ..place_note import read_place_note
from ..storage.folders import folders
from .place import Place
from .remote import Access

#: Directories named where the one asked for has no checkpoint.
_SHOWN = 5
#: So many folders of a URL are looked into, with a request each.
_LOOKED_INTO = 50


def those_below(place: Place, access: Access) -> str:
    """Say which directories below have checkpoints, and how to name them.

    It is only a hint: what may not be read is left out.

    Args:
        place (Place): The directory that has none.
        access (Access): How to open URLs.

    Returns:
        str: A clause; empty if there are none.
    """
    found = []
    for name in _local(place) if place.is_local else _remote(place, access):
        found.append(name)
        if len(found) > _SHOWN:
            break
    if not found:
        return ''
    more = ', ...' if len(found) > _SHOWN else ''
    paths = [place.path(name) for name in found[:_SHOWN]]
    one = 'name one of them' if len(found) > 1 else 'name that one'
    return f'there are some in {", ".join(paths)}{more}: {one}'


def noted_elsewhere(place: Place) -> str:
    """Say where the run of a work dir has its checkpoints; '' if unknown.

    Args:
        place (Place): The work dir, which has none.
    """
    noted = read_place_note(place.files.url)
    if not noted:
        return ''
    url = noted.pop('url')
    command = ' '.join(
        shlex.quote(one)
        for one in (url, *(part for key in sorted(noted)
                           for part in (f'--{key}', noted[key]))))
    return f'The last run of this work dir has them in {url}: ' \
        f'"mmcv-ckpt ls {command}"'


def _local(place: Place) -> Iterable[str]:
    names = []
    with os.scandir(place.files.url) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.is_dir() and _has_checkpoint(os.listdir(entry.path)):
                    names.append(entry.name)
    return sorted(names)


def _remote(place: Place, access: Access) -> Iterable[str]:
    names: List[str] = []
    with suppress(StorageError):
        url = place.files.url
        names = folders(url, access.options_of(url))[:_LOOKED_INTO]
    for name in names:
        with suppress(StorageError):
            files = access.open(place.path(name)).list()
            if _has_checkpoint(file.name for file in files):
                yield name


def _has_checkpoint(names: Iterable[str]) -> bool:
    return any(is_checkpoint(name) for name in names)
