"""What of a run is in a checkpoint, and whether it comes back."""
import random

import numpy as np
import pytest
import torch
from checkpoint_files import equal, written
from mmcv.parallel import MMDataParallel
from toy import ToyModel, make_runner

from mmcv_ckpt_hooks import state
from mmcv_ckpt_hooks.generators import capture_generators, restore_generators
from mmcv_ckpt_hooks.loading import load_checkpoint
from mmcv_ckpt_hooks.portable import to_portable
from mmcv_ckpt_hooks.state import (build_checkpoint, capture_optimizer,
                                   capture_runner, unwrapped)
from mmcv_ckpt_hooks.state_loading import restore_optimizer

pytestmark = pytest.mark.filterwarnings('error')


def through_a_file(value):
    import io
    plain, irreducible = to_portable(value, 'value')
    assert irreducible == []
    content = written(plain)
    loaded = load_checkpoint(io.BytesIO(content), 'a.pth')
    assert equal(torch.load(io.BytesIO(content), weights_only=True), loaded)
    return loaded


@pytest.fixture
def own_generators():
    """Tests draw and seed; the next test must not see it."""
    saved = capture_generators()
    yield
    restore_generators(saved)


def draws():
    return (random.random(), random.gauss(0, 1), np.random.rand(),
            np.random.randn(), float(torch.rand(1)), float(torch.randn(1)))


def test_every_generator_continues_where_it_was(own_generators):
    # gauss() of Python and randn() of numpy keep a second number back
    random.gauss(0, 1)
    np.random.randn()
    saved = through_a_file(capture_generators())
    expected = [draws() for _ in range(3)]
    assert draws() != expected[0]
    restore_generators(saved)
    assert [draws() for _ in range(3)] == expected


def test_capturing_the_generators_draws_nothing(own_generators):
    capture_generators()
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    expected = draws()
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    capture_generators()
    assert draws() == expected


def test_a_captured_state_does_not_move_with_the_generator(own_generators):
    saved = capture_generators()
    before = through_a_file(saved)
    draws()
    assert equal(through_a_file(saved), before)


def test_generators_that_a_file_lacks_are_left_alone(own_generators):
    torch.manual_seed(3)
    before = through_a_file(capture_generators())
    restore_generators({})
    assert equal(through_a_file(capture_generators()), before)


def test_states_of_gpus_that_are_not_there_are_skipped(own_generators):
    saved = capture_generators()
    saved['cuda'] = [torch.zeros(16, dtype=torch.uint8)] * 8
    if not torch.cuda.is_available():
        restore_generators(saved)


def test_a_fork_of_a_process_that_used_cuda_leaves_it_alone(
        own_generators, monkeypatch):
    """There torch refuses every call, and a save would fail."""
    saved = capture_generators()
    saved['cuda'] = [torch.zeros(16, dtype=torch.uint8)]

    def refused(*_):
        raise RuntimeError('Cannot re-initialize CUDA in forked subprocess')

    for name, value in (('is_available', lambda: True), ('_is_in_bad_fork',
                                                         lambda: True),
                        ('device_count',
                         lambda: 1), ('get_rng_state_all',
                                      refused), ('set_rng_state', refused)):
        monkeypatch.setattr(torch.cuda, name, value)
    assert capture_generators()['cuda'] == []
    restore_generators(saved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_the_generator_of_a_gpu_continues_where_it_was(own_generators):
    torch.rand(3, device='cuda')
    saved = through_a_file(capture_generators())
    expected = torch.rand(3, device='cuda')
    restore_generators(saved)
    assert torch.equal(torch.rand(3, device='cuda'), expected)


# -- checkpoint ------------------------------------------------------------


def test_tensors_are_not_copied():
    model = ToyModel()
    checkpoint = build_checkpoint(model)
    weight = checkpoint['state_dict']['first.weight']
    assert weight.data_ptr() == model.first.weight.data_ptr()
    assert not weight.requires_grad


def test_empty_fields_are_left_out():
    checkpoint = build_checkpoint(ToyModel(), amp={}, resume_state=None)
    assert sorted(checkpoint) == ['meta', 'state_dict']


def test_a_runners_own_field_replaces_none_of_ours():
    checkpoint = build_checkpoint(
        ToyModel(),
        amp=dict(scale=1.),
        extra=dict(state_dict={}, meta={}, amp={}, own=np.float64(1)))
    assert 'first.weight' in checkpoint['state_dict']
    assert checkpoint['amp'] == dict(scale=1.)
    assert checkpoint['own'] == 1. and type(checkpoint['own']) is float


def test_what_is_lost_is_told_once_for_all_fields():
    with pytest.warns(UserWarning) as caught:
        build_checkpoint(
            ToyModel(),
            meta=dict(a=print),
            extra=dict(own=dict(b=random.Random())))
    assert len(caught) == 1
    assert 'meta.a (builtin_function_or_method)' in str(caught[0].message)
    assert 'own.b (Random)' in str(caught[0].message)


def test_every_wrapper_is_removed():
    model = ToyModel()
    wrapped = MMDataParallel(torch.nn.DataParallel(model))
    assert unwrapped(wrapped) is model
    assert unwrapped(model) is model


# -- optimizers ------------------------------------------------------------


def trained(kind, **kwargs):
    model = ToyModel()
    optimizer = kind(model.parameters(), lr=0.1, **kwargs)
    model(torch.ones(4, 4)).sum().backward()
    optimizer.step()
    return optimizer


OPTIMIZERS = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, dict(momentum=0.9)),
    (torch.optim.Adam, {}),
    (torch.optim.AdamW, dict(amsgrad=True)),
    (torch.optim.Adagrad, {}),
    (torch.optim.RMSprop, dict(centered=True, momentum=0.1)),
    (torch.optim.Rprop, {}),
    (torch.optim.Adamax, {}),
    (torch.optim.NAdam, {}),
    (torch.optim.LBFGS, {}),
]


