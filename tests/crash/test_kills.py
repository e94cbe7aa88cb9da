"""A run killed before and after every file operation loses nothing.

Every file operation of a whole run, and of a run that is resumed: its start,
saves, best checkpoints, deletions, catalog, pointer and history.
"""
import random

import pytest
from folders import NEW_TORCH
from kills import (FOLDERS, RANKS, RUN, Interrupted, KilledRun,
                   digests_of_unstopped, kill_and_resume, killed_at_random)
from recording import AFTER, BEFORE, read_log


def recorded(driver, folder, options, **how):
    """Return the digest of a run that nobody stops, and its operations."""
    (folder / 'disk').mkdir()
    outcome = driver.run(
        folder / 'disk' / 'run',
        folder / 'log',
        watched=str(folder / 'disk'),
        run=options,
        **how)
    return outcome.digest, read_log(folder / 'log')


@pytest.fixture(scope='module')
def whole(drivers, tmp_path_factory):
    """Digest of the run that nobody stops, and its operations."""
    folder = tmp_path_factory.mktemp('whole')
    digest, operations = recorded(drivers[0], folder, RUN)
    kinds = {operation.kind for operation in operations}
    assert {'rename', 'link', 'symlink', 'unlink', 'fsync'} <= kinds
    return digest, operations


@pytest.fixture(scope='module')
def folders(drivers, tmp_path_factory):
    """The same of the run that saves folders."""
    folder = tmp_path_factory.mktemp('folders')
    digest, operations = recorded(drivers[0], folder, FOLDERS)
    kinds = {operation.kind for operation in operations}
    assert {'rename', 'mkdir', 'symlink', 'unlink', 'rmdir', 'fsync'} <= kinds
    return digest, operations


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


def in_folders(operations):
    """Those that write or remove a folder, in the order of the run."""
    return [one for one in operations if '.dcp' in one.path + one.other]


@NEW_TORCH
def test_killed_at_changes_of_a_folder(tmp_path, folders, in_parallel):
    """Of its save, of the pointer to it, of its removal by retention.

    A sample of ``soak.py --matrix``, which kills at all of them.
    """
    digest, operations = folders

    def kill(driver, moment):
        kill_and_resume(
            KilledRun(driver, tmp_path / name(moment), FOLDERS),
            moment,
            digest,
            form='dcp')

    in_parallel(kill, list(moments(in_folders(operations)))[::5])


@NEW_TORCH
def test_killed_at_changes_of_a_folder_that_is_swept(tmp_path, folders,
                                                     in_parallel, driver):
    """The start removes what a killed save has left, and is killed, too."""
    digest, operations = folders
    interrupted = Interrupted(driver, tmp_path / 'first', FOLDERS, operations)
    unstopped = interrupted.again(driver, tmp_path / 'unstopped')
    driver.run(
        unstopped.work_dir,
        tmp_path / 'log',
        watched=str(tmp_path / 'unstopped'),
        run=FOLDERS)
    swept = in_folders(read_log(tmp_path / 'log'))
    end = next(number for number, one in enumerate(swept)
               if one.kind == 'rmdir')

    def kill(driver, moment):
        run = interrupted.again(driver, tmp_path / name(moment))
        kill_and_resume(run, moment, digest, form='dcp')

    in_parallel(kill, list(moments(swept[:end + 1]))[::3])


@NEW_TORCH
@pytest.mark.parametrize('rank', [0, 1])
def test_one_of_two_ranks_is_killed_in_a_save(tmp_path, rank, in_parallel,
                                              driver):
    """A sample of ``soak.py --matrix``, which kills at all of them."""
    folder = tmp_path / 'whole'
    folder.mkdir()
    digest, _ = recorded(driver, folder, RANKS, ranks=2)
    operations = read_log(str(folder / 'log') + '.1' * rank)
    second = [
        one for one in in_folders(operations)
        if 'iter_4.dcp' in one.path + one.other and one.changes_something()
    ]

    def kill(driver, moment):
        kill_and_resume(
            KilledRun(driver, tmp_path / name(moment), RANKS, ranks=2),
            moment,
            digest,
            form='dcp',
            rank=rank)

    in_parallel(kill, [(one.number, AFTER)
                       for one in second[::len(second) // 3 or 1]])


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
