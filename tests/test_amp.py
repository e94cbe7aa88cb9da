"""Mixed precision continues with its loss scale, whoever scaled before."""
import contextlib
import sys
import types
import warnings

import pytest
import torch
from checkpoint_files import equal
from mmcv.runner import HOOKS, Fp16OptimizerHook, build_optimizer
from mmcv.runner.fp16_utils import LossScaler
from mmcv.utils import build_from_cfg
from toy import ToyModel, make_loader, make_runner

from mmcv_ckpt_hooks import DistOptimizerHook
from mmcv_ckpt_hooks.amp import (active_apex, capture_amp, restore_amp,
                                 scalers_of)
from mmcv_ckpt_hooks.compat import make_grad_scaler
from mmcv_ckpt_hooks.errors import ConfigError

pytestmark = [
    pytest.mark.filterwarnings('error'),
    # float(loss) in the toy model, as in mmcv's parse_losses
    pytest.mark.filterwarnings('ignore:Converting a tensor'),
]

APEX_STATE = dict(loss_scaler0=dict(loss_scale=4096.0, unskipped=7))


def cpu_scaler(**kwargs):
    """An enabled scaler: on a machine without a GPU others are not."""
    if not hasattr(torch.amp, 'GradScaler'):
        pytest.skip('torch < 2.3 scales on GPUs only')
    return torch.amp.GradScaler('cpu', **kwargs)


def holder(scaler):
    return types.SimpleNamespace(loss_scaler=scaler)


class FakeApex(types.ModuleType):
    """``apex.amp`` of NVIDIA: its state, and how it scales a loss."""

    def __init__(self, scalers=(4096.0, )):
        super().__init__('apex.amp')
        self._amp_state = types.SimpleNamespace()
        self.loaded = []
        self.scaled = []
        if scalers:
            self._amp_state.loss_scalers = list(scalers)

    def state_dict(self):
        # before amp.initialize: AttributeError, as apex#1710
        return {
            f'loss_scaler{index}': dict(loss_scale=scale, unskipped=7)
            for index, scale in enumerate(self._amp_state.loss_scalers)
        }

    def load_state_dict(self, state):
        self.loaded.append(state)

    @contextlib.contextmanager
    def scale_loss(self, loss, optimizer):
        self.scaled.append(optimizer)
        yield loss * 1


@pytest.fixture
def apex(monkeypatch):
    """The repo called ``apex.amp.initialize``."""
    amp = FakeApex()
    monkeypatch.setitem(sys.modules, 'apex', types.ModuleType('apex'))
    monkeypatch.setitem(sys.modules, 'apex.amp', amp)
    return amp


@pytest.fixture
def idle_apex(monkeypatch):
    """apex is installed and imported, but not used (use_fp16=False)."""
    amp = FakeApex(scalers=())
    monkeypatch.setitem(sys.modules, 'apex.amp', amp)
    return amp


@pytest.fixture
def web_apex(monkeypatch):
    """The package that is called apex on the package index."""
    monkeypatch.setitem(sys.modules, 'apex', types.ModuleType('apex'))
    monkeypatch.delitem(sys.modules, 'apex.amp', raising=False)


# -- capture ---------------------------------------------------------------


def test_no_amp_means_no_amp_field():
    assert capture_amp() is None
    assert capture_amp([]) is None
    assert capture_amp([types.SimpleNamespace()]) is None
    assert capture_amp([holder(None), holder(3), holder('dynamic')]) is None


def test_the_web_toolkit_called_apex_does_not_break_a_save(web_apex):
    assert active_apex() is None
    assert capture_amp() is None


def test_apex_without_initialize_does_not_break_a_save(idle_apex):
    # state_dict() raises then: the first save of UniFormer and BEiT fails
    with pytest.raises(AttributeError):
        idle_apex.state_dict()
    assert capture_amp() is None
    assert capture_amp(amp=idle_apex) is None


def test_the_state_of_apex_is_saved_without_being_passed(apex):
    assert capture_amp() == APEX_STATE
    assert capture_amp(amp=apex) == APEX_STATE
    assert capture_amp(amp=False) is None


def test_the_scaler_of_mmcvs_hook_is_found():
    scaler = cpu_scaler(init_scale=512.)
    assert capture_amp([object(), holder(scaler)])['scale'] == 512.
    assert capture_amp([holder(make_grad_scaler(False)),
                        holder(scaler)])['scale'] == 512.


def test_mmcvs_hook_on_a_machine_without_a_gpu_saves_no_empty_state():
    # torch warns, of the name of its scaler or of the missing GPU
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        hook = Fp16OptimizerHook()
    if not torch.cuda.is_available():
        assert scalers_of([hook]) == []
        assert capture_amp([hook]) is None


@pytest.mark.parametrize('amp', [make_grad_scaler(False), {}])
def test_an_empty_state_is_no_state(amp):
    # an enabled scaler cannot load it
    assert capture_amp(amp=amp) is None


