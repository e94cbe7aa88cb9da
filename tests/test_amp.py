"""Mixed precision continues with its loss scale, whoever scaled before."""
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
from mmcv_ckpt_hooks.amp import (capture_amp, fits_scalers, restore_amp,
                                 scalers_of)
from mmcv_ckpt_hooks.apex_amp import active_apex, apex_settings
from mmcv_ckpt_hooks.compat import make_grad_scaler
from mmcv_ckpt_hooks.errors import ConfigError
from mmcv_ckpt_hooks.testing.apex import install as install_apex

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


def cpu_state():
    """What an enabled scaler saves, on every version."""
    return dict(
        scale=2.,
        growth_factor=2.,
        backoff_factor=.5,
        growth_interval=2000,
        _growth_tracker=0)


def holder(scaler):
    return types.SimpleNamespace(loss_scaler=scaler)


def initialised(amp, **options):
    """As a repo does it; without autocast, to compare with plain loops."""
    options = dict(dict(opt_level='O0', loss_scale='dynamic'), **options)
    amp.initialize(torch.nn.Linear(1, 1), **options)
    set_scale(amp)
    return amp


def set_scale(amp, loss_scale=4096., unskipped=7):
    amp.load_state_dict({
        name: dict(loss_scale=loss_scale, unskipped=unskipped)
        for name in amp.state_dict()
    })


@pytest.fixture
def apex():
    """The repo called ``apex.amp.initialize``."""
    with install_apex() as amp:
        yield initialised(amp)


@pytest.fixture
def idle_apex():
    """apex is installed and imported, but not used (use_fp16=False)."""
    with install_apex() as amp:
        yield amp


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


def restored(hooks, saved, settings=None):
    messages = []
    restore_amp(hooks, saved, messages.append, settings)
    return messages


def test_a_scaler_continues_with_its_scale_and_growth():
    saved = cpu_scaler(init_scale=512., growth_interval=5).state_dict()
    saved['_growth_tracker'] = 3
    scaler = cpu_scaler()
    assert restored([holder(scaler)], saved) == []
    assert scaler.state_dict() == saved


def test_apex_continues_with_its_state(apex):
    set_scale(apex, 2., 0)
    assert restored([], APEX_STATE) == []
    assert apex.state_dict() == APEX_STATE


def test_apex_takes_over_the_scale_of_a_torch_run(apex):
    saved = dict(cpu_scaler(init_scale=512.).state_dict(), _growth_tracker=3)
    messages = restored([], saved)
    assert apex.state_dict() == dict(
        loss_scaler0=dict(loss_scale=512., unskipped=3))
    assert len(messages) == 1 and '512 was taken over' in messages[0]


def test_another_number_of_losses_is_told(apex):
    initialised(apex, num_losses=2)
    set_scale(apex, 2., 0)
    messages = restored([], APEX_STATE)
    assert apex.state_dict() == dict(
        loss_scaler0=dict(loss_scale=4096., unskipped=7),
        loss_scaler1=dict(loss_scale=2., unskipped=0))
    assert len(messages) == 1 and 'num_losses' in messages[0]
    saved = capture_amp()
    initialised(apex)
    assert 'the first 1 were restored' in restored([], saved)[0]
    assert apex.state_dict() == APEX_STATE


def test_a_changed_opt_level_is_told_and_the_scale_goes_on(apex):
    before = apex_settings()
    assert before == dict(opt_level='O0', loss_scale='dynamic')
    initialised(apex, opt_level='O1')
    set_scale(apex, 2., 0)
    messages = restored([], APEX_STATE, before)
    assert len(messages) == 1
    assert "'O0'" in messages[0] and "'O1'" in messages[0]
    assert apex.state_dict() == APEX_STATE


def test_a_fixed_loss_scale_of_this_run_stays(apex):
    initialised(apex, loss_scale=128.)
    set_scale(apex, 128., 0)
    messages = restored([], APEX_STATE)
    assert len(messages) == 1 and 'fixed at 128' in messages[0]
    assert apex.state_dict()['loss_scaler0']['loss_scale'] == 128.


def test_a_fixed_loss_scale_of_the_checkpoint_is_not_a_start(apex):
    """That of O0 is 1: a thousand steps of half precision would underflow."""
    set_scale(apex, 2.**16, 0)
    messages = restored([],
                        dict(loss_scaler0=dict(loss_scale=1., unskipped=9)),
                        dict(opt_level='O0', loss_scale=1.))
    assert len(messages) == 1 and 'starts anew' in messages[0]
    assert apex.state_dict()['loss_scaler0']['loss_scale'] == 2.**16


def test_weights_that_apex_alone_has_are_told(apex):
    initialised(apex, opt_level='O2')
    assert 'rounded to half precision' in restored([], APEX_STATE)[0]


@pytest.mark.parametrize('state', [
    None, {},
    dict(loss_scale='large', unskipped=1),
    dict(loss_scale=float('nan'), unskipped=1),
    dict(loss_scale=0., unskipped=1),
    dict(loss_scale=10**400, unskipped=1),
    dict(loss_scale=2.)
])
def test_apex_never_gets_a_state_that_makes_no_sense(apex, state):
    before = apex.state_dict()
    messages = restored([], dict(loss_scaler0=state))
    assert len(messages) == 1 and 'starts anew' in messages[0]
    assert apex.state_dict() == before


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


