"""How long ``mmcv-ckpt ls``, ``prune`` and ``verify`` take.

Usage::

    python benchmarks/command_line.py                   # about 3 minutes
    python benchmarks/command_line.py --checkpoints 50 --turns 3

A real mmcv runner with the hook saves after each of 200 iterations: a model of
300 parameters and its AdamW, 1,206 records a file, 2.2 MB. A second run saves
one large file. The commands are processes of their own, timed from outside,
beside the least that the machine asks for: an interpreter that only reads as
many zip directories, and ``cat`` of all bytes. All is in the page cache.
"""
import argparse
import glob
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

#: Of the many small checkpoints.
LAYERS, WIDTH = 150, 32
#: An interpreter that reads the end of each file, where its zip directory is.
READ_ENDS = """
import os, sys
for entry in os.scandir(sys.argv[1]):
    if entry.name.endswith('.pth') and entry.stat().st_size:
        with open(entry.path, 'rb') as file:
            file.seek(max(0, entry.stat().st_size - (1 << 17)))
            file.read()
"""


def save(work_dir, saves, layers, width):
    """Train with the hook, which saves after each iteration."""
    # torch and mmcv are not of the commands: only this process has them
    from workload import make_loader, make_runner, make_state
    hook = dict(type='DurableCheckpointHook', by_epoch=False, interval=1)
    model, optimizer = make_state(layers, width=width)
    runner = make_runner(
        dict(work_dir=work_dir, hook=hook), model, optimizer, saves)
    runner.run([make_loader(4, width)], [('train', 1)])


def save_stock(work_dir, saves, layers, width):
    """Save as often with mmcv's own function."""
    from mmcv.runner import save_checkpoint
    from workload import make_state
    model, optimizer = make_state(layers, width=width)
    for step in range(1, saves + 1):
        # of the size that a config and the environment of mmseg have
        meta = dict(
            epoch=0, iter=step, config='#' * 20000, env_info='#' * 3000)
        save_checkpoint(model, os.path.join(work_dir, f'iter_{step}.pth'),
                        optimizer, meta)


def build(arguments, directory):
    """Make the runs, each in a process of its own; return their places."""
    many = os.path.join(directory, 'many')
    large = os.path.join(directory, 'large')
    stock = os.path.join(directory, 'stock')
    saves = arguments.checkpoints
    for function, *values in (('save', many, saves, LAYERS, WIDTH),
                              ('save_stock', stock, saves, LAYERS, WIDTH),
                              ('save', large, 1, arguments.layers, 1024)):
        code = f'import command_line; command_line.{function}(*{values!r})'
        subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
                       cwd=os.path.dirname(os.path.abspath(__file__)),
                       check=True)
    lost = os.path.join(directory, 'lost')
    shutil.copytree(many, lost, copy_function=os.link, symlinks=True)
    os.unlink(os.path.join(lost, 'checkpoints.json'))
    return many, lost, stock, large


def seconds(command):
    """How long a process takes, and of the CPUs; it must end well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def commands(many, lost, stock, large):
    """What is timed: a text, the command, and which line is its floor."""
    program = [sys.executable, '-m', 'mmcv_ckpt_cli']
    files = sorted(glob.glob(os.path.join(many, 'iter_*.pth')))
    one = os.path.join(large, 'iter_1.pth')
    return [
        ('python -c pass', [sys.executable, '-c', 'pass'], ''),
        ('read all zip directories', [sys.executable, '-c', READ_ENDS,
                                      many], ''),
        ('ls', [*program, 'ls', many], 'read all zip directories'),
        ('ls, catalog lost', [*program, 'ls',
                              lost], 'read all zip directories'),
        ('ls, of stock mmcv', [*program, 'ls',
                               stock], 'read all zip directories'),
        ('prune --last 3', [*program, 'prune', many, '--last',
                            '3'], 'read all zip directories'),
        ('cat of all', ['cat', *files], ''),
        ('verify --all', [*program, 'verify', '--all', many], 'cat of all'),
        ('cat of the large one', ['cat', one], ''),
        ('verify of the large one', [*program, 'verify',
                                     one], 'cat of the large one'),
    ]


def measure(arguments):
    """Build, time each command in turn, print a table."""
    directory = tempfile.mkdtemp(prefix='mmcv-ckpt-cli-', dir=arguments.dir)
    try:
        places = build(arguments, directory)
        load = os.getloadavg()[0]
        found = {text: [] for text, _, _ in commands(*places)}
        for _ in range(arguments.turns):
            # one after the other: a slow minute meets all of them
            for text, command, _ in commands(*places):
                found[text].append(seconds(command))
        show(places, found, load)
    finally:
        shutil.rmtree(directory)


def show(places, found, load):
    """Print the medians."""
    many, *_, large = places
    size = sum(map(os.path.getsize, glob.glob(f'{many}/iter_*.pth')))
    count = len(glob.glob(f'{many}/iter_*.pth'))
    print(f'{count} checkpoints, {size / 1e6:.0f} MB; the large one '
          f'{os.path.getsize(f"{large}/iter_1.pth") / 1e6:.0f} MB; load '
          f'{load:.1f} on {os.cpu_count()} CPUs\n')
    print('| command | seconds, median | least | of CPU, least | floor = 1 |')
    print('|---|---|---|---|---|')
    least = {text: min(cpu for _, cpu in found[text]) for text in found}
    for text, _, floor in commands(*places):
        walls = [wall for wall, _ in found[text]]
        # what the CPUs did: of other work on the machine it knows less
        times = f'{least[text] / least[floor]:.1f}' if floor else ''
        print(f'| {text} | {statistics.median(walls):.3f} | '
              f'{min(walls):.3f} | {least[text]:.3f} | {times} |')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--checkpoints', type=int, default=200)
    parser.add_argument(
        '--layers',
        type=int,
        default=61,
        help='of the large one, 12.6 MB each')
    parser.add_argument('--turns', type=int, default=5)
    parser.add_argument('--dir', help='where to write (default: temporary)')
    measure(parser.parse_args())


if __name__ == '__main__':
    main()