def test_a_scaler_or_its_state_can_be_passed():
    scaler = cpu_scaler(init_scale=512.)
    assert capture_amp(amp=scaler) == scaler.state_dict()
    state = scaler.state_dict()
    captured = capture_amp(amp=state)
    assert captured == state and captured is not state


@pytest.mark.parametrize('amp', [True, 'O1', 3, object()])
def test_anything_else_is_refused_before_the_save(amp):
    with pytest.raises(TypeError, match='amp must be a GradScaler'):
        capture_amp(amp=amp)


# -- restore ---------------------------------------------------------------


def restored(hooks, saved):
    messages = []
    restore_amp(hooks, saved, messages.append)
    return messages


def test_a_scaler_continues_with_its_scale_and_growth():
    saved = cpu_scaler(init_scale=512., growth_interval=5).state_dict()
    saved['_growth_tracker'] = 3
    scaler = cpu_scaler()
    assert restored([holder(scaler)], saved) == []
    assert scaler.state_dict() == saved


def test_apex_continues_with_its_state(apex):
    assert restored([], APEX_STATE) == []
    assert apex.loaded == [APEX_STATE]


def test_a_torch_run_takes_over_the_scale_of_apex():
    scaler = cpu_scaler(init_scale=2.)
    messages = restored([holder(scaler)], APEX_STATE)
    assert scaler.get_scale() == 4096.
    assert len(messages) == 1 and '4096' in messages[0]


def test_a_loss_scale_that_starts_anew_is_told(apex):
    for saved in (None, {}):
        assert 'starts anew' in restored([], saved)[0]
    assert 'starts anew' in restored([holder(cpu_scaler())], None)[0]


@pytest.mark.parametrize('saved, told', [
    (APEX_STATE, 'apex'),
    (dict(scale=2., growth_factor=2.), 'torch GradScaler'),
])
def test_an_amp_state_that_is_not_used_is_told(saved, told):
    messages = restored([holder(make_grad_scaler(False))], saved)
    assert len(messages) == 1
    assert told in messages[0] and 'skipped' in messages[0]


def test_the_state_of_a_scaler_is_not_loaded_into_apex(apex):
    saved = dict(scale=2., growth_factor=2.)
    assert 'skipped' in restored([], saved)[0]
    assert apex.loaded == []


@pytest.mark.parametrize('saved', [
    dict(scale='large'),
    dict(
        scale=10**400,
        growth_factor=2.,
        backoff_factor=0.5,
        growth_interval=2000,
        _growth_tracker=0),
    dict(loss_scaler0=dict(loss_scale=10**400)),
    dict(other=1),
    dict(loss_scaler0=None),
    dict(loss_scaler0={}), {
        0: 1
    }, [1], 'text',
    dict(loss_scaler1={})
])
def test_an_amp_state_that_makes_no_sense_does_not_stop_a_resume(saved):
    scaler = cpu_scaler(init_scale=2.)
    messages = restored([holder(scaler)], saved)
    assert len(messages) == 1 and 'starts anew' in messages[0]
    assert scaler.state_dict() == cpu_scaler(init_scale=2.).state_dict()


def test_half_precision_before_mmcv_1_3_3_is_not_called_exact():
    messages = restored([holder(LossScaler())], None)
    assert len(messages) == 1 and 'rounded to half precision' in messages[0]


def test_a_run_without_amp_says_nothing():
    assert restored([], None) == []
    assert restored([holder(None)], {}) == []


# -- DistOptimizerHook -----------------------------------------------------


def hand_written(iterations, update_interval=1, grad_clip=None):
    """What the configs of the apex_runner family mean by it."""
    torch.manual_seed(0)
    model = ToyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    norms = []
    batches = iter(())
    for iteration in range(iterations):
        batch = next(batches, None)
        if batch is None:
            batches = iter(make_loader())
            batch = next(batches)
        loss = model.train_step(batch, None)['loss'] / update_interval
        loss.backward()
        if (iteration + 1) % update_interval == 0:
            if grad_clip:
                norms.append(
                    float(
                        torch.nn.utils.clip_grad_norm_(model.parameters(),
                                                       **grad_clip)))
            optimizer.step()
            optimizer.zero_grad()
    return model, norms


def run_with_hook(tmp_path, iterations, **optimizer_config):
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=iterations),
        optimizer_config=dict(type='DistOptimizerHook', **optimizer_config))
    runner.run([make_loader()], [('train', 1)])
    return runner


