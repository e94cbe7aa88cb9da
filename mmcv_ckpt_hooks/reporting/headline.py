"""The answer in ten seconds: what is there, what is good, what it has cost,
what a resume would take. Standard library only.
"""
from statistics import median
from typing import List, NamedTuple, Sequence

from ..wording import counted, size_text, time_text
from .starts import EXCEPTION, FINISHED, KILLED, OPEN, SIGNAL
from .story import Story
from .wordings import count_text, number_text, secs_text


class Answer(NamedTuple):
    """One question of the head: the answer, and what is to be added.

    ``mood`` is ``''``, ``'good'`` or ``'bad'``.
    """
    question: str
    answer: str
    more: Sequence[str]
    mood: str = ''


def headline(story: Story) -> List[Answer]:
    """Return the answers of the head of the page."""
    return [_there(story), _good(story), _cost(story), _resume(story)]


def ends_text(story: Story) -> str:
    """Count how starts ended: ``'2 starts: 1 killed, 1 finished'``."""
    words = {
        FINISHED: 'finished',
        KILLED: 'killed',
        SIGNAL: 'left on a signal',
        EXCEPTION: 'ended by an exception',
        OPEN: 'without a recorded end'
    }
    ends = [one.end for one in story.starts]
    said = [
        f'{ends.count(end)} {word}' for end, word in words.items()
        if end in ends
    ]
    return f'{counted(len(ends), "starts")}: {", ".join(said)}' if ends else ''


def _there(story: Story) -> Answer:
    infos = story.facts.checkpoints
    seconds = sum(bool(info.same_as) for info in infos)
    files = len(infos) - seconds
    more = []
    if seconds:
        more.append(f'and {counted(seconds, "second names")}')
    reached = [one.reached for one in story.starts if one.reached is not None]
    most = [one.most for one in story.starts if one.most is not None]
    if reached:
        of = f' of {count_text(max(most))}' if most else ''
        more.append(f'training came to iteration '
                    f'{count_text(max(reached))}{of}')
    if story.starts:
        more.append(ends_text(story))
    again = sum(one.repeated for one in story.starts)
    if again:
        more.append(f'{counted(again, "iterations")} done again')
    broken = len(story.facts.problems)
    if broken:
        more.append(f'{counted(broken, "checkpoints")} cannot be used, or not '
                    'as they are: see the table')
    return Answer(
        'What is there', f'{counted(files, "checkpoints")}, '
        f'{size_text(story.facts.bytes)}' if infos else 'No checkpoints', more,
        '' if infos and not broken else 'bad')


def _good(story: Story) -> Answer:
    best = list(story.facts.best.values())
    if best:
        first = best[0]
        said = [f'{first.name}, {counted(first.iter, "iterations")}'] + [
            f'{one.key} {number_text(one.score)}, {one.name}'
            for one in best[1:4]
        ]
        return Answer('The best', f'{first.key} {number_text(first.score)}',
                      said)
    for curve in story.curves:
        if curve.rule and curve.points:
            choose = max if curve.rule == 'greater' else min
            at, score = choose(curve.points, key=lambda point: point[1])
            where = f'at {counted(at, "iterations")}; no checkpoint of it ' \
                'is here'
            return Answer('The best', f'{curve.key} {number_text(score)}',
                          [where], 'bad')
    return Answer('The best', 'No score is recorded', [])


def _cost(story: Story) -> Answer:
    waited = [
        save.blocked_secs for save in story.saves
        if save.blocked_secs is not None
    ]
    durable = [
        save.durable_secs for save in story.saves
        if save.durable_secs is not None
    ]
    more = []
    if waited:
        more.append(f'at a save {secs_text(median(waited))} (median), at most '
                    f'{secs_text(max(waited))}')
    if durable:
        more.append(f'durable after {secs_text(median(durable))} (median)')
    rates = [save.rate for save in story.saves if save.rate is not None]
    if rates:
        more.append(f'{median(rates) / 1e6:.3g} MB/s (median)')
    if story.disk:
        most = max(one.most for one in story.disk)
        more.append(f'at most {size_text(most)} on the disk, '
                    f'{counted(story.deleted, "names")} deleted')
    saves = counted(len(story.saves), 'saves')
    if not waited:
        return Answer('What it cost', f'{saves}, costs unknown', more)
    if not sum(waited):
        # as the copies of a mirror
        return Answer('What it cost', f'{saves}, none of them waited for',
                      more[1:])
    return Answer('What it cost', f'{secs_text(sum(waited))} of waiting for '
                  f'{saves}', more)


def _resume(story: Story) -> Answer:
    resume, facts = story.facts.resume, story.facts
    why = [f'{name}: {text}' for name, text in resume.passed_over.items()]
    more = why[:3] + ([f'and {len(why) - 3} more'] if len(why) > 3 else [])
    if not facts.checkpoints and resume.stops_at is None:
        return Answer("resume='auto'", 'would start anew', [])
    if resume.taken is None:
        at = f' at {resume.stops_at}' if resume.stops_at else ''
        return Answer("resume='auto'", f'would stop with an error{at}', more
                      or ['nothing here can be continued from'], 'bad')
    info = next(info for info in facts.checkpoints
                if info.name == resume.taken)
    saved = next((time_text(save.at) for save in reversed(story.saves)
                  if save.name == info.name and save.at is not None), '')
    said = [counted(info.iter, 'iterations')]
    if saved:
        said.append(f'saved {saved} UTC')
    newest = 'the newest of its run' if facts.lineage else 'the newest'
    return Answer("resume='auto' takes", resume.taken, [
        ', '.join(said), newest if not why else 'the newest that can be used',
        *more
    ], 'bad' if why else 'good')
