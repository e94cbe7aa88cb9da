"""The two runners, and the mixins that make them."""
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from mmcv.runner import EpochBasedRunner, IterBasedRunner

from . import ema
from .durable_runner import DurableRunnerMixin
from .wording import counted

if TYPE_CHECKING:
    from .continuation import Continuation, Workflow
    from .restore import Restored


class DurableIterMixin(DurableRunnerMixin):
    """For runners that count iterations."""

    _limit = 'max_iters'

    def train(self, data_loader: Any, **kwargs: Any) -> None:
        """Train one iteration, unless it was done before the resume."""
        assert self._continuation is not None
        if self._continuation.skips('train'):
            self._inner_iter += 1
            return
        self._continuation.ready()
        # mmcv counts passes over the data anew at every start
        data_loader._epoch += self._continuation.first_epoch(data_loader)
        super().train(data_loader, **kwargs)

    def val(self, data_loader: Any, **kwargs: Any) -> None:
        """Validate one iteration; the passes are counted on, too."""
        assert self._continuation is not None
        data_loader._epoch += self._continuation.first_epoch(data_loader)
        super().val(data_loader, **kwargs)

    def finished_steps(self) -> Tuple[int, int]:
        """Return finished epochs and iterations, also inside an event.

        mmcv takes the count of epochs from the loader before that has given
        the first batch of the next one: until then it is one low.
        """
        epoch, finished = super().finished_steps()
        passes = None if self._continuation is None else \
            self._continuation.finished_epochs(finished)
        return epoch if passes is None else passes, finished

    def save_checkpoint(self,
                        out_dir: str,
                        filename_tmpl: str = 'iter_{}.pth',
                        meta: Optional[Dict[str, Any]] = None,
                        save_optimizer: bool = True,
                        create_symlink: bool = True) -> None:
        """Save through the core; arguments as in ``IterBasedRunner``."""
        _, finished = self.finished_steps()
        self._save(out_dir, filename_tmpl.format(finished), save_optimizer,
                   meta, create_symlink)

    save_checkpoint.saves_through_core = True  # type: ignore[attr-defined]

    def _count_batch(self) -> None:
        if self._continuation is not None:
            self._continuation.count(self.data_loader, self.data_loader.epoch)

    def _go_on(self, continuation: 'Continuation', restored: 'Restored',
               workflow: 'Workflow') -> None:
        continuation.skip(workflow, restored.iter, inside=False)
        if self._trains_on_streams(continuation, workflow):
            self.logger.warning(
                'the sampler of the data loader cannot be advanced: the data '
                f'start at their first batch after iteration {restored.iter}')
        sole = sum(mode == 'train' for mode, _ in workflow) == 1
        for number, (mode, _) in enumerate(workflow):
            epoch, used = restored.epoch, 0
            length = continuation.length(number)
            if mode == 'train' and sole and length:
                epoch, used = divmod(restored.iter, length)
            continuation.seek(number, epoch, used)


