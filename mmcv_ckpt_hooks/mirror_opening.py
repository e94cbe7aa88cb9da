"""A run's mirror at its start: opened, resumed from, and set to work."""
from dataclasses import replace
from typing import Any, List, Optional, Sequence, Tuple

from . import lineage as lineages
from . import resume, takeover
from .beginning import left_to_the_next_save
from .catalog import Catalog
from .errors import (AccessError, ConfigError, DependencyError, IntegrityError,
                     LockedError, MissingCheckpointError, MissingPlaceError,
                     StorageError, UnsupportedError)
from .mirror import Mirror
from .mirror_note import MirrorNote, write_note
from .mirror_words import argument_of, is_inside, shared_with, told_of_mirror
from .mirroring import MirrorPlace
from .options import CheckpointOptions, last_of
from .ranking import Metrics
from .resuming import Newest, find_newest
from .retention import policy_of
from .state_loading import copied_fields
from .storage import scheme_of
from .storage.names import same_place
from .storage.object_url import whereabouts
from .types import CheckpointInfo, StorageBackend

_SHOWN_NAMES = 3
#: Errors of a place that does not get better by itself.
_LASTING = (AccessError, DependencyError, LockedError, MissingCheckpointError,
            MissingPlaceError, UnsupportedError)
#: Something else is at its path, or above.
_NO_DIRECTORY = (NotADirectoryError, FileExistsError)


def metrics_of(options: CheckpointOptions,
               eval_hooks: Sequence[Any]) -> Optional[Metrics]:
    """Return what ranks in the run's place or its mirror; None if nothing.

    Raises:
        ConfigError: As :class:`Metrics`; or if nothing would ever say which
            metric a mirror ranks by.
    """
    if options.keep.best is not None:
        return Metrics(options.keep, eval_hooks)
    best = None if options.mirror is None else options.mirror_keep.best
    if best is None:
        return None
    asked_by = 'mirror.keep.best'
    metrics = Metrics(replace(options.keep, best=best), eval_hooks, asked_by)
    if not any(hook.save_best for hook in eval_hooks):
        raise ConfigError(
            f'DurableCheckpointHook: {asked_by}={best} needs a metric, '
            'and the run has none: give keep.best and keep.monitor, or '
            'evaluation.save_best')
    return metrics


def mirror_of(runner: Any, options: CheckpointOptions, by_epoch: bool,
              place: str, catalog: Catalog,
              metrics: Optional[Metrics]) -> Optional[MirrorPlace]:
    """Build the mirror of a run; nothing is touched yet.

    Args:
        runner (BaseRunner): Not running yet.
        options (CheckpointOptions): Of the hook.
        by_epoch (bool): Whether steps are epochs.
        place (str): Of the run itself.
        catalog (Catalog): Of that.
        metrics (Metrics, optional): Of :func:`metrics_of`.

    Raises:
        ConfigError: If it cannot be one.
    """
    given = options.mirror
    if given is None:
        return None
    url = takeover.resolve_out_dir(given.url, runner.work_dir)
    keep = options.mirror_keep

    def log(message: str) -> None:
        runner.logger.info(f'Mirror: {message}')

    def warn(message: str) -> None:
        runner.logger.warning(f'Mirror: {message}')

    with told_of_mirror(options):
        built = MirrorPlace(
            url,
            policy_of(last_of(keep), keep.every, by_epoch),
            log,
            warn,
            given.storage_options,
            durable=options.write.durability == 'fsync',
            symlink=options.create_symlink,
            budget=keep.bytes,
            ranking=lambda: None
            if metrics is None or keep.best is None else metrics.policy(
                keep.best, catalog.auto_metric()),
            held=lambda: metrics is not None and metrics.is_held)
    if options.format == 'dcp' and not built.backend.capabilities.folders:
        raise ConfigError(
            f"DurableCheckpointHook: format='dcp' cannot be mirrored to "
            f'{built.url}, which cannot list folders: give mirror a directory '
            "or an object store (s3://, gs://, az://), or use format='pth'")
    if same_place(url, place) or same_place(built.url, catalog.home.url):
        raise ConfigError(
            f'DurableCheckpointHook: the mirror is {place} itself, where the '
            'checkpoints go (the last level of the work dir is added to '
            'mirror.url): give another one')
    if is_inside(built.url, place):
        raise ConfigError(
            f'DurableCheckpointHook: the mirror {built.url} lies in {place}, '
            'where the checkpoints go, on the same disk: who loses or removes '
            'that loses both. Give mirror.url a path outside of it, best on '
            'another disk')
    return built


