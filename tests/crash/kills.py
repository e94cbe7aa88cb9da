"""One kill, and what must be true after it."""
import copy
import os
import shutil
from glob import glob

from folders import WRITES_FOLDERS
from judge import Promises, checkpoints, judge
from power_loss import Disk, contents, materialise
from recording import AFTER, BEFORE, TORN, read_log

#: A short run: three saves, two best ones, a deletion of each kind.
RUN = dict(steps=6, interval=2, keep=2)
#: The same in folders, and by two ranks: what one of them saves alone, behind
#: the other's death, lacks that one's generators.
FOLDERS = dict(RUN, format='dcp')
RANKS = dict(FOLDERS, evaluate=False, triggers=dict(exception=False))
#: Lengths of the runs that are killed at random.
STEPS = (6, 8)


class KilledRun:
    """A run in a directory of its own, killed any number of times.

    Args:
        driver (Driver): Who runs it.
        folder (str): New directory; the work dir is ``run`` in it.
        options (dict): Arguments of ``training.train``.
        ranks (int): How many train. Default: 1.
    """

    def __init__(self, driver, folder, options, ranks=1):
        self._driver = driver
        self._ranks = ranks
        self._folder = str(folder)
        self._options = options
        self._log = f'{self._folder}.log'
        self.work_dir = os.path.join(self._folder, 'run')
        self.promises = Promises()
        os.makedirs(self._folder, exist_ok=True)
        if ranks > 1:
            # any of them may make it; rank 0 is recorded
            os.makedirs(self.work_dir, exist_ok=True)

    def go_on(self, **how):
        """Start or resume it, check what it leaves, and return its outcome.

        Args:
            how (dict): Of :meth:`Driver.run`, when it is killed; nothing: it
                comes to its end.
        """
        disk = Disk(self._folder)
        outcome = self._driver.run(
            self.work_dir,
            self._log,
            watched=self._folder,
            run=self._options,
            ranks=self._ranks,
            **how)
        if os.path.exists(self._log):  # else killed before it was created
            for operation in read_log(self._log):
                disk.apply(operation)
                self.promises.follow(operation, disk)
            os.unlink(self._log)
        resumable = [self.promises.committed]
        if 'after_secs' in how:
            # killed from outside, it may have done more than was recorded
            resumable += self.promises.unrecorded(self.work_dir)
        elif self._ranks == 1:
            # nothing that changed the directory went by the recorder
            assert contents(disk.now()) == contents(Disk(self._folder).now())
        judge(self.work_dir, self.promises, resumable)
        return outcome

    def remove(self):
        shutil.rmtree(self._folder)


class Interrupted:
    """A run that was killed in a save and has left half a file.

    Args:
        driver (Driver): Who ran it.
        folder (Path): New directory.
        options (dict): Arguments of ``training.train``.
        operations (list): Of the run that nobody stopped.
    """

    def __init__(self, driver, folder, options, operations):
        begun = next(operation.number for operation in operations
                     if '.iter_4.pth.tmp-' in operation.path
                     or 'iter_4.dcp/.__0_0.distcp.tmp-' in operation.path)
        half = next(operation.number for operation in operations
                    if operation.kind == 'write' and operation.number > begun)
        run = KilledRun(driver, folder, options)
        assert run.go_on(at=half, when=TORN, torn_bytes=9999).killed
        self._options = options
        self._promises = run.promises
        self._state = Disk(folder).now()

    def again(self, driver, folder):
        """Return a run in a copy of it."""
        os.mkdir(folder)
        materialise(self._state, folder)
        run = KilledRun(driver, folder, self._options)
        run.promises = copy.deepcopy(self._promises)
        halves = unfinished(run.work_dir)
        assert halves
        for path in halves:  # so old that it is swept
            os.utime(path, (0, 0))
        return run


