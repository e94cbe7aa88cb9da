"""Whose the checkpoints of a place are when a run begins there."""
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Sequence

from .catalog import Catalog
from .errors import LockedError, StorageError
from .latest import NOBODYS, move_latest, tells_nothing
from .options import CheckpointOptions
from .restore import Restored
from .types import LATEST_NAME, CheckpointInfo, StorageBackend


def begin(runner: Any, options: CheckpointOptions, catalog: Catalog,
          restored: Optional[Restored]) -> None:
    """Begin the catalog's run, or its next generation."""
    lineage = restored.lineage if restored is not None else ''
    if restored is None and runner.iter:
        # the tool resumed a stock runner: from one of ours, if the catalog
        # knows the step
        lineage = next(
            (info.lineage
             for info in catalog.resumable() if info.iter == runner.iter), '')
    others = [
        info for info in catalog.checkpoints()
        if not lineage or info.lineage != lineage
    ]
    catalog.begin(lineage or None, runner.iter)
    if others and options.adopt_existing:
        with left_to_the_next_save(runner, options,
                                   'Recording what is adopted'):
            catalog.adopt()
    elif others:
        runner.logger.warning(
            f'{_whose(others)} is neither counted nor deleted, and a file '
            'whose name is needed is kept under another. adopt_existing=True '
            'owns it')


def _whose(others: Sequence[CheckpointInfo]) -> str:
    """Say what is there that this run does not own."""
    told = [info.name for info in others if not tells_nothing(info)]
    rest = [info.name for info in others if tells_nothing(info)]
    said = []
    if told:
        said.append('another run, or stock mmcv, has saved here '
                    f'({_listed(told)})')
    if rest:
        said.append(f'{NOBODYS} ({_listed(rest)})')
    return 'What ' + ' and what '.join(said)


def _listed(names: Sequence[str]) -> str:
    more = ', ...' if len(names) > 3 else ''
    return f'{", ".join(names[:3])}{more}; {len(names)} in all'


@contextmanager
def left_to_the_next_save(runner: Any, options: CheckpointOptions,
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


def point_to(newest: CheckpointInfo, runner: Any, options: CheckpointOptions,
             backend: StorageBackend, catalog: Catalog) -> None:
    """Move ``latest.pth`` on to what the run goes on from.

    It was killed between a commit and its pointer, and nothing may be left to
    train.
    """
    if newest.name == LATEST_NAME or not options.create_symlink or \
            not backend.capabilities.point:
        return
    with left_to_the_next_save(runner, options,
                               f'Moving {LATEST_NAME} to {newest.name}'):
        move_latest(backend, catalog, newest.name, runner.logger.warning)
