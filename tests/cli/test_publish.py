"""``mmcv-ckpt publish``: weights for others, and nothing of the run."""
import hashlib
import json
import os
import re

import mmcv
import pytest
import torch
from checkpoint_files import Payload, torch_written
from folders import NEW_TORCH
from mmcv.runner import load_checkpoint
from mmcv.runner.hooks import EMAHook
from toy import ToyModel, make_loader, train

from mmcv_ckpt_hooks.cli import main
from mmcv_ckpt_hooks.publishing import SUFFIXES
from mmcv_ckpt_hooks.version import version_tuple

HASHED = re.compile(r'-([0-9a-f]{8})\.(pth|safetensors)$')


@pytest.fixture
def publish(capsys):
    """Run the command; exit code, its JSON object, what it warned of."""

    def run(*arguments):
        capsys.readouterr()
        code = main(['publish', *map(str, arguments), '--json'])
        out, err = capsys.readouterr()
        content = json.loads(out)
        assert content['exit_code'] == code
        return code, content, err

    return run


def sha256(path):
    with open(path, 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()


@pytest.fixture
def secret_run(tmp_path):
    """Directory of a run whose meta says who trained where."""
    work_dir = tmp_path / 'run'
    train(
        work_dir,
        meta=dict(
            config="data_root = '/home/somebody/data'",
            env_info='host: secret-machine',
            exp_name='secret.py',
            seed=0,
            mmseg_version='0.30.0+0123456'),
        hooks=[dict(type='DurableCheckpointHook', interval=4)])
    return work_dir


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_the_name_has_the_hash_of_the_file(run_dir, tmp_path, publish, suffix):
    if suffix == '.safetensors':
        pytest.importorskip('safetensors', reason='pip install safetensors')
    code, content, _ = publish(run_dir / 'iter_8.pth',
                               tmp_path / 'zoo' / f'toy_depth{suffix}')
    assert code == 0 and content['is_new'] is True
    name, = os.listdir(str(tmp_path / 'zoo'))
    assert name.startswith('toy_depth-')
    assert content['path'] == str(tmp_path / 'zoo' / name)
    digest = sha256(content['path'])
    assert digest == content['sha256']
    assert HASHED.search(name).group(1) == digest[:8]
    assert content['bytes'] == os.path.getsize(content['path'])
    # it is there already: the same bytes
    code, again, _ = publish(run_dir / 'iter_8.pth',
                             tmp_path / 'zoo' / f'toy_depth{suffix}')
    assert code == 0 and again['is_new'] is False
    assert os.listdir(str(tmp_path / 'zoo')) == [name]


def test_torch_hub_checks_the_hash_and_mmcv_loads_it(run_dir, tmp_path,
                                                     publish):
    _, content, _ = publish(run_dir / 'iter_8.pth', tmp_path / 'zoo/toy.pth')
    loaded = torch.hub.load_state_dict_from_url(
        'file://' + content['path'],
        model_dir=str(tmp_path / 'hub'),
        check_hash=True)
    expected = torch.load(str(run_dir / 'iter_8.pth'), weights_only=False)
    assert set(loaded) == {'meta', 'state_dict'}
    model = ToyModel()
    load_checkpoint(model, content['path'], map_location='cpu', strict=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected['state_dict'][name])
    with open(content['path'], 'r+b') as file:
        file.seek(-300, os.SEEK_END)
        file.write(b'x')
    with pytest.raises(RuntimeError, match='invalid hash'):
        torch.hub.load_state_dict_from_url(
            'file://' + content['path'],
            model_dir=str(tmp_path / 'hub2'),
            check_hash=True)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_nothing_of_the_run_leaves(secret_run, tmp_path, publish, suffix):
    if suffix == '.safetensors':
        pytest.importorskip('safetensors', reason='pip install safetensors')
    _, content, _ = publish(secret_run / 'iter_8.pth',
                            tmp_path / f'zoo/toy{suffix}')
    with open(content['path'], 'rb') as file:
        data = file.read()
    for word in (b'secret', b'somebody', b'hook_msgs', b'lineage',
                 os.fsencode(str(tmp_path))):
        assert word not in data
    assert {
        'optimizer', 'resume_state', 'meta.config', 'meta.env_info',
        'meta.exp_name', 'meta.seed'
    } <= set(content['left_out'])
    for word in (b'nucleus', b'0.30.0+0123456'):
        assert word in data


def test_what_is_to_be_kept_of_meta_is_said(secret_run, tmp_path, publish):
    _, content, _ = publish(secret_run / 'iter_8.pth',
                            tmp_path / 'zoo/toy.pth', '--keep-meta=config',
                            '--keep-meta=seed')
    meta = torch.load(content['path'], weights_only=False)['meta']
    assert meta['seed'] == 0 and 'somebody' in meta['config']
    assert set(meta) == {
        'CLASSES', 'PALETTE', 'epoch', 'iter', 'mmcv_version', 'mmseg_version',
        'config', 'seed', 'published'
    }
    code, content, _ = publish(secret_run / 'iter_8.pth',
                               tmp_path / 'zoo/toy.pth', '--keep-meta=confg')
    assert code == 2
    assert "meta has no 'confg' to keep" in content['problem']


def test_safetensors_has_the_same_tensors(run_dir, tmp_path, publish):
    safetensors = pytest.importorskip(
        'safetensors', reason='pip install safetensors')
    _, content, _ = publish(run_dir / 'iter_8.pth',
                            tmp_path / 'zoo/toy.safetensors')
    expected = torch.load(
        str(run_dir / 'iter_8.pth'), weights_only=False)['state_dict']
    with safetensors.safe_open(content['path'], framework='pt') as file:
        assert set(file.keys()) == set(expected)
        for name in expected:
            assert torch.equal(file.get_tensor(name), expected[name])
        meta = file.metadata()
    assert json.loads(meta['CLASSES']) == ['background', 'nucleus']
    assert meta['iter'] == '8'


def test_safetensors_comes_back_as_it_was_published(run_dir, tmp_path,
                                                    publish):
    _, plain, _ = publish(run_dir / 'iter_8.pth', tmp_path / 'zoo/toy.pth')
    _, content, _ = publish(run_dir / 'iter_8.pth',
                            tmp_path / 'zoo/toy.safetensors')
    _, again, _ = publish(content['path'], tmp_path / 'zoo/toy.pth')
    assert again['sha256'] == plain['sha256'] and again['is_new'] is False


# -- which weights ---------------------------------------------------------


@pytest.fixture(scope='module')
def averaged(tmp_path_factory):
    """A checkpoint inside an epoch, with the averages of EMAHook."""
    work_dir = tmp_path_factory.mktemp('averaged')
    train(
        work_dir,
        runner=dict(type='IterBasedRunnerAmp', max_iters=4),
        hooks=[
            EMAHook(momentum=0.5),
            dict(type='DurableCheckpointHook', interval=4)
        ])
    return work_dir / 'iter_4.pth'


@pytest.mark.parametrize('option', ['--ema', '--no-ema'])
def test_of_two_sets_of_weights_one_is_published(averaged, tmp_path, publish,
                                                 option):
    _, content, _ = publish(averaged, tmp_path / 'zoo/toy.pth', option)
    both = torch.load(str(averaged), weights_only=False)['state_dict']
    found = torch.load(content['path'], weights_only=False)['state_dict']
    assert set(found) == set(ToyModel().state_dict())
    source = 'ema_first_weight' if option == '--ema' else 'first.weight'
    assert torch.equal(found['first.weight'], both[source])
    assert not torch.equal(both['ema_first_weight'], both['first.weight'])
    # it averages no buffers: both have the same
    assert torch.equal(found['norm.running_mean'], both['norm.running_mean'])
    left = 'weights as they were trained' if option == '--ema' else \
        'averages of EMAHook'
    assert content['left_out'][-1] == left


def test_which_of_two_sets_must_be_said(averaged, run_dir, tmp_path, publish):
    code, content, _ = publish(averaged, tmp_path / 'zoo/toy.pth')
    assert code == 2 and 'has two sets of weights' in content['problem']
    code, content, _ = publish(run_dir / 'iter_8.pth',
                               tmp_path / 'zoo/toy.pth', '--ema')
    assert code == 2 and 'has no averages of EMAHook' in content['problem']
    assert not (tmp_path / 'zoo').exists()


def test_the_best_of_a_directory(run_dir, tmp_path, publish):
    _, content, _ = publish(run_dir, tmp_path / 'zoo/toy.pth', '--best=mIoU')
    assert torch.load(content['path'], weights_only=False)['meta']['iter'] == 4
    for arguments, said in (([], 'or give --best with a metric'),
                            (['--best=mIou'], "did you mean 'mIoU'?")):
        code, content, _ = publish(run_dir, tmp_path / 'zoo/toy.pth',
                                   *arguments)
        assert code == 2 and said in content['problem']
    code, content, _ = publish(run_dir / 'iter_2.pth',
                               tmp_path / 'zoo/toy.pth', '--best=mIoU')
    assert code == 2 and 'is for a directory' in content['problem']


def test_the_best_is_known_without_a_catalog(run_dir, tmp_path, publish):
    (run_dir / 'checkpoints.json').unlink()
    code, content, err = publish(run_dir, tmp_path / 'a.pth', '--best=mIoU')
    assert code == 0, err
    assert content['checkpoint'] == str(run_dir / 'best_mIoU_iter_4.pth')


def test_nothing_goes_with_a_tensor_that_lay_beside_it(tmp_path, publish):
    """Averages and weights may be parts of one storage."""
    together = torch.zeros(4, 1000)
    together[1] = 3.14159
    path = tmp_path / 'views.pth'
    path.write_bytes(
        torch_written(
            dict(
                meta={},
                state_dict={
                    'w': together[0],
                    'ema_w': together[1],
                    'column': together[2:, :2],
                    'tied': together[0],
                })))
    _, content, _ = publish(path, tmp_path / 'zoo/toy.pth', '--no-ema')
    with open(content['path'], 'rb') as file:
        data = file.read()
    secret = together[1, :1].numpy().tobytes()
    assert secret in path.read_bytes() and secret not in data
    # w once, though it has two names
    assert len(data) < 4000 + 4000
    found = torch.load(content['path'], weights_only=False)['state_dict']
    assert set(found) == {'w', 'column', 'tied'}
    assert found['w'].data_ptr() == found['tied'].data_ptr()
    assert torch.equal(found['column'], together[2:, :2])


def test_weights_below_another_field_are_published(run_dir, tmp_path, publish):
    weights = torch.load(
        str(run_dir / 'iter_8.pth'), weights_only=False)['state_dict']
    for name, content in (('model', dict(model=weights)), ('bare', weights)):
        path = tmp_path / f'{name}.pth'
        path.write_bytes(torch_written(dict(content)))
        _, found, _ = publish(path, tmp_path / f'zoo/{name}.pth')
        assert found['left_out'] == []
        assert found['tensors'] == len(weights)


@pytest.mark.parametrize('weights, said', [
    ({
        0: torch.ones(1)
    }, 'of tensors by name'),
    ({
        'w': torch.ones(1, dtype=torch.complex128)
    }, 'complex128'),
])
def test_what_cannot_be_written_is_said(tmp_path, publish, weights, said):
    pytest.importorskip('safetensors', reason='pip install safetensors')
    path = tmp_path / 'odd.pth'
    path.write_bytes(torch_written(dict(meta={}, state_dict=weights)))
    code, content, _ = publish(path, tmp_path / 'zoo/toy.safetensors')
    assert code == 2 and said in content['problem']


def test_one_that_was_cut_off_is_written_anew(run_dir, tmp_path, publish):
    _, content, _ = publish(run_dir / 'iter_8.pth', tmp_path / 'zoo/toy.pth')
    os.truncate(content['path'], 10)
    code, again, _ = publish(run_dir / 'iter_8.pth', tmp_path / 'zoo/toy.pth')
    assert code == 0 and again['is_new'] is True
    assert sha256(again['path']) == content['sha256']


# -- where to --------------------------------------------------------------


def test_nothing_is_published_into_a_run(run_dir, tmp_path, publish):
    code, content, _ = publish(run_dir / 'iter_8.pth', run_dir / 'toy.pth')
    assert code == 2 and 'has the checkpoints of a run' in content['problem']
    stock = tmp_path / 'stock'
    train(
        stock,
        runner=dict(type='EpochBasedRunner', max_epochs=1),
        checkpoint_config=dict(interval=1),
        loader=make_loader(4))
    code, content, _ = publish(run_dir / 'iter_8.pth', stock / 'toy.pth')
    assert code == 2 and '(epoch_1.pth)' in content['problem']
    assert sorted(os.listdir(str(stock))) == ['epoch_1.pth', 'latest.pth']


def test_a_zoo_takes_names_that_count(run_dir, tmp_path, publish):
    for step in (4, 8):
        code, _, _ = publish(run_dir / f'iter_{step}.pth',
                             tmp_path / f'zoo/toy_iter_{step}.pth')
        assert code == 0
    assert len(os.listdir(str(tmp_path / 'zoo'))) == 2


@pytest.mark.parametrize('end', ['', '/'])
def test_a_directory_is_no_file(run_dir, tmp_path, publish, end):
    (tmp_path / 'zoo').mkdir()
    code, content, _ = publish(run_dir / 'iter_8.pth', f'{tmp_path}/zoo{end}')
    assert code == 2
    assert f'{tmp_path}/zoo/NAME.pth' in content['problem']


def test_finished_steps_are_published_of_stock_files_too(tmp_path, publish):
    """iter_8.pth of stock mmcv has 7; of mmcv < 1.3.9 it has 8."""
    train(
        tmp_path / 'stock',
        runner=dict(type='IterBasedRunner', max_iters=8),
        checkpoint_config=dict(interval=8))
    path = tmp_path / 'stock' / 'iter_8.pth'
    _, content, _ = publish(path, tmp_path / 'zoo/toy.pth')
    stock = torch.load(str(path), weights_only=False)['meta']['iter']
    assert stock == 7 + (version_tuple(mmcv.__version__) < (1, 3, 9))
    assert torch.load(content['path'], weights_only=False)['meta']['iter'] == 8
    assert content['checkpoint'] == str(path)


@pytest.mark.parametrize('name', ['toy', 'toy.onnx', '.pth'])
def test_the_name_tells_the_format(run_dir, tmp_path, publish, name):
    code, content, _ = publish(run_dir / 'iter_8.pth', tmp_path / 'zoo' / name)
    assert code == 2
    assert 'ends in .pth or .safetensors' in content['problem']


def test_what_is_damaged_is_not_published(run_dir, tmp_path, publish):
    path = run_dir / 'iter_8.pth'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    code, found, _ = publish(path, tmp_path / 'zoo/toy.pth')
    assert code == 1 and found['error'] == 'CorruptError'
    assert not (tmp_path / 'zoo').exists()


def test_nothing_in_the_source_is_executed(tmp_path, publish):
    trick = tmp_path / 'trick.pth'
    trick.write_bytes(
        torch_written(dict(a=Payload(open, str(tmp_path / 'mark'), 'w'))))
    assert publish(trick, tmp_path / 'zoo/toy.pth')[0] == 3
    assert not (tmp_path / 'mark').exists()


def test_what_has_no_weights_is_refused(tmp_path, publish):
    path = tmp_path / 'none.pth'
    path.write_bytes(torch_written(dict(meta={}, state_dict={})))
    code, content, _ = publish(path, tmp_path / 'zoo/toy.pth')
    assert code == 2 and 'has no weights' in content['problem']


@NEW_TORCH
@pytest.mark.filterwarnings('ignore:torch.distributed is')
def test_a_folder_is_published_as_the_file_is(run_dir, tmp_path, publish):
    assert main(
        ['convert',
         str(run_dir / 'iter_8.pth'),
         str(tmp_path / 'it.dcp')]) == 0
    _, content, _ = publish(tmp_path / 'it.dcp', tmp_path / 'zoo/toy.pth')
    _, again, _ = publish(run_dir / 'iter_8.pth', tmp_path / 'other/toy.pth')
    found, expected = [
        torch.load(one['path'], weights_only=False) for one in (content, again)
    ]
    assert found['meta'] == expected['meta']
    for name, tensor in expected['state_dict'].items():
        assert torch.equal(found['state_dict'][name], tensor)


def test_what_people_get(run_dir, tmp_path, capsys):
    target = tmp_path / 'zoo' / 'toy.pth'
    assert main(['publish', str(run_dir / 'iter_8.pth'), str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert HASHED.search(lines[0].split(':')[0])
    assert lines[0].endswith(' 9 tensors of iter_8.pth, ' +
                             lines[0].split(', ')[-1])
    assert re.fullmatch('SHA-256 [0-9a-f]{64}', lines[1])
    assert lines[2].startswith('left out: optimizer, resume_state, meta.')
