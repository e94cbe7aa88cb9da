"""Every way by which a checkpoint comes into a run or a tool.

All of them are tried in a forked process with little memory and time: a
payload may end the process, fill the memory or never come back.
"""
import json
import os
import resource
import signal
import traceback

from toy import make_runner, train

from mmcv_ckpt_hooks import find_resumable, verify_checkpoint
from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.errors import CheckpointError

#: More than the process has already: what reading a small file may take.
MEMORY_BYTES = 512 << 20
CPU_SECS = 120
#: Who waits for ever uses none; long enough for a busy machine.
SECS = 500

AMP, STOCK = 'IterBasedRunnerAmp', 'IterBasedRunner'
#: Steps that a run makes behind the hostile file, with a save at each.
STEPS = 12


def hook(**options):
    return dict(
        type='DurableCheckpointHook',
        interval=2,
        max_keep_ckpts=1,
        on_error='raise',
        **options)


def auto(directory, name, runner):
    train(
        directory,
        runner=dict(type=runner, max_iters=STEPS),
        hooks=[hook(resume='auto')])


def explicit(directory, name, runner):
    train(
        directory / 'other',
        runner=dict(type=runner, max_iters=STEPS),
        hooks=[hook(resume=str(directory / name))])


def runner_resume(directory, name):
    make_runner(directory / 'new').resume(str(directory / name))


def load_from(directory, name):
    make_runner(directory / 'new').load_checkpoint(str(directory / name))


def command(*arguments):
    code = main([str(one) for one in arguments])
    if code:
        raise CheckpointError(f'exit {code}')


def inspected(path):
    command('inspect', path)
    command('inspect', path, '--json')


#: What each door does with ``directory`` and ``name``; those that only read
#: come first.
DOORS = {
    'verify_checkpoint': lambda at, name: verify_checkpoint(str(at / name)),
    'find_resumable': lambda at, name: find_resumable(str(at)),
    'mmcv-ckpt verify': lambda at, name: command('verify', at / name),
    'mmcv-ckpt inspect': lambda at, name: inspected(at / name),
    'mmcv-ckpt ls': lambda at, name: command('ls', at),
    'load_from': load_from,
    'runner.resume': runner_resume,
    'resume=path': lambda at, name: explicit(at, name, AMP),
    'resume=path, stock': lambda at, name: explicit(at, name, STOCK),
    'auto': lambda at, name: auto(at, name, AMP),
    'auto, stock': lambda at, name: auto(at, name, STOCK),
}
#: Doors that look for a checkpoint by themselves.
AUTO = {'find_resumable', 'auto', 'auto, stock'}
#: Doors that go by the zip file, whatever the pickle in it says.
OUTSIDE = {'mmcv-ckpt ls'}
#: Doors that see what the pickle would build, but not whether a run could go
#: on from it.
SCANNING = {'verify_checkpoint', 'mmcv-ckpt verify', 'mmcv-ckpt inspect'}
#: Doors that end with an exit code.
COMMANDS = {'mmcv-ckpt verify', 'mmcv-ckpt inspect'}


def try_doors(directory, name, prepare):
    """Return what each door did: ``'ok'`` or the name of the error.

    Args:
        directory (Path): A new one for each door is made in it.
        name (str): Of the hostile file.
        prepare (callable): ``prepare(at)`` fills the directory of a door.
    """
    return in_small_process(
        lambda: {
            door: _outcome(function, directory / str(number), name, prepare)
            for number, (door, function) in enumerate(DOORS.items())
        }, directory)


def _outcome(function, at, name, prepare):
    at.mkdir()
    prepare(at)
    try:
        function(at, name)
        return 'ok'
    except CheckpointError as error:
        # one line that a person can read
        assert len(str(error)) < 3000, str(error)[:3000]
        return type(error).__name__


def in_small_process(job, directory):
    """Run a job in a fork with bounded memory and time; return its JSON."""
    report = directory / 'report.json'
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(SECS)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECS, CPU_SECS))
            with open('/proc/self/statm') as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS,
                               (used + MEMORY_BYTES, used + MEMORY_BYTES))
            report.write_text(json.dumps(job()))
            code = 0
        except BaseException:  # a fork must not go on as pytest
            report.write_text(json.dumps(traceback.format_exc()))
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    told = json.loads(report.read_text()) if report.exists() else ''
    assert status == 0, f'ended by {status}: {told}'
    return told
