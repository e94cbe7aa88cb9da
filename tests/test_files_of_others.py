"""Files of stock mmcv and of the apex_runner family: one line says it all."""
import pytest
import torch
from checkpoint_files import equal
from folders import NEW_TORCH
from foreign_files import BeitRunner, UniFormerRunner, stock_file
from mmcv.runner import EpochBasedRunner, Hook, IterBasedRunner
from stock import accumulates
from torch.utils.data import DataLoader, IterableDataset
from toy import ToyData, ToyModel, make_loader, make_runner, train

from mmcv_ckpt_hooks import ResumeError, __version__
from mmcv_ckpt_hooks.restore_report import weights_text

APEX = dict(loss_scaler0=dict(loss_scale=4096., unskipped=7))
ITER, EPOCH = 'IterBasedRunnerAmp', 'EpochBasedRunnerAmp'
FOREIGN = 'random generators (not in the file), position in the data (not ' \
    'in the file)'


def read(path):
    return torch.load(str(path), map_location='cpu')


def lines(caplog, begin):
    return [one for one in caplog.messages if one.startswith(begin)]


def report(caplog, path, kind=ITER, **kwargs):
    """Resume; return what is said to be restored and what not."""
    limit = 'max_epochs' if kind == EPOCH else 'max_iters'
    runner = make_runner(path.parent, dict(type=kind, **{limit: 100}))
    caplog.clear()
    runner.resume(str(path), **kwargs)
    line, = lines(caplog, 'Restored from')
    restored, _, left = line.partition('. Not restored: ')
    return runner, restored, left


def made(directory, cls, steps, amp=None, **kwargs):
    """A file of a real run of that runner, as a path."""
    if amp is not None or cls in (BeitRunner, UniFormerRunner):
        cls.amp = amp
    unit = 'epoch' if issubclass(cls, EpochBasedRunner) else 'iter'
    stock_file(directory, steps, cls, **kwargs)
    return directory / f'{unit}_{steps}.pth'


FILES = dict(
    stock_iter=(IterBasedRunner, 6, None, ITER, (1, 6)),
    stock_epoch=(EpochBasedRunner, 2, None, EPOCH, (2, 8)),
    convnext=(BeitRunner, 6, None, ITER, (1, 6)),
    beit=(BeitRunner, 6, APEX, ITER, (1, 6)),
    uniformer=(UniFormerRunner, 2, APEX, EPOCH, (2, 8)),
)


@pytest.mark.parametrize('case', sorted(FILES))
def test_a_resume_says_what_came_back_and_what_did_not(tmp_path, caplog, case):
    cls, steps, amp, kind, counted = FILES[case]
    path = made(tmp_path, cls, steps, amp)
    runner, restored, left = report(caplog, path, kind)
    assert (runner.epoch, runner.iter) == counted
    count = len(runner.model.state_dict())
    assert f'weights ({count} of {count} tensors of the model)' in restored
    assert 'optimizer' in restored
    assert left.endswith(FOREIGN)
    assert ('loss scale (see above)' in left) == (amp is not None)
    by_family = cls in (BeitRunner, UniFormerRunner)
    assert ('another program wrote' in restored) == by_family
    for key, value in read(path)['state_dict'].items():
        assert torch.equal(runner.model.state_dict()[key], value)


@pytest.mark.parametrize('version', ['1.3.0', '1.3.18', '1.4.8', '1.7.2'])
def test_the_version_of_mmcv_that_wrote_it_is_said(tmp_path, caplog, version):
    path = made(tmp_path, IterBasedRunner, 6)
    content = read(path)
    content['meta']['mmcv_version'] = version
    torch.save(content, str(path))
    _, restored, _ = report(caplog, path)
    assert f'which mmcv {version} wrote' in restored


def test_a_prefix_of_ddp_costs_nothing(tmp_path, caplog):
    path = made(tmp_path, IterBasedRunner, 6)
    content = read(path)
    expected = content['state_dict']
    content['state_dict'] = {
        f'module.{key}': value
        for key, value in expected.items()
    }
    torch.save(content, str(path))
    runner, restored, _ = report(caplog, path)
    assert f'weights ({len(expected)} of {len(expected)}' in restored
    for key, value in expected.items():
        assert torch.equal(runner.model.state_dict()[key], value)


