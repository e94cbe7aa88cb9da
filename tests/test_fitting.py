"""Resumes into another model or optimizer: refused before the first change."""
import copy
import logging

import pytest
import torch
from mmcv.runner import IterBasedRunner
from toy import ToyModel, make_loader, make_logger, make_runner, names

from mmcv_ckpt_hooks import ResumeError, save_checkpoint

RUNNERS = ('IterBasedRunnerAmp', 'EpochBasedRunnerAmp', 'IterBasedRunner',
           'EpochBasedRunner')
SAVED_LR = 0.03


class ByRows(torch.optim.Optimizer):
    """Keeps one mean of squares a row and one a column, as Adafactor does."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, dict(lr=lr))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for one in group['params']:
                square, state = one.grad**2, self.state[one]
                for dim, key in enumerate(('col', 'row')):
                    mean = square.mean(dim if one.dim() > 1 else 0)
                    state.setdefault(key, torch.zeros_like(mean))
                    state[key].lerp_(mean, 0.1)
                scale = state['row'].mean() + 1e-3
                one -= group['lr'] * one.grad / scale.sqrt()


class Projected(torch.optim.Optimizer):
    """Keeps moments of one row a matrix, under the usual name (GaLore)."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, dict(lr=lr))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for one in group['params']:
                row = one.grad.mean(0, keepdim=True)
                state = self.state[one]
                state.setdefault('exp_avg', torch.zeros_like(row))
                state['exp_avg'].lerp_(row, 0.1)
                one -= group['lr'] * (one.grad + state['exp_avg'])


def of(kind, lr=0.01, **kwargs):
    kind = getattr(torch.optim, kind) if isinstance(kind, str) else kind
    return lambda model: kind(model.parameters(), lr=lr, **kwargs)


def in_two_groups(model):
    first, *others = model.parameters()
    return torch.optim.AdamW([dict(params=[first]), dict(params=others)])


def turned(model):
    return torch.optim.AdamW(list(model.parameters())[::-1])


def by_name(model):
    return dict(all=torch.optim.AdamW(model.parameters()))


def prepared(work_dir,
             make_optimizer,
             steps,
             width=4,
             kind=RUNNERS[0],
             **options):
    """Build a run that saves at every step."""
    model = ToyModel(width)
    limit = 'max_epochs' if 'Epoch' in kind else 'max_iters'
    return make_runner(
        work_dir,
        runner=dict(type=kind, **{limit: steps}),
        model=model,
        optimizer=make_optimizer(model),
        hooks=[dict(type='DurableCheckpointHook', interval=1, **options)])


def run(runner):
    runner.run([make_loader()], [('train', 1)])
    return runner


def save_first(work_dir, make_optimizer, **kwargs):
    """Train one step; returns the path of its checkpoint."""
    run(prepared(work_dir, make_optimizer, 1, **kwargs))
    return work_dir / names(work_dir)[0]


def refusal(runner, path, resume=run):
    """Return why a run is refused; nothing of it was changed."""
    before = copy.deepcopy(runner.model.state_dict())
    with pytest.raises(ResumeError) as raised:
        resume(runner)
    for key, one in runner.model.state_dict().items():
        assert torch.equal(one, before[key]), key
    several = isinstance(runner.optimizer, dict)
    for one in runner.optimizer.values() if several else [runner.optimizer]:
        assert not one.state
        assert one.param_groups[0]['lr'] != SAVED_LR
    assert (runner.epoch, runner.iter) == (0, 0)
    message = str(raised.value)
    assert message.startswith(f'{path} does not fit this run: ')
    assert 'load_from' in message
    return message


@pytest.mark.parametrize('kind', RUNNERS)
@pytest.mark.parametrize('resume', ['auto', 'path'])
def test_a_wider_model_is_refused_with_file_tensor_and_shapes(
        tmp_path, kind, resume):
    path = save_first(tmp_path, of('AdamW', lr=SAVED_LR), kind=kind)
    runner = prepared(
        tmp_path,
        of('AdamW'),
        2,
        width=8,
        kind=kind,
        resume='auto' if resume == 'auto' else str(path))
    assert ("'exp_avg' of its optimizer for first.weight has the shape "
            '(4, 4), and first.weight is here (8, 4)') in refusal(
                runner, path)


def test_the_resume_of_a_tool_is_refused_too(tmp_path):
    path = save_first(tmp_path, of('SGD', lr=SAVED_LR, momentum=0.9))
    runner = prepared(tmp_path, of('SGD', momentum=0.9), 2, width=8)
    assert "'momentum_buffer'" in refusal(runner, path,
                                          lambda one: one.resume(path))


def test_without_the_optimizer_the_weights_that_fit_are_loaded(tmp_path):
    path = save_first(tmp_path, of('AdamW'))
    runner = prepared(tmp_path / 'other', of('AdamW'), 2, width=8)
    runner.resume(path, resume_optimizer=False)
    assert runner.iter == 1
    assert torch.equal(runner.model.last.bias,
                       torch.load(path)['state_dict']['last.bias'])


