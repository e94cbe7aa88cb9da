"""The start of a run, told: what it will save, keep and go on from."""
import os
from typing import (TYPE_CHECKING, Any, Dict, Iterator, List, Mapping,
                    Optional, Sequence)

from . import distributed, plan, sizes, takeover
from .amp import has_idle_scaler
from .best import eval_hooks
from .ema import ema_hooks
from .ending import RunEnd
from .folders.layout import is_folder
from .history import open_history
from .keep_text import mirror_text
from .options import CheckpointOptions
from .place_limits import followed, limits_text, unused_text
from .saver import Saver
from .sharded.shards import has_shards
from .state import is_replicated
from .types import CheckpointInfo
from .wording import counted

if TYPE_CHECKING:
    from .hook import DurableCheckpointHook

#: Smaller copies are not worth mapping memory for before the first save.
_MAPPED_BYTES = 16 << 20
#: What is expected of a checkpoint is nearer to it than this, as a factor. One
#: with the state of SGD is twice as large as one without.
_ALIKE = 1.5
_DEFAULTS = CheckpointOptions()


def say_start(hook: 'DurableCheckpointHook', runner: Any, saver: Saver,
              taken: Optional[Mapping[str, Any]]) -> None:
    """Say what a run is going to save; what it has saved when it ends.

    Args:
        hook (DurableCheckpointHook): Ready but for this.
        runner (BaseRunner): About to train.
        saver (Saver): Of rank 0.
        taken (dict, optional): Arguments of the stock hook whose place ours
            has; None if there was none.
    """
    assert hook._interrupts is not None
    unit = 'epochs' if hook.by_epoch else 'iterations'
    place, options = saver.backend.url, hook.options
    of_model = sizes.model_bytes(runner.model, runner.meta, options.format)
    # its before_run, which adds them, may come later
    of_model += sum(
        sizes.averages_bytes(runner.model, options.format)
        for one in ema_hooks(runner) if not hasattr(one, 'param_ema_buffer'))
    of_optimizer = sizes.optimizer_bytes(runner.optimizer, options.format) \
        if hook.save_optimizer else 0
    nbytes = of_model + (of_optimizer or 0)
    is_local = os.path.isdir(place)
    last = _last_one(saver, options, None if of_optimizer is None else nbytes)
    each = nbytes if last is None else last.bytes
    measured = plan.measured_secs(_events(runner, saver), each)
    guess = plan.write_secs(place, each) \
        if measured is None and is_local else None
    steps = runner.max_epochs if hook.by_epoch else runner.max_iters
    best = tuple(
        str(one.key_indicator) for one in eval_hooks(runner) if one.save_best)
    said = plan.Plan(
        followed(options, saver.backend), unit, steps or 0, place,
        hook._interrupts.watch.watched(), best, of_model, of_optimizer,
        sum(info.bytes for info in saver.catalog.owned() if not info.same_as),
        plan.free_bytes(place) if is_local else None,
        guess if measured is None else measured, measured is not None,
        _took_over(hook, taken,
                   best), _came_from(runner), distributed.world_size(),
        _writers(hook, runner), not takeover.counts_iterations(runner)
        and not hasattr(runner, 'finished_steps'),
        None if saver.mirror is None else mirror_text(
            options, saver.mirror.url, unit, best), hook._waits_for,
        tuple(_notes(hook, runner)), last)
    if of_optimizer is not None and nbytes >= _MAPPED_BYTES:
        on_gpu = any(one.is_cuda for one in runner.model.parameters())
        saver.reserve(nbytes // said.writers, on_gpu)
    runner.logger.info(said.text())
    limits = limits_text(options, saver.backend, saver.catalog.home)
    unused = unused_text(options, _places(hook, runner))
    for warning in (*filter(None, (limits, unused)), *said.warnings(),
                    *_never_scored(runner, options)):
        runner.logger.warning(warning)
    saver.end = RunEnd(runner, options, hook._savers, hook._interrupts)


def _last_one(saver: Saver, options: CheckpointOptions,
              expected: Optional[int]) -> Optional[CheckpointInfo]:
    """Return the last one that this run has here, if the next is like it.

    Args:
        saver (Saver): Knows what is there.
        options (CheckpointOptions): The format of the next.
        expected (int, optional): Bytes that the next will have; None if they
            are not known.
    """
    of_format = [
        info for info in saver.catalog.owned()
        if info.bytes > 0 and is_folder(info.name) == (options.format == 'dcp')
    ]
    last = max(of_format, key=lambda info: info.iter, default=None)
    if last is not None and expected is not None and \
            max(last.bytes, expected) > _ALIKE * min(last.bytes, expected):
        # it has an optimizer, which is no longer saved, or has none
        return None
    return last


def _took_over(hook: 'DurableCheckpointHook', taken: Optional[Mapping[str,
                                                                      Any]],
               best: Sequence[str]) -> Optional[str]:
    """Say what was taken over from the config of stock mmcv."""
    said = []
    if taken is not None:
        # tools give by_epoch, which is seen in the unit of the interval
        names = [
            name for name, value in taken.items()
            if value is not None and hook._given.get(name) is None
            and name != 'by_epoch' and value != getattr(_DEFAULTS, name)
        ]
        # others are long, as meta, or have credentials
        values = ', '.join(
            f'{name}={taken[name]}' if isinstance(taken[name], int) else name
            for name in names)
        said.append('CheckpointHook of checkpoint_config is replaced' + (
            f'; what it was given counts here: {values}' if values else ''))
    if best:
        said.append(f'save_best of the evaluation ({", ".join(best)}) is '
                    'done here, too')
    return '; '.join(said) or None


def _notes(hook: 'DurableCheckpointHook', runner: Any) -> Iterator[str]:
    """Yield what may surprise whoever resumes from these checkpoints."""
    if not hasattr(runner, 'finished_steps'):
        ours = 'EpochBasedRunnerAmp' if not takeover.counts_iterations(
            runner) else 'IterBasedRunnerAmp'
        yield f'on {type(runner).__name__} a resume begins the data anew, ' \
            f'{ours} goes on after the last batch'
    for one in runner.hooks:
        if has_idle_scaler(one):
            yield f'{type(one).__name__} does not scale the loss here, so ' \
                'that no loss scale is saved'
    if not hook.save_optimizer:
        yield 'save_optimizer=False: a resume begins with a new optimizer'


def _never_scored(runner: Any, options: CheckpointOptions) -> Iterator[str]:
    """Yield which evaluations never come where the best are to be kept."""
    for one in eval_hooks(runner):
        steps = runner.max_epochs if one.by_epoch else runner.max_iters
        unit = 'epochs' if one.by_epoch else 'iterations'
        if (one.save_best or options.keep.best) and \
                getattr(one, 'start', None) is None and \
                steps is not None and one.interval > steps:
            yield f'evaluation.interval={one.interval} never comes: the run ' \
                f'has {counted(steps, unit)}, and none of its checkpoints ' \
                'gets a score by which the best are kept'


def _writers(hook: 'DurableCheckpointHook', runner: Any) -> int:
    """Return how many ranks have a part of what is written."""
    shares = hook._sharding is not None and (is_replicated(runner.model)
                                             or has_shards(runner.model))
    return distributed.world_size() if shares else 1


def _places(hook: 'DurableCheckpointHook', runner: Any) -> List[Any]:
    """Return all that a run writes to or begins with; None for nothing."""
    restored = getattr(runner, 'restored', None)
    return [
        hook.out_dir, hook.options.resume, restored and restored.directory,
        getattr(runner, 'loaded_from', None),
        *(getattr(one, 'out_dir', None) for one in eval_hooks(runner))
    ]


def _events(runner: Any, saver: Saver) -> List[Dict[str, Any]]:
    if saver.catalog.lost_scores is not None:
        return []  # the same history; it was said
    try:
        return open_history(saver.catalog.home).read(runner.logger.warning)
    except OSError as error:
        # nothing depends on it, and the other ranks train already
        runner.logger.warning(f'Could not read the history: {error}')
        return []


def _came_from(runner: Any) -> str:
    restored = getattr(runner, 'restored', None)
    if restored is not None:
        return f'this run goes on from {restored.name} in {restored.directory}'
    if runner.iter:
        return f'this run goes on after {counted(runner.iter, "iterations")}'
    return 'this run starts anew'
