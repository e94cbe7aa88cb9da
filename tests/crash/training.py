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
from exact import DrawingModel, drawing_loader
from mmcv.runner import epoch_based_runner, iter_based_runner
from recording import Recorder
from toy import QuickEvalHook, make_runner

from mmcv_ckpt_hooks import run_lock

# a kill in the middle of the lock file's record leaves one that nobody can
# read, and it could be of another machine; here nobody else lives
run_lock.WATCH_SECS, run_lock._LOOK_SECS = 0.05, 0.01
run_lock._CONFIRM_SECS = 0.01

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
        options (dict): Further ones of the hook.

    Returns:
        str: Digest of every bit of the model and the optimizer.
    """
    options.setdefault('resume', None if back_to else 'auto')
    hook = dict(
        type='DurableCheckpointHook',
        interval=interval,
        max_keep_ckpts=keep,
        **options)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    runner = make_runner(
        directory,
        model=DrawingModel(),
        runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
        hooks=[hook])
    if evaluate:
        scoring = StepEvalHook(
            scores=[0.], interval=interval, by_epoch=False, save_best='mIoU')
        runner.register_hook(scoring, priority='LOW')
    if back_to is not None:
        runner.resume(os.path.join(directory, back_to))
    runner.run([drawing_loader(workers)], [('train', 1)])
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


def carry_out(request, answer):
    """In a fork: arm the recorder, train, write what came out."""
    logger = logging.getLogger('toy')
    recorder = Recorder()
    logger.addHandler(Marker(recorder))
    recorder.arm(request['watched'], request['log'], request.get('at', 0),
                 request.get('when', 0), request.get('torn_bytes', 0))
    digest = train(request['directory'], **request.get('run', {}))
    os.write(answer, digest.encode())


def in_a_fork(request):
    """Return the exit status of a fork, and what it answered."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            os.close(reading)
            carry_out(request, writing)
            status = 0
        except BaseException:
            logging.exception('the run failed')
        finally:
            # what else runs at the end of an interpreter is the parent's
            logging.shutdown()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answers:
        if 'after_secs' in request:
            ended, _, _ = select.select([answers], [], [],
                                        request['after_secs'])
            if not ended:
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        # a worker that begins when its parent has died never ends: it waits
        # for another parent than that (torch/utils/data/_utils/worker.py)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        digest = answers.read()
    return dict(status=status, digest=digest)


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
        train(directory)  # what is imported only then need not be per fork
    print('ready', file=answers, flush=True)
    for line in sys.stdin:
        print(
            json.dumps(in_a_fork(json.loads(line))), file=answers, flush=True)


if __name__ == '__main__':
    main()