def test_a_prefix_of_ddp_costs_a_load_nothing(tmp_path, caplog):
    path = made(tmp_path, IterBasedRunner, 6)
    content = read(path)
    expected = content['state_dict']
    content['state_dict'] = {
        f'module.{key}': value
        for key, value in expected.items()
    }
    torch.save(content, str(path))
    runner, line = loaded(caplog, path)
    assert f'weights ({len(expected)} of {len(expected)}' in line
    for key, value in expected.items():
        assert torch.equal(runner.model.state_dict()[key], value)


def test_a_missing_optimizer_is_said(tmp_path, caplog):
    path = made(tmp_path, IterBasedRunner, 6)
    content = read(path)
    del content['optimizer']
    torch.save(content, str(path))
    runner, restored, left = report(caplog, path)
    assert left.startswith('optimizer (not in the file)')
    assert 'optimizer' not in restored
    assert not runner.optimizer.state and runner.iter == 6


def test_an_optimizer_that_is_not_wanted_is_said(tmp_path, caplog):
    path = made(tmp_path, IterBasedRunner, 6)
    _, _, left = report(caplog, path, resume_optimizer=False)
    assert left.startswith('optimizer (not asked for)')


def test_weights_that_do_not_fit_are_counted_and_named(tmp_path, caplog):
    path = made(tmp_path, IterBasedRunner, 6)
    content = read(path)
    del content['optimizer']
    weights = content['state_dict']
    weights['head.bias'] = weights.pop('last.bias')
    weights['last.weight'] = torch.zeros(7, 4)
    torch.save(content, str(path))
    runner, restored, _ = report(caplog, path)
    count = len(runner.model.state_dict())
    assert f'weights ({count - 2} of {count} tensors of the model; not in ' \
        'the file: last.bias; of another shape: last.weight; only in the ' \
        'file: head.bias)' in restored


def test_many_names_are_not_all_told():
    own = {f'layer{number}': torch.zeros(1) for number in range(9)}
    assert weights_text(own, {}) == 'weights (0 of 9 tensors of the model; ' \
        'not in the file: layer0, layer1, layer2 and 6 more)'
    extra = dict(_extra_state=None)
    assert weights_text(extra, extra) == 'weights (1 of 1 tensor of the model)'


@pytest.mark.parametrize('case', sorted(FILES))
def test_load_from_says_what_it_took(tmp_path, caplog, case):
    cls, steps, amp, kind, _ = FILES[case]
    path = made(tmp_path, cls, steps, amp)
    limit = 'max_epochs' if kind == EPOCH else 'max_iters'
    runner = make_runner(tmp_path, dict(type=kind, **{limit: 100}))
    caplog.clear()
    runner.load_checkpoint(str(path))
    line, = lines(caplog, 'Loaded from')
    count = len(runner.model.state_dict())
    assert f'weights ({count} of {count} tensors of the model)' in line
    left = 'optimizer, AMP state' if amp else 'optimizer'
    assert line.endswith(f'Left where it is: {left} (only a resume takes it)')
    assert runner.iter == 0


def test_weights_alone_in_a_file_are_loaded_with_one_line(tmp_path, caplog):
    path = tmp_path / 'pretrained.pth'
    torch.save(ToyModel().state_dict(), str(path))
    runner = make_runner(tmp_path)
    caplog.clear()
    runner.load_checkpoint(str(path))
    line, = lines(caplog, 'Loaded from')
    assert line.endswith(' tensors of the model)')
    assert 'another program wrote' in line


def test_a_file_of_our_own_has_all(tmp_path, caplog):
    runner = make_runner(tmp_path)
    runner.run([make_loader()], [('train', 1)])
    runner.save_checkpoint(str(tmp_path))
    runner, restored, left = report(caplog, tmp_path / 'iter_8.pth')
    assert left == ''
    assert restored.startswith(
        f'Restored from iter_8.pth, which mmcv_ckpt_hooks {__version__} '
        'wrote: weights (')
    assert restored.endswith(
        'optimizer, random generators, position in the data')


# -- weights of a backbone, as the classification code of the repos saves them


def loaded(caplog, path):
    """Load weights; return the runner and the line about them."""
    runner = make_runner(path.parent)
    caplog.clear()
    runner.load_checkpoint(str(path))
    line, = lines(caplog, 'Loaded from')
    return runner, line


WRAPPED = dict(
    convnext=lambda state: dict(model=state),
    convnext_with_ema=lambda state: dict(
        model=state,
        model_ema={
            key: value + 1
            for key, value in state.items()
        }),
    beit=lambda state: dict(
        model=state, optimizer=dict(state={}, param_groups=[]), epoch=799),
    deepspeed=lambda state: dict(module=state, global_steps=3),
)


