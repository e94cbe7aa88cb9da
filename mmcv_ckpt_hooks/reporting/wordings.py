"""Numbers, saves and ends of a report in words. Standard library only."""
from ..wording import counted, size_text, time_text
from .events import Save
from .starts import EXCEPTION, FINISHED, KILLED, OPEN, SIGNAL, Start


def clean(text: str) -> str:
    """Escape what is not to be seen: controls, marks that turn the direction
    of writing, halves of characters.
    """
    if text.isprintable():
        return text
    return ''.join(
        one if one.isprintable() else one.encode('unicode_escape').decode()
        for one in text)


def number_text(value: float) -> str:
    """Return four digits of a number."""
    return f'{value:.4g}'


def count_text(value: int) -> str:
    """``12000`` to ``'12,000'``."""
    return f'{value:,}'


def step_text(value: float) -> str:
    """``12000.`` to ``'12,000'``, ``2.5e6`` to ``'2.5M'``: for an axis."""
    if abs(value) < 1e6:
        return f'{value:,.0f}'
    return f'{value / 1e6:.4g}M' if abs(value) < 1e9 else f'{value:.3g}'


def secs_text(secs: float) -> str:
    """``0.0113`` to ``'11.3 ms'``, ``4000`` to ``'1 h 6 min'``."""
    if secs < 1:
        return f'{secs * 1e3:.3g} ms'
    if secs < 60:
        return f'{secs:.3g} s'
    minutes = round(secs / 60)
    if minutes < 60:
        return f'{minutes} min'
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f'{hours} h {minutes} min' if minutes else f'{hours} h'
    return f'{hours // 24} d {hours % 24} h'


def save_rate_text(save: Save) -> str:
    """Return the MB/s of a save; ``'-'`` if they are not known."""
    return '-' if save.rate is None else f'{save.rate / 1e6:.3g} MB/s'


def save_text(save: Save) -> str:
    """Say all of a save in one line."""
    said = [
        f'{save.name} ({save.trigger})' if save.trigger else save.name,
        counted(save.iter, 'iterations'),
        size_text(save.bytes)
    ]
    if save.blocked_secs is not None:
        said.append(f'training waited {secs_text(save.blocked_secs)}')
    if save.durable_secs is not None:
        said.append(f'durable after {secs_text(save.durable_secs)}, '
                    f'{save_rate_text(save)}')
    return f'{", ".join(said)}; {time_text(save.at)} UTC'


def end_text(start: Start) -> str:
    """Say how a start ended."""
    at = '' if start.reached is None else \
        f' after {counted(start.reached, "iterations")}'
    again = '' if not start.repeated else \
        f'; {counted(start.repeated, "iterations")} done again'
    seen = '' if start.last_seen is None else \
        f'; last seen {time_text(start.last_seen)} UTC'
    return f'{_ENDS[start.end](start)}{at}{again}{seen}'


_ENDS = {
    FINISHED:
    lambda start: 'finished',
    SIGNAL:
    lambda start: f'left on {start.signal or "a signal"}',
    EXCEPTION:
    lambda start: f'ended by {start.error or "an exception"}',
    KILLED:
    lambda start: 'killed, or ended unrecorded',
    OPEN:
    lambda start: 'still running, or killed'
    if start.is_recorded else 'no end is recorded',
}


def end_word(start: Start) -> str:
    """Say in a word or two how a start ended."""
    return _ENDS[start.end](start)
