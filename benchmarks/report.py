"""A result as Markdown: what was measured, and against which target."""
import contextlib
import io
import statistics

from floors import best_write

#: Ours, as the tables call them.
NAMES = dict(
    stock='stock CheckpointHook',
    copy="ours, staging='copy'",
    overlap="ours, staging='overlap'",
    sync='ours, background=False',
    torch='torch.save',
    safetensors='safetensors save_file',
    dcp='torch.distributed.checkpoint save',
    lightning='Lightning AsyncCheckpointIO')
NAMES['dcp-async'] = 'torch.distributed.checkpoint async_save'
PEER_NAMES = ('torch', 'safetensors', 'dcp', 'dcp-async', 'lightning')
#: Who waits for the disk itself; for the others the benchmark calls fsync.
SYNCED = dict(
    stock='never',
    copy='yes',
    overlap='yes',
    sync='yes',
    torch='no',
    safetensors='no',
    dcp='yes',
    lightning='no')
SYNCED['dcp-async'] = 'yes'

RESUMES = dict(
    stock='stock runner.resume',
    ours="ours, resume='auto'",
    read='the file, read by itself')
TITLES = dict(
    free='One thread trains on two cores (one core is left free)',
    full='Two threads train on two cores (none is left)',
    idle='The CPU waits, as beside a GPU that trains',
    gpu='The model is on a GPU')


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def mean(values):
    return statistics.fmean(values) if values else None


def over(value, base):
    return value / base if value is not None and base else None


def form(value, digits=3):
    return '-' if value is None else f'{value:.{digits}f}'


def table(head, rows):
    print('| ' + ' | '.join(head) + ' |')
    print('|' + '---|' * len(head))
    for row in rows:
        print('| ' + ' | '.join(row) + ' |')
    print()


def summary(result, setting, way):
    """All runs of one way in one setting as one set of numbers; or None."""
    runs = result['runs'].get(setting, {})
    if not runs.get(way):
        return None
    one = {
        name: [value for run in runs[way] for value in run[name]]
        for name in ('blocked', 'added', 'wall', 'durable', 'beside_step')
    }
    share = start_share(runs, way)
    return dict(
        first=runs[way][0]['blocked'][0] + share,
        blocked=mean(one['blocked']) + share,
        blocked_median=median(one['blocked']) + share,
        start_share=share,
        wall=median(one['wall']),
        added=mean(one['added']),
        added_median=median(one['added']),
        durable=median(one['durable']),
        late=sum(run['late'] for run in runs[way]),
        beside=median(one['beside_step']),
        step=median([run['step'] for run in runs[way]]),
        event=median([run['event'] for run in runs[way]]),
        cpu=median([run['cpu'] for run in runs[way]]),
        copying=median([run['copying'] for run in runs[way]]))


def start_share(runs, way):
    """What the start of a run costs more than without buffers, per save."""
    bare = median([run['start'] for run in runs.get('never', [])])
    if bare is None:
        return 0.
    extra = median([run['start'] for run in runs[way]]) - bare
    return max(0., extra) / len(runs[way][0]['blocked'])


def machine_words(host, gpu=None):
    """The machine in words, from what it tells of itself."""
    size, _, unit = (host['memory'] or '').partition(' ')
    memory = f'{int(size) / 2**20:.1f} GiB of memory' if unit == 'kB' else None
    cores = f'{host["cpus"]} cores of {host["cpu"]}'
    return ', '.join(
        part for part in (gpu, cores, memory, host['system']) if part)