@pytest.mark.parametrize('case', sorted(WRAPPED))
def test_weights_below_another_field_are_found(tmp_path, caplog, case):
    torch.manual_seed(5)
    expected = ToyModel().state_dict()
    torch.save(WRAPPED[case](expected), str(tmp_path / 'weights.pth'))
    runner, line = loaded(caplog, tmp_path / 'weights.pth')
    count = len(expected)
    assert f'weights ({count} of {count} tensors of the model)' in line
    left = dict(beit='optimizer', convnext_with_ema='averaged weights')
    assert line.endswith(f'Left where it is: {left[case]}' if case in
                         left else ' tensors of the model)')
    for key, value in expected.items():
        assert torch.equal(runner.model.state_dict()[key], value)
    assert not [one for one in caplog.messages if 'no tensor of this' in one]


def test_a_model_with_a_part_of_that_name_is_taken_as_it_is(tmp_path, caplog):
    """Keys begin with ``model.``; no field is called so."""

    class Outer(ToyModel):

        def __init__(self):
            super().__init__()
            self.model = torch.nn.Linear(4, 2)

    torch.save(Outer().state_dict(), str(tmp_path / 'weights.pth'))
    _, line = loaded(caplog, tmp_path / 'weights.pth')
    assert 'only in the file: model.weight, model.bias)' in line


def test_weights_of_a_backbone_alone_say_where_they_belong(tmp_path, caplog):
    """mmseg's segmentors have them below ``backbone.``."""
    backbone = torch.nn.Conv2d(3, 8, 3).state_dict()
    torch.save(dict(model=backbone), str(tmp_path / 'imagenet.pth'))
    runner, line = loaded(caplog, tmp_path / 'imagenet.pth')
    count = len(runner.model.state_dict())
    assert f'weights (0 of {count} tensors of the model; not in the file: ' \
        in line
    told, = [one for one in caplog.messages if 'no tensor of this' in one]
    assert 'pretrained=PATH' in told and 'init_cfg' in told


def test_they_are_no_run_to_go_on_from(tmp_path):
    torch.save(
        dict(model=ToyModel().state_dict()), str(tmp_path / 'weights.pth'))
    with pytest.raises(ResumeError, match='load_from'):
        make_runner(tmp_path).resume(str(tmp_path / 'weights.pth'))


# -- averages, accumulated gradients, optimizers of other groups ------------

EMA = dict(type='EMAHook', momentum=0.1, priority=49)


def averages_of(runner):
    return {
        key: value
        for key, value in runner.model.state_dict().items()
        if key.startswith('ema_')
    }


@pytest.mark.parametrize('kind, cls, steps', [(ITER, IterBasedRunner, 6),
                                              (EPOCH, EpochBasedRunner, 2)])
def test_averages_in_the_file_go_on_and_are_said(tmp_path, caplog, kind, cls,
                                                 steps):
    path = made(tmp_path, cls, steps, hooks=[dict(EMA)])
    saved = read(path)['state_dict']
    limit = 'max_epochs' if kind == EPOCH else 'max_iters'
    first = First()
    runner = make_runner(
        tmp_path,
        dict(type=kind, **{limit: steps + 1}),
        hooks=[dict(EMA), first])
    caplog.clear()
    runner.resume(str(path))
    line, = lines(caplog, 'Restored from')
    assert 'averaged weights' in line.partition('. Not restored: ')[0]
    assert 'only in the file' not in line
    runner.run([make_loader()], [('train', 1)])
    # of priority 49, at the end of an epoch it swaps them with the weights
    names = {
        'ema_' + name.replace('.', '_'): name
        for name, _ in ToyModel().named_parameters()
    }
    assert set(first.averages) == set(names)
    for key, value in first.averages.items():
        of_file = names[key] if kind == EPOCH else key
        assert torch.equal(value, saved[of_file]), key


class First(Hook):
    """The averages when training goes on."""

    averages = None

    def before_train_iter(self, runner):
        if self.averages is None:
            self.averages = {
                key: value.clone()
                for key, value in averages_of(runner).items()
            }


class Weights(Hook):
    """What is trained, and the averages, as training sees them."""

    comes = 'VERY_LOW'

    def __init__(self):
        self.first = self.last = None

    def before_train_iter(self, runner):
        if self.first is None:
            self.first = self.copied(runner)

    def after_train_iter(self, runner):
        self.last = self.copied(runner)

    @staticmethod
    def copied(runner):
        return {
            key: value.clone()
            for key, value in runner.model.state_dict().items()
        }


