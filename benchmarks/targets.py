"""The ratios that a release is held to.

Means for what training waits, which the first save is a part of; medians for
what a noisy neighbour also adds to.
"""
from report import (above_training, form, growth_bytes, median, over, summary,
                    table)

#: A state's worth of memory that a save without a copy may take (bytes).
_SYNC_BYTES = 64 << 20


class Targets:
    """Collects rows: what, how much, at most how much."""

    def __init__(self, result):
        self.result = result
        self.rows = []

    def add(self, what, value, most, digits=3):
        if value is None:
            return
        met = 'yes' if value <= most else 'no'
        self.rows.append([what, form(value, digits), form(most, digits), met])

    def ratio(self, what, setting, way, key, most, digits=3):
        """One number of ours against the same of stock."""
        ours = summary(self.result, setting, way)
        stock = summary(self.result, setting, 'stock')
        if ours and stock:
            self.add(what, over(ours[key], stock[key]), most, digits)


def collect(result):
    """All targets for which there is a measurement."""
    rows = Targets(result)
    for setting in ('free', 'full', 'gpu'):
        for way, most in (('overlap', 1 / 200), ('copy', 1 / 10)):
            rows.ratio(f'blocked, {way}, {setting}, of stock', setting, way,
                       'blocked', most, 4)
    for setting, most in (('free', 0.15), ('full', 0.4)):
        for way in ('overlap', 'copy'):
            rows.ratio(f'added, {way}, {setting}, of stock', setting, way,
                       'added_median', most)
    for setting in ('free', 'idle', 'full'):
        for way in ('overlap', 'copy'):
            ours = summary(result, setting, way)
            if ours:
                rows.add(f'durable, {way}, {setting}, of raw write',
                         over(ours['durable'], result.get('floor')), 1.2, 2)
    _memory(result, rows)
    for cache, who in result['resume'].items():
        if {'ours', 'stock'} <= set(who):
            ours, stock = (
                median([run['opened'] for run in who[name]])
                for name in ('ours', 'stock'))
            rows.add(f'resume, {cache}, of stock', over(ours, stock), 0.7, 2)
    _objects(result, rows)
    return rows.rows


def _objects(result, rows):
    """Times for as many bytes, of the fastest plain client."""
    rates = dict(result.get('objects', {}).get('rates', {}))
    ours = rates.pop('ours', None)
    if not ours or not rates:
        return
    for way, said in (('up', 'up'), ('down', 'down, verified'),
                      ('down_new', 'down into new memory')):
        fastest = max(
            median([run[f'{way}_mb_s'] for run in runs])
            for runs in rates.values())
        rows.add(f'objects, {said}, time of the fastest plain client',
                 over(fastest, median([run[f'{way}_mb_s'] for run in ours])),
                 1 / 0.9, 2)


def _memory(result, rows):
    for way in ('overlap', 'copy'):
        above = above_training(result, way)
        rows.add(f'memory, {way}, of the state', over(above, result['bytes']),
                 1.05, 2)
    above = above_training(result, 'sync')
    rows.add('memory, background=False (MiB)', over(above, 1 << 20),
             _SYNC_BYTES / (1 << 20), 1)
    for way, rss in result['flat'].items():
        # less than one storage of the small model
        rows.add(f'memory growth over {len(rss)} saves, {way} (MiB)',
                 growth_bytes(rss) / (1 << 20), 4., 1)


def show(result):
    rows = collect(result)
    if rows:
        print('### Targets\n')
        table(['what', 'measured', 'at most', 'met'], rows)
