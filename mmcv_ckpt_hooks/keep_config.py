"""The values of ``keep`` checked and made plain. Standard library only."""
import re
from typing import Any, Dict, Mapping, NoReturn, Optional, Tuple

from .errors import ConfigError
from .monitors import RULES, did_you_mean
from .wording import counted

#: Stands for every metric in :attr:`KeepOptions.rule`.
ANY_METRIC = '*'

#: Of Lightning, Keras, Composer, timm.
_RULES_ELSEWHERE = {
    'max': 'greater',
    'min': 'less',
    '>': 'greater',
    '<': 'less'
}
_UNITS = {
    'B': 1,
    'KB': 10**3,
    'MB': 10**6,
    'GB': 10**9,
    'TB': 10**12,
    'KIB': 1 << 10,
    'MIB': 1 << 20,
    'GIB': 1 << 30,
    'TIB': 1 << 40,
}
_SIZE = re.compile(r'\s*(\d{1,15}(?:\.\d+)?)\s*([a-zA-Z]+)\s*')


def plain_keep(given: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the fields of ``KeepOptions``; names and types are checked.

    Raises:
        ConfigError: If a value is wrong or two contradict each other.
    """
    values = dict(given)
    if 'last' in values and values['last'] < 1 and values['last'] != -1:
        _refuse(
            'last', values['last'], 'it must be at least 1, or -1 for '
            'all: the newest one is always kept')
    for name in ('best', 'every'):
        if name in values and values[name] < 1:
            _refuse(
                name, values[name], 'it must be at least 1' +
                ('; leave it out to keep no best ones'
                 if name == 'best' else ''))
    for name in ('monitor', 'rule'):
        if name in values and 'best' not in values:
            _refuse(name, values[name],
                    'it says which are the best: give how many as keep.best')
    if 'bytes' in values:
        values['bytes'] = _bytes(values['bytes'])
    if 'monitor' in values:
        values['monitor'] = _monitor(values['monitor'])
    if 'rule' in values:
        values['rule'] = _rule(values['rule'], values.get('monitor', ()))
    if values.get('last') == -1:
        for name in ('every', 'bytes'):
            if name in values:
                _refuse(name, values[name],
                        'it contradicts keep.last=-1, which keeps all')
    return values


def _bytes(given: Any) -> int:
    size = given
    if isinstance(given, str):
        match = _SIZE.fullmatch(given)
        unit = _UNITS.get(match.group(2).upper()) if match else None
        if match is None or unit is None:
            _refuse(
                'bytes', given,
                "expected an int, or a number with a unit: '20GB', "
                "'20GiB', '500MB'")
        size = int(float(match.group(1)) * unit)
    if size < 1:
        _refuse('bytes', given, 'it must be positive')
    return int(size)


def _monitor(given: Any) -> Tuple[str, ...]:
    keys = (given, ) if isinstance(given, str) else tuple(given)
    if not keys or not all(isinstance(key, str) and key for key in keys):
        _refuse('monitor', given, "expected a metric, such as 'mIoU', or a "
                'list of metrics')
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        _refuse('monitor', given, f'{twice[0]!r} stands there twice')
    if 'auto' in keys and len(keys) > 1:
        _refuse('monitor', given,
                "'auto' is one metric: name it beside the others")
    return keys


def _rule(given: Any, keys: Tuple[str, ...]) -> Tuple[Tuple[str, str], ...]:
    if isinstance(given, str):
        pairs: Tuple[Tuple[str, Any], ...] = ((ANY_METRIC, given), )
    elif not keys or keys == ('auto', ):
        _refuse('rule', given, 'several rules need keep.monitor with as many '
                'metrics')
    elif isinstance(given, Mapping):
        for key in given:
            if key not in keys:
                _refuse(
                    'rule', dict(given), f'{key!r} is not in keep.monitor' +
                    did_you_mean(str(key), keys))
        pairs = tuple(given.items())
    else:
        if len(given) != len(keys):
            _refuse(
                'rule', given,
                f'it has {counted(len(given), "entries", "entry")}, but '
                f'keep.monitor has {len(keys)}')
        pairs = tuple(zip(keys, given))
    for _, rule in pairs:
        if not isinstance(rule, str) or rule not in RULES:
            _refuse(
                'rule', given, "expected 'greater' or 'less'" + did_you_mean(
                    _RULES_ELSEWHERE.get(str(rule), str(rule)), RULES))
    return pairs


def rule_of(rules: Tuple[Tuple[str, str], ...], key: str) -> Optional[str]:
    """Return the rule that was given for a metric, or None."""
    given = dict(rules)
    return given.get(key, given.get(ANY_METRIC))


def _refuse(name: str, value: Any, why: str) -> NoReturn:
    raise ConfigError(f'DurableCheckpointHook: keep.{name}={value!r}: {why}')
