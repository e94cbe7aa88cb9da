"""The nuclei run of the demo, killed again and again: the same bits."""
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from checkpoint_files import equal
from mmseg_tool import Tool, find_tool, on_disk

ROOT = Path(__file__).resolve().parents[2]
KILLS, SPREAD, MAX_ITERS, INTERVAL = 5, 5, 35, 3
CONFIG = f'''
runner = dict(max_iters={MAX_ITERS})
data = dict(workers_per_gpu=2)
checkpoint_config = dict(interval={INTERVAL}, max_keep_ckpts=-1)
evaluation = dict(interval=9)  # on the grid: no file but of the grid
log_config = dict(interval=1)
'''

pytestmark = pytest.mark.mmseg


@pytest.fixture
def tool(tmp_path):
    if find_tool() is None:
        pytest.skip('mmsegmentation is not installed')
    prepare = ROOT / 'demo' / 'prepare_tiles.py'
    tiles = tmp_path / 'work_dirs' / 'nuclei_tiles'
    subprocess.run([sys.executable, prepare, tiles], check=True)
    tool = Tool(tmp_path)
    yield tool
    tool.close()


def start(tool, name, directory):
    return tool.start(
        name,
        CONFIG,
        work_dir=tool.root / directory,
        base=ROOT / 'configs' / 'nuclei_fcn_mmseg.py')


def losses(run):
    return {
        step: (line['loss'], line['lr'])
        for step, line in run.training().items()
    }


def test_the_nuclei_run_killed_five_times_ends_with_the_same_bits(tool):
    whole = start(tool, 'whole', 'whole').succeed()
    generator = random.Random()
    cut = tool.root / 'cut'
    kills, trained = [], {}
    for number in range(KILLS):
        saved = max(on_disk(cut), default=0) if cut.exists() else 0
        # the last one comes before the end
        at = max(saved, number * SPREAD) + generator.randint(1, SPREAD)
        run = start(tool, f'cut_{number}', 'cut')
        run.kill_when(lambda: f'Iter [{at}/' in run.text, f'iteration {at}')
        kills.append((saved, at))
        add(trained, losses(run))
    end = start(tool, 'end', 'cut').succeed()
    add(trained, losses(end))
    print('resumed from, killed at:', kills)
    assert trained == losses(whole)
    assert on_disk(cut) == on_disk(whole.work_dir)
    for step in on_disk(cut):
        one, other = (
            torch.load(
                directory / f'iter_{step}.pth',
                map_location='cpu',
                weights_only=True) for directory in (whole.work_dir, cut))
        for field in ('state_dict', 'optimizer'):
            assert equal(one[field], other[field]), (kills, step, field)


def add(trained, losses):
    for step, values in losses.items():
        # what is trained again is trained as before
        assert trained.setdefault(step, values) == values, step
