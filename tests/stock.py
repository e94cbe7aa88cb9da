"""What the versions of mmcv and torch in the tests differ in.

What an old mmcv lacks is added to its own classes or skipped; what it has is
left as it is.
"""
import inspect
from unittest import mock

import mmcv
import pytest
import torch
from mmcv import parallel, runner
from mmcv.runner import Priority

from mmcv_ckpt_hooks.version import version_tuple


class _NoEvalHook:
    """In the place of mmcv's, which came with 1.3.1."""

    greater_keys = ()

    def __init__(self, *args, **kwargs):
        pytest.skip('mmcv 1.3.0 has no EvalHook; the repos beside it have '
                    'their own')


EvalHook = getattr(runner, 'EvalHook', _NoEvalHook)
DistEvalHook = getattr(runner, 'DistEvalHook', _NoEvalHook)

#: Of optimizer hooks, which is ``NORMAL`` in mmcv < 1.3.8.
ABOVE_NORMAL = getattr(Priority, 'ABOVE_NORMAL', Priority.NORMAL).name

#: The default of ``torch.load``. Before torch 2.6 the restricted unpickler
#: knows no sets, complex numbers or bytes.
WEIGHTS_ONLY = version_tuple(torch.__version__) >= (2, 6)

accumulates = pytest.mark.skipif(
    not hasattr(runner, 'GradientCumulativeOptimizerHook'),
    reason='mmcv < 1.3.12 has no GradientCumulativeOptimizerHook')

#: Arguments of an optimizer hook that makes a step of several iterations.
CUMULATIVE = pytest.param(
    dict(type='GradientCumulativeOptimizerHook', cumulative_iters=4),
    marks=accumulates)

as_since_1_3_16 = pytest.mark.skipif(
    not hasattr(mmcv.FileClient, 'infer_client'),
    reason='stock mmcv < 1.3.16 fails in another way or elsewhere')

best_has_a_place = pytest.mark.skipif(
    'out_dir' not in inspect.signature(EvalHook).parameters,
    reason="mmcv < 1.3.16 has no out_dir for EvalHook's best")

takes_file_clients = pytest.mark.skipif(
    'file_client_args'
    not in inspect.signature(runner.CheckpointHook).parameters,
    reason='mmcv < 1.3.16 has no file_client_args')

builds_runners = pytest.mark.skipif(
    not hasattr(runner.builder, 'RUNNER_BUILDERS'),
    reason='mmcv < 1.3.12 has no constructors of runners')

scales_on_a_cpu = pytest.mark.skipif(
    not hasattr(getattr(torch, 'amp', None), 'GradScaler'),
    reason='torch < 2.3 scales a loss on a GPU only')

#: mmcv's hook for half precision had a loss scaler of its own.
scales_with_torch = pytest.mark.skipif(
    version_tuple(mmcv.__version__) < (1, 3, 3),
    reason="mmcv < 1.3.3 does not scale with torch's GradScaler")


def _with_test_fn(base, inference):
    """An EvalHook of mmcv < 1.3.8, with what came then."""

    class EvalHook(base):
        greater_keys = [*base.greater_keys, 'mIoU', 'aAcc']

        def __init__(self, *args, test_fn=None, **kwargs):
            super().__init__(*args, **kwargs)
            self.test_fn = test_fn

        def _do_evaluate(self, runner):
            if self.test_fn is None:
                return super()._do_evaluate(runner)
            # which mmcv imports when it evaluates
            with mock.patch(f'mmcv.engine.{inference}', self.test_fn):
                return super()._do_evaluate(runner)

    # what it does is known by its name
    EvalHook.__module__, EvalHook.__name__ = base.__module__, base.__name__
    return EvalHook


if EvalHook is not _NoEvalHook and 'test_fn' not in inspect.signature(
        EvalHook).parameters:
    EvalHook = _with_test_fn(EvalHook, 'single_gpu_test')
    DistEvalHook = _with_test_fn(DistEvalHook, 'multi_gpu_test')


class MMDistributedDataParallel(parallel.MMDistributedDataParallel):
    """mmcv's wrapper; old ones call what torch 1.11 gave another name."""

    def _sync_params(self):
        self._sync_buffers()
