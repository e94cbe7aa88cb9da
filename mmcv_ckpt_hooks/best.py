"""EvalHook's ``save_best`` through the save core.

Stock deletes the best checkpoint before it writes the new one, drops a score
of exactly 0.0, and forgets the score on a resume (mmcv v1.7.2,
runner/hooks/evaluation.py:280, 338-353).
"""
import math
import os
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional

from mmcv.runner import IterBasedRunner

from .best_scores import BestScore, best_name, without_step
from .card import steps_in_name
from .compat import best_saver_name
from .monitors import number_of, unknown_metric
from .saver import Saver
from .state import finished_epochs
from .storage.names import same_place
from .types import SaveRequest
from .wording import counted, every

#: Keys of the log buffer that are no scores.
_NO_SCORES = ('eval_iter_num', )


def eval_hooks(runner: Any) -> List[Any]:
    """Return the runner's EvalHooks, whichever repo's class they are."""
    return [
        hook for hook in runner.hooks
        if hasattr(hook, 'save_best') and hasattr(hook, 'evaluate')
    ]


def evaluate_by_iteration(runner: Any) -> None:
    """Let EvalHooks evaluate by iteration on an iteration runner.

    mmseg's tool, and its copies, decide by the literal type name
    'IterBasedRunner' (mmseg v0.30.0, apis/train.py:165); by epoch such a
    runner never evaluates.
    """
    if not isinstance(runner, IterBasedRunner):
        return
    for hook in eval_hooks(runner):
        if getattr(hook, 'by_epoch', False):
            hook.by_epoch = False
            runner.logger.info(
                f'{type(hook).__name__} evaluates '
                f'{every(hook.interval, "iterations")}: an iteration runner '
                'has no epoch events')


