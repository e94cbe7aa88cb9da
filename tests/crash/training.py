"""Training runs in forks of one process that has imported everything.

Started by :class:`driver.Driver` with the recorder loaded. Reads one request
a line, a JSON object, and answers with one; each is carried out in a fork,
which really dies when the recorder kills it.
"""
import hashlib
import json
import logging
import os
import random
import select
import signal
import sys
import tempfile
import time
import types
from contextlib import suppress

import numpy as np
import torch
from ddp_exact_worker import wrapped
from exact import DrawingData, DrawingModel, drawing_loader
from folders import WRITES_FOLDERS
from launching import free_ports
from mmcv.runner import epoch_based_runner, iter_based_runner
from recording import Recorder
from torch import distributed as dist
from torch.utils.data import DistributedSampler
from toy import QuickEvalHook, make_runner

from mmcv_ckpt_hooks import run_lock
from mmcv_ckpt_hooks.sharded import board

# a kill in the middle of the lock file's record leaves one that nobody can
# read, and it could be of another machine; here nobody else lives
run_lock.WATCH_SECS, run_lock._LOOK_SECS = 0.05, 0.01
run_lock._CONFIRM_SECS = 0.01
# a rank that was killed is missed at once
board.LOST_SECS, board.BEAT_SECS = 2., 0.1

#: So long (seconds) ranks may outlive one that was killed.
OUTLIVE_SECS = 60.

#: Score at a finished iteration: better, worse, better, ...
SCORES = {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.7, 10: 0.6, 12: 0.8}


class StepEvalHook(QuickEvalHook):
    """The score is a function of the step, as a real one would be."""

    def evaluate(self, runner, results):
        self.dataloader.dataset.scores = [SCORES.get(runner.iter + 1, 0.1)]
        return super().evaluate(runner, results)


class Marker(logging.Handler):
    """Puts every line of the runner's log between the recorded operations."""

    def __init__(self, recorder):
        super().__init__()
        self._recorder = recorder

    def emit(self, record):
        self._recorder.mark(record.getMessage())


def train(directory,
          steps=6,
          interval=2,
          keep=2,
          evaluate=True,
          back_to=None,
          workers=0,
          **options):
    """One run, from a start or a resume to its end.

    Its model, its data and their order draw random numbers; every start has
    the same seed.

    Args:
        directory (str): Work dir.
        steps (int): Iterations.
        interval (int): Between saves and between evaluations.
        keep (int): ``max_keep_ckpts``.
        evaluate (bool): Whether to keep the best, too.
        back_to (str, optional): Checkpoint that the runner is told to resume
            from, as a tool does.
        workers (int): Of the data loader.
        options (dict): Further ones of the hook. Of several ranks rank 0
            evaluates.

    Returns:
        str: Digest of every bit of the model and the optimizer.
    """
    options.setdefault('resume', None if back_to else 'auto')
    hook = dict(
        type='DurableCheckpointHook',
        interval=interval,
        max_keep_ckpts=keep,
        **options)
    in_folders = options.get('format') == 'dcp'
    if evaluate and in_folders:
        hook.update(keep=dict(best=1, monitor='mIoU'))
    ranks, rank = 1, 0
    if dist.is_initialized():
        ranks, rank = dist.get_world_size(), dist.get_rank()
    random.seed(rank)
    np.random.seed(rank)
    torch.manual_seed(rank)
    model = DrawingModel()
    runner = make_runner(
        directory,
        model=model if ranks == 1 else wrapped(model),
        seed=rank,
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        hooks=[hook])
    if evaluate and rank == 0:
        scoring = StepEvalHook(
            scores=[0.],
            interval=interval,
            by_epoch=False,
            save_best=None if in_folders else 'mIoU')
        runner.register_hook(scoring, priority='LOW')
    if back_to is not None:
        runner.resume(os.path.join(directory, back_to))
    sampler = {} if ranks == 1 else dict(
        sampler=DistributedSampler(DrawingData(), seed=3))
    runner.run([drawing_loader(workers, **sampler)], [('train', 1)])
    return digest_of(runner)


