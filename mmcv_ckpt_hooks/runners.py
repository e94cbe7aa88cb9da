"""The two runners, and the mixins that make them."""
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from mmcv.runner import BaseRunner, EpochBasedRunner, IterBasedRunner
from mmcv.runner.checkpoint import load_state_dict

from . import data_position, ema, foreign
from .hook import DurableCheckpointHook
from .state import capture_runner, unwrapped
from .storage import open_backend, scheme_of

if TYPE_CHECKING:
    from .restore import Restored

#: mmcv's default: the prefix of DataParallel goes.
_REVISE_KEYS = ((r'^module.', ''), )


class DurableRunnerMixin(BaseRunner):
    """Saves, loads and resumes a mmcv runner through the save core."""

    #: what the runner was continued from; None after a fresh start
    restored: Optional['Restored'] = None
    _stage = ''
    _skipped_batches = 0
    #: whether the first epoch begins with a state from inside an epoch
    _is_inside_epoch = False

    def call_hook(self, fn_name: str) -> None:
        """Call all hooks, and remember the event for the counters."""
        stage, self._stage = self._stage, fn_name
        if fn_name == 'before_train_iter' and self._skipped_batches:
            # mmcv counts from the first batch that the loader yields
            self._inner_iter += self._skipped_batches
        if fn_name == 'before_train_epoch' and self._is_inside_epoch:
            self._is_inside_epoch = False
            ema.swap(self)
        if fn_name == 'after_train_epoch':
            self._skipped_batches = 0
        try:
            super().call_hook(fn_name)
        finally:
            self._stage = stage
        if fn_name == 'before_run' and self.restored is not None and \
                self._is_at_restored_step():
            ema.restore_late(self, self.restored.late, self.restored.name)

    def finished_steps(self) -> Tuple[int, int]:
        """Return finished epochs and iterations, also inside an event.

        mmcv counts up after the hooks were called.
        """
        epoch, finished = self.epoch, self.iter
        if self._stage == 'after_train_iter':
            return epoch, finished + 1
        if self._stage == 'after_train_epoch':
            return epoch + 1, finished
        return epoch, finished

    def load_checkpoint(self,
                        filename: str,
                        map_location: Any = 'cpu',
                        strict: bool = False,
                        revise_keys: Any = _REVISE_KEYS) -> Any:
        """Load weights as mmcv does; from files without executing them.

        Args:
            filename (str): A path, or a URL of mmcv (``torchvision://``,
                ``http://``), which mmcv itself loads.
            map_location: As for ``torch.load``; files always load to the CPU
                first.
            strict (bool): Whether keys must match. Default: False.
            revise_keys (list): Pairs of pattern and replacement.

        Returns:
            dict: The checkpoint.
        """
        if scheme_of(filename) not in ('', 'file'):
            return super().load_checkpoint(filename, map_location, strict,
                                           list(revise_keys))
        # not at the top: importing the package stays cheap
        from .restore import without_prefix
        from .resume import load_weights
        checkpoint = load_weights(filename, self._trusts())
        state_dict = checkpoint.get('state_dict', checkpoint)
        load_state_dict(
            unwrapped(self.model),
            without_prefix(state_dict, list(revise_keys)), strict, self.logger)
        return checkpoint

    def resume(self,
               checkpoint: str,
               resume_optimizer: bool = True,
               map_location: Any = 'default') -> None:
        """Continue from a checkpoint, with or without a GPU.

        Args:
            checkpoint (str): A path or URL. ``latest.pth`` falls back to
                older ones of its directory, any other is taken as it is.
            resume_optimizer (bool): Default: True.
            map_location: Ignored: weights are copied to where the model is.

        Raises:
            IntegrityError: If it is damaged; names the newest good one.
            ResumeError: If it does not fit this run.
        """
        from .restore import restore_runner
        from .resume import load_verified
        content, directory, name = load_verified(checkpoint, self._trusts(),
                                                 self.logger.warning)
        self.restored = restore_runner(self, content, directory, name,
                                       resume_optimizer)

    resume.saves_through_core = True  # type: ignore[attr-defined]

    def run(self, data_loaders: List[Any], workflow: List[Any], *args: Any,
            **kwargs: Any) -> None:
        """Run, with the resumed data position and the hooks prepared."""
        from .best import evaluate_by_iteration
        for hook in self._own_hooks():
            hook.prepare(self)
        evaluate_by_iteration(self)
        if self._is_at_restored_step():
            self._seek(data_position.train_loaders(data_loaders, workflow))
        try:
            super().run(data_loaders, workflow, *args, **kwargs)
        except BaseException as error:
            # mmcv calls no hook then; what is staged is committed first
            for hook in self._own_hooks():
                # a failed save was logged; what stopped the run is raised
                with suppress(Exception):
                    hook.stopped(self, error)
            raise

    def _own_hooks(self) -> List[DurableCheckpointHook]:
        return [
            hook for hook in self.hooks
            if isinstance(hook, DurableCheckpointHook)
        ]

    def _is_at_restored_step(self) -> bool:
        """Whether nothing was trained since; run() may be called again."""
        return self.restored is not None and self.restored.iter == self.iter

    def _seek(self, loaders: List[Any]) -> None:
        """Go on in the data where the run stopped."""
        raise NotImplementedError

    def _trusts(self) -> bool:
        hooks = self.hooks
        return any(
            getattr(getattr(hook, 'options', None), 'trust_checkpoint', False)
            for hook in hooks)

    def _save(self, out_dir: str, filename: str, save_optimizer: bool,
              meta: Optional[Dict[str, Any]], create_symlink: bool) -> None:
        if meta is not None and not isinstance(meta, dict):
            raise TypeError(
                f'meta should be a dict or None, but got {type(meta)}')
        epoch, finished = self.finished_steps()
        checkpoint = capture_runner(
            self, epoch, finished, meta=meta, save_optimizer=save_optimizer)
        if foreign.takes(self, checkpoint):
            return
        from .core import save_to
        backend = open_backend(out_dir)
        save_to(backend, filename, checkpoint)
        for hook in self._own_hooks():
            hook.forget(out_dir, filename)
        if create_symlink and backend.capabilities.point:
            backend.point('latest.pth', filename)


