"""What becomes of a save while the one before is still being written.

Standard library only.
"""
from .executor import BackgroundExecutor
from .types import SaveRequest

#: Triggers that ask again; a wish of the user is never skipped.
_REPEATED = ('interval', 'time')


def would_skip(executor: BackgroundExecutor, backlog: str,
               request: SaveRequest) -> bool:
    """Whether a save is left out.

    Args:
        executor (BackgroundExecutor): Who writes.
        backlog (str): ``'wait'`` or ``'skip'``.
        request (SaveRequest): What is to be saved.
    """
    return executor.busy() and backlog == 'skip' and \
        request.trigger in _REPEATED and not request.is_last
