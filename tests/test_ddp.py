"""Two real ranks on gloo: one writer, one decision, averaged buffers."""
import os
import socket
import subprocess
import sys

from toy import names

from mmcv_ckpt_hooks import verify_checkpoint

HERE = os.path.dirname(os.path.abspath(__file__))


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def start_ranks(*arguments, world_size=2):
    """Run all ranks to their end; each has its ``output``."""
    port = free_port()
    ranks = []
    for rank in range(world_size):
        environment = dict(
            os.environ,
            RANK=str(rank),
            WORLD_SIZE=str(world_size),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
            OMP_NUM_THREADS='1')
        command = [
            sys.executable,
            os.path.join(HERE, 'ddp_worker.py'),
            *(str(argument) for argument in arguments)
        ]
        ranks.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True))
    for rank in ranks:
        rank.output = rank.communicate(timeout=180)[0]
    return ranks


def run_ranks(work_dir, max_iters):
    ranks = start_ranks(work_dir, max_iters)
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
