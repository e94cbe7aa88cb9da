"""Keeps the checkpoints with the best scores: ``keep=dict(best=...)``."""
from typing import Any, Callable, Dict, Optional, Sequence, Set, Tuple

from .errors import ConfigError
from .keep_config import rule_of
from .known_metrics import doubts
from .monitors import (AUTO, GREATER_KEYS, LESS_KEYS, Monitor, infer_rule,
                       unknown_metric)
from .options import KeepOptions
from .retention import KeepBest
from .saver import Saver
from .types import SaveRequest


class Metrics:
    """Which metrics rank, and how; known before training but for 'auto'.

    Args:
        keep (KeepOptions): ``best`` is given.
        eval_hooks (list[EvalHook]): Of the run.
        asked_by (str): The option that asks. Default: ``'keep.best'``.

    Raises:
        ConfigError: If nothing is evaluated, or if it cannot be told which
            direction of a metric is better.
    """

    def __init__(self,
                 keep: KeepOptions,
                 eval_hooks: Sequence[Any],
                 asked_by: str = 'keep.best') -> None:
        if not eval_hooks:
            raise ConfigError(
                f'DurableCheckpointHook: {asked_by}={keep.best} needs scores, '
                'but no EvalHook is registered: add `evaluation` to the '
                'config (and do not train with --no-validate), or remove it')
        self._keep = keep
        self.eval_hooks = eval_hooks
        chosen = [
            hook.key_indicator for hook in eval_hooks
            if hook.save_best and hook.key_indicator
        ]
        self.keys: Tuple[str, ...] = keep.monitor or tuple(
            dict.fromkeys(chosen)) or (AUTO, )
        for key in self.keys:
            if key != AUTO:
                self._refuse_contradiction(key)
        #: of each EvalHook, by its place: the metrics that it gave
        self.available: Dict[int, Sequence[str]] = {}
        #: whether the scores that rank could not be read; on any thread
        self.is_held = False

    def monitors(self, auto: str) -> Tuple[Monitor, ...]:
        """Return them with the metric that 'auto' means."""
        keys = dict.fromkeys(auto if key == AUTO else key for key in self.keys)
        return tuple(Monitor(key, self._rule(key)) for key in keys)

    def policy(self, count: int, auto: Optional[str]) -> KeepBest:
        """Return what keeps the best of each; ``auto`` None: not known."""
        if AUTO in self.keys and auto is None:
            return KeepBest(count, None)
        return KeepBest(count, self.monitors(auto or ''))

    def noted(self) -> Dict[str, str]:
        """Return the rule of each; empty where 'auto' has none."""
        return {
            key: (rule_of(self._keep.rule, key) or '')
            if key == AUTO else self._rule(key)
            for key in self.keys
        }

    def hear(self, eval_hook: Any, names: Sequence[str],
             others: Sequence[str]) -> None:
        """Learn what an evaluation gave; as :meth:`Ranking.evaluated`."""
        if names:
            self.available.setdefault(self._place(eval_hook), names)
            self.is_held = False
        elif self.holds(eval_hook, others):
            # INVARIANT: the best of checkpoints whose scores nobody can read
            # is not known, and it may be any of them
            self.is_held = True

    def holds(self, eval_hook: Any, others: Sequence[str]) -> bool:
        """Whether scores that rank are among those that are no numbers."""
        if not others:
            return False  # mmdet's result of a model that finds nothing
        return not self.available or self._place(eval_hook) in self.available

    def _place(self, eval_hook: Any) -> int:
        return next(index for index, hook in enumerate(self.eval_hooks)
                    if hook is eval_hook)

    def _refuse_contradiction(self, key: str) -> None:
        rule = self._rule(key)
        for hook in self.eval_hooks:
            if not hook.save_best or hook.key_indicator != key or \
                    hook.rule in (None, rule):
                continue
            by = "by evaluation.rule or by the metric's name: give"
            if rule_of(self._keep.rule, key) is None:
                raise ConfigError(
                    'DurableCheckpointHook: the evaluations contradict each '
                    f'other on the best {key!r}: one has {rule!r}, another '
                    f'{hook.rule!r}, {by} both the same evaluation.rule')
            raise ConfigError(
                f'DurableCheckpointHook: keep.rule={rule!r} of {key!r} '
                f'contradicts the evaluation, which has {hook.rule!r}, {by} '
                'evaluation.rule the same')

    def _rule(self, key: str) -> str:
        given = rule_of(self._keep.rule, key)
        if given is not None:
            return given
        greater, less = [*GREATER_KEYS], [*LESS_KEYS]
        for hook in self.eval_hooks:
            if hook.save_best and hook.key_indicator == key and hook.rule:
                return str(hook.rule)
            greater += getattr(hook, 'greater_keys', None) or ()
            less += getattr(hook, 'less_keys', None) or ()
        return infer_rule(key, greater, less)