def _note_of(options: CheckpointOptions, mirror: MirrorPlace, by_epoch: bool,
             metrics: Optional[Metrics]) -> MirrorNote:
    """Return what ``mmcv-ckpt push`` has to know."""
    keep = options.mirror_keep
    given = options.mirror and options.mirror.storage_options
    place = whereabouts(given or {}) if scheme_of(mirror.url) == 's3' else {}
    return MirrorNote(mirror.url, by_epoch, last_of(keep), keep.every,
                      keep.best, keep.bytes,
                      None if metrics is None else metrics.noted(),
                      options.create_symlink, **place)


def find_in_both(runner: Any, options: CheckpointOptions,
                 backend: StorageBackend, catalog: Catalog,
                 mirror: Optional[MirrorPlace]) -> Tuple[bool, Newest]:
    """Open the mirror; return the newest checkpoint of it and the run's place.

    Of equal ones that of the run's place is taken.

    Returns:
        tuple[bool, Newest]: Whether it is the mirror's.

    Raises:
        StorageError: If the mirror refuses; or if it cannot be reached, and
            only it may have a checkpoint to resume from.
    """
    away = None
    if mirror is not None:
        with told_of_mirror(options):
            away = _open(mirror)
    if options.resume is None:
        found: Newest = (None, None)
    elif mirror is None or options.resume != 'auto':
        found = find_newest(runner, options, backend, catalog)
    elif away is None:
        return _newer_of_both(runner, options, backend, catalog, mirror)
    elif catalog.resumable():
        found = find_newest(runner, options, backend, catalog)
    else:
        raise StorageError(
            f"resume='auto': {backend.url} holds no checkpoint, and whether "
            f'the mirror does, {argument_of(options)}, cannot be seen '
            f'({away}). Make it reachable, or start anew without resume'
        ) from away
    if away is not None and mirror is not None:
        runner.logger.warning(
            f'Mirror {mirror.url} cannot be reached ({away}). Training goes '
            'on; what it lacks is copied as soon as it is back')
    return False, found


def _open(mirror: MirrorPlace) -> Optional[StorageError]:
    """Open it; return the error of one that may come back."""
    try:
        mirror.open()
    except StorageError as error:
        if isinstance(error, _LASTING) or isinstance(error.__cause__,
                                                     _NO_DIRECTORY):
            raise
        mirror.away = str(error)
        return error
    return None


