"""What saving and resuming costs, against stock mmcv and the raw disk.

Usage::

    python benchmarks/bench.py                       # about 8 minutes
    python benchmarks/bench.py --parts free --turns 3 --json FILE
    python benchmarks/bench.py --device cuda --gb 2  # torch and mmcv suffice
    python benchmarks/bench.py --parts peers         # .venv-bench has them all
    python benchmarks/bench.py --sizes 0.1,0.7,3,6 --plot docs/growth.svg
    python benchmarks/bench.py --show FILE           # print a result again

Every measurement is a process of its own that trains with a real mmcv runner;
the hook is built from a config and timed from outside. benchmarks/README.md
says what the columns mean.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import time

import growth
import objects
import parts
import ranks
import report
from workers import HERE, Workers

#: Bytes that one layer adds to a checkpoint: weight and bias, three times.
LAYER_BYTES = 3 * 4 * (1024 * 1024 + 1024)

#: What runs when nothing is said.
DEFAULT_PARTS = dict(
    cpu=('free', 'full', 'idle', 'memory', 'resume', 'function', 'objects'),
    cuda=('gpu', ))
PARTS = ('free', 'full', 'idle', 'gpu', 'memory', 'resume', 'function',
         'objects', 'peers', 'ranks')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        epilog='parts: ' + ', '.join(PARTS))
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'))
    size = parser.add_mutually_exclusive_group()
    size.add_argument('--layers', type=int, default=61, help='of 12.6 MB each')
    size.add_argument('--gb', type=float, help='size of a checkpoint')
    parser.add_argument('--parts', help='comma separated')
    parser.add_argument('--saves', type=int, help='saves of each run')
    parser.add_argument('--turns', type=int, default=1, help='runs of each')
    parser.add_argument(
        '--zlib', action='store_true', help='as without the extra [fast]')
    parser.add_argument('--dir', help='where to write (default: temporary)')
    parser.add_argument('--json', help='also write the result here')
    parser.add_argument('--show', help='print the result in this file')
    parser.add_argument('--sizes', help='in GB: how costs grow with size')
    parser.add_argument('--plot', help='SVG of --sizes')
    args = parser.parse_args()
    if args.gb:
        args.layers = max(1, round(args.gb * 1e9 / LAYER_BYTES))
    if args.saves is None:
        args.saves = 4 if args.device == 'cpu' else 3
    args.parts = args.parts.split(',') if args.parts else \
        list(DEFAULT_PARTS[args.device])
    unknown = set(args.parts) - set(PARTS)
    if unknown:
        parser.error(f'no such part: {", ".join(sorted(unknown))}')
    return args


def host():
    """The machine, as far as it tells."""
    return dict(
        cpu=_first_line('/proc/cpuinfo', 'model name') or platform.machine(),
        cpus=os.cpu_count(),
        memory=_first_line('/proc/meminfo', 'MemTotal'),
        system=f'{platform.system()} {platform.release()}',
        load=list(os.getloadavg()))


def _first_line(path, name):
    try:
        with open(path) as file:
            for line in file:
                if line.startswith(name):
                    return line.split(':', 1)[1].strip()
    except OSError:
        pass  # another system
    return None


def commit():
    """The commit of this checkout; None where there is no git."""
    try:
        done = subprocess.run(['git', 'describe', '--always', '--dirty'],
                              cwd=HERE,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
    except OSError:
        return None
    return done.stdout.decode().strip() or None


def measure(workers, args, versions):
    """Run the parts; several turns meet a slow minute of the disk alike."""
    result = dict(
        bytes=args.layers * LAYER_BYTES,
        layers=args.layers,
        device=args.device,
        saves=args.saves,
        command=' '.join(sys.argv[1:]),
        commit=commit(),
        time=time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime()),
        versions=versions,
        host=host(),
        floor_turns=[],
        runs={},
        memory={},
        flat={},
        resume={})
    short = args.device != 'cpu' or result['bytes'] > 1 << 30
    for turn in range(args.turns):
        # a slow minute of the disk must meet floor and saves alike
        parts.add_floor(workers, result, short)
        run_parts(workers, args, result, turn == 0)
        parts.add_floor(workers, result, short)
    return result


def run_parts(workers, args, result, is_first):
    ways = parts.ways_of(result)
    wanted, saves = args.parts, args.saves
    if 'gpu' in wanted:
        parts.add_saves(
            workers, result, 'gpu', saves, ['never'] + ways, pinned=is_first)
    if 'free' in wanted or 'peers' in wanted:
        more = [] if 'peers' in wanted else ['sync']
        parts.add_saves(workers, result, 'free', saves,
                        ['never'] + ways + more)
    if 'peers' in wanted:
        parts.add_peers(workers, result, saves, report.PEER_NAMES)
    if 'full' in wanted:
        parts.add_saves(workers, result, 'full', saves, ways)
    if 'idle' in wanted:
        parts.add_saves(workers, result, 'idle', saves, ways[1:])
        parts.add_floor(workers, result, result['bytes'] > 1 << 30)
    if 'resume' in wanted:
        parts.add_resume(workers, result, 5)
    if is_first and 'peers' in wanted:
        parts.add_memory(workers, result, ways + list(report.PEER_NAMES))
    if is_first and 'memory' in wanted:
        parts.add_memory(workers, result, ways + ['sync'])
        parts.add_flat_memory(workers, result)
    if is_first and 'function' in wanted:
        parts.add_function(workers, result, saves)
    if is_first and 'objects' in wanted:
        objects.add_objects(workers, result)
    if is_first and 'ranks' in wanted:
        ranks.add_ranks(workers, result)


def main():
    args = parse_args()
    if args.show:
        with open(args.show) as file:
            report.show(json.load(file))
        return
    common = dict(device=args.device, layers=args.layers)
    workers = Workers(args.dir, common, without_isal=args.zlib)
    try:
        versions = workers.run('versions', kind='probe')
        if versions is None:
            sys.exit(1)
        if args.sizes:
            sizes = [float(size) for size in args.sizes.split(',')]
            result = growth.measure(workers, args, versions, sizes)
        else:
            result = measure(workers, args, versions)
        result['failures'] = workers.failures
        result['machine'] = report.machine_words(result['host'],
                                                 versions['gpu'])
    finally:
        workers.close()
    if args.json:
        os.makedirs(os.path.dirname(args.json) or '.', exist_ok=True)
        with open(args.json, 'w') as file:
            json.dump(result, file, indent=1)
    report.show(result)
    if args.plot:
        growth.plot(result, args.plot)


if __name__ == '__main__':
    main()