@pytest.mark.parametrize('priority', [49, 'NORMAL', 'LOW'])
@pytest.mark.parametrize('kind', [EPOCH, 'EpochBasedRunner'])
def test_an_epoch_that_stock_saved_before_the_swap_is_trained_on(
        tmp_path, caplog, kind, priority):
    """Its CheckpointHook comes before an EMAHook of NORMAL, the default."""
    ema, whole, rest = dict(EMA, priority=priority), Weights(), Weights()
    path = made(tmp_path, EpochBasedRunner, 2, hooks=[dict(ema), whole])
    hooks = [dict(ema), rest]
    if kind == 'EpochBasedRunner':
        hooks.append(dict(type='DurableCheckpointHook', resume=str(path)))
    runner = make_runner(
        tmp_path / 'resumed', dict(type=kind, max_epochs=3), hooks=hooks)
    caplog.clear()
    if kind == EPOCH:
        runner.resume(str(path))
    runner.run([make_loader()], [('train', 1)])
    assert equal(rest.first, whole.last)
    told = [one for one in caplog.messages if 'is taken to have' in one]
    assert len(told) == (priority != 49)


@pytest.mark.parametrize('priority', ['NORMAL', 'LOW', 'VERY_LOW'])
def test_the_best_of_an_epoch_was_saved_when_it_was_evaluated(
        tmp_path, priority):
    """Before the swap if EvalHook (LOW, registered first) comes before."""
    ema, whole, rest = dict(EMA, priority=priority), Weights(), Weights()
    evaluation = dict(scores=[.5], interval=2, save_best='mIoU')
    made(
        tmp_path,
        EpochBasedRunner,
        2,
        hooks=[dict(ema), whole],
        evaluation=dict(evaluation))
    runner = make_runner(
        tmp_path / 'resumed',
        dict(type=EPOCH, max_epochs=3),
        hooks=[dict(ema), rest],
        evaluation=dict(evaluation))
    runner.resume(str(tmp_path / 'best_mIoU_epoch_2.pth'))
    runner.run([make_loader()], [('train', 1)])
    assert equal(rest.first, whole.last)


@pytest.mark.parametrize('name', ['mine.pth', 'epoch_2.pth'])
def test_a_renamed_epoch_was_saved_before_the_swap_as_well(tmp_path, name):
    ema, whole, rest = dict(EMA, priority='NORMAL'), Weights(), Weights()
    path = made(tmp_path, EpochBasedRunner, 2, hooks=[dict(ema), whole])
    path.rename(tmp_path / name)
    runner = make_runner(
        tmp_path / 'resumed',
        dict(type=EPOCH, max_epochs=3),
        hooks=[dict(ema), rest])
    runner.resume(str(tmp_path / name))
    runner.run([make_loader()], [('train', 1)])
    assert equal(rest.first, whole.last)


def test_averages_that_the_run_has_no_hook_for_are_said(tmp_path, caplog):
    path = made(tmp_path, IterBasedRunner, 6, hooks=[dict(EMA)])
    runner, restored, _ = report(caplog, path)
    assert 'only in the file: ema_first_weight, ema_first_bias, ' in restored
    assert 'averaged weights' not in restored
    assert runner.iter == 6 and not averages_of(runner)


def test_averages_that_the_file_lacks_are_said(tmp_path, caplog):
    path = made(tmp_path, IterBasedRunner, 6)
    runner = make_runner(tmp_path, hooks=[dict(EMA)])
    caplog.clear()
    runner.resume(str(path))
    line, = lines(caplog, 'Restored from')
    assert 'Not restored: averaged weights (not in the file)' in line


@pytest.mark.parametrize('steps, lost', [(5, True), (6, False)])
@pytest.mark.parametrize('config', [
    dict(type='DistOptimizerHook', update_interval=3),
    pytest.param(
        dict(type='GradientCumulativeOptimizerHook', cumulative_iters=3),
        marks=accumulates)
])
def test_accumulated_gradients_that_the_file_lacks_are_said(
        tmp_path, caplog, config, steps, lost):
    """Stock mmcv loses them; its warning of that comes too late for ours."""
    path = made(
        tmp_path, IterBasedRunner, steps, optimizer_config=dict(config))
    runner = make_runner(tmp_path, optimizer_config=dict(config))
    caplog.clear()
    runner.resume(str(path))
    line, = lines(caplog, 'Restored from')
    assert ('accumulated gradients (not in the file)' in line) == lost
    assert line.count('accumulated gradients') == lost


