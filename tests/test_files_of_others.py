"""Files of stock mmcv and of the apex_runner family: one line says it all."""
import pytest
import torch
from folders import NEW_TORCH
from foreign_files import BeitRunner, UniFormerRunner, stock_file
from mmcv.runner import EpochBasedRunner, IterBasedRunner
from torch.utils.data import DataLoader, IterableDataset
from toy import ToyData, ToyModel, make_loader, make_runner, train

from mmcv_ckpt_hooks import __version__
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