@pytest.mark.parametrize('kind, kwargs', OPTIMIZERS)
def test_an_optimizer_takes_the_same_next_step(kind, kwargs):
    steps = []
    for resumed in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = kind(model.parameters(), lr=0.1, **kwargs)
        for step in range(4):
            if resumed and step == 2:
                saved = through_a_file(capture_optimizer(optimizer))
                optimizer = kind(model.parameters(), lr=7., **kwargs)
                restore_optimizer(optimizer, saved)

            def closure():
                optimizer.zero_grad()
                loss = model(torch.ones(3)).square().sum()
                loss.backward()
                return loss

            optimizer.step(closure)
        steps.append(model.weight.detach().clone())
    assert torch.equal(*steps)


def test_several_optimizers_come_back_by_name():
    given = dict(a=trained(torch.optim.Adam), b=trained(torch.optim.SGD))
    saved = through_a_file(capture_optimizer(given))
    fresh = dict(a=trained(torch.optim.Adam), b=trained(torch.optim.SGD))
    restore_optimizer(fresh, saved)
    assert equal(
        through_a_file(capture_optimizer(fresh)),
        through_a_file(capture_optimizer(given)))


def test_an_optimizer_that_the_file_lacks_is_told():
    saved = capture_optimizer(dict(a=trained(torch.optim.Adam)))
    with pytest.raises(KeyError, match='b'):
        restore_optimizer(dict(b=trained(torch.optim.Adam)), saved)


def test_no_optimizer_is_no_error():
    assert capture_optimizer(None) is None
    restore_optimizer(None, {})


# -- runners ---------------------------------------------------------------


def test_a_runners_checkpoint_counts_finished_steps(tmp_path):
    # runner.meta may hold the counters of the file it was resumed from
    runner = make_runner(tmp_path, meta=dict(epoch=99, iter=99, seed=1))
    meta = capture_runner(runner, 2, 7, meta=dict(seed=0, own=3))['meta']
    assert (meta['epoch'], meta['iter']) == (2, 7)
    assert (meta['seed'], meta['own']) == (1, 3)
    assert runner.meta == dict(epoch=99, iter=99, seed=1)


def test_a_moved_work_dir_does_not_lead_back_to_the_original(tmp_path):
    messages = dict(
        best_ckpt='/old/run/best_mIoU_iter_4.pth',
        last_ckpt='/old/run/iter_8.pth',
        best_score=0.5)
    runner = make_runner(tmp_path, meta=dict(hook_msgs=dict(messages)))
    saved = capture_runner(runner, 0, 8)['meta']['hook_msgs']
    assert saved['best_ckpt'] == 'best_mIoU_iter_4.pth'
    assert saved['last_ckpt'] == 'iter_8.pth'
    assert runner.meta['hook_msgs'] == messages


def test_a_run_without_the_optimizer_is_saved_without_it(tmp_path):
    runner = make_runner(tmp_path)
    assert 'optimizer' in capture_runner(runner, 0, 1)
    checkpoint = capture_runner(runner, 0, 1, save_optimizer=False)
    assert 'optimizer' not in checkpoint


def test_the_resume_state_has_what_design_section_7_says(tmp_path):
    runner = make_runner(tmp_path)
    saved = capture_runner(runner, 2, 7, lineage='abc')['resume_state']
    assert saved['version'] == state.RESUME_STATE_VERSION
    assert saved['lineage'] == 'abc'
    assert saved['world_size'] == 1
    assert sorted(saved['rng'][0]) == ['cuda', 'numpy', 'python', 'torch']
    through_a_file(saved)


def test_a_runner_without_meta_is_saved(tmp_path):
    runner = make_runner(tmp_path)
    runner.meta = None
    assert capture_runner(runner, 0, 1)['meta']['hook_msgs'] == {}
