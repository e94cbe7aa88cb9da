"""Mixed precision and memory where they are real: on a GPU.

What a CPU can do as well it does here, too, by the same code: a machine
without a GPU skips the rest, and says so.
"""
import gc
import os
import warnings

import pytest
import torch
from checkpoint_files import equal
from exact import DrawingModel, drawing_loader, drawing_run
from mmcv.parallel import MMDataParallel
from mmcv.runner import HOOKS
from stock import accumulates, scales_on_a_cpu, scales_with_torch
from torch import nn
from toy import make_runner

if torch.cuda.is_available():
    # cuBLAS reads it at its first call
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
CPU = pytest.param('cpu', marks=[scales_on_a_cpu])
CUDA = pytest.param('cuda', marks=[gpu])
ITERS = 14
#: too much for float16, and soon so again
SCALE = dict(init_scale=2.**24, growth_interval=2)
#: the same of a run with half as many steps
QUICK = dict(init_scale=2.**20, growth_interval=1)


@pytest.fixture(autouse=True)
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class HalfModel(DrawingModel):
    """A convolution, whose backward is not deterministic unless told so."""

    def __init__(self, device, dtype):
        super().__init__()
        self.device, self.dtype = device, dtype
        self.seen = set()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 8, 2, padding=1),
            nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(72, 2))

    def forward(self, x, **kwargs):
        if self.dtype is None:  # the hook casts
            output = self.layers(x)
        else:
            with torch.autocast(self.device, dtype=self.dtype):
                output = self.layers(x)
        self.seen.add(output.dtype)
        return output.float()


class Run:
    """Trains on one device in one precision, cut off and gone on."""

    def __init__(self, folder, kind, device, dtype, make_hook):
        self.folder, self.kind, self.device = folder, kind, device
        self.dtype, self.make_hook = dtype, make_hook
        self.seen = set()

    def on_device(self, _):
        torch.manual_seed(0)
        model = HalfModel(self.device, self.dtype)
        model.seen = self.seen
        if self.device == 'cpu':
            return model
        return MMDataParallel(model.cuda(), device_ids=[0])

    def end(self, name, kills=()):
        """Return the last state, the losses, and the scale of each step."""
        losses, scales = {}, {}
        for number, kill_at in enumerate([*kills, None]):
            hook = self.make_hook(self.device)
            note_scales(hook, scales)
            state, found = drawing_run(
                self.folder / name,
                3 if 'Epoch' in self.kind else ITERS,
                kill_at,
                seed=100 * number,
                interval=1,
                runner_type=self.kind,
                optimizer_config=hook,
                wrap=self.on_device,
                loaders=[lambda: drawing_loader(0)])
            losses.update(found)
        return state, losses, scales


def note_scales(hook, scales):
    scaler, inner = getattr(hook, 'loss_scaler', None), hook.after_train_iter

    def after_train_iter(runner):
        inner(runner)
        if scaler is not None:
            scales[runner.iter + 1] = dict(scaler.state_dict())

    hook.after_train_iter = after_train_iter


def fp16_hook(kind, scale, **options):
    """Of mmcv; its scaler is on without a GPU, too."""

    def make(device):
        with warnings.catch_warnings():
            # torch tells that there is no GPU
            warnings.simplefilter('ignore')
            hook = HOOKS.get(kind)(loss_scale=dict(scale), **options)
        if device == 'cpu':
            hook.loss_scaler = torch.amp.GradScaler('cpu', **scale)
        return hook

    return make


def familys_hook(scale, **options):

    def make(device):
        hook = HOOKS.get('DistOptimizerHook')(use_fp16=True, **options)
        # else it overflows and grows too seldom
        hook.loss_scaler.load_state_dict(
            dict(
                hook.loss_scaler.state_dict(),
                scale=scale['init_scale'],
                growth_interval=scale['growth_interval']))
        return hook

    return make


FLOAT16 = [
    pytest.param(
        fp16_hook('Fp16OptimizerHook', SCALE), torch.float16, id='mmcv'),
    pytest.param(
        fp16_hook(
            'GradientCumulativeFp16OptimizerHook', QUICK, cumulative_iters=2),
        torch.float16,
        marks=accumulates,
        id='mmcv-cumulative'),
]
FAMILY = [
    pytest.param(familys_hook(SCALE), None, id='family'),
    pytest.param(familys_hook(QUICK, update_interval=2), None, id='family-2'),
]
both_runners = pytest.mark.parametrize(
    'kind', ['IterBasedRunnerAmp', 'EpochBasedRunnerAmp'])


def goes_on_through_overflows(run):
    expected = run.end('whole')
    assert run.seen == {torch.float16}
    scales = [one['scale'] for one in expected[2].values()]
    changes = {after / before for before, after in zip(scales, scales[1:])}
    assert {.5, 2.} <= changes, 'it neither overflowed nor grew'
    assert equal(run.end('cut', [4, 5, 11]), expected)
    checkpoint = torch.load(str(run.folder / 'cut' / 'latest.pth'))
    assert checkpoint['amp'] == expected[2][max(expected[2])]


@scales_with_torch
@both_runners
@pytest.mark.parametrize('device', [CPU, CUDA])
@pytest.mark.parametrize('make_hook, dtype', FLOAT16)
def test_float16_goes_on_to_the_bit_through_overflows(tmp_path, kind, device,
                                                      make_hook, dtype):
    goes_on_through_overflows(Run(tmp_path, kind, device, dtype, make_hook))


@gpu
@both_runners
@pytest.mark.parametrize('make_hook, dtype', FAMILY)
def test_so_does_that_of_the_familys_hook(tmp_path, kind, make_hook, dtype):
    goes_on_through_overflows(Run(tmp_path, kind, 'cuda', dtype, make_hook))


@both_runners
@pytest.mark.parametrize('device', ['cpu', CUDA])
def test_bfloat16_goes_on_to_the_bit(tmp_path, kind, device):
    """It needs no loss scale."""
    run = Run(tmp_path, kind, device, torch.bfloat16,
              lambda device: HOOKS.get('OptimizerHook')())
    expected = run.end('whole')
    assert run.seen == {torch.bfloat16}
    assert equal(run.end('cut', [4, 5, 11]), expected)
    checkpoint = torch.load(str(tmp_path / 'cut' / 'latest.pth'))
    assert 'amp' not in checkpoint


MIB = 1 << 20


@gpu
def test_a_resume_has_the_state_on_the_gpu_once(tmp_path):
    """Stock loads all of the file to the GPU, beside the model."""

    def runner(steps):
        model = nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(16)])
        model.cuda()
        built = make_runner(
            tmp_path,
            runner=dict(type='IterBasedRunnerAmp', max_iters=steps),
            model=model)
        return built

    first = runner(1)
    first.model(torch.ones(2, 1024, device='cuda')).sum().backward()
    first.optimizer.step()
    first.save_checkpoint(str(tmp_path), 'iter_1.pth')
    expected = [one.clone().cpu() for one in first.model.parameters()]
    del first
    gc.collect()
    second = runner(2)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    second.resume(str(tmp_path / 'iter_1.pth'))
    torch.cuda.synchronize()
    added = torch.cuda.memory_allocated() - before
    # two moments of 64 MiB; the weights had their place before
    assert 128 * MIB <= added < 136 * MIB
    assert torch.cuda.max_memory_allocated() - before < added + 8 * MIB
    for one, saved in zip(second.model.parameters(), expected):
        assert torch.equal(one.cpu(), saved)
