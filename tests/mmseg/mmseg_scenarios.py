"""The training runs that the tests look at; each is made once a session.

A run takes about seven seconds, nearly all of it imports, so the tests share
them, and two go at a time.
"""
import inspect
from concurrent.futures import ThreadPoolExecutor

from mmseg_tool import committed, on_disk

SCENARIOS = {}

#: The iteration from which on the runs of ``killed_*`` may be killed.
KILL_FROM = 32
MAX_ITERS = 60


class Scenarios:
    """Makes runs in the background; ``scenarios[name]`` waits for one.

    Args:
        tool (Tool): Starts them.
    """

    def __init__(self, tool):
        self._tool = tool
        self._futures = {}
        self._pool = ThreadPoolExecutor(max_workers=2)

    def start(self, *names):
        """Ask for runs, and for those that they need, which go first."""
        for name in names:
            if name in self._futures:
                continue
            needs = list(inspect.signature(SCENARIOS[name]).parameters)[1:]
            self.start(*needs)
            self._futures[name] = self._pool.submit(self._make, name, needs)

    def __getitem__(self, name):
        self.start(name)
        error = self._futures[name].exception()
        if error is not None:
            # a new one: each test that raises it adds its frames
            raise AssertionError(str(error)) from None
        return self._futures[name].result()

    def close(self):
        for future in self._futures.values():
            future.cancel()
        self._tool.close()
        self._pool.shutdown()

    def _make(self, name, needs):
        # whoever is needed was handed to the pool before: no deadlock
        return SCENARIOS[name](self._tool, *map(self.__getitem__, needs))


def scenario(make):
    """Register a run; parameters after the tool name the runs it needs."""
    SCENARIOS[make.__name__] = make
    return make


def ours(arguments='', **settings):
    """The two lines of the README (and the probe), then further settings."""
    return '\n'.join([
        "custom_imports = dict(imports=['mmcv_ckpt_hooks', 'train_probe'], "
        'allow_failed_imports=False)',
        f"custom_hooks = [dict(type='DurableCheckpointHook'{arguments}), "
        "dict(type='RunProbe')]"
    ] + [f'{name} = {value}' for name, value in settings.items()])


# -- without the plugin ----------------------------------------------------


@scenario
def mmcv_alone(tool):
    return tool.run('mmcv_alone', '')


@scenario
def mmcv_alone_resumed(tool, mmcv_alone):
    work_dir = mmcv_alone.copy('mmcv_alone_resumed')
    return tool.start(
        'mmcv_alone_resumed', '', '--auto-resume', work_dir=work_dir).fail()


@scenario
def mmcv_alone_renamed(tool):
    return tool.run('mmcv_alone_renamed',
                    "runner = dict(type='RenamedIterRunner')")


# -- the two lines ---------------------------------------------------------


@scenario
def stock_runner(tool):
    return tool.run('stock_runner', ours())


@scenario
def amp_runner(tool):
    return tool.run('amp_runner',
                    ours(runner="dict(type='IterBasedRunnerAmp')"))


@scenario
def renamed_runner(tool):
    return tool.run(
        'renamed_runner',
        ours(runner="dict(type='RenamedIterRunner', "
             "constructor='DurableRunnerConstructor')"))


@scenario
def epoch_runner(tool):
    return tool.run(
        'epoch_runner',
        ours(
            runner="dict(_delete_=True, type='EpochBasedRunner', "
            'max_epochs=3)',
            checkpoint_config='dict(by_epoch=True, interval=1)',
            evaluation='dict(interval=1)',
            data='dict(train=dict(times=1))',
            log_config="dict(interval=1, hooks=[dict(type='TextLoggerHook')])")
    )


@scenario
def typed_config(tool):
    return tool.run(
        'typed_config',
        ours(
            runner="dict(type='IterBasedRunnerAmp', max_iters=7)",
            checkpoint_config="dict(_delete_=True, type="
            "'DurableCheckpointHook', interval=2, max_keep_ckpts=2)",
            evaluation='dict(interval=3)').replace(
                "dict(type='DurableCheckpointHook'), ", ''))


