"""What a save costs, against stock mmcv and the raw disk, in one run.

Usage::

    python benchmarks/bench.py [--layers 61] [--repeats 5] [--json FILE]

Every line is the median of ``--repeats`` saves of the same state to the same
directory, taken in turns, so that a slow minute of the disk meets all alike.
"blocked" is how long the training thread waits, "durable" is from the call
until the file is complete and synced under its name ("-": never synced).
"""
import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
import warnings

warnings.filterwarnings('ignore', message='On January 1, 2023, MMCV')

import mmcv  # noqa: E402
import torch  # noqa: E402
from mmcv.runner import save_checkpoint as stock_save  # noqa: E402

from mmcv_ckpt_hooks import __version__, save_checkpoint  # noqa: E402
from mmcv_ckpt_hooks.catalog import Catalog  # noqa: E402
from mmcv_ckpt_hooks.executor import BackgroundExecutor  # noqa: E402
from mmcv_ckpt_hooks.history import History  # noqa: E402
from mmcv_ckpt_hooks.retention import KeepLast  # noqa: E402
from mmcv_ckpt_hooks.saver import Saver  # noqa: E402
from mmcv_ckpt_hooks.state import build_checkpoint  # noqa: E402
from mmcv_ckpt_hooks.storage.local import LocalBackend  # noqa: E402
from mmcv_ckpt_hooks.types import SaveRequest  # noqa: E402


def make_state(layers):
    """Linear layers of 1024x1024 and an AdamW that has made one step."""
    model = torch.nn.Sequential(
        *[torch.nn.Linear(1024, 1024) for _ in range(layers)])
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return model, optimizer


def timed(action):
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def raw_write(path, block):
    """The floor: the same number of bytes, written and synced."""
    with open(path, 'wb', buffering=0) as file:
        for _ in range(block['count']):
            file.write(block['data'])
        os.fsync(file.fileno())


class Bench:
    """One directory, one state, and each way to save it."""

    def __init__(self, directory, layers):
        self.directory = directory
        self.model, self.optimizer = make_state(layers)
        self.bytes = 3 * sum(p.numel() * 4 for p in self.model.parameters())
        size = 8 << 20
        self.block = dict(
            data=os.urandom(size), count=max(1, self.bytes // size))
        self.saver = self._make_saver()
        self.step = 0

    def path(self, name):
        return os.path.join(self.directory, name)

    def _make_saver(self):
        backend = LocalBackend(self.path('hook'))
        backend.prepare()
        catalog = Catalog(backend, backend, print)
        catalog.begin(None, 0)
        return Saver(backend, catalog, History(backend.url), KeepLast(1),
                     BackgroundExecutor(), lambda line: None,
                     lambda line, error: None)

    def stock(self):
        """mmcv: blocks for all of it, and syncs nothing."""
        secs = timed(lambda: stock_save(self.model, self.path('stock.pth'),
                                        self.optimizer))
        return secs, None

    def function(self):
        """Ours, as a function: on return the file is durable."""
        secs = timed(lambda: save_checkpoint(self.model, self.path('ours.pth'),
                                             self.optimizer))
        return secs, secs

    def hook(self):
        """Ours, as the hook saves: a staged copy, written behind."""
        self.step += 1
        request = SaveRequest(f'iter_{self.step}.pth', 0, self.step,
                              'interval')
        begun = time.perf_counter()
        self.saver.save(request,
                        lambda: build_checkpoint(self.model, self.optimizer))
        blocked = time.perf_counter() - begun
        self.saver.wait()
        error = self.saver.take_error()
        if error is not None:
            raise error
        return blocked, time.perf_counter() - begun

    def floor(self):
        """Raw write of as many bytes, and fsync."""
        secs = timed(lambda: raw_write(self.path('raw'), self.block))
        return None, secs


def run(args):
    directory = tempfile.mkdtemp(prefix='bench-', dir=args.dir)
    try:
        bench = Bench(directory, args.layers)
        ways = [('stock mmcv save_checkpoint', bench.stock),
                ('save_checkpoint (function)', bench.function),
                ('DurableCheckpointHook (background)', bench.hook),
                ('floor: raw write + fsync', bench.floor)]
        results = {name: [] for name, _ in ways}
        first_hook = None
        for turn in range(args.repeats + 1):
            for name, way in ways:
                print(f'turn {turn}: {name} ...', file=sys.stderr, flush=True)
                measured = way()
                if turn:  # the first one warms up buffers and caches
                    results[name].append(measured)
                elif way == bench.hook:
                    first_hook = measured[0]
        bench.saver.close()
        return bench, results, first_hook
    finally:
        shutil.rmtree(directory)


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def report(bench, results, first_hook):
    stock = median(one[0] for one in results['stock mmcv save_checkpoint'])
    floor = median(one[1] for one in results['floor: raw write + fsync'])
    rows = []
    for name, values in results.items():
        blocked = median(one[0] for one in values)
        durable = median(one[1] for one in values)
        rows.append(
            dict(
                what=name,
                blocked_s=blocked,
                blocked_of_stock=blocked and blocked / stock,
                durable_s=durable,
                durable_of_floor=durable and durable / floor))
    return dict(
        bytes=bench.bytes,
        rows=rows,
        first_hook_save_blocked_s=first_hook,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss <<
        10,
        torch=torch.__version__,
        mmcv=mmcv.__version__,
        mmcv_ckpt_hooks=__version__,
        python=platform.python_version(),
        cpus=os.cpu_count(),
        system=f'{platform.system()} {platform.machine()}')


def show(result):

    def text(value, form='{:.3f}'):
        return '-' if value is None else form.format(value)

    print(f'\nState: {result["bytes"] / 1e6:.0f} MB. torch {result["torch"]}, '
          f'mmcv {result["mmcv"]}, mmcv_ckpt_hooks '
          f'{result["mmcv_ckpt_hooks"]}, Python {result["python"]}, '
          f'{result["cpus"]} cores, {result["system"]}\n')
    print('| what | blocked (s) | of stock | durable (s) | of floor |')
    print('|---|---|---|---|---|')
    for row in result['rows']:
        print(f'| {row["what"]} | {text(row["blocked_s"])} | '
              f'{text(row["blocked_of_stock"])} | {text(row["durable_s"])} | '
              f'{text(row["durable_of_floor"], "{:.2f}")} |')
    print('\nFirst save of the hook (its buffers are mapped then): '
          f'{result["first_hook_save_blocked_s"]:.3f} s blocked')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--layers', type=int, default=61)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--dir', help='where to write (default: temporary)')
    parser.add_argument('--json', help='also write the result here')
    args = parser.parse_args()
    result = report(*run(args))
    show(result)
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(result, file, indent=1)


if __name__ == '__main__':
    main()
