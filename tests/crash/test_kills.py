"""A run killed before and after every file operation loses nothing.

Every file operation of a whole run, and of a run that is resumed: its start,
saves, best checkpoints, deletions, catalog, pointer and history.
"""
import random

import pytest
from kills import (RUN, Interrupted, KilledRun, digests_of_unstopped,
                   kill_and_resume, killed_at_random)
from recording import AFTER, BEFORE, read_log


@pytest.fixture(scope='module')
def whole(drivers, tmp_path_factory):
    """Digest of the run that nobody stops, and its operations."""
    folder = tmp_path_factory.mktemp('whole')
    (folder / 'disk').mkdir()
    outcome = drivers[0].run(
        folder / 'disk' / 'run',
        folder / 'log',
        watched=str(folder / 'disk'),
        run=RUN)
    operations = read_log(folder / 'log')
    kinds = {operation.kind for operation in operations}
    assert {'rename', 'link', 'symlink', 'unlink', 'fsync'} <= kinds
    return outcome.digest, operations


def name(moment):
    return '-'.join(map(str, moment))


def moments(operations):
    """Before the first operation and after each that changes something.

    After one is before the next, and what only reads, syncs or closes leaves
    what was there; ``soak.py --matrix`` kills before and after those, too.
    """
    yield 1, BEFORE
    for operation in operations:
        if operation.changes_something():
            yield operation.number, AFTER


def test_killed_at_every_change_of_a_run(tmp_path, whole, in_parallel):
    digest, operations = whole

    def kill(driver, moment):
        kill_and_resume(
            KilledRun(driver, tmp_path / name(moment), RUN), moment, digest)

    in_parallel(kill, moments(operations))


def test_killed_at_every_change_of_a_resume(tmp_path, whole, in_parallel,
                                            driver):
    digest, operations = whole
    interrupted = Interrupted(driver, tmp_path / 'first', RUN, operations)
    unstopped = interrupted.again(driver, tmp_path / 'unstopped')
    driver.run(
        unstopped.work_dir,
        tmp_path / 'log',
        watched=str(tmp_path / 'unstopped'),
        run=RUN)

    def kill(driver, moment):
        run = interrupted.again(driver, tmp_path / name(moment))
        kill_and_resume(run, moment, digest)

    in_parallel(kill, moments(read_log(tmp_path / 'log')))


def test_killed_again_and_again_at_random_moments(tmp_path, drivers,
                                                  in_parallel):
    """In the middle of writes, at any time, off the save grid."""
    digests = digests_of_unstopped(drivers[0], str(tmp_path))
    kills = []

    def kill(driver, seed):
        generator = random.Random(seed)
        kills.append(
            killed_at_random(driver, tmp_path / f'{seed}', generator, digests))

    in_parallel(kill, range(10))
    assert sum(kills) >= 10
