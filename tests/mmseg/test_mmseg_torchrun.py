"""mmsegmentation's tool on two ranks of torchrun: a rank killed, resumed."""
import json
from pathlib import Path

import pytest
import torch
from checkpoint_files import equal
from launching import free_ports
from mmseg_tool import Tool, find_tool
from tiles import write_tiles

from mmcv_ckpt_hooks.cli import main

SCRIPT = Path(__file__).resolve().parents[2] / 'demo' / 'train_on_cpu_ranks.py'
MAX_ITERS = 12
CONFIG = f'''
custom_imports = dict(imports=['mmcv_ckpt_hooks', 'train_probe'],
                      allow_failed_imports=False)
custom_hooks = [
    dict(type='DurableCheckpointHook', resume='auto', format='%s',
         keep=dict(last=2, best=1, monitor='mIoU')),
    dict(type='RunProbe')
]
runner = dict(type='IterBasedRunnerAmp', max_iters={MAX_ITERS})
checkpoint_config = dict(interval=5)
evaluation = dict(interval=5, save_best=None)
data = dict(workers_per_gpu=2)
'''

pytestmark = pytest.mark.mmseg


@pytest.fixture(scope='module')
def tool(tmp_path_factory):
    if find_tool() is None:
        pytest.skip('mmsegmentation is not installed')
    root = tmp_path_factory.mktemp('torchrun')
    write_tiles(root / 'tiles')
    tool = Tool(root)
    yield tool
    tool.close()


def start(tool,
          name,
          form='pth',
          work_dir=None,
          script=SCRIPT,
          arguments=(),
          **environment):
    """Start two ranks of the tool."""
    port, = free_ports(1)
    return tool.start(
        name,
        CONFIG % form,
        *arguments,
        work_dir=work_dir,
        through=[
            '-m', 'torch.distributed.run', '--nproc_per_node', 2,
            '--master_port', port, script
        ],
        **environment)


@pytest.fixture(scope='module')
def whole(tool):
    return start(tool, 'whole').succeed()


def end_of(run, form, tmp_path):
    """Return the last checkpoint of a run, as one of a file."""
    path = run.work_dir / f'iter_{MAX_ITERS}.{form}'
    if form == 'dcp':
        assert main(['convert', str(path), str(tmp_path / 'end.pth')]) == 0
        path = tmp_path / 'end.pth'
    return torch.load(path, weights_only=True)


def losses(run):
    """Loss of each iteration, of all that has logged in the work dir."""
    found = {}
    for path in run.work_dir.glob('*.log.json'):
        for line in map(json.loads, path.read_text().splitlines()):
            if line.get('mode') == 'train':
                # what is trained again is trained as before
                assert found.setdefault(line['iter'],
                                        line['loss']) == line['loss']
    return found


@pytest.mark.parametrize('form', ['pth', 'dcp'])
def test_a_rank_is_killed_and_the_resumed_run_ends_with_the_same_bits(
        tool, whole, tmp_path, form):
    work_dir = tool.root / f'cut_{form}'
    killed = start(
        tool, f'killed_{form}', form, work_dir, PROBE_KILL_RANK_AT=10).fail()
    assert killed.lines('closing signal SIGTERM')
    restarted = start(tool, f'restarted_{form}', form, work_dir).succeed()
    assert restarted.lines(f'iter_10.{form}: 0 epochs and 10 iterations')
    assert not restarted.lines('has the generators of')
    assert losses(restarted) == losses(whole)
    one = end_of(whole, 'pth', tmp_path)
    other = end_of(restarted, form, tmp_path)
    # a folder has no order
    assert equal(
        dict(sorted(one['state_dict'].items())),
        dict(sorted(other['state_dict'].items())))
    states = [run['optimizer']['state'] for run in (one, other)]
    assert list(states[0]) == list(states[1])
    for number, state in states[0].items():
        assert equal(
            dict(sorted(state.items())),
            dict(sorted(states[1][number].items())))
    for field in ('rng', 'data'):
        assert equal(one['resume_state'][field],
                     other['resume_state'][field]), field
    assert len(other['resume_state']['rng']) == 2


def test_the_tool_alone_needs_a_gpu_for_each_rank(tool):
    """Else the script would not be needed."""
    run = start(
        tool, 'alone', script=find_tool(), arguments=['--launcher', 'pytorch'])
    assert run.fail().lines('ZeroDivisionError')
