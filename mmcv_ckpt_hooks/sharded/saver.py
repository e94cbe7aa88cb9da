"""The saver of rank 0 where all ranks write a checkpoint."""
from typing import Any, Callable

from ..catalog import Catalog
from ..executor import BackgroundExecutor
from ..history import History
from ..saver import Saver
from ..types import RetentionPolicy, SaveRequest, StorageBackend
from .sharding import Sharding


class ShardedSaver(Saver):
    """Saves folders; see :class:`Saver`.

    Args:
        sharding (Sharding): Plans the saves and commits them.
        others: Those of :class:`Saver`.
    """

    def __init__(self, sharding: Sharding, backend: StorageBackend,
                 catalog: Catalog, history: History, policy: RetentionPolicy,
                 executor: BackgroundExecutor, log: Callable[[str], None],
                 log_failure: Callable[[str, Exception], None], *others: Any,
                 **options: Any) -> None:

        def tell(message: str, error: Exception) -> None:
            # they wait for it
            sharding.commit.conclude(message)
            log_failure(message, error)

        super().__init__(backend, catalog, history, policy, executor, log,
                         tell, *others, **options)
        self._sharding = sharding
        self.split = sharding.state
        self._stager.room = sharding.room
        self._committer.put = sharding.commit.put
        # between two saves no rank but this one takes part
        self._pruner.adds = False

    def would_skip(self, request: SaveRequest) -> bool:
        """As that of :class:`Saver`; in a save what all ranks agreed on."""
        now = self._sharding.current
        return now.is_skipped if now.save else super().would_skip(request)
