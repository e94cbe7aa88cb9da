"""The catalog of a mirror: it follows that of the run.

Standard library only.
"""
from dataclasses import asdict, replace
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from . import lineage as lineages
from .best_scores import BestScore
from .catalog import Catalog
from .types import CheckpointInfo, Metrics, StorageBackend
from .wording import counted

_SHOWN_NAMES = 3
#: An event of the history and its values.
Event = Tuple[str, Dict[str, Any]]


class MirrorCatalog(Catalog):
    """As any other, with what another catalog knows of the same checkpoints.

    Args:
        files, home, warn: As for :class:`Catalog`.
    """

    def __init__(self, files: StorageBackend, home: StorageBackend,
                 warn: Callable[[str], None]) -> None:
        super().__init__(files, home, warn)
        # by finished iterations and digest
        self._heard: Dict[Tuple[int, str], Metrics] = {}

    def hear(self, scores: Dict[str, Any]) -> None:
        """Remember scores of the run, whose catalog may forget them sooner.

        A checkpoint that the run has deleted since its copy began would have
        none here, and go as if it were not among the best.

        Args:
            scores (dict): Values of an event of the history.

        Thread: one, any; waits for nothing.
        """
        for digest in scores['digests']:
            key = scores['iter'], digest
            known = self._heard.get(key, {})
            self._heard[key] = {**known, **scores['metrics']}

    def scored(self, info: CheckpointInfo) -> CheckpointInfo:
        """Return an entry with the scores that were heard of it."""
        heard = self._heard.get((info.iter, info.digest), {})
        return replace(info, metrics={**info.metrics, **heard})

    def generations(self, lineage: str) -> int:
        """Return how many starts of a run have left something here."""
        return 1 + max(
            (info.generation
             for info in self.checkpoints() if info.lineage == lineage),
            default=-1)

    def tell_given_up(self, run: Catalog) -> None:
        """Warn of what is newer here than where a run goes on from.

        Order: before :meth:`begin`.
        """
        theirs = [
            info for info in self.resumable() if info.lineage == run.lineage
        ]
        valid = lineages.current([*run.checkpoints(), *theirs], run.lineage, 0,
                                 0)
        newer = [
            info.name for info in theirs
            if info.iter > run.started_iter and info in valid
        ]
        if newer:
            more = ', ...' if len(newer) > _SHOWN_NAMES else ''
            self._warn(
                f'{self.home.url} has {", ".join(newer[:_SHOWN_NAMES])}{more},'
                f' newer than the {counted(run.started_iter, "iterations")} '
                'that this run goes on from, which gives them up: they are '
                'not deleted, but replaced by copies of their names. To go on '
                'from there, stop it before its first save, and start with '
                "resume='auto'")

    def same(self, info: CheckpointInfo) -> Optional[CheckpointInfo]:
        """Return the entry of a name if it is of the same content."""
        mine = self.find(info.name)
        return mine if mine is not None and info.digest and \
            mine.digest == info.digest else None

    def twin(self, info: CheckpointInfo) -> Optional[CheckpointInfo]:
        """Return this run's checkpoint of the same content, of any name."""
        for mine in self.owned():
            if info.digest and mine.digest == info.digest and \
                    mine.name != info.name:
                return mine
        return None

    def follow(self, run: Catalog) -> List[Event]:
        """Take over the scores, and which are the best, of what is here.

        Args:
            run (Catalog): Of the same lineage.

        Returns:
            list: What has changed, for the history.
        """
        with self._lock:
            owned = run.owned()
            there = {info.name: info for info in self.owned()}
            there.update({info.name: info for info in owned})
            events = self._follow_scores(there.values())
            keys = sorted({key for info in owned for key in info.metrics})
            for best in (run.best(key, ranked=True) for key in keys):
                events += [] if best is None else self._follow_best(best)
            auto = run.auto_metric()
            if auto is not None and auto != self.auto_metric():
                self._auto[self.lineage] = auto
                events.append(
                    ('auto_metric', dict(lineage=self.lineage, key=auto)))
            if events:
                self._write()
            return events

    def _follow_scores(self, there: Iterable[CheckpointInfo]) -> List[Event]:
        events: List[Event] = []
        for info in map(self.scored, there):
            mine = self.same(info)
            if mine is None or mine.metrics == info.metrics:
                continue
            self._entries[info.name] = replace(mine, metrics=info.metrics)
            events.append(('scores', scores_of(info)))
        return events

    def _follow_best(self, best: BestScore) -> List[Event]:
        # INVARIANT: the best before stays the best here until the new one is
        # here, too
        mine = self.find(best.name)
        if mine is None or mine.lineage != self.lineage or \
                self.best(best.key, ranked=True) == best:
            return []
        self._best.set(self.lineage, best)
        return [('best', asdict(replace(best, lineage=self.lineage)))]


def scores_of(info: CheckpointInfo) -> Dict[str, Any]:
    """Return what the history has of the scores of a checkpoint."""
    return dict(
        lineage=info.lineage,
        iter=info.iter,
        digests=[info.digest],
        metrics=dict(info.metrics))