@scenario
def logger_hooks(tool):
    """With a slow disk, and steps after which no evaluation waits for it.

    Steps without a line of log: at others, MMSegWandbHook logs checkpoints
    only after an evaluation.
    """
    hooks = [
        dict(type='TextLoggerHook', by_epoch=False),
        dict(
            type='MMSegWandbHook',
            by_epoch=False,
            interval=5,
            log_checkpoint=True,
            num_eval_images=0),
        dict(
            type='PaviLoggerHook',
            by_epoch=False,
            interval=5,
            add_last_ckpt=True,
            add_ckpt_kwargs=dict(active=True, start=3, interval=3))
    ]
    return tool.run(
        'logger_hooks',
        ours(
            log_config=dict(interval=5, hooks=hooks),
            checkpoint_config='dict(interval=3)'),
        PROBE_COMMIT_SECS=0.3,
        WANDB_STUB_DIR=tool.root / 'wandb_stub',
        PAVI_STUB_DIR=tool.root / 'pavi_stub')


# -- killed and resumed ----------------------------------------------------

_LONG = dict(
    checkpoint_config='dict(interval=4, max_keep_ckpts=3)',
    evaluation='dict(interval=8)')
_LONG_AMP = ours(
    runner=f"dict(type='IterBasedRunnerAmp', max_iters={MAX_ITERS})", **_LONG)
_LONG_STOCK = ours(
    ", resume='auto'", runner=f'dict(max_iters={MAX_ITERS})', **_LONG)


@scenario
def killed_amp(tool):
    """Killed from outside at any moment from ``KILL_FROM`` on."""
    run = tool.start('amp', _LONG_AMP, PROBE_HOLD_AT=KILL_FROM + 12)
    run.kill_when(lambda: committed(run.work_dir) >= KILL_FROM,
                  f'the catalog shows iteration {KILL_FROM}')
    run.work_dir = run.copy('amp_as_killed')
    return run


@scenario
def resumed_amp(tool, killed_amp):
    return tool.run(
        'amp_resumed', _LONG_AMP, '--auto-resume', work_dir=tool.root / 'amp')


@scenario
def killed_stock(tool):
    """Killed with a written file that was not yet given its name."""
    run = tool.start(
        'stock',
        _LONG_STOCK,
        PROBE_DIE_COMMITTING=f'iter_{KILL_FROM + 4}.pth',
        PROBE_HOLD_AT=KILL_FROM + 12).die()
    run.work_dir = run.copy('stock_as_killed')
    return run


@scenario
def resumed_stock(tool, killed_stock):
    return tool.run('stock_resumed', _LONG_STOCK, work_dir=tool.root / 'stock')


@scenario
def resumed_from(tool, killed_amp):
    """Not from the newest; notes what the directory was like before."""
    directory = killed_amp.work_dir
    source = directory / f'iter_{on_disk(directory)[-2]}.pth'
    before = fingerprint(directory)
    run = tool.run('resumed_from', _LONG_AMP, '--resume-from', source)
    run.source, run.source_directory_before = source, before
    return run


def fingerprint(directory):
    """What a file's content, name or place cannot change without."""
    return {
        path.name: (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in directory.iterdir()
    }


#: With this learning rate, a run ends with the weights that it began with.
_FROZEN = dict(
    optimizer='dict(lr=0.)',
    lr_config='dict(min_lr=0.)',
    checkpoint_config='dict(interval=1)')


@scenario
def loaded_by_amp(tool, mmcv_alone):
    """From a file that ``torch.load`` refuses by default (trap 30)."""
    path = next(mmcv_alone.work_dir.glob('best_*.pth'))
    run = tool.run(
        'loaded_by_amp',
        ours(runner="dict(type='IterBasedRunnerAmp', max_iters=2)", **_FROZEN),
        '--load-from', path)
    run.source = path
    return run


@scenario
def loaded_by_stock(tool, amp_runner):
    path = next(amp_runner.work_dir.glob('best_*.pth'))
    run = tool.run('loaded_by_stock',
                   ours(runner='dict(max_iters=2)', **_FROZEN), '--load-from',
                   path)
    run.source = path
    return run