def by_layer(model, rates=(1., .9, .81)):
    """As the constructors of BEiT and ConvNeXt: a group for each layer."""
    layers = [model.first, model.norm, model.last]
    return torch.optim.AdamW([
        dict(params=list(layer.parameters()), lr=.01 * rate)
        for layer, rate in zip(layers, rates)
    ])


def test_layer_decay_goes_on_with_the_rates_of_its_groups(tmp_path, caplog):
    model = ToyModel()
    path = made(
        tmp_path, IterBasedRunner, 6, model=model, optimizer=by_layer(model))
    model = ToyModel()
    runner = make_runner(
        tmp_path, model=model, optimizer=by_layer(model, [1., 1., 1.]))
    runner.resume(str(path))
    assert [group['lr'] for group in runner.optimizer.param_groups
            ] == [.01, .01 * .9, .01 * .81]
    saved = read(path)['optimizer']['state']
    assert equal(runner.optimizer.state_dict()['state'], saved)


@pytest.mark.parametrize('groups', ['more', 'fewer'])
def test_another_number_of_groups_is_refused_in_words(tmp_path, groups):
    model = ToyModel()
    options = dict(model=model, optimizer=by_layer(model))
    path = made(tmp_path, IterBasedRunner, 6,
                **(options if groups == 'fewer' else {}))
    model = ToyModel()
    runner = make_runner(
        tmp_path,
        model=model,
        optimizer=by_layer(model) if groups == 'more' else None)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    numbers = '[2, 2, 2]', '[6]'
    if groups == 'more':
        numbers = numbers[::-1]
    with pytest.raises(ResumeError) as caught:
        runner.resume(str(path))
    assert f'{path} does not fit this run: its optimizer has groups of ' \
        f'{numbers[0]} parameters, expected {numbers[1]}' in str(caught.value)
    assert 'load_from' in str(caught.value)
    assert equal(dict(model.state_dict()), before)


def test_one_of_version_0_1_does_not_tell_its_own(tmp_path, caplog):
    runner = make_runner(tmp_path)
    runner.run([make_loader()], [('train', 1)])
    runner.save_checkpoint(str(tmp_path))
    path = tmp_path / 'iter_8.pth'
    content = torch.load(str(path), weights_only=False)
    assert content['resume_state'].pop('plugin_version') == __version__
    torch.save(content, str(path))
    assert 'which mmcv_ckpt_hooks wrote' in report(caplog, path)[1]


class Stream(IterableDataset):

    def __iter__(self):
        return iter([ToyData(16)[number % 16] for number in range(64)])


def test_where_a_stream_was_is_not_restored(tmp_path, caplog):
    runner = make_runner(tmp_path)
    runner.run([DataLoader(Stream(), batch_size=4)], [('train', 1)])
    runner.save_checkpoint(str(tmp_path))
    _, restored, left = report(caplog, tmp_path / 'iter_8.pth')
    assert restored.endswith('optimizer, random generators')
    assert left == 'position in the data (a stream decides on its order ' \
        'itself)'


@NEW_TORCH
@pytest.mark.filterwarnings('ignore:torch.distributed is')
@pytest.mark.parametrize('optimizer', ['AdamW', 'SGD'])
def test_load_from_says_of_a_folder_what_it_says_of_a_file(
        tmp_path, caplog, optimizer):
    said = {}
    for kind, name in (('pth', 'iter_2.pth'), ('dcp', 'iter_2.dcp')):
        model = ToyModel()
        train(
            tmp_path / kind,
            runner=dict(type='IterBasedRunnerAmp', max_iters=2),
            model=model,
            # one without tensors of its own
            optimizer=getattr(torch.optim,
                              optimizer)(model.parameters(), lr=.1),
            hooks=[
                dict(type='DurableCheckpointHook', interval=2, format=kind)
            ])
        runner = make_runner(tmp_path / 'new')
        caplog.clear()
        runner.load_checkpoint(str(tmp_path / kind / name))
        said[kind], = lines(caplog, 'Loaded from')
    whole = said['dcp'].replace('/dcp/iter_2.dcp', '/pth/iter_2.pth')
    assert whole == said['pth']
    assert whole.endswith('Left where it is: optimizer (only a resume takes '
                          'it)')
    assert f'which mmcv_ckpt_hooks {__version__} wrote' in whole
