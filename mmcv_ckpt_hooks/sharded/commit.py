"""The commit of a checkpoint that all ranks write.

Order: rank 0 makes the folder, and calls; every rank writes its part; rank 0
hears of all, then writes the rest, the manifest and, last, ``.metadata``.
"""
import uuid
from contextlib import suppress
from dataclasses import asdict
from typing import (IO, TYPE_CHECKING, Callable, Dict, List, Optional, Set,
                    Tuple, Union, cast)

from ..card import card
from ..errors import OutOfSpaceError, StorageError
from ..executor import Repeater
from ..folders.folder import (FolderedBackend, Sum, bytes_digest, folder_of,
                              is_there, lineage_of, manifest, manifest_digest,
                              remove, remove_empty)
from ..folders.layout import (MANIFEST_NAME, METADATA_NAME, REST_NAME,
                              WRITING_NAME, part_name)
from ..guarded import GuardedBackend
from ..serialization import write_checkpoint
from ..types import CheckpointInfo, StorageBackend
from .state import ShardState, Written

if TYPE_CHECKING:
    from .board import ShardBoard
    from .planning import Plan


def write_part(files: StorageBackend, name: str, rank: int, state: ShardState,
               token: str, advance: Callable[[int], None]) -> Written:
    """Write what one rank has into the folder of a save.

    Args:
        files (StorageBackend): Where the folder is.
        name (str): Of the folder.
        rank (int): This one.
        state (ShardState): What to write.
        token (str): Of the save: the folder must be still its.
        advance (callable): Told of the bytes that pass.

    Raises:
        StorageError: If nothing was committed; also if the folder is
            another save's by now.
    """
    if not state.items:
        return Written([], 0, '')
    folder = folder_of(files, name)
    written: List[Written] = []

    def check() -> None:
        # INVARIANT: a rank that comes late, as one that was stopped, must not
        # replace a part of another save
        with folder.open(WRITING_NAME) as file:
            if file.read() != token.encode():
                raise StorageError(f'{folder.url} is written by another save')

    def write(stream: IO[bytes]) -> None:
        written.append(state.write_items(stream, advance))

    GuardedBackend(folder, check).put(part_name(rank), write)
    return written[-1]


