"""What had a name that a run has written since: kept, and nobody's."""
import os
import re
from typing import Dict

from .place import Place

#: ``iter_4.dcp.1a2b3c4d``, the second one of them ``iter_4.dcp.1a2b3c4d.2``.
_NAME = re.compile(r'(.+\.(?:pth|dcp))\.(?:[0-9a-zA-Z]{8}|damaged)(?:\.\d+)?')


def set_aside_in(place: Place) -> Dict[str, str]:
    """Return what is set aside in a place, by name, with what is to be known.

    Of a remote place files are told; its folders are not listed.
    """
    names = {file.name for file in place.files.list()} \
        if place.files.capabilities.listing else set()
    if place.is_local:
        names |= set(os.listdir(place.files.url))
    found = {}
    for name in sorted(names):
        match = _NAME.fullmatch(name)
        if match is not None:
            found[name] = f'{place.path(name)} had the name {match[1]} ' \
                'before. No run takes or deletes it: remove it when you do ' \
                'not need it any more, or give it another name that ends in ' \
                f'{os.path.splitext(match[1])[1]}'
    return found
