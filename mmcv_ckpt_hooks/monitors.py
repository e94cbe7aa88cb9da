"""Metrics by which checkpoints are ranked, and which direction is better.

Standard library only.
"""
import math
import numbers
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Optional, Sequence

from .errors import ConfigError
from .wording import nearest

RULES = ('greater', 'less')
#: The first metric of the first evaluation.
AUTO = 'auto'

#: Keys that mmcv knows (v1.7.2, runner/hooks/evaluation.py:85-89).
GREATER_KEYS = ('acc', 'top', 'AR@', 'auc', 'precision', 'mAP', 'mDice',
                'mIoU', 'mAcc', 'aAcc')
LESS_KEYS = ('loss', )

#: Words that mmcv does not know: metrics of one class (``IoU.person``) among
#: them.
_GREATER_WORDS = frozenset(
    ('ap', 'ar', 'bleu', 'cider', 'dice', 'f1', 'fscore', 'iou', 'kappa',
     'pck', 'pq', 'psnr', 'recall', 'ssim'))
_LESS_WORDS = frozenset(
    ('epe', 'error', 'fid', 'mae', 'mse', 'nll', 'nme', 'perplexity', 'rmse'))
_WORD = re.compile(r'[a-z]+(?:1(?!\d))?')


@dataclass(frozen=True)
class Monitor:
    """One metric.

    Args:
        key (str): As the data set's ``evaluate`` names it.
        rule (str): ``'greater'`` or ``'less'`` is better.
    """
    key: str
    rule: str

    def goodness(self, metrics: Mapping[str, float]) -> Optional[float]:
        """Return a number that is larger the better the score is.

        Returns:
            float | None: None if the metric is missing, or no number that
            can be compared.
        """
        score = metrics.get(self.key)
        if score is None or not math.isfinite(score):
            return None
        return score if self.rule == 'greater' else -score


def number_of(value: Any) -> Optional[float]:
    """Return a number, also that of an array or a tensor of one element.

    Returns:
        float | None: None if it is none, or more than one.
    """
    if not isinstance(value, numbers.Real) and hasattr(value, 'item'):
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError):
            return None  # several elements
    try:
        return float(value) if isinstance(value, numbers.Real) else None
    except OverflowError:
        return None


def infer_rule(key: str,
               greater_keys: Iterable[str] = GREATER_KEYS,
               less_keys: Iterable[str] = LESS_KEYS) -> str:
    """Say which direction of a metric is better, as mmcv's EvalHook does.

    Upper and lower case are the same. A key that is listed, then one that
    contains a listed one, greater before less; then what mmcv does not know.

    Args:
        key (str): The metric.
        greater_keys (iterable[str]): Of the run's EvalHook. Default: mmcv's.
        less_keys (iterable[str]): As well. Default: mmcv's.

    Returns:
        str: ``'greater'`` or ``'less'``.

    Raises:
        ConfigError: If it cannot be told.

    Source: mmcv v1.7.2, runner/hooks/evaluation.py:156-204.
    """
    lower = key.lower()
    greater = [one.lower() for one in greater_keys]
    less = [one.lower() for one in less_keys]
    if lower in greater:
        return 'greater'
    if lower in less:
        return 'less'
    if any(one in lower for one in greater):
        return 'greater'
    if any(one in lower for one in less):
        return 'less'
    words = set(_WORD.findall(lower))
    words |= {word[1:] for word in words if word.startswith('m')}  # means
    is_greater, is_less = words & _GREATER_WORDS, words & _LESS_WORDS
    if bool(is_greater) == bool(is_less):
        raise ConfigError(f'whether a greater or a lesser {key!r} is better '
                          "cannot be told from its name: give keep.rule "
                          "('greater' or 'less')")
    return 'greater' if is_greater else 'less'


def unknown_metric(key: str,
                   available: Sequence[str],
                   option: str = 'keep.monitor') -> ConfigError:
    """Say that no evaluation has this metric, and which there are."""
    return ConfigError(
        f'{option}={key!r} is not among the metrics of the evaluation'
        f'{did_you_mean(key, available)} There are: '
        f'{", ".join(available) or "none"}')


def did_you_mean(key: str, names: Sequence[str]) -> str:
    """Return a hint at the nearest name, in any case; empty if none is near.
    """
    lower = {name.lower(): name for name in names}
    near = nearest(key.lower(), list(lower))
    return f', did you mean {lower[near]!r}?' if near else '.'


def misspelt(key: str, names: Iterable[str]) -> Optional[str]:
    """Return the name that has the same letters in another order or case.

    Any other letter may be meant: ``gIoU`` is no ``mIoU``. Names without a
    capital are patterns: ``AUC`` is what mmpose's ``auc`` stands for.
    """
    letters, names = sorted(key.lower()), list(names)
    near = [
        name for name in names
        if sorted(name.lower()) == letters and name != name.lower()
    ]
    return near[0] if near and key not in names else None
