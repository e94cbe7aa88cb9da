"""The arguments of the hook as frozen records; :mod:`config` checks them."""
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Mapping, Optional, Tuple

from .storage import OBJECT_STORES, is_of_fsspec, scheme_of

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
            switches all off. With several ranks they save at the second
            end of a step from then on; during an evaluation at once, where
            ``'save'`` is asked of rank 0.
        file (str, optional): Save when a file of this name appears in the
            work dir; it is removed.
        exception (bool): Save the last finished step when training raises,
            if nothing of it has changed since; of several ranks as rank 0
            has it, with the generators of rank 0 only.
    """
    begin: int = 0
    secs: Optional[float] = None
    at: Tuple[int, ...] = ()
    signals: Tuple[Tuple[str, str], ...] = DEFAULT_SIGNALS
    file: Optional[str] = 'SAVE'
    exception: bool = True


@dataclass(frozen=True)
class KeepOptions:
    """What to keep, united: what one of these keeps is kept.

    Args:
        last (int, optional): The last so many; -1 keeps all. None means all
            if nothing else is given, else the newest.
        best (int, optional): So many with the best scores, of each metric.
        monitor (tuple[str]): The metrics; in a config one or a list.
            ``'auto'`` is the first metric of the first evaluation. Empty:
            those of ``evaluation=dict(save_best=...)``, else ``'auto'``.
        rule (tuple[tuple[str, str]]): Metric, or ``'*'`` for all, and
            ``'greater'`` or ``'less'``; in a config one, a list or a dict.
            What is not given is inferred from the name.
        every (int, optional): Multiples of so many epochs or iterations.
        bytes (int, optional): A budget: what the others keep counts first,
            then as many of the newest as fit. In a config also ``'20GB'``.
    """
    last: Optional[int] = None
    best: Optional[int] = None
    monitor: Tuple[str, ...] = ()
    rule: Tuple[Tuple[str, str], ...] = ()
    every: Optional[int] = None
    bytes: Optional[int] = None

    @property
    def is_selective(self) -> bool:
        """Whether anything but ``last`` says what to keep."""
        return any(
            value is not None for value in (self.best, self.every, self.bytes))


@dataclass(frozen=True)
class WriteOptions:
    """How to write.

    Args:
        background (bool): Whether training goes on while a copy is written.
        staging (str): ``'copy'``: the copy is made before the hook returns;
            ``'overlap'``: parameters and optimizer state are copied beside
            the next forward and backward; ``'auto'``: that where nothing is
            seen to write to parameters between two steps.
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
class MirrorOptions:
    """A second place for every committed checkpoint.

    Args:
        url (str): A path or URL; the last level of the work dir is added.
        keep (KeepOptions, optional): What to keep there; ``monitor`` and
            ``rule`` are those of the run. None means as in the first place.
        storage_options (dict, optional): As that of the hook, for this place.
    """
    url: str
    keep: Optional[KeepOptions] = None
    # no repr: they may be credentials
    storage_options: Optional[Mapping[str, Any]] = field(
        default=None, repr=False)


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
    # no repr: they may be credentials
    storage_options: Optional[Mapping[str, Any]] = field(
        default=None, repr=False)
    mirror: Optional[MirrorOptions] = None
    resume: Optional[str] = None
    trust_checkpoint: bool = False
    adopt_existing: bool = False
    on_error: str = 'warn'
    format: str = 'pth'

    def access(self, place: str) -> Dict[str, Any]:
        """Return how to open a place that need not be ``out_dir``.

        Returns:
            dict: Further arguments of ``open_backend``.
        """
        mirror, scheme = self.mirror, scheme_of(place)
        if mirror is not None and \
                place.startswith(mirror.url.rstrip('/') + '/'):
            return dict(storage_options=mirror.storage_options)
        # the keys of one store are not for another
        if scheme_of(self.out_dir or '') not in ('', 'file', scheme):
            return {}
        if is_of_fsspec(scheme):
            return dict(storage_options=self.storage_options)
        if scheme not in OBJECT_STORES:
            return {}
        return dict(
            file_client_args=self.file_client_args,
            storage_options=self.storage_options)

    @property
    def keep_last(self) -> Optional[int]:
        """How many of the last to keep; None for all."""
        return last_of(self.keep, self.max_keep_ckpts)

    @property
    def mirror_keep(self) -> KeepOptions:
        """What the mirror keeps."""
        if self.mirror is not None and self.mirror.keep is not None:
            return self.mirror.keep
        return replace(self.keep, last=self.keep_last or -1)


def last_of(keep: KeepOptions, max_keep_ckpts: int = -1) -> Optional[int]:
    """Return how many of the last to keep; None for all."""
    if keep.last is not None:
        return keep.last if keep.last > 0 else None
    if max_keep_ckpts > 0:
        return max_keep_ckpts
    # whoever names what to keep does not want all the others
    return 1 if keep.is_selective else None
