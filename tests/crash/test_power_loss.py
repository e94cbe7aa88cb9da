"""Every state that a power cut may leave of a recorded run is resumed from.

The model is in ``power_loss.py``, what must be true in ``judge.py``.
"""
import os
import random
import shutil
import subprocess
import sys

from folders import NEW_TORCH
from judge import Promises, judge
from kills import FOLDERS, RUN, KilledRun
from power_loss import Disk, contents, key_of, materialise
from recording import HERE, build, environment, read_log

#: States of one cut that are looked at; a sample where there are more.
LIMIT = int(os.environ.get('CRASH_STATES', 25))
#: The same where a save is some twenty files.
FOLDER_LIMIT = int(os.environ.get('CRASH_STATES', 3))
#: Distinct states from which a run is continued to its end.
CONTINUED = 12


def visible(state):
    """What a reader of a directory sees: no unfinished files."""
    return {
        path: content
        for path, content in contents(state).items() if '.tmp-' not in path
    }


def test_what_a_verb_returned_is_durable(recorder, tmp_path):
    """Before it returns, a name has its old content or its new one."""
    watched = tmp_path / 'disk'
    watched.mkdir()
    disk = Disk(watched)
    paths = os.pathsep.join([HERE, *filter(None, sys.path)])
    command = [sys.executable, os.path.join(HERE, 'verbs.py'), str(watched)]
    command += [str(watched / 'new' / 'deep'), str(tmp_path / 'log')]
    subprocess.run(
        command, env=dict(environment(build()), PYTHONPATH=paths), check=True)
    before, seen = visible(disk.now()), []
    for operation in read_log(tmp_path / 'log'):
        disk.apply(operation)
        seen += [visible(state) for state in disk.states(LIMIT)]
        if operation.kind == 'mark':
            after = visible(disk.now())
            for state in disk.states(LIMIT):
                assert visible(state) == after, operation.path
            for state in seen:
                for path, content in state.items():
                    assert content in (before.get(path), after.get(path)) or \
                        operation.path == 'prepare', operation.path
            before, seen = after, []
    assert set(before) == {
        'new', 'new/deep', 'new/deep/b.pth', 'new/deep/best.pth',
        'new/deep/last_checkpoint'
    }


class Recording:
    """A run with everything that a cut at any of its moments may leave.

    Args:
        driver (Driver): Who runs it.
        folder (Path): Recorded; it may hold the work dir of a run before.
        work_dir (Path): In ``folder``.
        promises (Promises): Of the run before. Default: None.
        limit (int): States of one cut. Default: LIMIT.
        options (dict): Of ``training.train``.
    """

    def __init__(self,
                 driver,
                 folder,
                 work_dir,
                 promises=None,
                 limit=LIMIT,
                 **options):
        self._folder, self._work_dir = folder, work_dir
        self._limit = limit
        self._disk = Disk(folder)
        self._promises = promises or Promises()
        log = f'{folder}.log'
        outcome = driver.run(work_dir, log, watched=str(folder), run=options)
        self.digest = outcome.digest
        self._operations = read_log(log)
        self.cuts = self.states = 0

    def distinct(self):
        """Yield each state once for what was promised then."""
        seen = set()
        for operation in self._operations:
            self._disk.apply(operation)
            self._promises.follow(operation, self._disk)
            self.cuts += 1
            for state in self._disk.states(self._limit, seed=self.cuts):
                self.states += 1
                key = key_of(state), self._promises.key()
                if key not in seen:
                    seen.add(key)
                    yield state, operation
        # nothing that changed the directory went by the recorder
        assert contents(self._disk.now()) == \
            contents(Disk(self._folder).now())

    def check(self, left, **kwargs):
        """Judge all of them, each in a directory of its own.

        Args:
            left (Path): Where to build them.

        Returns:
            list: Those states, with the promises of then.
        """
        checked = []
        inside = os.path.relpath(self._work_dir, self._folder)
        for state, operation in self.distinct():
            shutil.rmtree(left, ignore_errors=True)
            left.mkdir()
            materialise(state, left)
            try:
                judge(left / inside, self._promises,
                      self._promises.resumable(), **kwargs)
            except Exception as error:
                raise AssertionError(
                    f'cut after {operation.number} ({operation.kind} '
                    f'{operation.path} {operation.other}), left: '
                    f'{sorted(state)}') from error
            checked.append(state)
        print(f'{self.cuts} cuts, {self.states} states, {len(checked)} '
              'distinct')
        return checked


def go_on(driver, states, folder, inside, digest, **options):
    """Continue a sample of the states; each ends as if nothing had been."""
    for number, state in enumerate(random.Random(0).sample(states, CONTINUED)):
        left = folder / str(number)
        left.mkdir(parents=True)
        materialise(state, left)
        end = driver.run(left / inside, folder / f'{number}.log', run=options)
        assert end.digest == digest, sorted(state)


def test_a_run_in_a_new_directory(driver, tmp_path):
    """mmcv's runner creates the work dir; its parents must be synced, too."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    recording = Recording(driver, folder, folder / 'new' / 'run', **RUN)
    states = recording.check(tmp_path / 'left')
    go_on(driver, states, tmp_path / 'on', 'new/run', recording.digest, **RUN)


def test_a_resumed_run_that_keeps_one_checkpoint(driver, tmp_path):
    """A deletion that comes before the pointer's move leaves it dangling."""
    folder = tmp_path / 'disk'
    first = KilledRun(driver, folder, dict(RUN, steps=2, keep=1))
    first.go_on()
    options = dict(RUN, keep=1)
    recording = Recording(driver, folder, first.work_dir, first.promises,
                          **options)
    states = recording.check(tmp_path / 'left')
    go_on(driver, states, tmp_path / 'on', 'run', recording.digest, **options)


@NEW_TORCH
def test_a_run_that_saves_folders(driver, tmp_path):
    """``.metadata`` must come behind all that it stands for."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    recording = Recording(
        driver, folder, folder / 'run', limit=FOLDER_LIMIT, **FOLDERS)
    states = recording.check(tmp_path / 'left')
    go_on(driver, states, tmp_path / 'on', 'run', recording.digest, **FOLDERS)


@NEW_TORCH
def test_a_resumed_run_that_keeps_one_folder(driver, tmp_path):
    """And goes first when the folder is removed."""
    folder = tmp_path / 'disk'
    first = KilledRun(driver, folder, dict(FOLDERS, steps=2, keep=1))
    first.go_on()
    options = dict(FOLDERS, keep=1)
    recording = Recording(driver, folder, first.work_dir, first.promises,
                          FOLDER_LIMIT, **options)
    states = recording.check(tmp_path / 'left')
    go_on(driver, states, tmp_path / 'on', 'run', recording.digest, **options)


def test_a_run_that_goes_back_and_replaces_files(driver, tmp_path):
    """The catalog must not know another file of that name by then."""
    folder = tmp_path / 'disk'
    options = dict(RUN, keep=3, evaluate=False)
    first = KilledRun(driver, folder, options)
    first.go_on()
    recording = Recording(
        driver,
        folder,
        first.work_dir,
        first.promises,
        back_to='iter_2.pth',
        **options)
    recording.check(tmp_path / 'left')
