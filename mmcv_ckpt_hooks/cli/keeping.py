"""What ``prune`` keeps: the hook's policies, from arguments."""
import argparse
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..card import steps_in_name
from ..errors import ConfigError
from ..keep_config import plain_keep, rule_of
from ..monitors import RULES, Monitor, infer_rule, unknown_metric
from ..options import KeepOptions, last_of
from ..retention import KeepBest, KeepEvery, KeepLast
from ..types import CheckpointInfo, RetentionPolicy
from ..wording import every
from .place import Place

#: Of the arguments, those that say what to keep.
_NAMES = ('last', 'best', 'monitor', 'rule', 'every', 'bytes')


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to keep."""
    group = parser.add_argument_group(
        'what to keep',
        'as keep=dict(...) of the hook; what one of them keeps is kept, and '
        'the newest checkpoint always is')
    group.add_argument(
        '--last', type=int, metavar='N', help='the last N (default: 1)')
    group.add_argument(
        '--best',
        type=_number_of_best,
        metavar='N',
        help='the N with the best scores of each metric')
    group.add_argument(
        '--monitor',
        action='append',
        metavar='KEY',
        help='a metric of --best, such as mIoU; may be given several times '
        '(default: those by which the run has kept its best)')
    group.add_argument(
        '--rule',
        choices=RULES,
        help='which scores are better (default: as the run had it, or as '
        'the name of the metric tells)')
    group.add_argument(
        '--every',
        type=int,
        metavar='N',
        help='multiples of N epochs, or of N iterations')
    group.add_argument(
        '--by',
        choices=('epoch', 'iter'),
        help='the unit of --every (default: what the names count)')
    group.add_argument(
        '--bytes',
        metavar='SIZE',
        help="a budget, such as 20GB: what the others keep counts first, "
        'then as many of the newest as fit')


def _number_of_best(given: str) -> int:
    try:
        return int(given)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{given!r} is no number: --best says how many, --monitor by '
            'which metric') from None


@dataclass(frozen=True)
class Keeping:
    """What is kept, and why.

    Args:
        reasons (tuple): Pairs of a text and the policy that it is about.
        ranking (KeepBest, optional): What ranks by scores, if asked for.
        budget (int, optional): Bytes to fill with more.
    """
    reasons: Tuple[Tuple[str, RetentionPolicy], ...]
    ranking: Optional[KeepBest]
    budget: Optional[int]

    def why(self, there: Sequence[CheckpointInfo]) -> Dict[str, List[str]]:
        """Return by name why the policies keep it.

        Args:
            there (Sequence): What they judge, by finished iterations.
        """
        found: Dict[str, List[str]] = {info.name: [] for info in there}
        for text, policy in self.reasons:
            for name in policy.keep(there):
                found[name].append(text)
        return found


def keep_options(given: argparse.Namespace) -> KeepOptions:
    """Return what the arguments say, checked.

    Raises:
        ConfigError: If a value is wrong, two contradict each other, or none
            is given.
    """
    values: Dict[str, Any] = {
        name: getattr(given, name)
        for name in _NAMES if getattr(given, name) is not None
    }
    if isinstance(values.get('bytes'), str) and values['bytes'].isdigit():
        values['bytes'] = int(values['bytes'])
    try:
        keep = KeepOptions(**plain_keep(values))
    except ConfigError as error:
        # the hook's words for it, in those of the command line
        raise ConfigError(
            re.sub(r'keep\.(\w+)', r'--\1',
                   str(error).partition(': ')[2])) from error
    if keep.last is None and not keep.is_selective:
        raise ConfigError('what to keep must be said: --last, --best, '
                          '--every or --bytes')
    return keep


def keeping_of(keep: KeepOptions, place: Place,
               there: Sequence[CheckpointInfo], by: Optional[str]) -> Keeping:
    """Return the policies for the checkpoints of a place.

    Args:
        keep (KeepOptions): What was asked for.
        place (Place): Its catalog knows by what its run has ranked.
        there (Sequence): What the policies will judge.
        by (str, optional): ``'epoch'`` or ``'iter'``, the unit of ``every``.

    Raises:
        ConfigError: If a metric is unknown, or which scores are better; if
            the unit of ``every`` cannot be told.
    """
    last = last_of(keep)
    newest = 'all are' if last is None else \
        'the last' if last == 1 else f'of the last {last}'
    reasons: List[Tuple[str, RetentionPolicy]] = [(newest, KeepLast(last))]
    if keep.every is not None:
        by_epoch = (by or _unit(there)) == 'epoch'
        unit = 'epochs' if by_epoch else 'iterations'
        reasons.append(
            (f'{every(keep.every, unit)}', KeepEvery(keep.every, by_epoch)))
    ranking = None
    if keep.best is not None:
        monitors = _monitors(keep, place, there)
        ranking = KeepBest(keep.best, monitors)
        for monitor in monitors:
            text = f'best {monitor.key}' if keep.best == 1 else \
                f'of the {keep.best} best {monitor.key}'
            reasons.append((text, KeepBest(keep.best, (monitor, ))))
    return Keeping(tuple(reasons), ranking, keep.bytes)


def _unit(there: Sequence[CheckpointInfo]) -> str:
    """Tell from the names what they count."""
    found = {
        key
        for info in there if info.regular for key in steps_in_name(info.name)
    }
    if len(found) > 1:
        raise ConfigError('--every: some names here count epochs, and some '
                          'iterations: give --by epoch or --by iter')
    if not found and there:
        raise ConfigError(
            f'--every: the name {there[-1].name} tells neither epochs nor '
            'iterations: give --by epoch or --by iter')
    return found.pop() if found else 'iter'


def _monitors(keep: KeepOptions, place: Place,
              there: Sequence[CheckpointInfo]) -> Tuple[Monitor, ...]:
    available = sorted({key for info in there for key in info.metrics})
    if not available:
        raise ConfigError(
            f'--best: no checkpoint of the run in {place.shown} has a score. '
            'Without "evaluation" in its config nothing is evaluated')
    known = {key: best.rule for key, best in place.best_scores().items()}
    auto = place.catalog.auto_metric()
    keys = keep.monitor or tuple(known) or ((auto, ) if auto else ())
    if not keys:
        raise ConfigError(
            '--best: the run has kept none for its score, so nothing tells '
            f'the metric: give --monitor. There '
            f'{"is" if len(available) == 1 else "are"}: '
            f'{", ".join(available)}')
    for key in keys:
        if key not in available:
            raise unknown_metric(key, available, '--monitor')
    return tuple(
        Monitor(key,
                rule_of(keep.rule, key) or known.get(key) or _rule(key))
        for key in keys)


def _rule(key: str) -> str:
    try:
        return infer_rule(key)
    except ConfigError as error:
        raise ConfigError(str(error).replace('keep.rule', '--rule')) from error
