"""Runner events to saves; takes over the stock CheckpointHook."""
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from mmcv.runner import CheckpointHook, EpochBasedRunner

from . import takeover
from .abandoning import leave_mirrors
from .boundary import Boundary
from .config import parse_options
from .ema import ema_hooks
from .ending import completed, raised, reopen
from .garbage import without_collections
from .gathering import gathered
from .options import CheckpointOptions
from .state import capture_rank, capture_runner, finished_epochs
from .storage.names import same_place
from .triggers import Progress, Schedule

if TYPE_CHECKING:
    from .interrupts import Interrupts
    from .overlap import Overlap
    from .saver import Saver
    from .sharded.sharding import Sharding


class DurableCheckpointHook(CheckpointHook):
    """Save checkpoints that are durable, verified and resumable.

    Takes over the stock ``CheckpointHook`` of ``checkpoint_config`` if there
    is one: what is not given here is inherited from it. Every stock argument
    keeps its meaning.

    Args:
        interval (int): Epochs or iterations between saves. Default: -1, which
            means never (only at the end).
        by_epoch (bool, optional): Whether steps are epochs. Default: None,
            which means inferred from the runner.
        save_optimizer (bool): Whether to save the optimizer. Default: True.
        out_dir (str, optional): Root directory, ``s3://bucket/prefix`` or
            ``pavi://project/model``; the last level of the work dir is
            appended. Default: None, which means the work dir.
        max_keep_ckpts (int): How many checkpoints to keep. Default: -1, all.
        save_last (bool): Whether to save at the end. Default: True.
        sync_buffer (bool): Whether to average float buffers over ranks before
            a save. Default: False.
        file_client_args (dict, optional): Arguments of ``mmcv.FileClient``.
            Default: None.
        filename_tmpl (str, optional): Such as ``'iter_{}.pth'``; of a folder
            ``.dcp`` stands for that end. Default: None.
        create_symlink (bool): Whether ``latest.pth`` leads to the newest.
            Default: True.
        meta (dict, optional): Further meta. Default: None.
        triggers (dict, optional): See :class:`~.options.TriggerOptions`.
        keep (dict, optional): See :class:`~.options.KeepOptions`.
        write (dict, optional): See :class:`~.options.WriteOptions`.
        storage_options (dict, optional): Of an object store. Default: None.
        mirror (dict, optional): See :class:`~.options.MirrorOptions`.
        resume (str, optional): ``'auto'`` for the newest checkpoint here that
            verifies, or a path. Default: None.
        trust_checkpoint (bool): Whether a checkpoint that needs it may be
            unpickled in full. Default: False.
        adopt_existing (bool): Whether checkpoints of other runs in the
            directory are owned, and so may be deleted. Default: False.
        on_error (str): ``'warn'``: a failed save or deletion is logged and
            training goes on; or ``'raise'``. Default: ``'warn'``.
        format (str): ``'pth'``, or ``'dcp'``: a folder that all ranks write.
            Default: ``'pth'``.

    Raises:
        ConfigError: If an argument is unknown, wrong or contradicts another.
    """

    def __init__(self,
                 interval: Optional[int] = None,
                 by_epoch: Optional[bool] = None,
                 save_optimizer: Optional[bool] = None,
                 out_dir: Optional[str] = None,
                 max_keep_ckpts: Optional[int] = None,
                 save_last: Optional[bool] = None,
                 sync_buffer: Optional[bool] = None,
                 file_client_args: Optional[Mapping[str, Any]] = None,
                 **options: Any) -> None:
        # who only wants the registered names imports little, a start nothing
        from .starting import start
        self._start = start
        self._given = dict(
            interval=interval,
            by_epoch=by_epoch,
            save_optimizer=save_optimizer,
            out_dir=out_dir,
            max_keep_ckpts=max_keep_ckpts,
            save_last=save_last,
            sync_buffer=sync_buffer,
            file_client_args=file_client_args,
            **options)
        self._saver: Optional['Saver'] = None
        # that of this rank's part on others than 0
        self._savers: List[Any] = []
        self._schedule: Schedule
        self._interrupts: Optional['Interrupts'] = None
        self._overlap: Optional['Overlap'] = None
        self._sharding: Optional['Sharding'] = None
        self._evaluates_by_iter = False
        self._prepared_for: Optional[Any] = None
        self._waits_for: Optional[str] = None
        self._apply(parse_options(self._given))

    def _apply(self, options: CheckpointOptions) -> None:
        """Set the attributes that other hooks read on a CheckpointHook."""
        self.options = options
        self.interval = options.interval
        self.by_epoch = options.by_epoch
        self.save_optimizer = options.save_optimizer
        self.out_dir = options.out_dir
        self.max_keep_ckpts = options.max_keep_ckpts
        self.save_last = options.save_last
        self.sync_buffer = options.sync_buffer
        self.file_client_args = options.file_client_args
        self.args = dict(create_symlink=options.create_symlink)

    def before_run(self, runner: Any) -> None:
        self.prepare(runner)

    @without_collections
    def prepare(self, runner: Any) -> None:
        """Take over, open the place, resume; once a runner.

        Our runners call it before any hook's ``before_run``, on others it
        happens in ours. A runner that runs again is watched again.
        """
        try:
            if self._prepared_for is not runner:
                self._start(self, runner)
                self._prepared_for = runner
            elif self._interrupts is not None and self._overlap is not None:
                self._interrupts.open()
                self._overlap.open()
                reopen(self._savers)
        except BaseException:
            # a failed start must not keep others out of the directory
            leave_mirrors(self._savers)
            self._close()
            raise

    def after_train_iter(self, runner: Any) -> None:
        epoch, finished = finished_epochs(runner), runner.iter + 1
        is_last = not isinstance(runner, EpochBasedRunner) and \
            self.is_last_iter(runner)
        if isinstance(runner, EpochBasedRunner) and self.end_of_epoch(runner):
            # until EMAHook swaps, in after_train_epoch, it is inside the epoch
            epoch += not ema_hooks(runner)
            if self.by_epoch or not self._evaluates_by_iter:
                # the epoch is finished with its last iteration:
                # after_train_epoch follows at once and saves a state that is.
                # What raises in between finds this one
                assert self._interrupts is not None
                self._interrupts.record(Boundary(epoch, finished))
                return
            # an evaluation by iteration comes before that event
            is_last = self.is_last_epoch(runner)
        step = None if self.by_epoch else finished
        self._at_boundary(runner, 'after_train_iter', Progress(step, is_last),
                          epoch, finished)

    def after_train_epoch(self, runner: Any) -> None:
        if not self.by_epoch and self._evaluates_by_iter:
            return  # saved in after_train_iter
        epoch, finished = runner.epoch + 1, runner.iter
        step = epoch if self.by_epoch else finished
        self._at_boundary(runner, 'after_train_epoch',
                          Progress(step, self.is_last_epoch(runner)), epoch,
                          finished)

    def after_run(self, runner: Any) -> None:
        completed(self._savers)
        if self._interrupts is not None:
            self._interrupts.end()
        self.drain(runner)

    def forget(self, out_dir: str, name: str) -> None:
        """Drop a catalog entry whose file a tool's own save has replaced."""
        saver = self._saver
        if saver is not None and same_place(out_dir, saver.backend.url):
            saver.wait()
            saver.catalog.forget(name)

    def drain(self, runner: Any) -> None:
        """Wait for the last save, report it and end what was started."""
        self._close()
        self._report(runner)

    def _close(self) -> None:
        with ExitStack() as all_of_it:  # whatever one of them raises
            hurries = self._interrupts and self._interrupts.watch.hurries
            for saver in self._savers:
                if not (hurries and saver.busy()):
                    all_of_it.callback(saver.close)
            if self._interrupts is not None:
                all_of_it.callback(self._interrupts.close)
            if self._overlap is not None:
                all_of_it.callback(self._overlap.close)

    def stopped(self, runner: Any, error: BaseException) -> None:
        """Save what an exception has left intact; then as :meth:`drain`.

        Raises:
            SystemExit: If a signal has asked for the end.
        """
        try:
            if self._interrupts is not None:
                self._interrupts.stopped(error)
        finally:
            raised(self._savers, error)
            self.drain(runner)

    @without_collections
    def _at_boundary(self, runner: Any, event: str, progress: Progress,
                     epoch: int, finished: int) -> None:
        self._report(runner)
        assert self._interrupts is not None
        boundary = Boundary(epoch, finished, progress.step)
        if self._overlap is not None and self._overlap.is_lost():
            self._schedule.lost()
        trigger = self._schedule.grid(progress)
        wish = self._interrupts.wishes(trigger is not None)
        trigger = trigger or wish.trigger
        if trigger is not None:
            self._interrupts.record(boundary)  # if a rank does not come to it
            is_last = progress.is_last or bool(wish.exit_signal)
            ranks = None if self._interrupts.is_together(wish) else \
                [capture_rank(runner)]
            # elsewhere anything may come, and the last has to succeed
            overlaps = event == 'after_train_iter' and not is_last
            beside = self._overlap if overlaps else None
            self._save(runner, trigger, boundary, is_last, ranks, beside)
        self._interrupts.record(boundary)
        if self._overlap is not None:
            self._overlap.boundary()
        if wish.exit_signal:
            self._interrupts.leave(wish, boundary, event)
        self._report(runner)

    def _save(self,
              runner: Any,
              trigger: str,
              boundary: Boundary,
              is_last: bool,
              ranks: Optional[List[Any]] = None,
              overlap: Optional['Overlap'] = None) -> None:
        assert self._interrupts is not None
        request = boundary.request(trigger, is_last,
                                   self.options.filename_tmpl,
                                   bool(self.by_epoch),
                                   takeover.counts_iterations(runner),
                                   self._sharding is not None)
        skips = any(one.would_skip(request) for one in self._savers[:1])
        with gathered(runner, self.options, self._interrupts, ranks,
                      self._sharding, skips) as known:
            if self._saver is None:
                for writer in self._savers:  # of this rank's part
                    writer.save(request)
                self._schedule.saved()
            elif self._saver.save(
                    request,
                    lambda: self._capture(runner, request.epoch, request.iter,
                                          known, boundary.hooks), overlap):
                self._schedule.saved()
        if self._saver is not None and self._waits_for is not None:
            self._saver.wait()

    def _capture(self,
                 runner: Any,
                 epoch: int,
                 finished: int,
                 ranks: Optional[List[Any]] = None,
                 hooks: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
        assert self._saver is not None
        return capture_runner(
            runner,
            epoch,
            finished,
            lineage=self._saver.catalog.lineage,
            meta=self.options.meta,
            save_optimizer=bool(self.save_optimizer),
            ranks=ranks,
            hook_states=hooks,
            rest=self._sharding.begin() if self._sharding else None)

    def _report(self, runner: Any) -> None:
        """Tell the runner of the last commit; hand back errors, each once."""
        committed = self._saver and self._saver.last_committed
        if self._saver and committed and runner.meta is not None:
            runner.meta.setdefault('hook_msgs', {})['last_ckpt'] = \
                os.path.join(self._saver.backend.url, committed)
        for saver in self._savers:
            error = saver.take_error()
            if error is not None and self.options.on_error == 'raise':
                raise error
