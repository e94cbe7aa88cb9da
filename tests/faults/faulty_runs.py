"""A real run in which the save at step 4 meets one fault."""
import hashlib
import logging

from mmcv.runner import Hook
from toy import make_loader, make_runner

from mmcv_ckpt_hooks import (DurableCheckpointHook, find_resumable,
                             verify_checkpoint)

#: A save at every second step; the one that meets the fault; the last.
EVERY, FAILING, LAST = 2, 4, 8


class Watch(Hook):
    """Looks at the directory before and after the save that fails."""

    def __init__(self, directory):
        self.directory = directory
        self.before, self.after = None, None

    def after_train_iter(self, runner):
        finished = runner.iter + 1
        for hook in runner.hooks:
            if isinstance(hook, DurableCheckpointHook) and hook._saver:
                hook._saver.wait()
        if finished == FAILING - 1:
            self.before = contents(self.directory)
        if finished == FAILING + 1:
            self.after = contents(self.directory)


def contents(directory):
    """SHA-256 of each checkpoint by its name."""
    if not directory.is_dir():
        return {}
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.glob('*.pth') if not path.is_symlink()
    }


def faulty_run(directory,
               on_error='warn',
               background=True,
               steps=LAST,
               better=0.,
               **options):
    """Train; return the runner, the watch and what was raised or None.

    Args:
        better (float): Added to all scores: each of a later run is a new
            best.
    """
    watch = Watch(directory)
    hook = dict(
        type='DurableCheckpointHook',
        interval=EVERY,
        max_keep_ckpts=1,
        on_error=on_error,
        write=dict(background=background))
    runner = make_runner(
        directory,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        hooks=[dict(hook, **options)],
        evaluation=dict(
            scores=[better + step for step in (.1, .2, .3, .4)],
            interval=EVERY,
            by_epoch=False,
            save_best='mIoU'))
    runner.register_hook(watch, 'VERY_LOW')
    try:
        runner.run([make_loader()], [('train', 1)])
    except Exception as error:  # the test looks at it
        return runner, watch, error
    return runner, watch, None


def errors_told(caplog):
    return [
        record for record in caplog.records if record.levelno >= logging.ERROR
    ]


def assert_whole(directory, expected):
    """All that is there verifies; retention has caught up."""
    assert sorted(contents(directory)) == expected
    for name in expected:
        verify_checkpoint(str(directory / name))
    assert find_resumable(str(directory)).endswith(f'iter_{LAST}.pth')
    left = [path.name for path in directory.iterdir() if '.tmp-' in path.name]
    assert not left


END = [f'best_mIoU_iter_{LAST}.pth', f'iter_{LAST}.pth']
