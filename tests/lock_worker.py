"""A training run that waits to be killed; started by test_locked_runs.py."""
import multiprocessing
import sys

from mmcv.runner import Hook, epoch_based_runner, iter_based_runner
from toy import make_loader, train

from mmcv_ckpt_hooks import DurableCheckpointHook


class Wait(Hook):
    """Stays in an iteration until a line comes, or the end."""

    comes = 'LOW'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner):
        if runner.iter + 1 == self.at:
            for hook in runner.hooks:
                if isinstance(hook, DurableCheckpointHook):
                    hook._saver.wait()
            workers = [one.pid for one in multiprocessing.active_children()]
            print('TRAINING', *workers, flush=True)
            sys.stdin.readline()


def main(work_dir, name, waits_at):
    for module in (epoch_based_runner, iter_based_runner):
        module.time.sleep = lambda seconds: None
    step = dict(max_iters=6) if 'Iter' in name else dict(max_epochs=2)
    runner = train(
        work_dir,
        make_loader(num_workers=2, multiprocessing_context='fork'),
        runner=dict(type=name, **step),
        hooks=[
            dict(type='DurableCheckpointHook', interval=1, resume='auto'),
            Wait(waits_at)
        ])
    resumed = getattr(runner, 'restored', None)
    print('ENDED', runner.iter, resumed and resumed.iter, flush=True)


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
