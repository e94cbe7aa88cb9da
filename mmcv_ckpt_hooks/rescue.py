"""A save of the last boundary's state, from between two boundaries.

No collective is needed for it: other ranks may be dead, or elsewhere.
"""
from typing import Any, Callable, List, Optional

from . import distributed
from .abandoning import abandon
from .boundary import Boundary, BoundaryKeeper
from .saver import Saver
from .wording import counted


class Rescue:
    """Saves what a keeper still has, on the rank that writes.

    Args:
        runner (BaseRunner): For its log.
        saver (Saver, optional): None on ranks that do not write.
        save (callable): ``save(trigger, boundary, ranks)`` saves the state
            that the runner has now as that of a boundary, with what is known
            of the ranks there: of all, or of this one.
    """

    def __init__(self, runner: Any, saver: Optional[Saver],
                 save: Callable[[str, Boundary, Any], None]) -> None:
        self._runner = runner
        self._saver = saver
        self._save = save
        self._begun_with = _begun_with(runner, saver)

    def save(self, trigger: str, keeper: BoundaryKeeper,
             ranks: List[Any]) -> Optional[str]:
        """Save the last boundary, unless it is committed; return its name.

        None if nothing was trained, or the save failed. After the name is
        said what the file lacks.
        """
        if keeper.last.started or self._saver is None:
            return None
        name = self._committed(keeper.last.iter)
        if name is None:
            with keeper.as_it_was():
                self._save(trigger, keeper.last, ranks)
            name = self._committed(keeper.last.iter)
            if name is not None and len(ranks) < distributed.world_size():
                name += ', with the generators of this rank only'
        return name

    def after(self, error: Exception, keeper: BoundaryKeeper,
              ranks: List[Any]) -> None:
        """Save what an exception has left intact; say what became of it."""
        if keeper.last.started:
            return
        begin = f'Training stopped ({type(error).__name__}): the state ' \
            f'after {counted(keeper.last.iter, "iterations")}'
        log = self._runner.logger.info
        if self._saver is None:
            log(f'{begin} is for rank 0 to save, when the error reaches it')
            return
        defect = keeper.defect()
        if defect is not None and self._committed(keeper.last.iter) is None:
            log(f'{begin} is not saved, because {defect}; '
                f'{self.what_stands()} stands')
            return
        name = self.save('exception', keeper, ranks)
        log(f'{begin} is in {name}' if name else
            f'{begin} could not be saved; {self.what_stands()} stands')

    def what_stands(self) -> str:
        """Say which checkpoint stands.

        Retention never deletes it: it is the newest.

        Thread: also a signal's handler, which must not wait for a catalog.
        """
        name = self._saver.tally.newest if self._saver else ''
        return f'{name}, the last one committed,' if name else \
            self._begun_with

    def leave_at_once(self) -> str:
        """Let the process end; return what stands, as the end of a line.

        Thread: also a signal's handler.
        """
        abandon(self._runner.hooks)
        return f'; {self.what_stands()} stands' if self._saver else ''

    def _committed(self, finished: int) -> Optional[str]:
        """Name of this start's checkpoint of so many iterations."""
        if self._saver is None:
            return None
        self._saver.wait()
        catalog = self._saver.catalog
        return next(
            (info.name for info in catalog.owned()
             if info.iter == finished and info.generation == catalog.generation
             ), None)


def _begun_with(runner: Any, saver: Optional[Saver]) -> str:
    """Say which checkpoint stands as long as none is committed."""
    owned = saver.catalog.owned() if saver else []
    if owned:
        newest = max(owned, key=lambda info: (info.iter, info.regular))
        return f'{newest.name}, which was there at the start,'
    return 'what it was resumed from' if runner.iter else \
        'no checkpoint of this run'
