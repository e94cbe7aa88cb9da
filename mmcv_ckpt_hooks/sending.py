"""A checkpoint file's bytes from the run's place into its mirror.

:mod:`.folders.sending` does it for folders. Standard library only.
"""
import os
from typing import IO, Any, Callable

from .catalog import Catalog
from .checked_copy import copy_checked
from .errors import MissingCheckpointError
from .latest import set_aside
from .replacing import replaced_in_catalog
from .types import CheckpointInfo, StorageBackend


class Gone(Exception):
    """The run has deleted a checkpoint before its copy began.

    Args:
        error (MissingCheckpointError): Of the run's place; one of the
            mirror's own place is none of these.
    """

    def __init__(self, error: MissingCheckpointError) -> None:
        super().__init__(str(error))
        self.error = error


#: ``copy(give)`` hands all bytes to ``give``, block by block.
Copy = Callable[[Callable[[Any], None]], None]


def writing_of(copy: Copy,
               advance: Callable[[int], None]) -> Callable[[IO[bytes]], None]:
    """Return what writes a copy for :meth:`StorageBackend.put`.

    Args:
        copy (Copy): Called once each time it is written.
        advance (callable): As for :meth:`MirrorPlace.add`.
    """
    sent = 0

    def write(stream: IO[bytes]) -> None:
        nonlocal sent
        if sent:
            advance(-sent)
        sent = 0

        def give(data: Any) -> None:
            nonlocal sent
            stream.write(data)
            sent += len(data)
            advance(len(data))

        copy(give)

    return write


def send(info: CheckpointInfo, source: StorageBackend, place: StorageBackend,
         catalog: Catalog, advance: Callable[[int], None],
         log: Callable[[str], None]) -> None:
    """Put a checkpoint file there; it is not in the catalog yet.

    Args:
        info (CheckpointInfo): As the run's catalog has it.
        source (StorageBackend): Where it is.
        place (StorageBackend): Where to.
        catalog (Catalog): Of that.
        advance (callable): As for :meth:`MirrorPlace.add`.
        log (callable): Told one line of what is not as usual.

    Raises:
        Gone: If the source is.
        IntegrityError: If it is damaged.
        StorageError: If it could not be copied.
    """
    path = os.path.join(source.url, info.name)
    try:
        opened = source.open(info.name)
    except MissingCheckpointError as error:
        raise Gone(error) from error
    with opened as file:
        set_aside(place, catalog, info.name, log)
        with replaced_in_catalog(place, catalog, info.name):
            place.put(
                info.name,
                writing_of(
                    lambda give: copy_checked(file, path, info.digest, give),
                    advance))
