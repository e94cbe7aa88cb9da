"""What stays of a directory, whatever the policies of a run say, and why."""
import os
from typing import Dict, List, Optional

from .choice import Choice
from .place import Place


def pinned_in(place: Place, choice: Choice,
              latest: Optional[str]) -> Dict[str, List[str]]:
    """Return by name why a checkpoint is never deleted.

    That of another run or program, which no policy is asked about, is not
    among them.

    Args:
        place (Place): The directory.
        choice (Choice): What a resume would do.
        latest (str, optional): What ``latest.pth`` leads to.
    """
    found: Dict[str, List[str]] = {
        name: ['the best so far']
        for name in sorted(place.catalog.best_names())
    }
    for info in place.checkpoints:
        # who links to a checkpoint wants to have it
        target = place.catalog.link(info.name)
        if target and os.path.dirname(target) in ('', place.files.url):
            found.setdefault(os.path.basename(target),
                             []).append(f'{info.name} leads to it')
    for name, what in ((latest, 'the latest'), (choice.taken, 'for a resume')):
        if name is not None:
            found.setdefault(name, []).append(what)
    return found
