"""The start of a run whose checkpoints all ranks write."""
import socket
import time
import uuid
from contextlib import suppress
from functools import partial
from typing import Any, Callable, List

from .. import distributed
from ..best import eval_hooks
from ..compat import default_store
from ..errors import (CheckpointError, ConfigError, MissingCheckpointError,
                      StorageError)
from ..executor import BackgroundExecutor, InlineExecutor
from ..failure_log import failure_logger
from ..options import CheckpointOptions
from ..saver import Saver
from ..storage import open_backend
from ..types import StorageBackend
from .board import ShardBoard
from .commit import PartWriter
from .saver import ShardedSaver
from .sharding import Sharding
from .shards import refuse_spread
from .writer import ShardWriter

#: What every rank must see that rank 0 has written.
_PROBE_NAME = 'checkpoints.probe'
#: A network file system may know for so long that it was not there.
_PAUSES_SECS = (0.1, 0.3, 1., 3.)


def open_sharding(runner: Any, options: CheckpointOptions) -> Sharding:
    """Build what plans the saves.

    Order: on all ranks.

    Raises:
        ConfigError: On all ranks, if the run has what cannot be saved so.
    """
    failure, board = None, None
    try:
        _check_run(runner, options)
    except CheckpointError as error:  # passed on to all ranks
        failure = error
    distributed.raise_together(failure, "format='dcp'")
    count = distributed.world_size()
    if count > 1:
        name = distributed.broadcast_object(uuid.uuid4().hex)
        board = ShardBoard(default_store(), f'mmcv_ckpt_hooks {name}',
                           distributed.rank(), count)
    # the keys of the board are there from here on
    hosts = distributed.gather_objects(socket.gethostname())
    return Sharding(board, hosts.count(hosts[distributed.rank()]))


def saver_of(sharding: Sharding) -> Callable[..., Saver]:
    """Return what builds the saver of rank 0; see :class:`Saver`."""
    return partial(ShardedSaver, sharding)


def join(runner: Any, options: CheckpointOptions, place: str,
         sharding: Sharding) -> List[ShardWriter]:
    """Return what other ranks than 0 save with, once all see one place.

    Args:
        runner (BaseRunner): Not running yet.
        options (CheckpointOptions): Of the hook.
        place (str): Directory or URL.
        sharding (Sharding): Of :func:`open_sharding`.

    Order: on all ranks, when rank 0 has opened the place.

    Raises:
        ConfigError: On all ranks, if one of them does not.
    """
    if sharding.board is None:
        return []
    files = open_backend(
        place,
        durable=options.write.durability == 'fsync',
        storage_options=options.storage_options)
    _check_place(files)
    if distributed.rank() == 0:
        return []
    writer = PartWriter(files, distributed.rank(), sharding.board)
    executor = BackgroundExecutor() if options.write.background else \
        InlineExecutor()
    return [
        ShardWriter(sharding, writer, executor, options.write.backlog,
                    runner.logger.info, failure_logger(runner.logger))
    ]


def _check_run(runner: Any, options: CheckpointOptions) -> None:
    for hook in eval_hooks(runner):
        if hook.save_best:
            raise ConfigError(
                "format='dcp' keeps the best as one of its checkpoints: give "
                f'keep=dict(best=1, monitor={hook.save_best!r}) to the hook '
                'and remove save_best from evaluation')
    if options.save_optimizer:
        refuse_spread(runner.optimizer)
    if distributed.world_size() > 1 and default_store() is None:
        raise ConfigError("format='dcp' needs a store of torch.distributed, "
                          'which ranks that MPI has started do not have')


def _check_place(files: StorageBackend) -> None:
    """Check that all ranks see what rank 0 writes, and can write there."""
    rank, token = distributed.rank(), uuid.uuid4().hex

    def write() -> None:
        files.prepare()
        if rank == 0:
            files.put(_PROBE_NAME, lambda stream: stream.write(token.encode()))

    def look(token: str) -> None:
        if not _sees(files, token):
            raise ConfigError(
                f"format='dcp' needs an out_dir that all ranks see, but "
                f'{files.url} of rank {rank} is another one than that of rank '
                '0: give a directory on a shared file system, or a URL')

    what = f'opening {files.url}'
    try:
        distributed.together(write, what)
        seen = distributed.broadcast_object(token)
        distributed.together(partial(look, seen), what)
    finally:
        if rank == 0:
            # the others begin to train; the next start writes it anew
            with suppress(StorageError):
                files.delete(_PROBE_NAME)


def _sees(files: StorageBackend, token: str) -> bool:
    for pause in (0., *_PAUSES_SECS):
        time.sleep(pause)
        with suppress(MissingCheckpointError):
            with files.open(_PROBE_NAME) as file:
                if file.read() == token.encode():
                    return True
    return False
