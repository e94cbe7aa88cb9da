"""Folders with the name of a checkpoint that are none: no ``.metadata``."""
from dataclasses import dataclass, field
from typing import Dict, cast

from ..errors import MissingCheckpointError
from ..folders.folder import FolderedBackend
from ..folders.layout import METADATA_NAME, WRITING_NAME
from .output import print_line
from .place import Place


@dataclass(frozen=True)
class Unfinished:
    """Folders that no resume takes, by name, with what is to be known.

    Args:
        incomplete (dict): What was a checkpoint, or should be one.
        unfinished (dict): What a run writes, or was writing.
    """
    incomplete: Dict[str, str] = field(default_factory=dict)
    unfinished: Dict[str, str] = field(default_factory=dict)

    def print(self) -> None:
        """Tell them one by one."""
        for problem in self.incomplete.values():
            print_line(f'incomplete: {problem}')
        for problem in self.unfinished.values():
            print_line(f'not finished: {problem}')


def unfinished_in(place: Place) -> Unfinished:
    """Return the folders of a place that are no checkpoints.

    Where a storage has no folders of its own nothing tells of them.
    """
    found = Unfinished()
    if not place.files.capabilities.folders:
        return found
    files = cast(FolderedBackend, place.files)
    for name in files.folders():
        try:
            names = {file.name for file in files.folder(name).list()}
        except MissingCheckpointError:
            continue  # removed since it was listed
        shown = place.path(name)
        if METADATA_NAME not in names and (WRITING_NAME in names or not names):
            # an empty one: before its mark, or after it
            found.unfinished[name] = \
                f'{shown} is being written or removed, or was when a run ' \
                'was killed; then the next start here removes it'
        elif METADATA_NAME not in names:
            found.incomplete[name] = \
                f'{shown} has no {METADATA_NAME}, which is written last. ' \
                'Copy it here again, with the files whose names begin ' \
                'with a dot (cp -a), or remove it'
    return found
