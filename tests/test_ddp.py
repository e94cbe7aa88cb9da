"""Two real ranks on gloo: one writer, one decision, averaged buffers."""
import json

import pytest
from launching import run_to_the_end
from toy import names

from mmcv_ckpt_hooks import verify_checkpoint


def run_ranks(*arguments, world_size=2, worker='ddp_worker.py'):
    ranks = run_to_the_end(worker, *arguments, world_size=world_size)
    for rank in ranks:
        assert rank.returncode == 0, rank.output[-3000:]
    lines = ranks[0].output.splitlines()
    return [line for line in lines if 'RESULT' in line][0]


def test_two_ranks_save_once_resume_together_and_average_float_buffers(
        tmp_path):
    # integer buffers (num_batches_tracked) made stock's sync_buffer fail
    first = run_ranks(tmp_path, 4)
    assert first == 'RESULT 0 True 4 [False, False]'
    assert names(tmp_path) == [
        'best_mIoU_iter_4.pth', 'iter_2.pth', 'iter_4.pth', 'latest.pth'
    ]
    second = run_ranks(tmp_path, 6)
    assert second == 'RESULT 0 True 6 [True, True]'
    for name in names(tmp_path):
        verify_checkpoint(str(tmp_path / name))


@pytest.mark.parametrize('world_size', [2, 4])
def test_every_rank_goes_on_with_its_own_generators_and_data(
        tmp_path, world_size):

    def run(directory, kill_at, seed):
        line = run_ranks(
            tmp_path / directory,
            kill_at,
            seed,
            world_size=world_size,
            worker='ddp_exact_worker.py')
        return json.loads(line.partition('RESULT ')[2])

    whole = run('whole', 0, 1)
    cut = run('cut', 5, 1)
    resumed = run('cut', 0, 77)
    assert resumed['state'] == whole['state']
    for rank in range(world_size):
        assert {**cut['losses'][rank], **resumed['losses'][rank]} == \
            whole['losses'][rank]
    # dropout and augmentation differ from rank to rank
    assert whole['losses'][0] != whole['losses'][1]


def test_a_changed_number_of_ranks_goes_on_and_says_so(tmp_path):
    run_ranks(tmp_path, 4, 1, world_size=2, worker='ddp_exact_worker.py')
    line = run_ranks(
        tmp_path, 0, 77, world_size=1, worker='ddp_exact_worker.py')
    result = json.loads(line.partition('RESULT ')[2])
    assert min(map(int, result['losses'][0])) == 5
    assert 'was saved by 2 ranks, this run has 1' in result['log']
    line, = [
        line for line in result['log'].splitlines() if 'Restored from' in line
    ]
    assert line.endswith(
        ', random generators of 1 of 2 ranks. Not restored: position in the '
        'data (only its share of the pass: 2 ranks saved it, this run has 1)')


def test_ranks_that_were_not_there_have_generators_of_their_own(tmp_path):
    run_ranks(tmp_path, 4, 1, world_size=1, worker='ddp_exact_worker.py')
    line = run_ranks(
        tmp_path, 0, 77, world_size=2, worker='ddp_exact_worker.py')
    log = json.loads(line.partition('RESULT ')[2])['log']
    assert 'random generators of 1 of 2 ranks. Not restored: position' in log
