"""What our runners have in common: they save, resume and go on exactly."""
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from mmcv.runner import BaseRunner, CheckpointHook
from mmcv.runner.checkpoint import get_state_dict, load_state_dict

from . import ema, foreign
from .errors import ConfigError
from .gradients import continue_accumulation
from .hook import DurableCheckpointHook
from .latest import keep_for_save
from .runner_arguments import arguments_of, check_arguments, with_whole_lengths
from .state import capture_runner, unwrapped
from .storage import OBJECT_STORES, Path, is_of_fsspec, open_backend, scheme_of
from .takeover import averaged_first
from .types import LATEST_NAME
from .wording import counted

if TYPE_CHECKING:
    from .continuation import Continuation, EvaluationGuard, Workflow
    from .restore import Restored

#: mmcv's default: the prefix of DataParallel goes.
_REVISE_KEYS = ((r'^module.', ''), )


class DurableRunnerMixin(BaseRunner):
    """Saves, loads and resumes a mmcv runner through the save core.

    Args:
        sample_seeds (bool): Whether what the augmentation of a sample draws
            is a function of seed, rank and position in the data alone, with
            any number of workers; without it only the order of the data is
            continued exactly when workers load them. Default: True.
    """

    #: what the runner was continued from; None after a fresh start
    restored: Optional['Restored'] = None
    #: the same while a run that began there goes on
    _continued: Optional['Restored'] = None
    #: what ``load_checkpoint`` has loaded; None if nothing
    loaded_from: Optional[str] = None
    #: mmcv's; None if its tool gives none
    meta: Optional[Dict[str, Any]]
    #: name of the argument with its length
    _limit = ''
    _stage = ''
    _continuation: Optional['Continuation'] = None
    evaluation_guard: Optional['EvaluationGuard'] = None

    def __init__(self,
                 *args: Any,
                 sample_seeds: bool = True,
                 **kwargs: Any) -> None:
        if not isinstance(sample_seeds, bool):
            raise ConfigError('sample_seeds of the runner must be True or '
                              f'False, but got {sample_seeds!r}')
        check_arguments(kwargs, arguments_of(super().__init__), self._limit)
        super().__init__(*args, **with_whole_lengths(kwargs))
        self._sample_seeds = sample_seeds

    def call_hook(self, fn_name: str) -> None:
        """Call all hooks, and remember the event for the counters."""
        stage, self._stage = self._stage, fn_name
        if fn_name in ('before_train_iter', 'before_val_iter'):
            self._count_batch()
        try:
            super().call_hook(fn_name)
        finally:
            self._stage = stage
        if fn_name == 'before_run' and self._continued is not None:
            ema.restore_late(self, self._continued.late, self._continued.name)
            continue_accumulation(self)

    def data_state(self) -> Dict[str, Any]:
        """Return where in the data the run is; empty before ``run``."""
        if self._continuation is None:
            return {}
        return self._continuation.state(self._passes_end)

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
                        filename: Path,
                        map_location: Any = 'cpu',
                        strict: bool = False,
                        revise_keys: Any = _REVISE_KEYS) -> Any:
        """Load weights as mmcv does; from files without executing them.

        Args:
            filename (str | Path): A path, a URL of an object store or of
                fsspec, or one of mmcv (``torchvision://``, ``http://``),
                which mmcv loads.
            map_location: As for ``torch.load``; files always load to the CPU
                first.
            strict (bool): Whether keys must match. Default: False.
            revise_keys (list): Pairs of pattern and replacement.

        Returns:
            dict: The checkpoint.
        """
        filename = os.fspath(filename)
        if foreign.given(self) is None:
            self.loaded_from = filename
            scheme = scheme_of(filename)
            of_mmcv = self._access(filename).get('file_client_args') or \
                scheme not in ('', 'file', *OBJECT_STORES) and \
                not is_of_fsspec(scheme)
            if of_mmcv:
                return super().load_checkpoint(filename, map_location, strict,
                                               list(revise_keys))
        # not at the top: importing the package stays cheap
        from .checkpoint_fields import weights_of
        from .restore import without_prefix
        from .restore_report import loaded_text, nothing_fits
        from .weights import load_weights
        checkpoint = foreign.given(self) or load_weights(
            filename, self._trusts(), self._access(filename))
        state_dict = without_prefix(weights_of(checkpoint), list(revise_keys))
        model = unwrapped(self.model)
        load_state_dict(model, state_dict, strict, self.logger)
        if foreign.given(self) is None:
            own = get_state_dict(model)
            self.logger.info(
                loaded_text(filename, checkpoint, own, state_dict))
            if nothing_fits(own, state_dict):
                self.logger.warning(
                    f'{filename} has no tensor of this model, which keeps the '
                    'weights that it has. Those of a backbone alone belong '
                    "into the model's config: pretrained=PATH, or init_cfg="
                    "dict(type='Pretrained', checkpoint=PATH)")
        return checkpoint

    def resume(self,
               checkpoint: Path,
               resume_optimizer: bool = True,
               map_location: Any = 'default') -> None:
        """Continue from a checkpoint, with or without a GPU.

        Args:
            checkpoint (str | Path): A path or URL. ``latest.pth`` falls back
                to older ones of its directory, any other is taken as it is.
            resume_optimizer (bool): Default: True.
            map_location: Ignored: weights are copied to where the model is.

        Raises:
            IntegrityError: If it is damaged; names the newest good one.
            ResumeError: If it does not fit this run.
        """
        from .restore import restore_runner
        from .resume import load_verified
        from .state_loading import copied_fields
        content, directory, name = load_verified(
            checkpoint, self._trusts(), self.logger.warning,
            copied_fields(self.optimizer if resume_optimizer else None),
            self._access(os.fspath(checkpoint)))
        self.restored = restore_runner(self, content, directory, name,
                                       resume_optimizer)

    resume.saves_through_core = True  # type: ignore[attr-defined]

    def run(self, data_loaders: List[Any], workflow: List[Any], *args: Any,
            **kwargs: Any) -> None:
        """Run, with the hooks prepared, and go on where the run stopped."""
        from .best import eval_hooks, evaluate_by_iteration
        from .continuation import Continuation, EvaluationGuard, told_apart
        if len(data_loaders) != len(workflow):
            raise ConfigError(
                f'{counted(len(data_loaders), "data loaders")} and a workflow '
                f'of {counted(len(workflow), "phases")} do not fit')
        if self.meta is None:
            # mmcv's fp16 hook looks into it
            self.meta = {}
        data_loaders = told_apart(data_loaders)
        self._know_length(data_loaders, workflow)
        ema.resume_for_hooks(self)
        for hook in self._own_hooks():
            hook.prepare(self)
        for hook in [one for one in self.hooks if type(one) is CheckpointHook]:
            self._hooks = averaged_first(self.hooks, hook, self.logger.info)
        evaluate_by_iteration(self)
        self.evaluation_guard = self.evaluation_guard or EvaluationGuard(self)
        for hook in eval_hooks(self):
            self.evaluation_guard.guard(hook)
        restored = self.restored if self._is_at_restored_step() else None
        self._continued = restored
        self._continuation = Continuation(self, data_loaders,
                                          self._sample_seeds, restored)
        if restored is not None:
            self._go_on(self._continuation, restored, workflow)
        elif self._trains_on_streams(self._continuation, workflow):
            self.logger.warning(
                'the order of the training data cannot be continued, as no '
                'sampler decides on it: a resume begins the pass anew')
        try:
            super().run(data_loaders, workflow, *args, **kwargs)
        except BaseException as error:
            # mmcv calls no hook then; what is staged is committed first
            for hook in self._own_hooks():
                # a failed save was logged; what stopped the run is raised
                with suppress(Exception):
                    hook.stopped(self, error)
            raise

    def val(self, data_loader: Any, **kwargs: Any) -> None:
        """Validate; what that draws does not change the training."""
        assert self._continuation is not None
        assert self.evaluation_guard is not None
        if not self._continuation.skips('val'):
            with self.evaluation_guard.preserved():
                super().val(data_loader, **kwargs)

    def _know_length(self, data_loaders: List[Any],
                     workflow: 'Workflow') -> None:
        """Set what mmcv sets only after the hooks are prepared."""

    @staticmethod
    def _trains_on_streams(continuation: 'Continuation',
                           workflow: 'Workflow') -> bool:
        """Whether a loader of the training data cannot be advanced."""
        return not all(
            continuation.is_tracked(number)
            for number, (mode, _) in enumerate(workflow) if mode == 'train')

    def _own_hooks(self) -> List[DurableCheckpointHook]:
        return [
            hook for hook in self.hooks
            if isinstance(hook, DurableCheckpointHook)
        ]

    def _is_at_restored_step(self) -> bool:
        """Whether nothing was trained since; run() may be called again."""
        return self.restored is not None and self.restored.iter == self.iter

    #: whether ``run`` goes over a loader only until it ends
    _passes_end = False

    def _go_on(self, continuation: 'Continuation', restored: 'Restored',
               workflow: 'Workflow') -> None:
        """Go on in data and workflow where the run stopped."""
        raise NotImplementedError

    def _count_batch(self) -> None:
        """Take note that a batch of the current loader is consumed."""
        raise NotImplementedError

    def _access(self, place: str) -> Dict[str, Any]:
        return next((hook.options.access(place) for hook in self._own_hooks()),
                    {})

    def _trusts(self) -> bool:
        hooks = self.hooks
        return any(
            getattr(getattr(hook, 'options', None), 'trust_checkpoint', False)
            for hook in hooks)

    def _save(self, out_dir: Path, filename: str, save_optimizer: bool,
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
        out_dir = os.fspath(out_dir)
        backend = open_backend(out_dir, **self._access(out_dir))
        points = create_symlink and backend.capabilities.point
        if backend.capabilities.listing:
            keep_for_save(backend, filename, points, self.logger.info)
        save_to(backend, filename, checkpoint)
        self._forget(out_dir, filename)
        if points:
            backend.point(LATEST_NAME, filename)
            # INVARIANT: a hook that takes the link for the file before would
            # put the link's content in the place of what was set aside
            self._forget(out_dir, LATEST_NAME)

    def _forget(self, out_dir: str, name: str) -> None:
        for hook in self._own_hooks():
            hook.forget(out_dir, name)
