"""What the agreement on triggers takes of each iteration of several ranks.

    python benchmarks/trigger_flag.py

A step is a sleep, as beside a GPU: the message has time to arrive. The slowest
rank counts.
"""
import multiprocessing
import os
import socket
import time

WORLDS = (2, 4)
_STEPS = 500
_STEP_SECS = 0.01


def measure(rank, world_size, port, answers):
    """Be one rank, and tell the seconds of an iteration."""
    from torch import distributed as dist

    from mmcv_ckpt_hooks import agreement
    dist.init_process_group(
        'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=rank,
        world_size=world_size)
    told, taken = agreement.Agreement(print), 0.
    for _ in range(_STEPS):
        time.sleep(_STEP_SECS)
        begun = time.perf_counter()
        told.read(leaving=False)
        told.offer(agreement.Wish())
        taken += time.perf_counter() - begun
    told.close()
    answers.put(taken / _STEPS)
    answers.close()
    answers.join_thread()
    # gloo may abort an interpreter that ends beside its threads
    os._exit(0)


def main():
    context = multiprocessing.get_context('spawn')
    for world_size in WORLDS:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        answers = context.Queue()
        ranks = [
            context.Process(
                target=measure, args=(rank, world_size, port, answers))
            for rank in range(world_size)
        ]
        for one in ranks:
            one.start()
        slowest = max(answers.get() for _ in ranks)
        for one in ranks:
            one.join()
        print(f'{world_size} ranks: {slowest * 1e6:.0f} us of each iteration, '
              f'{_STEPS} of {_STEP_SECS * 1e3:.0f} ms')


if __name__ == '__main__':
    main()
