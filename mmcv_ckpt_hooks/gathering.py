"""What a checkpoint takes from all ranks."""
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator, List, Optional

from . import distributed
from .optimizers import consolidated
from .options import CheckpointOptions
from .state import capture_rank

if TYPE_CHECKING:
    from .interrupts import Interrupts
    from .sharded.sharding import Sharding


@contextmanager
def gathered(runner: Any,
             options: CheckpointOptions,
             interrupts: 'Interrupts',
             known: Optional[List[Any]] = None,
             sharding: Optional['Sharding'] = None,
             would_skip: bool = False) -> Iterator[List[Any]]:
    """Let rank 0 have meanwhile what it saves of the others.

    Order: on all ranks, which have agreed to save, on the training thread.

    Args:
        runner (BaseRunner): At a boundary.
        options (CheckpointOptions): What to save, and whether buffers are
            averaged before.
        interrupts (Interrupts): Names a rank that does not come.
        known (list, optional): What is known of the ranks where they have not
            agreed: nothing communicates then. Default: None.
        sharding (Sharding, optional): Plans what all ranks write; None where
            rank 0 writes all. Default: None.
        would_skip (bool): Whether this rank would leave out what all write.
            Default: False.

    Yields:
        list: What :func:`capture_rank` returned, by rank.
    """
    if sharding is not None:
        with sharding.planned(runner, options.save_optimizer,
                              interrupts.gather, known, would_skip) as ranks:
            _average(runner, options, known)
            yield ranks
        return
    if known is not None:
        yield known
        return
    ranks = interrupts.gather(capture_rank(runner))
    _average(runner, options, known)
    with consolidated(runner.optimizer if options.save_optimizer else None):
        yield ranks


def _average(runner: Any, options: CheckpointOptions,
             known: Optional[List[Any]]) -> None:
    """Average the buffers of the ranks, if that is wanted.

    When all have come: this is a collective of training's own, which names
    nobody, and a save without one that is missing needs the buffers as they
    were.
    """
    if options.sync_buffer and known is None:
        distributed.average_float_buffers(runner.model.buffers())