def digest_of(runner):
    """SHA-256 over model and optimizer, bit by bit."""
    state = hashlib.sha256()

    def add(value):
        if torch.is_tensor(value):
            state.update(value.detach().numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                state.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            for item in value:
                add(item)
        else:
            state.update(repr(value).encode())

    add(runner.model.state_dict())
    add(runner.optimizer.state_dict())
    state.update(str(runner.iter).encode())
    return state.hexdigest()


def carry_out(request, rank, port, answer):
    """In a fork: arm the recorder, train, write what came out."""
    logger = logging.getLogger('toy')
    recorder = Recorder()
    logger.addHandler(Marker(recorder))
    ranks = request.get('ranks', 1)
    if ranks > 1:
        dist.init_process_group(
            'gloo',
            init_method=f'tcp://127.0.0.1:{port}',
            rank=rank,
            world_size=ranks)
    log = request['log'] + (f'.{rank}' if rank else '')
    how = [request.get(key, 0) for key in ('at', 'when', 'torn_bytes')] \
        if rank == request.get('rank', 0) else []
    recorder.arm(request['watched'], log, *how)
    digest = train(request['directory'], **request.get('run', {}))
    if rank == 0:
        os.write(answer, digest.encode())
    if ranks > 1:
        dist.barrier()  # the store of all is rank 0's


def begin(request, rank, port, reading, writing):
    """Fork, and return the child."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setpgid(0, 0)
        os.close(reading)
        carry_out(request, rank, port, writing)
        status = 0
    except BaseException:
        logging.exception('the run failed')
    finally:
        # what else runs at the end of an interpreter is the parent's
        logging.shutdown()
        os._exit(status)


def in_a_fork(request):
    """Return the exit status of a fork, and what it answered.

    Of several ranks that of the one which was killed, else of one that
    failed. Those that outlive it too long are killed, and named.
    """
    reading, writing = os.pipe()
    ranks = request.get('ranks', 1)
    port = free_ports(1)[0] if ranks > 1 else 0
    children = [
        begin(request, rank, port, reading, writing) for rank in range(ranks)
    ]
    os.close(writing)
    with os.fdopen(reading) as answers:
        if 'after_secs' in request:
            ended, _, _ = select.select([answers], [], [],
                                        request['after_secs'])
            if not ended:
                os.kill(children[0], signal.SIGKILL)
        statuses, hung = wait_for(children)
        digest = answers.read()
    # a rank that has failed is aborted by gloo, at times
    killed = signal.SIGKILL in statuses
    return dict(
        status=signal.SIGKILL if killed else max(statuses),
        digest=digest,
        hung=hung)


def wait_for(children):
    """Return how they ended, and the ranks that had to be killed."""
    statuses, hung, until = {}, [], None
    while len(statuses) < len(children):
        for rank, child in enumerate(children):
            if rank in statuses:
                continue
            ended, status = os.waitpid(child,
                                       os.WNOHANG if len(children) > 1 else 0)
            if ended:
                statuses[rank] = status
                until = time.monotonic() + OUTLIVE_SECS
            elif until is not None and time.monotonic() > until and \
                    rank not in hung:
                hung.append(rank)
                os.kill(child, signal.SIGKILL)
        time.sleep(0.002 if len(statuses) < len(children) else 0)
    for child in children:
        # a worker that begins when its parent has died never ends: it waits
        # for another parent than that (torch/utils/data/_utils/worker.py)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    return [statuses[rank] for rank in range(len(children))], hung


def without_pauses():
    """mmcv's runners sleep 1 to 2 s at every epoch transition."""
    quick = types.SimpleNamespace(
        sleep=lambda seconds: None,
        time=time.time,
        monotonic=time.monotonic,
        asctime=time.asctime)
    for module in (epoch_based_runner, iter_based_runner):
        module.time = quick


def main():
    torch.set_num_threads(1)
    without_pauses()
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what a run prints is no answer
    with tempfile.TemporaryDirectory() as directory:
        for form in ('pth', 'dcp') if WRITES_FOLDERS else ('pth', ):
            # what is imported only then need not be per fork
            train(os.path.join(directory, form), format=form)
    print('ready', file=answers, flush=True)
    for line in sys.stdin:
        print(
            json.dumps(in_a_fork(json.loads(line))), file=answers, flush=True)


if __name__ == '__main__':
    main()
