"""What there is before the commands of a page are run.

Each scene is a function that fills the directory of a stage, in which it is
called. All of it is real: runs are runs, servers are servers.
"""
import functools
import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
import warnings

import pytest
from doc_blocks import ROOT
from dying import Dies
from object_server import BUCKET, IDENTITIES
from toy import ToyModel, make_loader, make_runner

from mmcv_ckpt_hooks.storage import open_backend

#: By the name that a comment gives.
SCENES = {}
TESTS = ROOT / 'tests'
SCORES = .5, .7, .6, .65
_STARTED = '20261128_010203'
_numbers = itertools.count(1)


def scene(name):
    """Register a function under the name that pages use."""

    def register(function):
        SCENES[name] = function
        return function

    return register


def run_toy(work_dir,
            max_iters=8,
            interval=2,
            hook=None,
            more_hooks=(),
            runner='IterBasedRunnerAmp',
            started=_STARTED):
    """A run with scores and logs, as a tool of mmcv 1.x makes them."""
    os.makedirs(work_dir, exist_ok=True)
    log = logging.FileHandler(f'{work_dir}/{started}.log')
    log.setFormatter(
        logging.Formatter(
            '%(asctime)s - %(name)s - %(levelname)s - %(message)s'))
    evaluation = dict(by_epoch=False, save_best='mIoU')
    if hook and hook.get('format') == 'dcp':
        del evaluation['save_best']
    hooks = [dict(hook, type='DurableCheckpointHook')] if hook else []
    runner = make_runner(
        work_dir,
        runner=dict(type=runner, max_iters=max_iters),
        hooks=[*hooks, *more_hooks],
        checkpoint_config=dict(interval=interval, by_epoch=False),
        evaluation=dict(evaluation, interval=interval, scores=SCORES),
        log_interval=1)
    runner.timestamp = started
    runner.logger.addHandler(log)
    try:
        runner.run([make_loader(32)], [('train', 1)])
    finally:
        runner.logger.removeHandler(log)
        log.close()


@scene('toy work dir')
def toy_work_dir(stage):
    """``work_dirs/toy``: 8 iterations, a save at every second."""
    run_toy('work_dirs/toy', hook=dict(resume='auto'))


@scene('killed work dir')
def killed_work_dir(stage):
    """``work_dirs/killed``: the same, killed by SIGKILL in iteration 6."""
    modules = [str(ROOT), str(TESTS), str(TESTS / 'docs')]
    killed = subprocess.run([sys.executable, __file__, 'work_dirs/killed'],
                            env=dict(
                                stage.environment(),
                                PYTHONPATH=os.pathsep.join(modules)))
    assert killed.returncode == -signal.SIGKILL


def run_until_killed(work_dir):
    """In a process of its own; what is saved before is on the disk."""
    run_toy(
        work_dir,
        hook=dict(resume='auto', write=dict(background=False)),
        more_hooks=[Dies(at=6)])


@scene('stock work dir')
def stock_work_dir(stage):
    """``work_dirs/stock``: the same by stock mmcv, without the plugin."""
    run_toy('work_dirs/stock', runner='IterBasedRunner')


@scene('taken over work dir')
def taken_over_work_dir(stage):
    """``work_dirs/taken``: stock mmcv's 8 iterations, two more by ours."""
    run_toy('work_dirs/taken', runner='IterBasedRunner')
    run_toy(
        'work_dirs/taken',
        max_iters=10,
        hook=dict(resume='auto'),
        started='20261128_020304')


@scene('dcp work dir')
def dcp_work_dir(stage):
    """``work_dirs/dcp``: sharded checkpoints of steps 4, 8 and 12; ``plain``:
    a folder of torch alone.
    """
    from torch.distributed import checkpoint
    run_toy(
        'work_dirs/dcp',
        max_iters=12,
        hook=dict(format='dcp', keep=dict(monitor='mIoU', best=1, last=3)),
        interval=4)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # one process, without a group
        checkpoint.save(
            dict(state_dict=ToyModel().state_dict()), checkpoint_id='plain')