class Ranking:
    """Has a run's saver keep the checkpoints with the best scores.

    Args:
        saver (Saver): Of the run; ``begin`` of its catalog was called.
        count (int, optional): How many steps of each metric; None if the
            saver does not ask, but a mirror does.
        metrics (Metrics): Which.
        warn (callable): Told when scores cannot be read.

    Thread: training's.
    """

    def __init__(self, saver: Saver, count: Optional[int], metrics: Metrics,
                 warn: Callable[[str], None]) -> None:
        self._saver = saver
        self._count = count
        self._metrics = metrics
        self._warn = warn
        self._is_checked = False
        if count is not None:
            policy = metrics.policy(count, saver.catalog.auto_metric())
            saver.rank_by(policy)
            saver.tell_leaders(policy)

    def hear(self, eval_hook: Any, names: Sequence[str],
             others: Sequence[str]) -> None:
        """Learn what an evaluation gave, before its scores are joined."""
        self._metrics.hear(eval_hook, names, others)

    def evaluated(self, eval_hook: Any, names: Sequence[str],
                  others: Sequence[str], request: Callable[[str], SaveRequest],
                  capture: Callable[[], Dict[str, Any]]) -> None:
        """Keep the step that was evaluated, if it is among the best.

        Its scores are joined to its checkpoints already.

        Args:
            eval_hook (EvalHook): Which evaluated.
            names (Sequence[str]): Of all its metrics that are numbers, also
                of those that are NaN.
            others (Sequence[str]): Of what it gave that is no number.
            request (callable): What to save under a name, if the step has no
                checkpoint.
            capture (callable): Builds that checkpoint.

        Raises:
            ConfigError: At the first evaluation, if a metric is unknown.
        """
        if self._count is None:
            return
        if not names:
            self._hold(eval_hook, others)
            return
        if AUTO in self._metrics.keys and \
                self._saver.catalog.auto_metric() is None:
            self._saver.remember_auto(names[0])
        policy = self._metrics.policy(self._count,
                                      self._saver.catalog.auto_metric())
        self._check(policy)
        there = self._saver.catalog.owned()
        chosen = request(policy.monitors[0].key if policy.monitors else AUTO)
        for monitor in policy.monitors or ():
            wanted = request(monitor.key)
            if KeepBest(self._count, (monitor, )).would_keep(wanted, there):
                chosen = wanted
                break
        self._saver.rank_by(policy)
        self._saver.keep_ranked(chosen, capture)
        self._saver.tell_leaders(policy)

    def _hold(self, eval_hook: Any, others: Sequence[str]) -> None:
        """Delete nothing more if the scores that rank cannot be read."""
        if not self._metrics.holds(eval_hook, others):
            return
        self._saver.rank_by(None)
        self._warn(f'The evaluation gave no number ({", ".join(others)}), by '
                   'which keep.best could rank: no checkpoint is deleted '
                   'until it gives one')

    def _check(self, policy: KeepBest) -> None:
        """Refuse a metric that no EvalHook has, once all have evaluated."""
        given = self._metrics.available
        if self._is_checked or len(given) < len(self._metrics.eval_hooks):
            return
        self._is_checked = True
        available = sorted({name for some in given.values() for name in some})
        known: Set[str] = set(available)
        for info in self._saver.catalog.owned():
            known |= set(info.metrics)
        for monitor in policy.monitors or ():
            if monitor.key not in known:
                raise unknown_metric(monitor.key, available)


def start_ranking(saver: Saver, keep: KeepOptions, metrics: Optional[Metrics],
                  eval_hooks: Sequence[Any], warn: Callable[[str],
                                                            None]) -> None:
    """Have a run's saver rank, if asked to; warn of doubtful metrics.

    Args:
        saver (Saver): Of the run; ``begin`` of its catalog was called.
        keep (KeepOptions): Of the run.
        metrics (Metrics, optional): None if nothing is to be ranked.
        eval_hooks (list[EvalHook]): Of the run.
        warn (callable): Told what is doubtful.
    """
    if metrics is not None:
        saver.ranking = Ranking(saver, keep.best, metrics, warn)
    given_before = {
        key
        for info in saver.catalog.owned()
        for key in info.metrics
    }
    for doubt in doubts(keep, eval_hooks, given_before):
        warn(doubt)
