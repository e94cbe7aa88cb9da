"""What a rank other than 0 does for a save that all ranks write."""
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Union

from ..backlog import WritesBehind
from ..errors import CheckpointError
from ..executor import BackgroundExecutor, InlineExecutor
from ..pending import copied_ahead, finish_due
from ..stager import Stager
from ..types import SaveRequest
from .commit import PartWriter
from .sharding import Sharding

if TYPE_CHECKING:
    from ..mirror import Mirror


class ShardWriter(WritesBehind):
    """Stages and writes the part of one rank; looks like a saver to the hook.

    Args:
        sharding (Sharding): Plans the saves.
        writer (PartWriter): Writes.
        executor (BackgroundExecutor): On whose thread.
        backlog (str): As of :class:`Saver`.
        log (callable): Told one line of what is not as usual.
        log_failure (callable): Told of a failed save at once, with its error.

    Thread: training's.
    """
    #: rank 0 has it
    mirror: Optional['Mirror'] = None

    def __init__(self, sharding: Sharding, writer: PartWriter,
                 executor: BackgroundExecutor, backlog: str,
                 log: Callable[[str],
                               None], log_failure: Callable[[str, Exception],
                                                            None]) -> None:
        super().__init__(executor, backlog)
        self._sharding = sharding
        self._writer = writer
        self._log_failure = log_failure
        self._stager = Stager(log, not isinstance(executor, InlineExecutor))
        self._stager.room = sharding.room

    def save(self, request: SaveRequest) -> None:
        """Stage this rank's part and hand it to the executor.

        Nothing where rank 0 saves alone, or all ranks leave it out.

        Args:
            request (SaveRequest): What is saved.
        """
        now, name = self._sharding.current, request.name
        if not now.save or now.is_skipped:
            return
        if now.failure:
            # all ranks know: rank 0 does not call
            self._executor.run(
                lambda: self._fail(name, CheckpointError(now.failure)))
            return
        staged, beat = self._stage(), self._sharding.take_beat()
        pending = getattr(staged, 'pending', None)

        def job() -> None:
            try:
                with copied_ahead(pending):
                    self._writer.write(now.save, staged)
            except Exception as error:  # logged; the executor keeps it
                self._fail(name, error)
            finally:
                if beat is not None:
                    beat.stop()

        if getattr(staged, 'image', None) is None:
            self._executor.run(job)
        else:
            self._executor.submit_or_run(job)
            finish_due(pending)

    def close(self) -> None:
        """Wait, and end the writer's thread."""
        self._executor.close()
        self._stager.release()

    def _stage(self) -> Union[Any, Exception]:
        """Return the copy, or why there is none, which rank 0 is told."""
        staged: List[Any] = []

        def stage() -> None:
            try:
                staged.append(self._stager.stage(self._sharding.state(), None))
            except Exception as error:  # told to rank 0, which fails the save
                staged.append(error)

        # it waits for the save before, which has the staging buffer
        self._executor.run(stage)
        return staged[0]

    def _fail(self, name: str, error: Exception) -> None:
        self._log_failure(
            f'Checkpoint {name} was not saved ({type(error).__name__}: '
            f'{error}). What was committed before is unchanged', error)
        raise error