class BestKeeper:
    """Joins the scores of one EvalHook to checkpoints and keeps the best.

    Args:
        eval_hook (EvalHook): Of mmcv or a subclass; two of its methods are
            replaced on the instance.
        saver (Saver): Where the best goes.
        capture (callable): ``capture(runner, epoch, iter)`` builds the
            checkpoint dict when no checkpoint of the step exists.
        run_saver (Saver, optional): Whose checkpoints the scores are joined
            to. Default: None, which means ``saver``.
    """

    def __init__(self,
                 eval_hook: Any,
                 saver: Saver,
                 capture: Callable[[Any, int, int], Dict[str, Any]],
                 run_saver: Optional[Saver] = None) -> None:
        self._hook = eval_hook
        self._saver = saver
        self._run_saver = run_saver or saver
        self._capture = capture
        self._evaluate = eval_hook.evaluate
        self._metrics: Dict[str, float] = {}
        self._considered: Optional[int] = None
        eval_hook.evaluate = self.evaluate
        name = best_saver_name(eval_hook)
        if name is not None:
            setattr(eval_hook, name, self.consider)

    def recall(self, runner: Any) -> None:
        """Tell the runner the best score, the hook the metric it had chosen.

        A checkpoint is saved before the evaluation of its step, so that its
        own ``hook_msgs`` are one evaluation behind.
        """
        auto = self._run_saver.catalog.auto_metric()
        choosing = [hook for hook in eval_hooks(runner) if _is_auto(hook)]
        if auto is not None and choosing == [self._hook]:
            self._hook._init_rule(self._hook.rule, auto)
        known = self._saver.catalog.best(
            getattr(self._hook, 'key_indicator', ''))
        if known is not None:
            self._tell(runner, known.score, known.name)
        elif self._hook.save_best:
            self._restore_file(runner)

    def _restore_file(self, runner: Any) -> None:
        """Make the file of a remembered best score again.

        It went when a better one came; a run that falls back to a step before
        that has the score from its checkpoint.
        """
        score, catalog = self._remembered(runner), self._saver.catalog
        path = (runner.meta or {}).get('hook_msgs', {}).get('best_ckpt')
        if score is None or not isinstance(path, str) or not same_place(
                os.path.dirname(path), self._saver.backend.url):
            return
        name = os.path.basename(path)
        steps = steps_in_name(name)
        of_step = [
            info for info in catalog.owned()
            if steps in (dict(iter=info.iter), dict(epoch=info.epoch))
        ]
        if catalog.find(name) is not None or not of_step:
            return
        step = of_step[-1]
        request = SaveRequest(
            name,
            step.epoch,
            step.iter,
            'best',
            regular=False,
            metrics=step.metrics,
            make_latest=False)
        key, rule = self._hook.key_indicator, self._hook.rule
        if self._saver.link_best(
                BestScore(key, score, rule, name, step.iter), request):
            self._tell(runner, score, name)

    def evaluate(self, runner: Any, results: Any) -> Any:
        """Evaluate as the hook does, and join the scores at once."""
        buffer = runner.log_buffer
        outer, buffer.output = buffer.output, OrderedDict()
        key = getattr(self._hook, 'key_indicator', None)
        was_auto = _is_auto(self._hook)
        given: Dict[str, Any] = {}
        try:
            score = self._evaluate(runner, results)
        except KeyError as error:
            if key is None or error.args != (key, ) or key in buffer.output:
                raise
            if buffer.output:
                raise unknown_metric(key, list(_numbers(buffer.output)),
                                     'evaluation.save_best') from error
            # mmcv >= 1.3.17 warns itself
            runner.logger.warning('The evaluation has no result')
            score = None
        finally:
            given, buffer.output = buffer.output, outer
            outer.update(given)
            given = {
                name: value
                for name, value in given.items() if name not in _NO_SCORES
            }
            found = _numbers(given)
            # JSON has no NaN, mmseg's IoU of a class that does not occur
            self._metrics = {
                name: number
                for name, number in found.items() if math.isfinite(number)
            }
        epoch, finished = self._finished(runner)
        others = [name for name in given if name not in found]
        ranking = self._run_saver.ranking
        if ranking is not None:
            ranking.hear(self._hook, list(found), others)
        self._run_saver.join(finished, self._metrics)
        if was_auto and score is not None and \
                self._run_saver.catalog.auto_metric() is None:
            self._run_saver.remember_auto(self._hook.key_indicator)
        if self._hook.save_best:
            self.consider(runner, score)
        if ranking is not None:
            ranking.evaluated(self._hook, list(found), others,
                              lambda key: self._request(key, runner),
                              lambda: self._capture(runner, epoch, finished))
        return score

    def consider(self, runner: Any, score: Any) -> None:
        """Commit a new best checkpoint if the score is better.

        Takes the place of the hook's own method, which mmcv calls for some
        scores and mmseg for None, too.
        """
        epoch, finished = self._finished(runner)
        if score is None or self._considered == finished:
            return
        self._considered = finished
        key, rule = self._hook.key_indicator, self._hook.rule
        number = number_of(score)
        if number is None:
            runner.logger.warning(
                f'{key} at {counted(finished, "iterations")} is no number '
                f'({type(score).__name__}): it is no best')
            return
        score = number
        if not math.isfinite(score) or not self._is_better(runner, score):
            return
        request = self._request(key, runner)
        name = request.name
        best = BestScore(key, score, rule, name, finished)
        if not self._saver.commit_best(
                best, request, lambda: self._capture(runner, epoch, finished)):
            return  # the score stays open; the hook reports the error
        self._tell(runner, score, name)
        runner.logger.info(f'Best {key} is {score:0.4f} at '
                           f'{counted(finished, "iterations")} ({name})')

    def _request(self, key: str, runner: Any) -> SaveRequest:
        """What to save as the best of a metric."""
        epoch, finished = self._finished(runner)
        unit = f'epoch_{epoch}' if self._hook.by_epoch else f'iter_{finished}'
        return SaveRequest(
            best_name(key, unit),
            epoch,
            finished,
            'best',
            regular=False,
            metrics=self._metrics,
            make_latest=False)

    def _tell(self, runner: Any, score: float, name: str) -> None:
        path = os.path.join(self._saver.backend.url, name)
        self._hook.best_ckpt_path = path
        if runner.meta is None:
            runner.meta = {}
        runner.meta.setdefault('hook_msgs', {}).update(
            best_score=score, best_ckpt=path)

    def _is_better(self, runner: Any, score: float) -> bool:
        known = self._saver.catalog.best(self._hook.key_indicator)
        before: Any = None if known is None else known.score
        if known is None:
            # the catalog is lost, or the checkpoint came from elsewhere
            before = self._remembered(runner)
        if before is None:
            return True
        return bool(self._hook.compare_func(score, before))

    def _remembered(self, runner: Any) -> Optional[float]:
        """The score in the messages, unless it is of another metric.

        Nothing is better than NaN, so that one is none.
        """
        messages = (runner.meta or {}).get('hook_msgs', {})
        path = messages.get('best_ckpt')
        mine = without_step(best_name(self._hook.key_indicator, 'iter_0'))
        if isinstance(path, str) and \
                not os.path.basename(path).startswith(f'{mine}_'):
            return None
        score = number_of(messages.get('best_score'))
        return score if score is not None and math.isfinite(score) else None

    def _finished(self, runner: Any) -> Any:
        """Finished epochs and iterations while the hook evaluates."""
        if getattr(self._hook, 'initial_flag', False):
            # evaluation before training, asked for with ``start``
            return runner.epoch, runner.iter
        if self._hook.by_epoch:
            return runner.epoch + 1, runner.iter
        return finished_epochs(runner), runner.iter + 1


def _is_auto(eval_hook: Any) -> bool:
    """Whether the first evaluation will say which metric counts."""
    return bool(eval_hook.save_best) and \
        getattr(eval_hook, 'key_indicator', None) == 'auto'


def _numbers(output: Dict[str, Any]) -> Dict[str, float]:
    """Return the scores that are numbers, NaN among them."""
    found = {name: number_of(value) for name, value in output.items()}
    return {name: one for name, one in found.items() if one is not None}