class FolderCommit:
    """Commits the checkpoints of rank 0 as folders.

    Args:
        board (ShardBoard, optional): To the other ranks; None if there are
            none.

    Thread: the writer's.
    """

    def __init__(self, board: Optional['ShardBoard']) -> None:
        self._board = board
        self._attempt = 0
        # the save that the others wait for; None for none
        self._open: Optional[int] = None
        self._beat: Optional[Repeater] = None
        # names of folders that have not been committed
        self._begun: Set[str] = set()

    def open(self, save: int, beat: Optional[Repeater]) -> None:
        """Begin a save; 0: the other ranks take no part in it.

        Args:
            save (int): Its number.
            beat (Repeater, optional): Stopped when it is over.
        """
        self._open, self._attempt, self._beat = save or None, 0, beat

    def put(self, files: StorageBackend, info: CheckpointInfo,
            state: ShardState) -> Tuple[int, str]:
        """Write a folder; return its bytes and its digest.

        Raises:
            StorageError: If it was not committed.
        """
        name, token = info.name, uuid.uuid4().hex
        self._clear(files, info)
        folder = folder_of(files, name)
        folder.prepare()
        folder.put(WRITING_NAME, lambda stream: stream.write(token.encode()))
        self._call(name, token)
        parts = {0: write_part(files, name, 0, state, token, self._advance)}
        parts.update(self._others(state.plan))
        sums: Dict[str, Sum] = {
            part_name(rank): (part.bytes, part.digest)
            for rank, part in parts.items() if part.bytes
        }
        digests: List[str] = []

        def write_rest(stream: IO[bytes]) -> None:
            digests.append(write_checkpoint(stream, state.rest, card(info)))

        size = folder.put(REST_NAME, write_rest)
        sums[REST_NAME] = size, digests[-1]
        metadata = state.plan.metadata_bytes(
            [parts[rank].spans for rank in sorted(parts)])
        sums[METADATA_NAME] = len(metadata), bytes_digest(metadata)
        content = manifest(sums)
        folder.put(MANIFEST_NAME, lambda stream: stream.write(content))
        # INVARIANT: last; a folder without it is no checkpoint
        folder.put(METADATA_NAME, lambda stream: stream.write(metadata))
        folder.delete(WRITING_NAME)
        self._begun.discard(name)
        self.conclude()
        return len(content) + sum(one for one, _ in sums.values()), \
            manifest_digest(content)

    def conclude(self, why: str = '') -> None:
        """Tell the ranks that wait that it is over, and why it failed."""
        save, self._open = self._open, None
        beat, self._beat = self._beat, None
        if beat is not None:
            # a thread that is in torch when the interpreter ends aborts it
            beat.stop()
        if save is not None and self._board is not None:
            self._board.conclude(save, why)

    def _clear(self, files: StorageBackend, info: CheckpointInfo) -> None:
        """Remove what earlier saves of this run have left.

        Raises:
            StorageError: If what has the name is another's.
        """
        for dead in list(self._begun - {info.name}):
            with suppress(StorageError):  # the next start tells of it
                remove(files, dead)
                self._begun.discard(dead)
        if info.name in self._begun or \
                cast(FolderedBackend, files).is_link(info.name):
            remove(files, info.name)
        elif is_there(files, info.name):
            # INVARIANT: it may have come since the catalog was made
            if lineage_of(files, info.name) not in (info.lineage, None):
                raise StorageError(f'{files.url}/{info.name} belongs to '
                                   'another run: move it away, or give '
                                   'another out_dir')
            remove(files, info.name)
        else:
            remove_empty(files, info.name)
        self._begun.add(info.name)

    def _call(self, name: str, token: str) -> None:
        if self._open is not None and self._board is not None:
            self._attempt += 1
            self._board.call(self._open, self._attempt, name=name, token=token)

    def _others(self, plan: 'Plan') -> Dict[int, Written]:
        if self._open is None or self._board is None:
            return {}
        results = self._board.results(self._open, self._attempt)
        found = {}
        for rank, result in results.items():
            if result['plan'] != plan.mark(rank):
                raise StorageError(f'rank {rank} has another plan than rank 0 '
                                   'of what it has to write')
            found[rank] = Written(result['spans'], result['bytes'],
                                  result['digest'])
        return found

    def _advance(self, nbytes: int) -> None:
        if self._board is not None:
            self._board.advance(nbytes)


class PartWriter:
    """Writes the part of a rank other than 0, when rank 0 calls.

    Args:
        files (StorageBackend): Where the folders are.
        rank (int): This one.
        board (ShardBoard): To the other ranks.
    """

    def __init__(self, files: StorageBackend, rank: int,
                 board: 'ShardBoard') -> None:
        self._files = files
        self._rank = rank
        self._board = board

    def write(self, save: int, state: Union[ShardState, Exception]) -> None:
        """Write as often as rank 0 calls; return when it has committed.

        Args:
            save (int): Its number.
            state (ShardState | Exception): What to write, or why it is not
                there.

        Raises:
            Exception: This rank's own.
            StorageError: If another one has failed.
        """
        attempt = 0
        own: Optional[Exception] = None
        while True:
            try:
                head = self._board.heard(save, attempt)
            except StorageError as error:
                raise own or error from None
            if head is None:
                return
            attempt, own = head['attempt'], None
            try:
                if isinstance(state, Exception):
                    raise state
                part = write_part(self._files, head['name'], self._rank, state,
                                  head['token'], self._board.advance)
            except Exception as error:  # told to rank 0, then raised
                own = error
                self._board.report(
                    save,
                    attempt,
                    why=f'{type(error).__name__}: {error}',
                    no_space=isinstance(error, OutOfSpaceError))
            else:
                self._board.report(
                    save,
                    attempt,
                    plan=state.plan.mark(self._rank),
                    **asdict(part))
