"""Of which start each score is, and which of them a later start did again.

Standard library only.
"""
from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .events import Entry, Save, Score
from .starts import Start
from .steps import Point

#: What a val line has besides scores.
_NO_SCORES = ('lr', 'time', 'data_time', 'memory', 'momentum')


def scores_of_history(entries: Sequence[Entry]) -> List[Score]:
    """Return the scores of a history, each with its start.

    Its lines name none. One that is joined to checkpoints is of the start
    that saved them. Others, as of who evaluates more often than it saves,
    stand between the saves of the same start, or of two: then they are of the
    later one, if it can have made them.

    Args:
        entries (Sequence[Entry]): The oldest first.
    """
    savers = {
        entry.digest: entry.generation
        for entry in entries if isinstance(entry, Save) and entry.digest
    }
    found: List[Score] = []
    newest: Dict[str, int] = {}
    waiting: Dict[str, List[int]] = {}
    for entry in entries:
        if isinstance(entry, Save):
            places = waiting.pop(entry.lineage, [])
            if entry.generation > newest.get(entry.lineage, -1):
                newest[entry.lineage] = entry.generation
                for place in _made_by(entry, found, places):
                    found[place] = replace(
                        found[place], generation=entry.generation)
        elif isinstance(entry, Score):
            joined = [savers[one] for one in entry.digests if one in savers]
            if not joined:
                waiting.setdefault(entry.lineage, []).append(len(found))
            found.append(
                replace(
                    entry,
                    generation=joined[0] if joined else newest.get(
                        entry.lineage, 0)))
    return found


def _made_by(save: Save, scores: Sequence[Score],
             places: Sequence[int]) -> List[int]:
    """Return which of the scores before it are of the start that saved.

    Those from where it began up to there. Steps never go back within a start:
    what is before such a place is of one before it.
    """
    found: List[int] = []
    highest = save.iter
    for place in reversed(places):
        if not save.started_iter <= scores[place].iter <= highest:
            break
        highest = scores[place].iter
        found.append(place)
    return found


def scores_of_logs(
        starts: Sequence[Tuple[Start, Sequence[Point]]]) -> List[Score]:
    """Return the scores of logs, for a run whose history has none.

    Args:
        starts (Sequence[tuple]): The oldest first, with the lines of its log.
    """
    found: List[Score] = []
    newest: Dict[str, int] = {}
    for start, points in starts:
        # one that saved nothing comes behind the one before it
        generation = newest.get(start.lineage, 0) \
            if start.generation is None else start.generation
        newest[start.lineage] = generation
        found += [
            Score(
                point.iter, start.lineage, generation, {
                    key: value
                    for key, value in point.values.items()
                    if key not in _NO_SCORES
                }) for point in points if point.mode == 'val'
        ]
    return found


def which_are_given_up(scores: Sequence[Score],
                       starts: Sequence[Start]) -> List[bool]:
    """Say of which scores a later start has done the steps again.

    Args:
        scores (Sequence[Score]): The oldest first, but for those that are
            joined to checkpoints, which a mirror has in any order.
        starts (Sequence[Start]): The oldest first.
    """
    begins = _begins(starts)
    lowest: Dict[str, int] = {}
    memory: Dict[Tuple[str, int], float] = {}
    found = []
    for score in reversed(scores):
        key = score.lineage, score.generation
        if key not in memory:
            later = (at for generation, at in begins.get(score.lineage, ())
                     if generation > score.generation)
            memory[key] = next(later, float('inf'))
        redone = score.iter > memory[key]
        if not score.digests:
            # behind it a start that saved nothing came to a smaller step
            least = lowest.get(score.lineage, score.iter)
            redone = redone or score.iter > least
            lowest[score.lineage] = min(least, score.iter)
        found.append(redone)
    return found[::-1]


def _begins(
        starts: Sequence[Start]) -> Mapping[str, Sequence[Tuple[int, int]]]:
    """Return by run, from which start on, the lowest step one began at."""
    found: Dict[str, List[Tuple[int, int]]] = {}
    for one in starts:
        if one.generation is not None and one.from_iter is not None:
            found.setdefault(one.lineage, []).append(
                (one.generation, one.from_iter))
    for begun in found.values():
        lowest: Optional[int] = None
        begun.sort()
        for index in reversed(range(len(begun))):
            generation, at = begun[index]
            lowest = at if lowest is None else min(at, lowest)
            begun[index] = generation, lowest
    return found
