"""The block that the start of a run logs: a plan to text.

Standard library only.
"""
from typing import TYPE_CHECKING

from .keep_text import kept_text
from .kept_count import growing_by
from .storage import scheme_of
from .wording import counted, every, logged_size

if TYPE_CHECKING:
    from .plan import Plan

#: What schedulers usually give a job between SIGTERM and SIGKILL.
GRACE_SECS = 30.
_STAGING = {
    'copy': 'before training goes on',
    'overlap': 'beside the next iteration',
    'auto': 'beside the next iteration where that is safe',
}


def block(plan: 'Plan') -> str:
    """Return the block, one record of several lines.

    Args:
        plan (Plan): What the run is going to save.
    """
    rows = [
        ('saves', _saves(plan)),
        ('keeps', kept_text(plan.options, plan.unit, plan.best)),
        ('needs', _needs(plan)),
        ('writes', _writes(plan)),
        ('in', plan.place),
        ('resume', f'{_resumes(plan)}; {plan.resumed}'),
        ('a save', _takes(plan)),
        ('a kill', _loses(plan)),
    ]
    if plan.mirror is not None:
        rows.insert(-3, ('mirror', plan.mirror))
    if plan.took_over is not None:
        rows.append(('stock', plan.took_over))
    if plan.notes:
        rows.append(('note', '; '.join(plan.notes)))
    return 'Checkpoints of this run:\n' + '\n'.join(f'  {name:<7} {said}'
                                                    for name, said in rows)


def _saves(plan: 'Plan') -> str:
    options, triggers = plan.options, plan.options.triggers
    said = []
    if options.interval > 0:
        after = f' from {triggers.begin}' if triggers.begin else ''
        said.append(f'{every(options.interval, plan.unit)}{after}')
    if triggers.at:
        steps = ', '.join(map(str, triggers.at))
        said.append(f'at {steps} {plan.unit}')
    if triggers.secs is not None:
        said.append(f'every {triggers.secs:g} s')
    if options.save_last:
        said.append('at the end')
    when = '' if plan.ranks == 1 else \
        f', when all {plan.ranks} ranks have finished a step or one ' \
        'more batch of an evaluation'
    for action, what in (('save', when), ('save_and_exit',
                                          f' (then ends){when}')):
        names = [name for name, one in plan.signals.items() if one == action]
        if names:
            said.append(f'on {", ".join(names)}{what}')
    if triggers.file is not None:
        said.append(f'when a file {triggers.file} appears in the work dir')
    if triggers.exception:
        how = '' if plan.ranks == 1 else \
            ' (as rank 0 has it, with its generators only)'
        said.append(f'on an exception between two steps{how}')
    return '; '.join(said) or 'nothing'


def _needs(plan: 'Plan') -> str:
    if plan.last is not None:
        how = f', as {plan.last.name} is'
    else:
        how = f' (model {logged_size(plan.model_bytes)}, optimizer ' + (
            'not known before the first save' if plan.optimizer_bytes is None
            else logged_size(plan.optimizer_bytes)) + ')'
    period = growing_by(plan.options)
    grows = period is not None and plan.kept.count - plan.kept.best > 1
    most = f'at the end of the run at most {logged_size(plan.total_bytes)}' \
        if grows else f'at most {logged_size(plan.total_bytes)}'
    said = [
        f'{logged_size(plan.checkpoint_bytes)} each{how}',
        f'{most}, for {_counted(plan)}'
    ]
    if grows and period is not None:
        said.append(f'until then {logged_size(plan.checkpoint_bytes)} more '
                    f'{every(period, plan.unit)}')
    if plan.free_bytes is not None:
        said.append(f'{logged_size(plan.free_bytes)} free')
    return '; '.join(said)


def _counted(plan: 'Plan') -> str:
    """Say of what the most is."""
    kept = plan.kept
    others = kept.count - kept.best
    said = [str(others)] if others or not kept.best else []
    if kept.best:
        said.append(f'{kept.best} {"more " * bool(others)}for the best')
    if kept.deletes:
        said.append('the one that is being written')
    return ' and '.join(filter(None, (', '.join(said[:-1]), said[-1])))


def _writes(plan: 'Plan') -> str:
    write = plan.options.write
    if plan.options.format == 'dcp':
        how = 'copied' if write.background else 'written'
        said = f'{_folder(plan)}; {how} before training goes on, never ' \
            'beside it'
    elif not write.background:
        said = 'one file each, written before training goes on'
    else:
        said = 'one file each, copied ' + _STAGING[write.staging]
    if write.background:
        said += ', then written in the background'
    if plan.waits_for is not None:
        said += f', for which training waits, as {plan.waits_for} reads ' \
            'it at once'
    if write.background and write.backlog == 'skip':
        said += '; one that comes meanwhile is skipped'
    if scheme_of(plan.place) not in ('', 'file'):
        return f'{said}; uploaded whole before it counts'
    if write.durability == 'none':
        return f"{said}; not synced (durability='none'): a power cut may " \
            'lose what was said to be saved'
    return f'{said}; synced to the disk before it counts'


def _folder(plan: 'Plan') -> str:
    folder = "a folder for each checkpoint (format='dcp')"
    if plan.writers == 1:
        return folder if plan.ranks == 1 else \
            f'{folder}, by rank 0 alone: every rank trains a model of ' \
            'its own'
    share = '' if plan.optimizer_bytes is None else \
        f', about {logged_size(plan.checkpoint_bytes // plan.writers)}'
    return f'{folder}, of which each of {plan.writers} ranks writes a ' \
        f'part{share}'


def _resumes(plan: 'Plan') -> str:
    if plan.options.resume is None:
        return "only when told to (resume='auto' does it at every start)"
    if plan.options.resume == 'auto':
        return "resume='auto', from the newest one here that verifies"
    return f'from {plan.options.resume}, then from what this run has saved'


def _takes(plan: 'Plan') -> str:
    if plan.save_secs is None:
        return 'takes a time that the first one will tell'
    how = 'as the last ones did' if plan.is_measured else \
        'a guess from a small write, until one is measured'
    return f'takes about {plan.save_secs:.2f} s ({how}); schedulers ' \
        f'usually give {GRACE_SECS:.0f} s between SIGTERM and SIGKILL'


def _loses(plan: 'Plan') -> str:
    lost = 'everything since the last save'
    if plan.options.interval > 0:
        lost += f', at most {counted(plan.options.interval, plan.unit)}'
    again = '; a resume inside an epoch repeats it from its first batch' \
        if plan.repeats_epoch else ''
    if 'save_and_exit' not in plan.signals.values():
        return f'loses {lost}{again}'
    if plan.ranks == 1:
        said = 'loses nothing but the iteration that is running'
    else:
        # said at the end of a step, heard at the end of the next
        said = 'loses nothing if two more steps, or a batch of an ' \
            'evaluation, end before SIGKILL'
    return f'by a signal that is watched {said}; without notice ' \
        f'{lost}{again}'