@scene('s3 server')
def s3_server(stage):
    """An empty ``s3://checkpoints``, with credentials in the environment."""
    pytest.importorskip('obstore', reason='pip install obstore')
    server = stage.request.getfixturevalue('s3_server')
    key, secret, _ = IDENTITIES['writer']
    stage.variables.update(
        AWS_ACCESS_KEY_ID=key,
        AWS_SECRET_ACCESS_KEY=secret,
        AWS_ENDPOINT_URL=server.endpoint,
        AWS_REGION='us-east-1')
    stage.replaced.update({
        # of its own: the server has few buckets
        's3://checkpoints': f's3://{BUCKET}/page-{next(_numbers)}',
        'http://127.0.0.1:8333': server.endpoint
    })


@scene('s3 run')
def s3_run(stage):
    """The same, and ``work_dirs/run`` with its checkpoints in
    ``s3://checkpoints/experiments/run``.
    """
    s3_server(stage)
    with stage.entered():
        run_toy(
            'work_dirs/run',
            hook=dict(
                resume='auto',
                out_dir=stage.here('s3://checkpoints/experiments')))


@scene('mirrored work dir')
def mirrored_work_dir(stage):
    """``work_dirs/run`` with a mirror, ``s3://checkpoints/experiments/run``,
    which lacks the newest as if the run had been killed before.
    """
    s3_server(stage)
    url = stage.here('s3://checkpoints/experiments')
    with stage.entered():
        run_toy(
            'work_dirs/run',
            hook=dict(mirror=dict(url=url, keep=dict(last=3, best=1))))
        open_backend(f'{url}/run').delete('iter_8.pth')


@functools.lru_cache(maxsize=None)
def made_once(function, directory):
    """Call what takes long with an empty directory, once a session."""
    function(directory)
    return directory


def copy(stage, function):
    """Put what takes long into a stage; links keep what they lead to."""
    made = made_once(
        function,
        stage.request.getfixturevalue('tmp_path_factory').getbasetemp() /
        function.__name__)
    stage.made.append(made)
    subprocess.run(['cp', '-a', f'{made}/.', '.'], check=True)


@scene('mmseg repo')
def mmseg_repo(stage):
    """mmsegmentation's own ``tools/``, ``configs/unet.py``, which knows
    nothing of the plugin, and what it trains on in 12 iterations.
    """
    copy(stage, make_mmseg_repo)


def make_mmseg_repo(directory):
    sys.path.insert(0, str(TESTS / 'mmseg'))
    from mmseg_tool import BASE_CONFIG, find_tool
    from tiles import write_tiles
    directory.mkdir()
    write_tiles(directory / 'tiles')
    package = find_tool().parent.parent
    for name in ('tools', 'configs/_base_', 'configs/fcn'):
        shutil.copytree(package / name, directory / name)
    text = BASE_CONFIG.read_text()
    # no need of what looks on
    kept = [
        line for line in text.splitlines()
        if 'Probe' not in line and 'train_probe' not in line
    ]
    (directory / 'configs' / 'unet.py').write_text('\n'.join(kept) + '\n')


@scene('mmseg work dir')
def mmseg_work_dir(stage):
    """The same, and ``work_dirs/unet`` of a run with the two lines."""
    copy(stage, make_mmseg_work_dir)


def make_mmseg_work_dir(directory):
    make_mmseg_repo(directory)
    config = directory / 'configs' / 'unet_durable.py'
    config.write_text(
        "_base_ = ['unet.py']\n"
        "custom_imports = dict(\n"
        "    imports=['mmcv_ckpt_hooks'], allow_failed_imports=False)\n"
        "custom_hooks = [dict(type='DurableCheckpointHook', resume='auto')]\n")
    command = [
        sys.executable, 'tools/train.py', 'configs/unet_durable.py',
        '--work-dir', 'work_dirs/unet', '--seed', '0'
    ]
    here = dict(
        os.environ,
        PYTHONPATH=str(ROOT),
        CUDA_VISIBLE_DEVICES='',
        OMP_NUM_THREADS='1')
    subprocess.run(command, cwd=directory, env=here, check=True)


@scene('checkout')
def checkout(stage):
    """``demo/`` and ``configs/`` of this repository."""
    for name in ('demo', 'configs'):
        shutil.copytree(ROOT / name, name)


@scene('family repo')
def family_repo(stage):
    """A repo with ``mmcv_custom``, as ConvNeXt's."""
    stage.modules += [TESTS, TESTS / 'family' / 'repo']


if __name__ == '__main__':
    run_until_killed(sys.argv[1])
