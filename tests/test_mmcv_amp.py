"""mmcv's own mixed precision, killed and continued, ends with the same bits.

Its hooks as they are; only their scaler is one that works without a GPU, and
in some iterations a gradient overflows.
"""
import warnings

import pytest
import torch
from checkpoint_files import equal
from exact import BATCH, SameData, drawing_loader, drawing_run
from mmcv.runner import HOOKS, Hook
from stock import accumulates, scales_on_a_cpu, scales_with_torch
from torch.utils.data import DataLoader

pytestmark = [scales_on_a_cpu, scales_with_torch]

ITERS = 14
OVERFLOWS = (1, 10)  # counted from 0
PLAIN = pytest.param(
    dict(type='Fp16OptimizerHook', loss_scale='dynamic'), id='plain')
CUMULATIVE = pytest.param(
    dict(
        type='GradientCumulativeFp16OptimizerHook',
        loss_scale='dynamic',
        cumulative_iters=3),
    marks=accumulates,
    id='cumulative')
both_hooks = pytest.mark.parametrize('config', [PLAIN, CUMULATIVE])


def fp16_hook(config, scaler=True):
    with warnings.catch_warnings():
        # torch tells that there is no GPU
        warnings.simplefilter('ignore')
        config = dict(config)
        hook = HOOKS.get(config.pop('type'))(**config)
    if scaler:
        hook.loss_scaler = torch.amp.GradScaler(
            'cpu', init_scale=2.**10, growth_interval=2)
    return hook


class Overflows(Hook):
    """Makes a gradient infinite in some iterations."""

    now = False

    def before_run(self, runner):
        parameter = next(runner.model.parameters())
        parameter.register_hook(lambda grad: grad.new_full(
            grad.shape, float('inf')) if self.now else grad)

    def before_train_iter(self, runner):
        self.now = runner.iter in OVERFLOWS


def run(directory, kind, config, kills=(), scaler=True, **options):
    """Return the last state, the losses, and the scale behind each step."""
    scales, losses = {}, {}
    for kill_at in [*kills, None]:
        hook = fp16_hook(config, scaler)
        inner = hook.after_train_iter

        def after_train_iter(runner, hook=hook, inner=inner):
            inner(runner)
            scales[runner.iter + 1] = dict(hook.loss_scaler.state_dict())

        hook.after_train_iter = after_train_iter
        state, found = drawing_run(
            directory,
            3 if 'Epoch' in kind else ITERS,
            kill_at,
            interval=1,
            runner_type=kind,
            optimizer_config=hook,
            make_hooks=lambda: [Overflows()],
            **options)
        losses.update(found)
    return state, losses, scales


@both_hooks
@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'EpochBasedRunnerAmp'])
def test_scale_steps_and_weights_go_on(tmp_path, kind, config):
    expected = run(tmp_path / 'whole', kind, config)
    scales = [one['scale'] for one in expected[2].values()]
    changes = {after / before for before, after in zip(scales, scales[1:])}
    assert {.5, 2.} <= changes, 'it neither overflowed nor grew'
    found = run(tmp_path / 'cut', kind, config, kills=[4, 5, 11])
    assert equal(found, expected)


def same_loader():
    """Further passes draw nothing from the generators of the training."""
    return DataLoader(
        SameData(), BATCH, shuffle=True, generator=torch.Generator())


@both_hooks
@pytest.mark.parametrize('kind, kill_at', [('IterBasedRunner', 3),
                                           ('EpochBasedRunner', 12)])
def test_on_stock_runners_too(tmp_path, kind, kill_at, config):
    """The hook restores inside of ``run``; the data are all the same."""
    options = dict(loaders=[same_loader], by_epoch='Epoch' in kind)
    expected = run(tmp_path / 'whole', kind, config, **options)
    found = run(tmp_path / 'cut', kind, config, kills=[kill_at], **options)
    assert equal(found[0], expected[0])
    assert equal(found[2], expected[2])


@both_hooks
def test_a_file_has_the_state_of_its_own_step(tmp_path, config):
    """In ``runner.meta`` is that of the last optimizer step."""
    _, _, scales = run(tmp_path, 'IterBasedRunnerAmp', config)
    for step in (2, 3, 10, 14):
        checkpoint = torch.load(str(tmp_path / f'iter_{step}.pth'))
        assert checkpoint['amp'] == scales[step]


@both_hooks
@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'EpochBasedRunnerAmp'])
def test_without_a_gpu_its_scaler_is_off_and_stays_off(tmp_path, kind, config):
    expected = run(tmp_path / 'whole', kind, config, scaler=False)
    found = run(tmp_path / 'cut', kind, config, kills=[4, 11], scaler=False)
    assert equal(found, expected)
    checkpoint = torch.load(str(tmp_path / 'cut' / 'latest.pth'))
    assert 'amp' not in checkpoint


@both_hooks
@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'EpochBasedRunnerAmp'])
def test_bfloat16_weights_go_on_to_the_bit(tmp_path, kind, config):
    options = dict(
        wrap=lambda model: Bfloat16(model),
        loaders=[lambda: drawing_loader(0)])
    expected = run(tmp_path / 'whole', kind, config, **options)
    types = {one.dtype for one in expected[0]['model'].values()}
    assert torch.bfloat16 in types and torch.float32 not in types
    found = run(tmp_path / 'cut', kind, config, kills=[4, 11], **options)
    assert equal(found, expected)


class Bfloat16(torch.nn.Module):
    """A model of bfloat16 on data of float32."""

    def __init__(self, model):
        super().__init__()
        self.inner = model.to(torch.bfloat16)

    def forward(self, x, **kwargs):
        return self.inner(x.to(torch.bfloat16), **kwargs)

    def train_step(self, data, optimizer=None, **kwargs):
        data = dict(data, x=data['x'].to(torch.bfloat16))
        return self.inner.train_step(data, optimizer, **kwargs)


@pytest.mark.parametrize('kind', ['IterBasedRunnerAmp', 'EpochBasedRunnerAmp'])
@pytest.mark.parametrize('update_interval', [1, 3])
def test_the_familys_hook_in_bfloat16_goes_on_to_the_bit(
        tmp_path, kind, update_interval):
    """torch's autocast on a CPU; the weights stay 32 bits."""

    def end(name, kills):
        losses = {}
        for kill_at in [*kills, None]:
            state, found = drawing_run(
                tmp_path / name,
                3 if 'Epoch' in kind else ITERS,
                kill_at,
                interval=1,
                runner_type=kind,
                optimizer_config=dict(
                    type='DistOptimizerHook',
                    update_interval=update_interval,
                    use_fp16=True))
            losses.update(found)
        return state, losses

    assert equal(end('cut', [4, 11]), end('whole', []))
