"""A run resumed as its options say; from its own newest, if it has one."""
import os
from typing import Any, Dict, Optional, Tuple

from . import distributed, foreign, resume
from .catalog import Catalog
from .errors import IntegrityError, ResumeError, StorageError
from .folders.folder import incomplete
from .folders.layout import METADATA_NAME
from .folders.loading import as_of_file
from .options import CheckpointOptions
from .restore import Restored, restore_runner
from .state_loading import copied_fields
from .stock_restore import finish_on_stock, refresh_hooks
from .types import CheckpointInfo, StorageBackend
from .wording import counted

#: Where to resume and, on rank 0, what was loaded from there.
Newest = Tuple[Optional[CheckpointInfo], Optional[Dict[str, Any]]]


def find_newest(runner: Any, options: CheckpointOptions,
                backend: StorageBackend, catalog: Catalog) -> Newest:
    """Return this run's own newest checkpoint that it can go on from."""
    warn, trust = runner.logger.warning, options.trust_checkpoint
    copied = copied_fields(runner.optimizer)
    if options.resume == 'auto':
        found = resume.newest_loaded(
            backend, catalog, warn, trust=trust, copied=copied)
        if found is None:
            _refuse_incomplete(backend)
        return found or (None, None)
    start = resume.describe_path(
        str(options.resume), options.access(str(options.resume)))
    own = [
        info for info in catalog.resumable() if info.lineage and (
            start is None or resume.continues(info, start, catalog))
    ]
    if own:
        return resume.newest_loaded(backend, catalog, warn, own, trust,
                                    copied) or (None, None)
    if catalog.checkpoints():
        warn(f'The checkpoints in {backend.url} do not belong to a run that '
             f'started from {options.resume}: they are not resumed from')
    return None, None


def resume_run(runner: Any, options: CheckpointOptions,
               backend: StorageBackend, found: Optional[CheckpointInfo],
               loaded: Optional[Dict[str, Any]]) -> Optional[Restored]:
    """Continue as the options say; the run's own newest goes first."""
    already: Optional[Restored] = getattr(runner, 'restored', None)
    if options.resume is None:
        return already
    if found is not None and already is not None and \
            already.iter >= found.iter:
        return already
    if found is None and options.resume == 'auto':
        if already is None:
            what = 'there is no checkpoint' if backend.capabilities.listing \
                else 'nothing tells of a checkpoint'
            then = 'training starts anew' if not runner.iter else \
                'the run goes on from where the tool has resumed it'
            runner.logger.warning(
                f"resume='auto': {what} in {backend.url}; {then}")
        return already
    if found is not None and already is not None:
        runner.logger.warning(
            f'The tool resumed from {already.name}, but {backend.url} has a '
            f'newer checkpoint, {found.name}: resume={options.resume!r} of '
            'the hook goes on from there. To go back, leave it out of the '
            'config once')
    failure, restored = None, None
    try:
        restored = _restore(runner, options, backend, found, loaded)
    except Exception as error:  # passed on to all ranks
        failure = error
    distributed.raise_together(failure, 'resuming')
    return restored


def check_same_start(runner: Any, restored: Optional[Restored]) -> None:
    """Check that all ranks go on from one checkpoint.

    A tool looks by itself where to resume, each rank on its own disk.

    Order: on all ranks, when they have resumed.

    Raises:
        ResumeError: On all ranks, if they do not: they would save, and end,
            at different steps, and wait for each other.
    """
    told = distributed.gather_objects(
        (restored and restored.lineage, runner.epoch, runner.iter, restored
         and os.path.join(restored.directory, restored.name)))
    if all(one[:3] == told[0][:3] for one in told):
        return
    starts = '; '.join(f'rank {rank} ' +
                       (f'from {path}' if path else 'without a checkpoint') +
                       f' at {counted(finished, "iterations")}'
                       for rank, (_, _, finished, path) in enumerate(told))
    raise ResumeError(
        f'the ranks do not go on from the same checkpoint: {starts}. Give all '
        'of them a work dir on a shared file system, or put the checkpoint '
        'under the same path on each machine and name it in --resume-from')


def _restore(runner: Any, options: CheckpointOptions, backend: StorageBackend,
             found: Optional[CheckpointInfo],
             loaded: Optional[Dict[str, Any]]) -> Restored:
    trust, copied = options.trust_checkpoint, copied_fields(runner.optimizer)
    if found is not None:
        if options.resume != 'auto':
            runner.logger.info(
                f'resume={options.resume!r} is of this run: it goes on from '
                f'its own newest checkpoint, {found.name}. To go back, move '
                'the newer ones away')
        checkpoint = resume.load_found(backend, found, loaded, trust, copied)
        directory, name = backend.url, found.name
    else:
        try:
            checkpoint, directory, name = resume.load_verified(
                str(options.resume), trust, runner.logger.warning, copied,
                options.access(str(options.resume)))
        except StorageError as error:
            # the path is in it, but not who has given that
            raise type(error)(
                f'DurableCheckpointHook: resume: {error}') from error
    if foreign.overrides(runner, 'resume'):
        foreign.resume_with(runner, as_of_file(checkpoint),
                            os.path.join(directory, name))
    restored = restore_runner(runner, checkpoint, directory, name)
    weights = getattr(runner, 'loaded_from', None)
    if weights is not None:
        runner.logger.info(
            f'load_from={weights!r} is passed over: {name} has the weights '
            'that this run goes on with')
    restored = finish_on_stock(runner, restored)
    refresh_hooks(runner)
    runner.restored = restored
    return restored


def _refuse_incomplete(backend: StorageBackend) -> None:
    """Refuse to start anew beside folders that only lack a small file.

    Raises:
        IntegrityError: If there are any: the run would write over them.
    """
    left = incomplete(backend)
    if left:
        raise IntegrityError(
            f'no checkpoint in {backend.url} can be resumed from: '
            f'{", ".join(left)} {"lacks" if len(left) == 1 else "lack"} '
            f'{METADATA_NAME}. Copy it there from where they come from (cp -a '
            'takes it along), or move them away to start anew')
