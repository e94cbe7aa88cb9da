"""What a checkpoint takes from all ranks."""
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator, List, Optional

from . import distributed
from .optimizers import consolidated
from .options import CheckpointOptions
from .state import capture_rank

if TYPE_CHECKING:
    from .interrupts import Interrupts


@contextmanager
def gathered(runner: Any,
             options: CheckpointOptions,
             interrupts: 'Interrupts',
             known: Optional[List[Any]] = None) -> Iterator[List[Any]]:
    """Let rank 0 have meanwhile what it saves of the others.

    Order: on all ranks, which have agreed to save, on the training thread.

    Args:
        runner (BaseRunner): At a boundary.
        options (CheckpointOptions): What to save, and whether buffers are
            averaged before.
        interrupts (Interrupts): Names a rank that does not come.
        known (list, optional): What is known of the ranks where they have not
            agreed: nothing communicates then. Default: None.

    Yields:
        list: What :func:`capture_rank` returned, by rank.
    """
    if known is not None:
        yield known
        return
    if options.sync_buffer:
        distributed.average_float_buffers(runner.model.buffers())
    ranks = interrupts.gather(capture_rank(runner))
    with consolidated(runner.optimizer if options.save_optimizer else None):
        yield ranks
