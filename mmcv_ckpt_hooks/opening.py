"""A run's place, opened: backend, catalog, resume, saver.

Called once a run, on all ranks; only rank 0 writes.
"""
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional

from . import distributed, takeover
from .best import BestKeeper, eval_hooks
from .catalog import BEST_CATALOG_NAME, CATALOG_NAME, Catalog
from .catalog_home import catalog_home
from .errors import CheckpointError, LockedError, StorageError
from .executor import BackgroundExecutor, InlineExecutor
from .guarded import guarded, left_on_failure, lock_of, take
from .history import HISTORY_NAME, open_history
from .known_metrics import refuse_unknown
from .latest import move_latest
from .options import CheckpointOptions
from .ranking import Metrics, start_ranking
from .restore import Restored
from .resuming import Newest, find_newest, resume_run
from .retention import KeepAny, KeepEvery, KeepLast
from .run_lock import RunLock
from .saver import Saver
from .storage import open_backend
from .storage.mapped_errors import storage_error
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

    Raises:
        Exception: On all ranks, if the place cannot be opened on rank 0.
    """
    # on all ranks, before anything is done
    refuse_unknown(options.keep, eval_hooks(runner))
    metrics = None if options.keep.best is None else \
        Metrics(options.keep, eval_hooks(runner))
    backend = open_backend(
        place,
        options.file_client_args,
        durable=options.write.durability == 'fsync',
        storage_options=options.storage_options)
    home = catalog_home(backend, runner.work_dir, runner.logger.warning)
    lock = lock_of(home, CATALOG_NAME, runner.logger.warning)
    backend, home = guarded(lock, backend, home)
    catalog = Catalog(backend, home, runner.logger.warning)
    with left_on_failure(lock):
        newest, loaded = _agreed_newest(runner, options, backend, catalog,
                                        lock)
        restored = resume_run(runner, options, backend, newest, loaded)
        del loaded
        saver, failure = None, None
        if distributed.rank() == 0:
            try:
                _begin(runner, options, catalog, restored)
                if newest is not None:
                    _point_to(newest, runner, options, backend, catalog)
                saver = _saver(runner, options, backend, catalog, home,
                               _policy(options, by_epoch), restored, lock)
                start_ranking(saver, options.keep, metrics, eval_hooks(runner),
                              runner.logger.warning)
            except Exception as error:  # passed on to all ranks
                failure = error
        distributed.raise_together(failure, f'opening {place}')
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
    backend = open_backend(
        place,
        getattr(eval_hook, 'file_client_args', None),
        storage_options=options.storage_options)
    home = catalog_home(backend, runner.work_dir, runner.logger.warning)
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
        open_history(home),
        policy,
        BackgroundExecutor() if options.write.background else InlineExecutor(),
        runner.logger.info,
        # what our own errors say is clear without a traceback
        lambda message, error: runner.logger.error(
            message,
            exc_info=None if isinstance(error, CheckpointError) else error),
        runner.logger.warning,
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
                   lock: Optional[RunLock]) -> Newest:
    """Open the place on rank 0; tell all ranks where to resume, or why not.

    Rank 0 has loaded the checkpoint, too.

    Raises:
        Exception: On all ranks: a rank that waited for one that has failed
            would hang.
    """
    found: Optional[CheckpointInfo] = None
    loaded, failure = None, None
    if distributed.rank() == 0:
        try:
            backend.prepare()
            catalog.home.prepare()
            _occupy(runner, backend, catalog.home, lock)
            catalog.open()
            _check_scores(options, catalog)
            if options.resume is not None:
                found, loaded = find_newest(runner, options, backend, catalog)
        except Exception as error:  # passed on to all ranks
            failure = error
    found, failure = distributed.broadcast_object((found, failure))
    if failure is not None:
        raise failure
    return found, loaded


def _check_scores(options: CheckpointOptions, catalog: Catalog) -> None:
    """Refuse to choose the best among checkpoints whose scores are lost.

    INVARIANT: a history that cannot be read today may be readable tomorrow;
    the best, which would have no rank, could not be brought back.
    """
    if catalog.lost_scores is not None and options.keep.best is not None and \
            catalog.checkpoints():
        raise storage_error(
            catalog.lost_scores, f'keep.best={options.keep.best} would delete '
            f'the best checkpoints in {catalog.home.url}: their scores are in '
            f'{HISTORY_NAME}, which cannot be read. Make it readable, or move '
            'it away to go on without them')


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
        with _left_to_the_next_save(runner, options,
                                    'Recording what is adopted'):
            catalog.adopt()
    elif others:
        more = ', ...' if len(others) > 3 else ''
        runner.logger.warning(
            f'The directory holds {len(others)} checkpoints of another run '
            f'({", ".join(others[:3])}{more}): they are neither counted nor '
            'deleted, and one whose name is needed is kept under another. '
            'adopt_existing=True owns them')


@contextmanager
def _left_to_the_next_save(runner: Any, options: CheckpointOptions,
                           what: str) -> Iterator[None]:
    """Go on without what every save does again, unless ``on_error`` raises.
    """
    try:
        yield
    except LockedError:
        raise
    except StorageError as error:
        if options.on_error == 'raise':
            raise
        runner.logger.warning(f'{what} failed ({error}). The next save tries '
                              'again')


def _point_to(newest: CheckpointInfo, runner: Any, options: CheckpointOptions,
              backend: StorageBackend, catalog: Catalog) -> None:
    """Move ``latest.pth`` on to what the run goes on from.

    It was killed between a commit and its pointer, and nothing may be left to
    train.
    """
    if newest.name == LATEST_NAME or not options.create_symlink or \
            not backend.capabilities.point:
        return
    with _left_to_the_next_save(runner, options,
                                f'Moving {LATEST_NAME} to {newest.name}'):
        move_latest(backend, catalog, newest.name, runner.logger.warning)


def _policy(options: CheckpointOptions, by_epoch: bool) -> RetentionPolicy:
    policies: List[RetentionPolicy] = [KeepLast(options.keep_last)]
    if options.keep.every is not None:
        policies.append(KeepEvery(options.keep.every, by_epoch))
    return KeepAny(policies)