class DurableEpochMixin(DurableRunnerMixin):
    """For runners that count epochs."""

    _limit = 'max_epochs'
    _passes_end = True
    _skipped_batches = 0
    #: whether the run begins with a state from inside an epoch
    _is_inside_epoch = False

    def call_hook(self, fn_name: str) -> None:
        """Call all hooks; the first epoch may begin inside."""
        if fn_name == 'before_train_iter':
            # mmcv counts from the first batch that the loader yields
            self._inner_iter += self._skipped_batches
        if fn_name in ('after_train_epoch', 'after_val_epoch'):
            self._skipped_batches = 0
            if self._continuation is not None:
                self._continuation.finish(self.data_loader)
        super().call_hook(fn_name)
        if fn_name == 'before_run' and self._is_inside_epoch:
            # here, and not where an epoch begins: none may be left to train
            self._is_inside_epoch = False
            ema.swap(self)

    def train(self, data_loader: Any, **kwargs: Any) -> None:
        """Train one epoch, unless it was done before the resume."""
        assert self._continuation is not None
        if self._continuation.skips('train'):
            return
        if not self._skipped_batches:
            # else when the loader has come to the batch
            self._continuation.ready()
        super().train(data_loader, **kwargs)

    def save_checkpoint(self,
                        out_dir: str,
                        filename_tmpl: Optional[str] = None,
                        save_optimizer: bool = True,
                        meta: Optional[Dict[str, Any]] = None,
                        create_symlink: bool = True) -> None:
        """Save through the core; arguments as in ``EpochBasedRunner``.

        Inside an epoch the default name is ``epoch_{e}_iter_{n}.pth``; stock
        would replace the file of the epoch again and again.
        """
        epoch, finished = self.finished_steps()
        inside = self._stage == 'after_train_iter'
        if filename_tmpl is not None:
            name = filename_tmpl.format(finished if inside else epoch)
        elif inside:
            name = f'epoch_{epoch}_iter_{finished}.pth'
        else:
            name = f'epoch_{epoch}.pth'
        self._save(out_dir, name, save_optimizer, meta, create_symlink)

    save_checkpoint.saves_through_core = True  # type: ignore[attr-defined]

    def _know_length(self, data_loaders: List[Any],
                     workflow: 'Workflow') -> None:
        loaders = [
            loader for loader, (mode, _) in zip(data_loaders, workflow)
            if mode == 'train'
        ]
        if loaders and self._max_epochs is not None:
            self._max_iters = self._max_epochs * len(loaders[0])

    def _count_batch(self) -> None:
        if self._continuation is not None:
            self._continuation.count(self.data_loader, self.epoch)

    def _go_on(self, continuation: 'Continuation', restored: 'Restored',
               workflow: 'Workflow') -> None:
        self._is_inside_epoch = False
        for number, (mode, _) in enumerate(workflow):
            used = 0
            if mode == 'train':
                used = self._used_batches(continuation, restored, number)
            used = continuation.seek(
                number, self.epoch, used, begins_here=used > 0)
            if mode == 'train' and used:
                self._skipped_batches = used
        self._is_inside_epoch |= restored.unswapped
        inside = self._skipped_batches > 0
        continuation.skip(workflow, self.epoch, inside)

    def _used_batches(self, continuation: 'Continuation', restored: 'Restored',
                      number: int) -> int:
        """Return how much of the epoch was trained; counters to fit it."""
        length = continuation.length(number)
        saved = continuation.saved_position(number)
        before = length if saved is None else saved['length'] or length
        used = restored.iter - restored.epoch * before
        if saved is not None and used != before:
            # with several train loaders the counters do not tell
            used = saved['used']
        # of several train loaders, one
        self._is_inside_epoch |= 0 < used <= before
        if before != length:
            self.logger.warning(
                f'The epoch has {counted(length, "batches", "batch")} and had '
                f'{before} when the checkpoint was saved: it goes on at the '
                'same share of the epoch, not with the same batches')
            used = used * length // before
            self._iter = restored.epoch * length + used
        if used == length:
            # saved in the last iteration of an epoch
            self._epoch, used = restored.epoch + 1, 0
        if not 0 <= used < length:
            self.logger.warning(
                f'{counted(restored.iter, "finished iterations")} cannot end '
                f'in epoch {restored.epoch + 1} of '
                f'{counted(length, "iterations")}: the data or the batch size '
                'changed; the epoch starts at its first batch')
            return 0
        if used and not continuation.is_tracked(number):
            self._iter -= used
            self.logger.warning(
                'the sampler of the data loader cannot be advanced: epoch '
                f'{self._epoch + 1} starts at its first batch')
        return used


class IterBasedRunnerAmp(DurableIterMixin, IterBasedRunner):
    """Iteration-based runner with exact counters, resume and AMP state.

    Takes the arguments of ``mmcv.runner.IterBasedRunner`` and
    ``sample_seeds``; the name is that of the apex_runner family of configs.
    """


class EpochBasedRunnerAmp(DurableEpochMixin, EpochBasedRunner):
    """Epoch-based runner with exact counters, resume and AMP state.

    Takes the arguments of ``mmcv.runner.EpochBasedRunner`` and
    ``sample_seeds``; the name is that of the apex_runner family of configs.
    """