@pytest.mark.parametrize('update_interval, grad_clip', [
    (1, None),
    (2, None),
    (3, None),
    (1, dict(max_norm=0.1)),
    (2, dict(max_norm=0.1, norm_type=1)),
])
def test_it_trains_as_a_hand_written_loop(update_interval, grad_clip,
                                          tmp_path):
    runner = run_with_hook(
        tmp_path, 6, update_interval=update_interval, grad_clip=grad_clip)
    model, norms = hand_written(6, update_interval, grad_clip)
    assert equal(runner.model.state_dict(), model.state_dict())
    logged = runner.log_buffer.val_history.get('grad_norm', [])
    assert logged == pytest.approx(norms)


def test_gradients_of_before_the_run_are_not_added(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        optimizer_config=dict(type='DistOptimizerHook'))
    runner.model(torch.ones(4, 4)).sum().backward()
    with torch.no_grad():
        for buffer in runner.model.norm.buffers():
            buffer.copy_(torch.ones_like(buffer) * (buffer.dim() > 0))
        runner.model.norm.running_mean.zero_()
        runner.model.norm.num_batches_tracked.zero_()
    runner.run([make_loader()], [('train', 1)])
    assert equal(runner.model.state_dict(), hand_written(2)[0].state_dict())


def test_with_apex_the_loss_is_scaled_by_apex(apex, tmp_path):
    runner = run_with_hook(tmp_path, 4, update_interval=2, use_fp16=True)
    assert apex.scaled == [runner.optimizer] * 4
    model, _ = hand_written(4, 2)
    assert equal(runner.model.state_dict(), model.state_dict())


def test_apex_is_left_alone_where_the_config_says_no_fp16(apex, tmp_path):
    run_with_hook(tmp_path, 2, use_fp16=False)
    assert apex.scaled == []


def test_apex_initialised_after_the_hook_was_built_is_used(
        monkeypatch, tmp_path):
    hook = DistOptimizerHook(use_fp16=True)
    amp = FakeApex()
    monkeypatch.setitem(sys.modules, 'apex.amp', amp)
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        optimizer_config=hook)
    runner.run([make_loader()], [('train', 1)])
    assert hook.loss_scaler is None
    assert len(amp.scaled) == 2


def seen_dtypes(model):
    dtypes = []
    model.last.register_forward_hook(
        lambda module, inputs, output: dtypes.append(output.dtype))
    return dtypes


def test_without_apex_torch_trains_in_mixed_precision(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        optimizer_config=dict(type='DistOptimizerHook', use_fp16=True))
    dtypes = seen_dtypes(runner.model)
    runner.run([make_loader()], [('train', 1)])
    assert dtypes == [torch.bfloat16] * 2


def test_without_fp16_nothing_is_cast(tmp_path):
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        optimizer_config=dict(type='DistOptimizerHook'))
    dtypes = seen_dtypes(runner.model)
    runner.run([make_loader()], [('train', 1)])
    assert dtypes == [torch.float32] * 2


def test_a_scaled_loss_gives_the_same_steps_and_its_scale_is_saved(tmp_path):
    # an enabled scaler, as on a GPU
    hook = DistOptimizerHook(update_interval=2, grad_clip=dict(max_norm=0.1))
    hook.loss_scaler = cpu_scaler(init_scale=1024., growth_interval=2)
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        optimizer_config=hook)
    runner.run([make_loader()], [('train', 1)])
    model, _ = hand_written(4, 2, dict(max_norm=0.1))
    for key, value in runner.model.state_dict().items():
        assert torch.allclose(value, model.state_dict()[key]), key
    # two updates, after which it grew
    assert capture_amp(runner.hooks)['scale'] == 2048.


def test_an_overflow_skips_the_step_and_lowers_the_scale(tmp_path):
    hook = DistOptimizerHook()
    hook.loss_scaler = cpu_scaler(init_scale=1024.)
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=1),
        optimizer_config=hook)
    before = runner.model.first.weight.detach().clone()
    runner.model.first.weight.register_hook(
        lambda grad: torch.full_like(grad, float('inf')))
    runner.run([make_loader()], [('train', 1)])
    assert torch.equal(runner.model.first.weight, before)
    assert capture_amp(runner.hooks)['scale'] == 512.


@pytest.mark.parametrize('update_interval', [0, -1, 1.0, '2', None, True])
def test_a_wrong_update_interval_fails_when_the_hook_is_built(update_interval):
    with pytest.raises(ConfigError, match='update_interval'):
        build_from_cfg(
            dict(type='DistOptimizerHook', update_interval=update_interval),
            HOOKS)


def test_the_optimizer_config_of_convnext_builds():
    # configs/convnext/*.py of ConvNeXt's segmentation code
    hook = build_from_cfg(
        dict(
            type='DistOptimizerHook',
            update_interval=1,
            grad_clip=None,
            coalesce=True,
            bucket_size_mb=-1,
            use_fp16=True), HOOKS)
    assert isinstance(hook, DistOptimizerHook)
    optimizer = build_optimizer(ToyModel(), dict(type='AdamW', lr=0.1))
    assert optimizer.param_groups
