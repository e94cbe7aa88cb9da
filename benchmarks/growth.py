"""How blocked and durable grow with the size of the state.

The number of tensors stays: what each of them costs is another question.
"""
import math
import time

import floors
import parts
import report

#: Of every model; they become wider.
_LAYERS = 61
#: Part of the available memory that a run may take.
_MEMORY_SHARE = 0.85


def measure(workers, args, versions, sizes):
    """Run stock and ours for each size in GB."""
    from bench import commit, host
    result = dict(
        device=args.device,
        saves=args.saves,
        command=f'--sizes {args.sizes}',
        commit=commit(),
        time=time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()),
        versions=versions,
        host=host(),
        bytes=0,
        layers=0,
        runs={},
        memory={},
        flat={},
        resume={},
        grown=[])
    setting = 'gpu' if args.device == 'cuda' else 'free'
    for size in sizes:
        # three times 4 bytes for each number of each layer
        width = round(math.sqrt(size * 1e9 / _LAYERS / 12))
        one = dict(
            bytes=_LAYERS * 12 * (width + 1) * width,
            width=width,
            floor_turns=[],
            floor=None,
            runs={},
            versions=versions)
        parts.add_floor(workers, one, short=True)
        _add_ways(workers, one, setting, args)
        parts.add_floor(workers, one, short=True)
        one['floor'], one['floor_way'] = floors.best_write(one['floor_turns'])
        result['grown'].append(one)
    return result


def _add_ways(workers, one, setting, args):
    model = dict(layers=_LAYERS, width=one['width'])
    base = parts.train(workers, one, setting, 'none', 1, **model)
    if base is None:
        return
    busy = max(3, math.ceil(2.5 * one['floor'] / base['step']))
    for way in parts.ways_of(one):
        # beside the training: stock holds the file twice, ours one copy
        extra = one['bytes'] * (2 if way == 'stock' else 1)
        needed = extra if args.device == 'cuda' else base['peak'] + extra
        if needed > _MEMORY_SHARE * available_bytes():
            workers.failures.append(
                f'{one["bytes"] / 1e9:.1f} GB, {way}: needs '
                f'{needed / 1e9:.0f} GB of memory')
            continue
        parts.train(workers, one, setting, way,
                    min(args.saves, 3) if one['bytes'] > 2e9 else args.saves,
                    busy, 1, **model)


def available_bytes():
    with open('/proc/meminfo') as file:
        for line in file:
            if line.startswith('MemAvailable'):
                return int(line.split()[1]) << 10
    return math.inf


def points(result):
    """Size in GB, way, seconds: blocked by the first save and by later ones,
    durable, raw write.

    The first waits where the memory of the copy is not mapped yet.
    """
    for one in result['grown']:
        for setting, runs in one['runs'].items():
            for way in runs:
                found = way != 'none' and report.summary(one, setting, way)
                if found:
                    later = [
                        secs for run in runs[way]
                        for secs in run['blocked'][1:]
                    ]
                    yield (one['bytes'] / 1e9, way, found['first'],
                           report.median(later), found['durable'],
                           one['floor'])


def show(result):
    print('### By size\n')
    report.table([
        'state (GB)', 'what', 'blocked (s), first save', 'later ones',
        'durable (s)', 'of raw write'
    ], [[
        report.form(size, 2), report.NAMES[way],
        report.form(first, 4),
        report.form(later, 4),
        report.form(durable),
        report.form(report.over(durable, floor), 2)
    ] for size, way, first, later, durable, floor in points(result)])


def plot(result, path):
    """Two panels, both axes logarithmic."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    plt.rcParams.update({'svg.fonttype': 'none', 'svg.hashsalt': 'bench'})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    lines = {}
    for size, way, _, later, durable, _ in points(result):
        lines.setdefault(way, []).append((size, later, durable))
    for way, values in lines.items():
        sizes, blocked, durable = zip(*sorted(values))
        drawn, = left.plot(sizes, blocked, marker='o', label=report.NAMES[way])
        if way != 'stock':  # never durable
            right.plot(
                sizes,
                durable,
                marker='o',
                color=drawn.get_color(),
                label=report.NAMES[way])
    raw = sorted((one['bytes'] / 1e9, one['floor']) for one in result['grown'])
    right.plot(*zip(*raw), '--', color='gray', label='raw write and fsync')
    for axes, title in ((left, 'training waits (s), but for the first save'),
                        (right, 'durable (s)')):
        axes.set(xscale='log', yscale='log', xlabel='state (GB)', ylabel=title)
        axes.set_xticks([size for size, _ in raw],
                        [f'{size:.2g}' for size, _ in raw])
        axes.minorticks_off()
        axes.grid(True, alpha=0.3)
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
