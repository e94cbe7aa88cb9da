"""A run's place, opened: backend, catalog, resume, saver.

Called once a run, on all ranks; only rank 0 writes.
"""
import os
from typing import Any, Callable, Dict, List, Optional

from . import distributed, foreign, resume, takeover
from .best import BestKeeper, eval_hooks
from .catalog import BEST_CATALOG_NAME, CATALOG_NAME, Catalog
from .errors import ConfigError, StorageError
from .executor import BackgroundExecutor, InlineExecutor
from .guarded import guarded, left_on_failure, lock_of, take
from .history import History
from .latest import move_latest
from .options import CheckpointOptions
from .ranking import Metrics, Ranking
from .restore import Restored, finish_on_stock, refresh_hooks, restore_runner
from .retention import KeepAny, KeepEvery, KeepLast
from .run_lock import RunLock
from .saver import Saver
from .storage import open_backend
from .storage.local import LocalBackend
from .types import LATEST_NAME, CheckpointInfo, RetentionPolicy, StorageBackend


def open_run(runner: Any, options: CheckpointOptions, by_epoch: bool,
             place: str) -> Optional[Saver]:
    """Open the place, resume if asked to, and build the saver.

    Args:
        runner (BaseRunner): Not running yet.
        options (CheckpointOptions): Of the hook.
        by_epoch (bool): Whether steps are epochs.
        place (str): Directory or URL.

    Returns:
        Saver | None: None on ranks other than 0.
    """
    # on all ranks, before anything is done
    metrics = None if options.keep.best is None else \
        Metrics(options.keep, eval_hooks(runner))
    backend = open_backend(
        place,
        options.file_client_args,
        durable=options.write.durability == 'fsync')
    home = _catalog_home(backend, runner.work_dir)
    lock = lock_of(home, CATALOG_NAME, runner.logger.warning)
    backend, home = guarded(lock, backend, home)
    catalog = Catalog(backend, home, runner.logger.warning)
    with left_on_failure(lock):
        newest = _agreed_newest(runner, options, backend, catalog, lock)
        restored = _resume(runner, options, backend, newest)
        if distributed.rank() != 0:
            return None
        _begin(runner, options, catalog, restored)
        if newest is not None and newest.name != LATEST_NAME and \
                options.create_symlink and backend.capabilities.point:
            # killed between a commit and its pointer, and nothing left to
            # train
            move_latest(backend, catalog, newest.name, runner.logger.warning)
        saver = _saver(runner, options, backend, catalog, home,
                       _policy(options, by_epoch), restored, lock)
        if metrics is not None and options.keep.best is not None:
            saver.ranking = Ranking(saver, options.keep.best, metrics)
        return saver


def keep_best(runner: Any, options: CheckpointOptions, savers: List[Saver],
              capture: Callable[[Any, int, int], Dict[str, Any]]) -> None:
    """Have the scores of all EvalHooks joined, and the best kept.

    Args:
        runner (BaseRunner): Not running yet.
        options (CheckpointOptions): Of the hook.
        savers (list[Saver]): The run's own; empty on ranks other than 0.
            Those of further places are added.
        capture (callable): See :class:`~mmcv_ckpt_hooks.best.BestKeeper`.

    Raises:
        Exception: On all ranks, if a place cannot be opened.
    """
    failure = None
    try:
        for hook in eval_hooks(runner) if savers else []:
            place = _open_best(runner, options, hook, savers)
            BestKeeper(hook, place, capture, savers[0]).recall(runner)
            if place not in savers:
                savers.append(place)
    except Exception as error:  # passed on to all ranks
        failure = error
    distributed.raise_together(failure, 'opening the place of the best')


def _open_best(runner: Any, options: CheckpointOptions, eval_hook: Any,
               savers: List[Saver]) -> Saver:
    """Return the saver for an EvalHook's best checkpoints.

    The run's own (the first of ``savers``), unless ``evaluation`` has an
    ``out_dir`` that leads elsewhere; then that of the EvalHook before, if it
    leads to the same place.
    """
    saver = savers[0]
    out_dir = getattr(eval_hook, 'out_dir', None)
    if not out_dir or takeover.same_place(out_dir, runner.work_dir or ''):
        return saver
    place = out_dir
    if not hasattr(eval_hook, 'file_client'):  # set in its before_run
        place = takeover.resolve_out_dir(out_dir, runner.work_dir)
    for known in savers:
        if takeover.same_place(place, known.backend.url):
            return known
    backend = open_backend(place, getattr(eval_hook, 'file_client_args', None))
    home = _catalog_home(backend, runner.work_dir)
    name = CATALOG_NAME if home is backend else BEST_CATALOG_NAME
    lock = lock_of(home, name, runner.logger.warning)
    backend, home = guarded(lock, backend, home)
    catalog = Catalog(backend, home, runner.logger.warning, name)
    with left_on_failure(lock):
        backend.prepare()
        home.prepare()
        _occupy(runner, backend, home, lock)
        catalog.open()
        catalog.begin(saver.catalog.lineage, runner.iter)
        return _saver(runner, options, backend, catalog, home, KeepLast(None),
                      None, lock)


def _occupy(runner: Any, backend: StorageBackend, home: StorageBackend,
            lock: Optional[RunLock]) -> None:
    """Refuse a second live run, and remove what dead ones left."""
    swept = [] if lock is None else take(lock, backend, home)
    swept += backend.sweep()
    if swept:
        runner.logger.info('Removed what a killed save left behind: '
                           f'{", ".join(swept)}')