@pytest.mark.parametrize('saved', [
    dict(scale='large'),
    dict(
        scale=10**400,
        growth_factor=2.,
        backoff_factor=0.5,
        growth_interval=2000,
        _growth_tracker=0),
    dict(loss_scaler0=dict(loss_scale=10**400)),
    dict(cpu_state(), scale=0.),
    dict(cpu_state(), scale=float('nan')),
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


def test_mmcvs_hook_is_not_given_what_another_mmcv_has_written():
    """``load_state_dict`` in its ``before_run`` would raise a KeyError."""
    of_mmcv, of_torch = dict(cur_scale=2., cur_iter=3), dict(scale=2.)
    if hasattr(LossScaler, 'state_dict'):
        of_mmcv = LossScaler().state_dict()
        assert not fits_scalers([holder(LossScaler())], of_torch)
    # mmcv 1.3.0's has no state: it loads nothing
    assert fits_scalers([holder(LossScaler())], of_mmcv)
    scaler = cpu_scaler()
    assert not fits_scalers([holder(scaler)], of_mmcv)
    assert fits_scalers([holder(scaler)], scaler.state_dict())
    assert fits_scalers(
        [holder(None), holder(make_grad_scaler(False))], of_torch)


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
    assert apex.state_dict()['loss_scaler0']['unskipped'] == 7 + 4
    model, _ = hand_written(4, 2)
    assert equal(runner.model.state_dict(), model.state_dict())


def test_apex_is_left_alone_where_the_config_says_no_fp16(apex, tmp_path):
    run_with_hook(tmp_path, 2, use_fp16=False)
    assert apex.state_dict() == APEX_STATE


def test_apex_initialised_after_the_hook_was_built_is_used(
        idle_apex, tmp_path):
    hook = DistOptimizerHook(use_fp16=True)
    initialised(idle_apex)
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        optimizer_config=hook)
    runner.run([make_loader()], [('train', 1)])
    assert hook.loss_scaler is None
    assert idle_apex.state_dict()['loss_scaler0']['unskipped'] == 7 + 2


def test_with_apex_an_overflow_skips_the_step(apex, tmp_path):
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=1),
        optimizer_config=dict(type='DistOptimizerHook', use_fp16=True))
    before = runner.model.first.weight.detach().clone()
    runner.model.first.weight.register_hook(
        lambda grad: torch.full_like(grad, float('inf')))
    runner.run([make_loader()], [('train', 1)])
    assert torch.equal(runner.model.first.weight, before)
    assert capture_amp() == dict(
        loss_scaler0=dict(loss_scale=2048., unskipped=0))


def test_gradients_are_clipped_where_apex_has_them(apex, tmp_path):
    """Under O2 the optimizer steps copies of the parameters."""
    copies, clipped = [torch.zeros(1)], []
    apex.master_params = lambda optimizer: iter(copies)
    hook = DistOptimizerHook(grad_clip=dict(max_norm=.1), use_fp16=True)
    hook.clip_grads = clipped.extend
    runner = make_runner(
        tmp_path,
        runner=dict(type='IterBasedRunnerAmp', max_iters=1),
        optimizer_config=hook)
    runner.run([make_loader()], [('train', 1)])
    assert len(clipped) == 1 and clipped[0] is copies[0]


def test_apex_gets_its_state_behind_model_and_optimizer(apex, tmp_path):
    """As apex asks for it."""
    config = dict(
        runner=dict(type='IterBasedRunnerAmp', max_iters=2),
        optimizer_config=dict(type='DistOptimizerHook', use_fp16=True))
    runner = make_runner(tmp_path, **config)
    runner.run([make_loader()], [('train', 1)])
    runner.save_checkpoint(str(tmp_path))
    order = []
    runner = make_runner(tmp_path, **config)
    runner.model._register_load_state_dict_pre_hook(
        lambda *_: order.append('model'))
    for name, owner in (('optimizer', runner.optimizer), ('apex', apex)):
        load = owner.load_state_dict
        owner.load_state_dict = lambda state, name=name, load=load: (
            order.append(name), load(state))[1]
    set_scale(apex, 2., 0)
    order.clear()
    runner.resume(str(tmp_path / 'iter_2.pth'))
    assert order == ['model', 'optimizer', 'apex']
    assert apex.state_dict()['loss_scaler0']['unskipped'] == 9


def test_what_scales_is_said_in_one_line(tmp_path, caplog):
    run_with_hook(tmp_path, 1, use_fp16=True)
    told = [line for line in caplog.messages if 'Mixed precision' in line]
    assert told == [
        'Mixed precision: torch autocast on cpu, GradScaler off (apex.amp was '
        'not initialised)'
    ]


def test_a_second_run_casts_once(tmp_path):
    runner = run_with_hook(tmp_path, 1, use_fp16=True)
    step = runner.model.train_step
    runner._max_iters = 2
    runner.run([make_loader()], [('train', 1)])
    assert runner.model.train_step is step


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