def unfinished(directory):
    """Return the paths of unfinished files, also of those in folders."""
    return [
        os.path.join(folder, name) for folder, _, names in os.walk(directory)
        for name in names if '.tmp-' in name
    ]


def kill_and_resume(run, moment, digest, form='pth', may_end=False, **how):
    """Kill a run of ``RUN``; resumed, it ends as if nothing had happened.

    Args:
        run (KilledRun): Not running.
        moment (tuple): Number of the operation, and ``BEFORE`` or ``AFTER``.
        digest (str): Of the run that nobody stopped.
        form (str): ``'dcp'`` for one of ``FOLDERS``. Default: ``'pth'``.
        may_end (bool): Whether the run may come to its end before: of several
            ranks each has as many operations as its lock is renewed.
            Default: False.
        how (dict): ``rank``: which one is killed, of several.
    """
    at, when = moment
    outcome = run.go_on(at=at, when=when, **how)
    if may_end and not outcome.killed:
        assert outcome.digest == digest
        run.remove()
        return
    assert outcome.killed
    for folder in glob(f'{run.work_dir}/iter_*.dcp'):
        # so old that it is swept
        for path in unfinished(folder):
            os.utime(path, (0, 0))
        if not os.listdir(folder):
            os.utime(folder, (0, 0))
    assert run.go_on().digest == digest
    names = {name for name in os.listdir(run.work_dir) if name[0] != '.'}
    assert {f'iter_4.{form}', f'iter_6.{form}'} <= names
    assert not any(
        os.path.getmtime(path) == 0 for path in unfinished(run.work_dir))
    assert os.readlink(os.path.join(run.work_dir, f'latest.{form}')) == \
        f'iter_6.{form}'
    # of folders nothing is left but what is listed
    listed = checkpoints(run.work_dir)
    for name in names:
        assert not name.endswith('.dcp') or name in listed, name
    for folder in filter(os.path.isdir, glob(f'{run.work_dir}/iter_*')):
        assert 'writing' not in os.listdir(folder), folder
        assert not unfinished(folder)
    run.remove()


def random_options(generator):
    """Options of a run; what it trains depends on ``steps`` alone."""
    options = dict(
        steps=generator.choice(STEPS),
        interval=generator.choice([1, 2, 3]),
        keep=generator.choice([1, 2, 3]),
        write=dict(background=generator.random() < 0.7))
    if generator.random() < 0.3:
        options['triggers'] = dict(at=[generator.randrange(1, 6)])
    if generator.random() < 0.05:
        options['workers'] = 2
    if generator.random() < 0.3 and WRITES_FOLDERS:
        options['format'] = 'dcp'
    return options


def random_kill(generator):
    """Before, after or in the middle of any operation, or at any time."""
    if generator.random() < 0.3:
        return dict(after_secs=generator.uniform(0, 0.15))
    return dict(
        at=generator.randrange(1, 150),
        when=generator.choice([BEFORE, AFTER, TORN]),
        torn_bytes=generator.randrange(1 << 16))


def killed_at_random(driver, folder, generator, digests):
    """Kill one run up to seven times, then let it come to its end.

    Args:
        driver (Driver): Who runs it.
        folder (str): New directory.
        generator (random.Random): Decides everything.
        digests (dict): Of runs that nobody stopped, by steps.

    Returns:
        int: How often it was killed.
    """
    options = random_options(generator)
    run = KilledRun(driver, folder, options)
    killed = 0
    for _ in range(generator.randrange(1, 8)):
        killed += run.go_on(**random_kill(generator)).killed
    assert run.go_on().digest == digests[options['steps']], options
    run.remove()
    return killed


def digests_of_unstopped(driver, folder):
    """Digests of runs that nobody stopped, by steps."""
    digests = {}
    for steps in STEPS:
        run = KilledRun(driver, os.path.join(folder, f'whole-{steps}'),
                        dict(steps=steps))
        digests[steps] = run.go_on().digest
        run.remove()
    return digests
