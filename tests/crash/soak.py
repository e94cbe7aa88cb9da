"""Kill real runs many times, at random moments; ``make soak``.

Usage::

    python tests/crash/soak.py [--kills N] [--seed N] [--matrix]

Each run is killed up to seven times: before, after or in the middle of any of
its file operations, or from outside at any time. After each kill every
checkpoint must verify and the last committed one must be found; each run must
end bitwise like one that nobody stopped. Exit code 1, and the seed and folder
of the run, if that fails once.
"""
import argparse
import itertools
import os
import random
import shutil
import sys
import tempfile
import threading
import time

from driver import Driver
from kills import (FOLDERS, RANKS, RUN, Interrupted, KilledRun,
                   digests_of_unstopped, kill_and_resume, killed_at_random)
from recording import AFTER, BEFORE, read_log, why_not


class Soak:
    """What several drivers have done together.

    Args:
        drivers (list[Driver]): Processes to fork from.
        folder (Path): For all runs.
    """

    def __init__(self, drivers, folder):
        self._drivers, self._folder = drivers, folder
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self.kills = self.runs = 0
        self.failures = []

    def work(self, job, items, wanted):
        """Call ``job(driver, item)``, which returns a number of kills."""
        items = iter(items)

        def loop(driver):
            while self.kills < wanted and not self.failures:
                with self._lock:
                    item = next(items, None)
                if item is None:
                    return
                try:
                    self._count(job(driver, item))
                except Exception as error:  # told at the end
                    self.failures.append(f'{item}: {error!r}')

        threads = [
            threading.Thread(target=loop, args=(driver, ))
            for driver in self._drivers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _count(self, kills):
        with self._lock:
            before = self.kills
            self.kills, self.runs = before + kills, self.runs + 1
            if self.kills // 100 > before // 100:
                print(
                    f'{self.kills} kills, {self.runs} runs, '
                    f'{self.secs():.0f} s',
                    flush=True)

    def secs(self):
        return time.monotonic() - self._begun


def random_kills(soak, drivers, folder, seed, wanted):
    """Kill runs of random options at random moments."""
    digests = digests_of_unstopped(drivers[0], folder)

    def job(driver, number):
        generator = random.Random(f'{seed}-{number}')
        return killed_at_random(driver, os.path.join(folder, f'{number}'),
                                generator, digests)

    soak.work(job, itertools.count(), wanted)


def matrix(soak, driver, folder):
    """Kill before and after every single file operation, once."""
    moments = []
    for form, options in (('pth', RUN), ('dcp', FOLDERS)):
        moments += moments_of_one(driver, os.path.join(folder, form), form,
                                  options)
    moments += moments_of_two(driver, os.path.join(folder, 'ranks'))

    def job(driver, moment):
        what, at, when, digest, form, start, how = moment
        name = os.path.join(folder, f'{what}-{at}-{when}')
        kill_and_resume(
            start(driver, name), (at, when), digest, form=form, **how)
        return 1

    soak.work(job, moments, float('inf'))


def moments_of_one(driver, folder, form, options):
    """Return the moments of a run of one process, and of a resumed one."""
    whole = os.path.join(folder, 'whole')
    os.makedirs(whole)
    digest = driver.run(
        os.path.join(whole, 'run'), f'{whole}.log', watched=whole,
        run=options).digest
    operations = read_log(f'{whole}.log')
    first = Interrupted(driver, os.path.join(folder, 'first'), options,
                        operations)
    resumed = os.path.join(folder, 'resumed')
    driver.run(
        first.again(driver, resumed).work_dir,
        f'{resumed}.log',
        watched=resumed,
        run=options)
    numbers = [operations[-1].number, read_log(f'{resumed}.log')[-1].number]
    print(f'.{form}: {numbers[0]} file operations in a run, {numbers[1]} in a '
          'resumed one')

    def begin(driver, name):
        return KilledRun(driver, name, options)

    return [(f'{form}-{what}', at, when, digest, form, start, {})
            for what, number, start in (('run', numbers[0], begin),
                                        ('resume', numbers[1], first.again))
            for at in range(1, number + 1) for when in (BEFORE, AFTER)]


def moments_of_two(driver, folder):
    """Return the moments of each rank of a run of two."""
    whole = os.path.join(folder, 'whole')
    os.makedirs(whole)
    digest = driver.run(
        os.path.join(whole, 'run'),
        f'{whole}.log',
        watched=whole,
        run=RANKS,
        ranks=2).digest
    numbers = [
        read_log(f'{whole}.log' + suffix)[-1].number for suffix in ('', '.1')
    ]
    print(f'two ranks: {numbers[0]} file operations of rank 0, {numbers[1]} '
          'of rank 1')

    def begin(driver, name):
        return KilledRun(driver, name, RANKS, ranks=2)

    how = [dict(rank=rank, may_end=True) for rank in range(2)]
    return [(f'rank-{rank}', at, when, digest, 'dcp', begin, how[rank])
            for rank, number in enumerate(numbers)
            for at in range(1, number + 1) for when in (BEFORE, AFTER)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=1000)
    parser.add_argument('--seed', default='0')
    parser.add_argument(
        '--matrix',
        action='store_true',
        help='before and after every file operation, instead of at random')
    args = parser.parse_args()
    reason = why_not()
    if reason is not None:
        sys.exit(reason)
    folder = tempfile.mkdtemp(prefix='mmcv-ckpt-soak-')
    drivers = [
        Driver(os.path.join(folder, f'errors-{number}'))
        for number in range(min(2,
                                os.cpu_count() or 1))
    ]
    soak = Soak(drivers, folder)
    if args.matrix:
        matrix(soak, drivers[0], folder)
    else:
        random_kills(soak, drivers, folder, args.seed, args.kills)
    for driver in drivers:
        driver.close()
    for failure in soak.failures:
        print(f'FAILED (seed {args.seed}): {failure}; see {folder}')
    print(f'{soak.kills} kills in {soak.runs} runs, {len(soak.failures)} '
          f'failures, {soak.secs():.0f} s')
    if not soak.failures:
        shutil.rmtree(folder)
    return 1 if soak.failures else 0


if __name__ == '__main__':
    sys.exit(main())
