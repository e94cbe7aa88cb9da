"""A run's place, opened: backend, catalog, resume, saver.

Called once a run, on all ranks; only rank 0 writes.
"""
from contextlib import ExitStack
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import distributed, takeover
from .abandoning import leave_mirrors
from .argument_checks import naming, shown
from .beginning import begin, point_to
from .best import BestKeeper, eval_hooks
from .catalog import BEST_CATALOG_NAME, CATALOG_NAME, Catalog
from .catalog_home import catalog_home
from .errors import ConfigError
from .executor import BackgroundExecutor, InlineExecutor
from .failure_log import failure_logger
from .folders.folder import sweep_folders
from .guarded import guarded, guarded_history, left_on_failure, lock_of, take
from .history import HeardHistory
from .known_metrics import refuse_unknown
from .mirror import Mirror
from .mirror_opening import find_in_both, metrics_of, mirror_of, start_mirror
from .mirroring import MirrorPlace
from .options import CheckpointOptions
from .place_note import note_place
from .ranking import Metrics, start_ranking
from .recovery import check_scores
from .restore import Restored
from .resuming import check_same_start, resume_run
from .retention import KeepLast, policy_of
from .run_lock import RunLock
from .saver import Saver
from .storage import open_backend
from .storage.names import same_place
from .types import CheckpointInfo, RetentionPolicy, StorageBackend


def open_run(runner: Any,
             options: CheckpointOptions,
             by_epoch: bool,
             place: str,
             build: Callable[..., Saver] = Saver) -> Optional[Saver]:
    """Open the place, resume if asked to, and build the saver.

    Args:
        runner (BaseRunner): Not running yet.
        options (CheckpointOptions): Of the hook.
        by_epoch (bool): Whether steps are epochs.
        place (str): Directory or URL.
        build (callable): Builds the saver. Default: ``Saver``.

    Returns:
        Saver | None: None on ranks other than 0.

    Raises:
        Exception: On all ranks, if the place cannot be opened on rank 0.
    """
    built, failure = None, None
    try:
        built = _build(runner, options, by_epoch, place)
    except Exception as error:  # passed on to all ranks
        failure = error
    # one of them may lack a package, or a profile
    distributed.raise_together(failure, f'opening {place}')
    assert built is not None
    metrics, backend, home, lock, catalog, second = built
    with left_on_failure(lock), left_on_failure(None if second is
                                                None else second.lock):
        in_mirror, newest, loaded = _agreed_newest(runner, options, backend,
                                                   catalog, lock, second)
        found_in = second.backend if second and in_mirror else backend
        restored = resume_run(runner, options, found_in, newest, loaded)
        check_same_start(runner, restored)
        del loaded
        saver = None
        if distributed.rank() == 0:
            try:
                begin(runner, options, catalog, restored)
                note_place(runner.work_dir, backend.url,
                           options.storage_options)
                if newest is not None and not in_mirror:
                    point_to(newest, runner, options, backend, catalog)
                policy = policy_of(options.keep_last, options.keep.every,
                                   by_epoch)
                mirror = None
                if second is not None:
                    mirror = start_mirror(runner, options, by_epoch, second,
                                          backend, catalog, metrics)
                saver = _saver(runner, options, backend, catalog, home, policy,
                               restored, lock, mirror, build)
                start_ranking(saver, options.keep, metrics, eval_hooks(runner),
                              runner.logger.warning)
                if mirror is not None:
                    mirror.wake()
            except Exception as error:  # passed on to all ranks
                failure = error
        distributed.raise_together(failure, f'opening {place}')
        return saver