def _saver(runner: Any, options: CheckpointOptions, backend: StorageBackend,
           catalog: Catalog, home: StorageBackend, policy: RetentionPolicy,
           restored: Optional[Restored], lock: Optional[RunLock]) -> Saver:
    saver = Saver(
        backend,
        catalog,
        History(home.url),
        policy,
        BackgroundExecutor() if options.write.background else InlineExecutor(),
        runner.logger.info,
        # what a storage says is clear without a traceback
        lambda message, error: runner.logger.error(
            message,
            exc_info=None if isinstance(error, StorageError) else error),
        backlog=options.write.backlog,
        symlink=options.create_symlink and backend.capabilities.point,
        protected=restored.name if restored is not None else None,
        budget=options.keep.bytes,
        leave=lambda: None if lock is None else lock.release())
    if lock is not None:
        lock.finish = saver.close
    return saver


def _agreed_newest(runner: Any, options: CheckpointOptions,
                   backend: StorageBackend, catalog: Catalog,
                   lock: Optional[RunLock]) -> Optional[CheckpointInfo]:
    """Open the place on rank 0; tell all ranks where to resume, or why not.

    Raises:
        Exception: On all ranks: a rank that waited for one that has failed
            would hang.
    """
    found: Optional[CheckpointInfo] = None
    failure: Optional[Exception] = None
    if distributed.rank() == 0:
        try:
            backend.prepare()
            catalog.home.prepare()
            _occupy(runner, backend, catalog.home, lock)
            catalog.open()
            if options.resume is not None:
                found = _newest(runner, options, backend, catalog)
        except Exception as error:  # passed on to all ranks
            failure = error
    found, failure = distributed.broadcast_object((found, failure))
    if failure is not None:
        raise failure
    return found


def _newest(runner: Any, options: CheckpointOptions, backend: StorageBackend,
            catalog: Catalog) -> Optional[CheckpointInfo]:
    """Return this run's own newest checkpoint that verifies."""
    warn = runner.logger.warning
    if options.resume == 'auto':
        return resume.newest_verified(
            backend, catalog, warn, trust=options.trust_checkpoint)
    start = resume.describe_path(str(options.resume))
    own = [
        info for info in catalog.resumable() if info.lineage and (
            start is None or resume.continues(info, start, catalog))
    ]
    if own:
        return resume.newest_verified(backend, catalog, warn, own,
                                      options.trust_checkpoint)
    if catalog.checkpoints():
        warn(f'The checkpoints in {backend.url} do not belong to a run that '
             f'started from {options.resume}: they are not resumed from')
    return None


def _resume(runner: Any, options: CheckpointOptions, backend: StorageBackend,
            found: Optional[CheckpointInfo]) -> Optional[Restored]:
    """Continue as the options say; the run's own newest goes first."""
    already: Optional[Restored] = getattr(runner, 'restored', None)
    if options.resume is None:
        return already
    if found is not None and already is not None and \
            already.iter >= found.iter:
        return already
    if found is None and options.resume == 'auto':
        runner.logger.warning(
            f"resume='auto': there is no checkpoint in {backend.url}; "
            'training starts anew')
        return already
    failure, restored = None, None
    try:
        restored = _restore(runner, options, backend, found)
    except Exception as error:  # passed on to all ranks
        failure = error
    distributed.raise_together(failure, 'resuming')
    return restored


def _restore(runner: Any, options: CheckpointOptions, backend: StorageBackend,
             found: Optional[CheckpointInfo]) -> Restored:
    trust = options.trust_checkpoint
    if found is not None:
        if options.resume != 'auto':
            runner.logger.info(
                f'resume={options.resume!r} was where this run started: it '
                f'goes on from its own newest checkpoint, {found.name}')
        checkpoint = resume.load_from(backend, found, trust)
        directory, name = backend.url, found.name
    else:
        checkpoint, directory, name = resume.load_verified(
            str(options.resume), trust, runner.logger.warning)
    if foreign.overrides(runner, 'resume'):
        foreign.resume_with(runner, checkpoint, os.path.join(directory, name))
    restored = restore_runner(runner, checkpoint, directory, name)
    restored = finish_on_stock(runner, restored)
    refresh_hooks(runner)
    runner.restored = restored
    return restored


def _begin(runner: Any, options: CheckpointOptions, catalog: Catalog,
           restored: Optional[Restored]) -> None:
    lineage = restored.lineage if restored is not None else ''
    if restored is None and runner.iter:
        # the tool resumed a stock runner: from one of ours, if the catalog
        # knows the step
        lineage = next(
            (info.lineage
             for info in catalog.resumable() if info.iter == runner.iter), '')
    others = [
        info.name for info in catalog.checkpoints()
        if not lineage or info.lineage != lineage
    ]
    catalog.begin(lineage or None, runner.iter)
    if others and options.adopt_existing:
        catalog.adopt()
    elif others:
        more = ', ...' if len(others) > 3 else ''
        runner.logger.warning(
            f'The directory holds {len(others)} checkpoints of another run '
            f'({", ".join(others[:3])}{more}): they are neither counted nor '
            'deleted, and one whose name is needed is kept under another. '
            'adopt_existing=True owns them')


def _policy(options: CheckpointOptions, by_epoch: bool) -> RetentionPolicy:
    policies: List[RetentionPolicy] = [KeepLast(options.keep_last)]
    if options.keep.every is not None:
        policies.append(KeepEvery(options.keep.every, by_epoch))
    return KeepAny(policies)


def _catalog_home(backend: StorageBackend,
                  work_dir: Optional[str]) -> StorageBackend:
    """Where the catalog is kept: beside the checkpoints if that works."""
    able = backend.capabilities
    if able.listing and able.atomic_replace:
        return backend
    if work_dir is None:
        raise ConfigError(
            f'{backend.url} cannot hold the catalog, because it cannot list '
            'or replace files; the runner needs a work_dir')
    return LocalBackend(work_dir)