def _newer_of_both(runner: Any, options: CheckpointOptions,
                   backend: StorageBackend, catalog: Catalog,
                   mirror: MirrorPlace) -> Tuple[bool, Newest]:
    warn = runner.logger.warning

    def of_mirror(candidates: List[CheckpointInfo]) -> Newest:
        return resume.newest_loaded(mirror.backend, mirror.catalog, warn,
                                    candidates, options.trust_checkpoint,
                                    copied_fields(
                                        runner.optimizer)) or (None, None)

    own = catalog.resumable()
    newer, older = candidates_of(catalog, mirror.catalog)
    if newer:
        try:
            found = of_mirror(newer)
            names = [info.name for info in (newer[0], found[0]) if info]
            runner.logger.info(
                f"resume='auto': the mirror {mirror.url} has "
                f'{", ".join(dict.fromkeys(names))}, newer than all in '
                f'{backend.url}: going on from there')
            return True, found
        except (IntegrityError, StorageError) as error:
            if not own:
                with told_of_mirror(options):
                    raise
            warn(f'Not resuming from the mirror {mirror.url}: {error}')
    try:
        mine = find_newest(runner, options, backend, catalog)
    except IntegrityError as error:
        if not older:
            raise
        warn(f'{error}. Going on from the mirror {mirror.url}')
        return True, of_mirror(older)
    # INVARIANT: of a newest one that is damaged here the copy counts: else
    # the run would go back before it, and write over it there
    newer = [one for one in older if mine[0] and one.iter > mine[0].iter]
    if newer:
        del mine  # it may be as large as memory allows
        try:
            found = of_mirror(newer)
            warn(f'Going on from the mirror {mirror.url}, which has '
                 f'{newer[0].name} undamaged')
            return True, found
        except (IntegrityError, StorageError) as error:
            warn(f'Not resuming from the mirror {mirror.url}: {error}')
        mine = find_newest(runner, options, backend, catalog)
    return False, mine


def candidates_of(
        catalog: Catalog,
        mirror: Catalog) -> Tuple[List[CheckpointInfo], List[CheckpointInfo]]:
    """Return what a run could resume from in its mirror, newest first.

    Only what continues the run that is in its own place, if there is one: of
    the same lineage, and not given up for what that place has.

    Returns:
        tuple[list, list]: What is newer than all of the run's place, and the
        rest.
    """
    own, theirs = catalog.resumable(), mirror.resumable()
    if not own:
        return theirs, []
    lineage = own[0].lineage
    theirs = [info for info in theirs if lineage and info.lineage == lineage]
    valid = lineages.current([*own, *theirs], lineage, 0, 0)
    newest = max((info.iter for info in own if info in valid), default=-1)
    theirs = [info for info in theirs if info in valid]
    return ([info for info in theirs if info.iter > newest],
            [info for info in theirs if info.iter <= newest])


def start_mirror(runner: Any, options: CheckpointOptions, by_epoch: bool,
                 mirror: MirrorPlace, backend: StorageBackend,
                 catalog: Catalog, metrics: Optional[Metrics]) -> Mirror:
    """Note a mirror, and have it follow the run that begins.

    Args:
        runner (BaseRunner): For its log.
        options (CheckpointOptions): Of the hook.
        by_epoch (bool): Whether steps are epochs.
        mirror (MirrorPlace): Open, unless it could not be reached.
        backend (StorageBackend): The run's place.
        catalog (Catalog): Of that; ``begin`` was called.
        metrics (Metrics, optional): Of :func:`metrics_of`.

    Raises:
        ConfigError: If the mirror is the run's own place.
    """
    with left_to_the_next_save(runner, options, 'Noting the mirror'):
        note = _note_of(options, mirror, by_epoch, metrics)
        write_note(catalog.home, note)
        mirror.token = note.token
    if mirror.is_open:
        mirror.join(catalog)
        auto = mirror.catalog.auto_metric()
        if auto is not None and catalog.auto_metric() is None:
            catalog.set_auto_metric(auto)
    started = Mirror(mirror, backend, catalog, runner.logger.info,
                     runner.logger.warning)
    if not mirror.is_open:
        return started  # that it is away was said
    shared = shared_with(options, mirror.url, backend.url)
    if shared:
        runner.logger.warning(f'Mirror {mirror.url} {shared}')
    names = [info.name for info in started.pending()]
    more = ', ...' if len(names) > _SHOWN_NAMES else ''
    begins = f'with {", ".join(names[:_SHOWN_NAMES])}{more} of an earlier ' \
        'start' if names else 'after every save'
    runner.logger.info(f'Mirror {mirror.url}: checkpoints are copied there, '
                       f'too, beginning {begins}')
    return started