class DurableIterMixin(DurableRunnerMixin):
    """For runners that count iterations."""

    _start_epoch = 0

    def train(self, data_loader: Any, **kwargs: Any) -> None:
        """Train one iteration; the data epoch goes on after a resume."""
        if self._start_epoch:
            # mmcv counts passes over the data anew at every start
            data_loader._epoch += self._start_epoch
            self._start_epoch = 0
        super().train(data_loader, **kwargs)

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

    def _seek(self, loaders: List[Any]) -> None:
        if self.restored is None:
            return
        self._start_epoch = self.restored.epoch
        for loader in loaders:
            used = 0
            if len(loaders) == 1 and data_position.is_sized(loader):
                self._start_epoch, used = divmod(self.restored.iter,
                                                 len(loader))
            data_position.seek(loader, self._start_epoch, used)


class DurableEpochMixin(DurableRunnerMixin):
    """For runners that count epochs."""

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

    def _seek(self, loaders: List[Any]) -> None:
        if self.restored is None:
            return
        for loader in loaders:
            used = self.restored.iter - self.restored.epoch * len(loader)
            self._is_inside_epoch = 0 < used <= len(loader)
            if used == len(loader):
                # saved in the last iteration of an epoch
                self._epoch, used = self.restored.epoch + 1, 0
            if not 0 <= used < len(loader):
                self.logger.warning(
                    f'{self.restored.iter} finished iterations do not lie in '
                    f'epoch {self.restored.epoch + 1} of {len(loader)} '
                    'iterations: the data or the batch size changed; the '
                    'epoch starts at its first batch')
                continue
            if data_position.seek(loader, self._epoch, used):
                self._skipped_batches = used
            else:
                self._iter -= used
                self.logger.warning(
                    'the data loader has no batch sampler to advance: epoch '
                    f'{self._epoch + 1} starts at its first batch')


class IterBasedRunnerAmp(DurableIterMixin, IterBasedRunner):
    """Iteration-based runner with exact counters, resume and AMP state.

    Takes the arguments of ``mmcv.runner.IterBasedRunner``; the name is that
    of the apex_runner family of configs.
    """


class EpochBasedRunnerAmp(DurableEpochMixin, EpochBasedRunner):
    """Epoch-based runner with exact counters, resume and AMP state.

    Takes the arguments of ``mmcv.runner.EpochBasedRunner``; the name is that
    of the apex_runner family of configs.
    """