def show_head(result):
    versions, machine = result['versions'], result['host']
    if result['bytes']:
        print(f'\nState: {result["bytes"] / 1e6:.0f} MB ({result["layers"]} '
              'linear layers of 1024x1024 and AdamW).')
    print(f'\n{result["saves"]} saves a run. Commit {result["commit"]}, '
          f'{result["time"]}, `bench.py {result["command"]}`.\n')
    print(f'torch {versions["torch"]}, mmcv {versions["mmcv"]}, '
          f'mmcv_ckpt_hooks {versions["mmcv_ckpt_hooks"]}, Python '
          f'{versions["python"]}, CRC-32 of {versions["crc32"]}; '
          f'{machine_words(machine, versions["gpu"])}, load at the start '
          f'{machine["load"][0]:.1f}.\n')
    if result.get('floor'):
        print(f'Raw write and fsync of as many bytes: {result["floor"]:.3f} s '
              f'({result["floor_way"]}; the best of '
              f'{len(result["floor_turns"][0]["writes"])} ways, each the '
              f'median of {len(result["floor_turns"])}).\n')
        huge = best_write(result['floor_turns'], 'huge')
        if huge:
            print(f'From huge pages, in which our copy lies: {huge[0]:.3f} s '
                  f'({huge[1]}).\n')


def show_setting(result, setting):
    found = {
        way: summary(result, setting, way)
        for way in result['runs'][setting] if way not in ('none', 'never')
    }
    step = median([run['step'] for run in result['runs'][setting]['none']])
    cpu = median([run['cpu'] for run in result['runs'][setting]['none']])
    print(f'### {TITLES[setting]}\n')
    print(f'A step without saves takes {form(step)} s and keeps '
          f'{form(cpu, 2)} cores busy.\n')
    stock = found.get('stock') or {}
    rows = []
    for way, one in found.items():
        if one is None:
            rows.append([NAMES[way], 'could not be run'] + ['-'] * 10)
            continue
        late = f' ({one["late"]} late)' if one['late'] else ''
        rows.append([
            NAMES[way],
            form(one['blocked'] * 1e3, 1),
            form(one['blocked_median'] * 1e3, 1),
            form(one['first'] * 1e3, 1),
            ratio_text(one['blocked'], stock.get('blocked')),
            form(one['wall'] * 1e3, 0),
            form(one['added'] * 1e3, 0),
            form(one['added_median'] * 1e3, 0),
            ratio_text(one['added_median'], stock.get('added_median')),
            form(one['durable']) + late,
            form(over(one['durable'], result.get('floor')), 2), SYNCED[way]
        ])
    table([
        'what', 'blocked (ms), mean', 'median', 'first', 'of stock',
        'seen in the wall time (ms)', 'added (ms), mean', 'median', 'of stock',
        'durable (s)', 'of raw write', 'synced by itself'
    ], rows)
    if setting == 'gpu':
        show_gpu(result, found)


def ratio_text(value, base):
    """A ratio, as a fraction where it is small."""
    ratio = over(value, base)
    if ratio is None:
        return '-'
    return f'1/{1 / ratio:.0f}' if 0 < ratio < 0.1 else form(ratio, 2)


def show_gpu(result, found):
    pinned = median(
        [run.get('pinned') for run in result['runs']['gpu']['none']])
    rows = []
    for way, one in found.items():
        if one is None:
            continue
        gbytes = result['bytes'] / 1e9
        rows.append([
            NAMES[way],
            form(one['step'] * 1e3, 2),
            form(one['beside'] and one['beside'] * 1e3, 2),
            form(over(one['beside'], one['step']), 2),
            form(over(gbytes, one['blocked_median']), 1),
            form(over(gbytes, one['copying']), 1)
        ])
    rows.append([
        'copy into pinned memory', '-', '-', '-', '-',
        form(over(result['bytes'] / 1e9, pinned), 1)
    ])
    table([
        'what', 'step (ms)', 'while a save is written', 'ratio',
        'state / blocked (GB/s)', 'state / time of the copies (GB/s)'
    ], rows)