def _build(
    runner: Any, options: CheckpointOptions, by_epoch: bool, place: str
) -> Tuple[Optional[Metrics], StorageBackend, StorageBackend,
           Optional[RunLock], Catalog, Optional[MirrorPlace]]:
    """Build what a start opens; nothing is touched yet."""
    refuse_unknown(options.keep, eval_hooks(runner))
    metrics = metrics_of(options, eval_hooks(runner))
    with naming(shown('out_dir', options.out_dir)):
        backend = open_backend(
            place,
            options.file_client_args,
            durable=options.write.durability == 'fsync',
            storage_options=options.storage_options)
    home = catalog_home(backend, runner.work_dir, runner.logger.warning)
    lock = lock_of(home, CATALOG_NAME, runner.logger.warning)
    backend, home = guarded(lock, backend, home)
    catalog = Catalog(backend, home, runner.logger.warning)
    second = mirror_of(runner, options, by_epoch, place, catalog, metrics)
    return metrics, backend, home, lock, catalog, second


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
    out_dir = str(getattr(eval_hook, 'out_dir', None) or '')
    if not out_dir or same_place(out_dir, runner.work_dir or ''):
        return saver
    place = out_dir
    if not hasattr(eval_hook, 'file_client'):  # set in its before_run
        place = takeover.resolve_out_dir(out_dir, runner.work_dir)
    for known in savers:
        if same_place(place, known.backend.url):
            return known
    if saver.mirror is not None and same_place(place, saver.mirror.url):
        # it would end the mirror, as that of a run that is over
        raise ConfigError(f'evaluation.out_dir leads to {place}, which is the '
                          'mirror: give one of both another place')
    with naming(shown('evaluation.out_dir', out_dir)):
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
        _prepare(backend, home)
        _occupy(runner, backend, home, lock)
        catalog.open()
        catalog.begin(saver.catalog.lineage, runner.iter)
        return _saver(runner, options, backend, catalog, home, KeepLast(None),
                      None, lock)


def _prepare(backend: StorageBackend, home: StorageBackend) -> None:
    """Prepare a place and the home of its catalog, which may be the place."""
    backend.prepare()
    if home is not backend:
        # an object store would list, write and delete once more
        home.prepare()


def _occupy(runner: Any, backend: StorageBackend, home: StorageBackend,
            lock: Optional[RunLock]) -> None:
    """Refuse a second live run, and remove what dead ones left."""
    swept = [] if lock is None else take(lock, backend, home)
    swept += backend.sweep() + sweep_folders(backend, runner.logger.warning)
    if swept:
        runner.logger.info('Removed what a killed save left behind: '
                           f'{", ".join(swept)}')


def _saver(runner: Any,
           options: CheckpointOptions,
           backend: StorageBackend,
           catalog: Catalog,
           home: StorageBackend,
           policy: RetentionPolicy,
           restored: Optional[Restored],
           lock: Optional[RunLock],
           mirror: Optional[Mirror] = None,
           build: Callable[..., Saver] = Saver) -> Saver:

    def leave() -> None:
        with ExitStack() as last_first:  # whatever one of them raises
            if lock is not None:
                last_first.callback(lock.release)
            if mirror is not None:
                # what raises on the way out waits for no copy
                last_first.push(lambda raised, *_: mirror.leave()
                                if raised else mirror.finish())
            if saver.end is not None:
                last_first.callback(saver.end.record)

    def finish_at_once() -> None:
        leave_mirrors([saver])
        saver.close()

    history = guarded_history(lock, home)
    saver = build(
        backend,
        catalog,
        history if mirror is None else HeardHistory(history, mirror.hear),
        policy,
        BackgroundExecutor() if options.write.background else InlineExecutor(),
        runner.logger.info,
        failure_logger(runner.logger),
        runner.logger.warning,
        backlog=options.write.backlog,
        symlink=options.create_symlink and backend.capabilities.point,
        protected=restored.name if restored is not None else None,
        budget=options.keep.bytes,
        leave=leave)
    saver.mirror = mirror
    if lock is not None:
        # where a stock runner has raised, nobody else did it
        lock.finish = finish_at_once
    return saver


def _agreed_newest(runner: Any, options: CheckpointOptions,
                   backend: StorageBackend, catalog: Catalog,
                   lock: Optional[RunLock],
                   mirror: Optional[MirrorPlace]) -> Tuple[bool, Any, Any]:
    """Open the places on rank 0; tell all ranks where to resume, or why not.

    Returns:
        tuple: Whether it is the mirror, and as ``Newest``: rank 0 has loaded
        the checkpoint, too.

    Raises:
        Exception: On all ranks: a rank that waited for one that has failed
            would hang.
    """
    found: Optional[CheckpointInfo] = None
    loaded, failure, in_mirror = None, None, False
    if distributed.rank() == 0:
        try:
            _prepare(backend, catalog.home)
            _occupy(runner, backend, catalog.home, lock)
            if lock is not None and mirror is not None and mirror.lock:
                # its lease was one of the same process
                mirror.lock.known_dead = lock.dead
            catalog.open()
            check_scores(options.keep.best, catalog)
            in_mirror, (found, loaded) = find_in_both(runner, options, backend,
                                                      catalog, mirror)
        except Exception as error:  # passed on to all ranks
            failure = error
    in_mirror, found, failure = distributed.broadcast_object(
        (in_mirror, found, failure))
    if failure is not None:
        raise failure
    return in_mirror, found, loaded
