"""The arguments of the hook as frozen records; :mod:`config` checks them."""
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

#: What the usual signals ask for: those of schedulers, of Ctrl-C and of users.
DEFAULT_SIGNALS = (('SIGTERM', 'save_and_exit'), ('SIGINT', 'save_and_exit'),
                   ('SIGUSR1', 'save'))


@dataclass(frozen=True)
class TriggerOptions:
    """When to save besides ``interval``.

    Args:
        begin (int): No interval saves before this many epochs or iterations.
        secs (float, optional): Save when this many seconds have passed since
            the last save.
        at (tuple[int]): Epochs or iterations to save at.
        signals (tuple[tuple[str, str]]): Names of signals, each with
            ``'save'`` or ``'save_and_exit'``. In a config a dict, merged over
            the default; None for one name switches that one off, None for all
            switches all off.
        file (str, optional): Save when a file of this name appears in the
            work dir; it is removed.
        exception (bool): Save the last finished step when training raises,
            if nothing of it has changed since (our runners, one rank).
    """
    begin: int = 0
    secs: Optional[float] = None
    at: Tuple[int, ...] = ()
    signals: Tuple[Tuple[str, str], ...] = DEFAULT_SIGNALS
    file: Optional[str] = 'SAVE'
    exception: bool = True


@dataclass(frozen=True)
class KeepOptions:
    """What to keep, united.

    Args:
        last (int, optional): The last so many; None or -1 keeps all.
        every (int, optional): Multiples of so many epochs or iterations.
    """
    last: Optional[int] = None
    every: Optional[int] = None


@dataclass(frozen=True)
class WriteOptions:
    """How to write.

    Args:
        background (bool): Whether training goes on while a copy is written.
        staging (str): ``'copy'``, or ``'auto'``, which is the same in this
            version.
        backlog (str): What to do when the save before is still being
            written: ``'wait'`` for it or ``'skip'`` this one.
        durability (str): ``'fsync'``, or ``'none'``: a power cut may lose
            what was reported as saved.
    """
    background: bool = True
    staging: str = 'auto'
    backlog: str = 'wait'
    durability: str = 'fsync'


@dataclass(frozen=True)
class CheckpointOptions:
    """All arguments of ``DurableCheckpointHook``; see there."""
    interval: int = -1
    by_epoch: Optional[bool] = None
    save_optimizer: bool = True
    out_dir: Optional[str] = None
    max_keep_ckpts: int = -1
    save_last: bool = True
    sync_buffer: bool = False
    file_client_args: Optional[Mapping[str, Any]] = None
    filename_tmpl: Optional[str] = None
    create_symlink: bool = True
    meta: Optional[Mapping[str, Any]] = None
    triggers: TriggerOptions = TriggerOptions()
    keep: KeepOptions = KeepOptions()
    write: WriteOptions = WriteOptions()
    resume: Optional[str] = None
    trust_checkpoint: bool = False
    adopt_existing: bool = False
    on_error: str = 'warn'
    format: str = 'pth'

    @property
    def keep_last(self) -> Optional[int]:
        """How many to keep; None for all."""
        count = self.keep.last if self.keep.last is not None \
            else self.max_keep_ckpts
        return count if count > 0 else None