def show_resume(result):
    rows = []
    for cache, who in result['resume'].items():
        for name, runs in who.items():
            rows.append([
                cache, RESUMES[name],
                form(median([run['opened'] for run in runs])),
                form(median([run['stepped'] for run in runs]))
                if 'stepped' in runs[0] else '-',
                form(median([run['disk_bytes'] for run in runs]) / 1e6, 0)
            ])
    print('### From open to the first step\n')
    table([
        'file', 'who', 'until the first step begins (s)',
        'until it is done, less a step (s)', 'read from disk (MB)'
    ], rows)


def above_training(result, way):
    """Peak of a run less that of one without saves; None if not measured."""
    memory = result['memory']
    if not memory.get('none') or not memory.get(way):
        return None
    return median(memory[way]) - median(memory['none'])


def show_memory(result):
    print('### Peak memory above the training itself\n')
    rows = []
    for way in result['memory']:
        above = above_training(result, way)
        if way != 'none' and above is not None:
            rows.append([
                NAMES[way],
                form(above / 1e6, 0),
                form(above / result['bytes'], 2)
            ])
    table(['what', 'MB', 'states'], rows)


def show_flat(result):
    print('### Memory of one run with many small saves\n')
    rows = [[
        NAMES[way],
        str(len(rss)),
        form(median(rss[4:15]) / 1e6, 1),
        form(median(rss[-10:]) / 1e6, 1),
        form(growth_bytes(rss) / 1e6, 1)
    ] for way, rss in result['flat'].items()]
    table(['what', 'saves', 'saves 5-15 (MB)', 'last 10 (MB)', 'growth (MB)'],
          rows)


def growth_bytes(rss):
    """By how much memory has grown from the first saves to the last."""
    return median(rss[-10:]) - median(rss[4:15])


def show_function(result):
    found = result['function']
    stock = median(found['stock'])
    print('### The functions, while nothing else runs\n')
    table(['what', 'blocked (s)', 'of stock', 'of raw write'], [[
        name,
        form(median(found[key])),
        form(over(median(found[key]), stock), 2), '-' if key == 'stock' else
        form(over(median(found[key]), result.get('floor')), 2)
    ] for key, name in (('stock', 'mmcv save_checkpoint'),
                        ('ours', 'save_checkpoint of this package'))])


def show_objects(result):
    found = result['objects']
    print('### To an object store on the same machine, and back\n')
    print(f'{found["rounds"]} rounds, medians.\n')
    rows = []
    for name, runs in found['rates'].items():
        keys = ('up_mb_s', 'up_peak_mib', 'down_mb_s', 'down_peak_mib',
                'down_new_mb_s', 'down_new_peak_mib')
        rows.append([
            name,
            *(form(median([run[key] for run in runs]), 0) for key in keys)
        ])
    table([
        'who', 'up (MB/s)', 'memory beside the data (MiB)',
        'down, ours verified (MB/s)', 'memory (MiB)', 'into new memory (MB/s)',
        'memory beside the data (MiB)'
    ], rows)
    table([
        'a training saves to', 'blocked (ms), mean',
        'in the two steps that meet the save', 'durable (s)'
    ], [[
        where,
        form(mean(one['blocked']) * 1e3, 1),
        form(mean(one['met']) * 1e3, 1) if 'met' in one else '-',
        form(median(one['durable']))
    ] for where, one in found['waits'].items()])


def show(result):
    """Print a whole result."""
    import targets
    show_head(result)
    if result.get('grown'):
        import growth
        growth.show(result)
    for setting in result['runs']:
        show_setting(result, setting)
    if result['resume']:
        show_resume(result)
    if result['memory']:
        show_memory(result)
    if result['flat']:
        show_flat(result)
    if result.get('function'):
        show_function(result)
    if result.get('objects'):
        show_objects(result)
    if result.get('ranks'):
        import ranks
        ranks.show_ranks(result)
    targets.show(result)
    for line in result['failures']:
        print(f'Not measured: {line}')


def as_markdown(result):
    """What :func:`show` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        show(result)
    return printed.getvalue()
