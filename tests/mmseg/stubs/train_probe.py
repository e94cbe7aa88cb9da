"""What the tests need inside mmsegmentation's tool; custom_imports names it.

It changes no decision of mmcv, mmsegmentation or the plugin: it counts, it
spares the seconds that mmcv's runners sleep, and it stops or kills the process
where a test says so.
"""
import collections
import json
import os
import signal
import time
import types

from mmcv.runner import (HOOKS, RUNNERS, BaseRunner, Hook, IterBasedRunner,
                         epoch_based_runner, iter_based_runner)

#: Where the counts go when the run ends.
REPORT = 'PROBE_REPORT'
#: Iteration after which the run waits to be killed.
HOLD_AT = 'PROBE_HOLD_AT'
#: Name of the file whose commit the process does not survive.
DIE_COMMITTING = 'PROBE_DIE_COMMITTING'
#: Iteration after which rank 1 kills itself, in the next one, once the
#: checkpoint of it is in the catalog.
KILL_RANK_AT = 'PROBE_KILL_RANK_AT'
#: How long the disk takes for each checkpoint.
COMMIT_SECS = 'PROBE_COMMIT_SECS'

before_run_calls = collections.Counter()


@HOOKS.register_module()
class RunProbe(Hook):
    """Holds a run for its killer, and writes the counts when it ends."""

    def before_train_iter(self, runner):
        if str(runner.iter) == os.environ.get(KILL_RANK_AT) and \
                runner.rank == 1:
            while _committed(runner.work_dir) < runner.iter:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    def after_train_iter(self, runner):
        if str(runner.iter + 1) == os.environ.get(HOLD_AT):
            signal.pause()

    def after_run(self, runner):
        with open(os.environ[REPORT], 'w') as file:
            json.dump(
                dict(
                    hooks=[type(hook).__name__ for hook in runner.hooks],
                    before_run_calls=before_run_calls), file)


@RUNNERS.register_module()
class RenamedIterRunner(IterBasedRunner):
    """A repo's own runner: what it is, mmsegmentation's tool cannot tell."""


def _committed(work_dir):
    """Return the newest step in the catalog."""
    path = os.path.join(work_dir, 'checkpoints.json')
    if not os.path.exists(path):
        return 0
    with open(path) as file:
        return max((info['iter'] for info in json.load(file)['checkpoints']),
                   default=0)


def _count_before_run():
    register_hook = BaseRunner.register_hook

    def register_counted(runner, hook, priority='NORMAL'):
        before_run = hook.before_run

        def counted(runner):
            before_run_calls[type(hook).__name__] += 1
            before_run(runner)

        hook.before_run = counted
        register_hook(runner, hook, priority)

    BaseRunner.register_hook = register_counted


def _sleep_no_more():
    for module in (epoch_based_runner, iter_based_runner):
        module.time = types.SimpleNamespace(
            **dict(vars(time), sleep=lambda secs: None))


def _before_commits(act):
    """Call ``act(name)`` before a checkpoint gets its name."""
    replace = os.replace

    def replace_later(source, target):
        act(os.path.basename(target))
        replace(source, target)

    os.replace = replace_later


def _die(name):
    if name == os.environ[DIE_COMMITTING]:
        os.kill(os.getpid(), signal.SIGKILL)


def _take_time(name):
    if name.startswith('iter_'):
        time.sleep(float(os.environ[COMMIT_SECS]))


_count_before_run()
_sleep_no_more()
if DIE_COMMITTING in os.environ:
    _before_commits(_die)
if COMMIT_SECS in os.environ:
    _before_commits(_take_time)