def test_a_run_without_a_state_loads_what_fits_and_says_what_does_not(
        tmp_path, caplog):
    save_first(tmp_path, of('SGD'))
    with caplog.at_level(logging.INFO):
        runner = run(prepared(tmp_path, of('SGD'), 2, width=8, resume='auto'))
    assert runner.iter == 2
    assert 'size mismatch for first.weight' in caplog.text


OTHERS = {
    'other groups': (of('AdamW', lr=SAVED_LR), in_two_groups,
                     'has groups of [6] parameters, expected [1, 5]'),
    'other order': (of('AdamW', lr=SAVED_LR), turned,
                    "'exp_avg' of its optimizer for last.bias has the shape "
                    '(4, 4), and last.bias is here (2,)'),
    'plain SGD':
    (of('SGD', lr=SAVED_LR), of('AdamW'), "no 'betas', which AdamW needs"),
    'SGD': (of('SGD',
               momentum=0.9), of('AdamW'), "no 'betas', which AdamW needs"),
    'Adam': (of('AdamW', lr=SAVED_LR), of('SGD', momentum=0.9),
             "no 'dampening', which SGD needs"),
    'Adamax': (of('Adamax', lr=SAVED_LR), of('Adam'),
               "no 'exp_avg_sq' of first.weight, which Adam needs"),
    'one of several':
    (of('AdamW', lr=SAVED_LR), by_name, "no state of the optimizer 'all'"),
}


@pytest.mark.parametrize('before, now, why', OTHERS.values(), ids=OTHERS)
def test_another_optimizer_is_refused(tmp_path, before, now, why):
    path = save_first(tmp_path, before)
    assert why in refusal(prepared(tmp_path, now, 2, resume='auto'), path)


def test_the_state_of_several_optimizers_is_not_that_of_one(tmp_path):
    model, path = ToyModel(), tmp_path / 'iter_1.pth'
    save_checkpoint(model, path, optimizer=by_name(model), meta=dict(iter=1))
    assert "found the fields ['all']" in refusal(
        prepared(tmp_path, of('AdamW'), 2), path, lambda one: one.resume(path))


@pytest.mark.parametrize('kind', [ByRows, Projected])
def test_moments_of_other_shapes_are_kept_where_the_weight_fits(
        tmp_path, kind):
    save_first(tmp_path, of(kind))
    assert run(prepared(tmp_path, of(kind), 2, resume='auto')).iter == 2


@pytest.mark.parametrize('kind', [ByRows, Projected])
def test_moments_of_other_shapes_are_refused_with_another_weight(
        tmp_path, kind):
    path = save_first(tmp_path, of(kind, lr=SAVED_LR))
    why = refusal(
        prepared(tmp_path, of(kind), 2, width=8, resume='auto'), path)
    assert 'first.weight is here (8, 4)' in why


def test_a_file_of_another_adam_goes_on(tmp_path):
    save_first(tmp_path, of('Adam'))
    assert run(prepared(tmp_path, of('AdamW'), 2, resume='auto')).iter == 2


def test_options_that_an_older_torch_did_not_have_are_filled_in(tmp_path):
    path = save_first(tmp_path, of('AdamW'))
    checkpoint = torch.load(path)
    for group in checkpoint['optimizer']['param_groups']:
        for name in ('maximize', 'foreach', 'capturable', 'differentiable',
                     'fused', 'amsgrad'):
            group.pop(name, None)
    torch.save(checkpoint, tmp_path / 'iter_2.pth')
    runner = prepared(
        tmp_path / 'on', of('AdamW'), 3, resume=str(tmp_path / 'iter_2.pth'))
    assert run(runner).iter == 3


def test_a_runner_with_a_resume_of_its_own_is_not_asked(tmp_path):

    class Own(IterBasedRunner):
        asked = 0

        def resume(self, checkpoint, **kwargs):
            self.asked += 1
            super().resume(checkpoint, **kwargs)

    path = save_first(tmp_path, of('AdamW', lr=SAVED_LR))
    model = ToyModel(8)
    runner = Own(
        model,
        optimizer=torch.optim.AdamW(model.parameters()),
        work_dir=str(tmp_path),
        logger=make_logger(),
        max_iters=2)
    runner.register_training_hooks(dict(policy='fixed'), dict())
    runner.register_hook_from_cfg(
        dict(type='DurableCheckpointHook', interval=1, resume='auto'))
    assert "'exp_avg'" in refusal(runner, path)
    assert runner.asked == 0


def frozen(model):
    model.first.weight.requires_grad_(False)
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def test_what_is_frozen_need_not_fit(tmp_path):
    """No step reads what is kept of it."""
    path = save_first(tmp_path, of('SGD', momentum=0.9))
    found = torch.load(path, weights_only=True)
    for group in found['optimizer']['param_groups']:
        found['optimizer']['state'][group['params'][0]] = dict(
            momentum_buffer=torch.ones(8, 4))
    torch.save(found, path)
    (tmp_path / 'checkpoints.json').unlink()
    runner = prepared(tmp_path, frozen, 2, resume=str(path))
    assert run(runner).iter == 2
