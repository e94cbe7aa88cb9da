"""Deleting what no policy keeps."""
from contextlib import suppress
from typing import Callable, FrozenSet, List, Optional, Sequence, Set

from .catalog import Catalog
from .errors import OutOfSpaceError, StorageError
from .folders.folder import remove
from .reconciling import forget_if_gone
from .retention import (KeepAny, KeepBest, KeepNames, KeepWithin, bytes_of,
                        deletable)
from .types import (CheckpointInfo, RetentionPolicy, SaveRequest,
                    StorageBackend, StoredFile)


class Pruner:
    """Deletes checkpoints of a run from one place.

    Args:
        backend (StorageBackend): Where from.
        catalog (Catalog): Of that place.
        policy (RetentionPolicy): What to keep besides the best.
        log (callable): Told one line of what is not as usual.
        failed (callable): ``failed(message, error)`` is told of a deletion
            that failed, once a file until it is gone: the checkpoint that it
            follows is committed, and its save goes on.
        protected (str, optional): Name of the file resumed from, if it is
            here. Default: None.
        budget (int, optional): Bytes to fill with more. Default: None.

    Thread: whichever commits; one at a time.
    """

    def __init__(self,
                 backend: StorageBackend,
                 catalog: Catalog,
                 policy: RetentionPolicy,
                 log: Callable[[str], None],
                 failed: Callable[[str, Exception], None],
                 protected: Optional[str] = None,
                 budget: Optional[int] = None) -> None:
        self._backend = backend
        self._catalog = catalog
        self._policy = policy
        self._log = log
        self._failed = failed
        # of what failed and was told
        self._told: Set[str] = set()
        self._protected = protected
        self._budget = budget
        self._over_budget = False
        #: what ranks checkpoints by their scores; None if nothing does
        self.ranking: Optional[KeepBest] = None
        #: whether a step that ranks may be saved for that
        self.adds = True
        #: whether nothing is deleted, because scores that rank are unknown
        self.is_held = False

    def prune(self, committed: Optional[str] = None) -> List[str]:
        """Delete what no policy keeps; return the names.

        Args:
            committed (str, optional): Name of what was just committed.
        """
        kept = frozenset([committed] if committed else [])
        if not self.superseded(kept, self._catalog.owned()):
            return []
        return [
            info.name for info in self.superseded(kept, self._there())
            if self._delete(info.name)
        ]

    def make_room(self, coming: CheckpointInfo,
                  latest: Optional[str]) -> List[str]:
        """Delete beforehand what will go anyway; return the names.

        Args:
            coming (CheckpointInfo): What there is no space for.
            latest (str, optional): Name of what ``latest.pth`` points to.
        """
        owned = [info for info in self._there() if info.name != coming.name]
        # INVARIANT: the newest committed one stays until the new one is
        # there, and latest.pth names a file that is there
        newest = max((info.iter for info in owned), default=-1)
        gone = [
            info.name for info in self.superseded(
                frozenset([coming.name]), [*owned, coming])
            if info.iter != newest and info.name != latest
            and self._delete(info.name)
        ]
        if gone:
            self._log(f'No space for {coming.name}: deleted '
                      f'{", ".join(gone)}, which it replaces')
        return gone

    def lacks(self, request: SaveRequest) -> bool:
        """Whether a step ranks that no checkpoint of this run has."""
        return self.adds and self.ranking is not None and \
            self._catalog.at_iter(request.iter) is None and \
            self.ranking.would_keep(request, self._catalog.owned())

    def superseded(self, kept: FrozenSet[str],
                   there: Sequence[CheckpointInfo]) -> List[CheckpointInfo]:
        """Return what no policy keeps; nothing is deleted.

        Args:
            kept (frozenset[str]): Names that are kept whatever policies say.
            there (Sequence): What this run owns, by finished iterations.
        """
        if self.is_held or not self._backend.capabilities.delete:
            return []
        policies = [self._policy, KeepNames(self._catalog.best_names() | kept)]
        if self.ranking is not None:
            policies.append(self.ranking)
        policy: RetentionPolicy = KeepAny(policies)
        if self._budget is not None:
            self._report_budget(there, policy.keep(there), self._budget)
            policy = KeepWithin(self._budget, policy)
        # INVARIANT: a best checkpoint goes when a better one is there, and
        # not because the catalog has forgotten that it is the best
        return [
            info for info in deletable(policy, there, self._protected)
            if info.trigger != 'best' or self._is_beaten(info)
        ]

    def _there(self) -> List[CheckpointInfo]:
        """Return what this run owns; forget what somebody has deleted.

        INVARIANT: the newest and the best, for which others go, are there.
        """
        owned = self._catalog.owned()
        if not self._backend.capabilities.listing:
            return owned
        try:
            there = {file.name: file for file in self._backend.list()}
        except StorageError as error:
            self._tell(self._backend.url, 'Nothing is deleted', error)
            return []
        self._told.discard(self._backend.url)
        return [
            info for info in owned
            if self._is_there(info, there.get(info.name))
        ]

    def _is_there(self, info: CheckpointInfo,
                  file: Optional[StoredFile]) -> bool:
        """Whether one that is owned still is; the catalog learns it."""
        # on a full disk it learns it with the next entry
        with suppress(OutOfSpaceError):
            if file is None:
                self._told.discard(info.name)
                forget_if_gone(self._backend, self._catalog, info.name)
            elif file.leads_to:
                # moved meanwhile, and a link left behind: the user's
                self._catalog.commit(info, file.leads_to)
        return file is not None and not file.leads_to

    def _delete(self, name: str) -> bool:
        """Delete a checkpoint; False if that fails, which is told."""
        try:
            remove(self._backend, name)
        except StorageError as error:
            self._tell(name, f'Could not delete {name}', error)
            return False
        self._told.discard(name)
        self._catalog.forget(name)
        return True

    def _tell(self, what: str, message: str, error: Exception) -> None:
        if what not in self._told:
            self._told.add(what)
            self._failed(f'{message} ({error}). Every save tries again', error)

    def _is_beaten(self, info: CheckpointInfo) -> bool:
        return self._catalog.is_replaced_best(info) or (
            self.ranking is not None and self.ranking.has_rank(info))

    def _report_budget(self, there: Sequence[CheckpointInfo], kept: Set[str],
                       budget: int) -> None:
        """Say once when what must be kept takes more than the budget."""
        taken = bytes_of(there, kept)
        if taken > budget and not self._over_budget:
            self._log(f'What must be kept takes {taken / 1e6:.2f} MB, more '
                      f'than keep.bytes ({budget / 1e6:.2f} MB): all of it '
                      'stays, and the budget keeps nothing more')
        self._over_budget = taken > budget
