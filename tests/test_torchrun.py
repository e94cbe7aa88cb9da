"""torchrun starts ranks anew, of which one was killed; docs/many-ranks.md."""
import json
import os
import signal
import subprocess
import sys

import pytest
from folders import NEW_TORCH
from launching import HERE, run_to_the_end

STEPS, WORKER = 9, 'torchrun_worker.py'


def torchrun(work_dir, *arguments, **given):
    """Run two ranks to their end; return what they and torchrun write."""
    started = subprocess.Popen(
        [
            sys.executable, '-m', 'torch.distributed.run', '--standalone',
            '--nproc_per_node', '2', *arguments,
            os.path.join(HERE, WORKER),
            str(work_dir),
            json.dumps(given)
        ],
        env=dict(
            os.environ,
            OMP_NUM_THREADS='1',
            # else new ranks may find the addresses of the old ones
            TORCH_DISABLE_SHARE_RDZV_TCP_STORE='1'),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)
    try:
        said = started.communicate(timeout=180)[0]
    finally:
        if started.returncode is None:
            # its ranks have sessions of their own, and end without it
            os.killpg(started.pid, signal.SIGTERM)
    assert started.returncode == 0, said[-5000:]
    return said


def told(said):
    """What rank 0 tells at its end."""
    return json.loads(said.partition('RESULT ')[2].partition('\n')[0])


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """A training that nobody kills."""
    ranks = run_to_the_end(WORKER, tmp_path_factory.mktemp('whole'),
                           json.dumps(dict(steps=STEPS)))
    return told(ranks[0].output)


# Rank 0 is killed: it has the lock, the catalog and torch's store. Another one
# is: rank 0 saves the step alone, if it is not told to leave that.
@pytest.mark.parametrize('form, rank, triggers', [
    ('pth', 0, dict(exception=False)),
    pytest.param(
        'dcp',
        1,
        dict(exception=False, signals=dict(SIGTERM=None)),
        marks=NEW_TORCH),
])
def test_a_killed_rank_is_started_anew_and_all_end_with_the_same_bits(
        tmp_path, whole, form, rank, triggers):
    said = torchrun(
        tmp_path,
        '--max_restarts',
        '1',
        steps=STEPS,
        options=dict(format=form, triggers=triggers),
        killed={rank: 5})
    assert f'exitcode: -{signal.SIGKILL:d}' in said
    found = told(said)
    # the second start, which goes on from the last that all have saved
    assert f'Resumed from {tmp_path}/iter_4.{form}: ' in found['log']
    assert 'has the generators of' not in found['log']
    for key in ('model', 'optimizer'):
        assert found[key] == whole[key]
    for before, losses in zip(whole['losses'], found['losses']):
        assert sorted(losses) == [str(step) for step in range(5, STEPS + 1)]
        assert losses.items() <= before.items()
